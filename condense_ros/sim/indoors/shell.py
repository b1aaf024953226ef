"""The shell of a building: floors, ceilings, walls with openings, doors and windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import block, stuff
from condense_ros.sim.indoors import classes_building as c
from condense_ros.sim.indoors.floorplan import CEILING_M, DOOR_HIGH_M, DOOR_M, LINING_M
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, boxes, pose2d, quads

SILL_M, LINTEL_M = 0.92, 2.2


@dataclass(frozen=True)
class Opening:
    """A hole in a wall: along it from `start` to `end`, from `low` to `high`, metres."""

    start: float
    end: float
    low: float = 0.0
    high: float = DOOR_HIGH_M

    @classmethod
    def window(cls, start: float, end: float) -> Opening:
        return cls(start, end, SILL_M, LINTEL_M)


@dataclass(frozen=True)
class Finish:
    """Surfaces of one room or corridor."""

    floor: Surface
    wall: Surface
    ceiling: Surface
    skirting: Surface


_POLISHED = ("tiles", "checker", "wood", "concrete")


def flooring(rng: np.random.Generator) -> Surface:
    kinds = ("wood", "planks", "tiles", "cloth", "concrete", "mottle", "checker", "brick")
    texture = kinds[int(rng.integers(len(kinds)))]
    size = {
        "wood": 0.12,
        "planks": 0.14,
        "tiles": 0.45,
        "cloth": 0.04,
        "checker": 0.5,
        "brick": 0.24,
    }
    floor = stuff(rng, c.FLOOR, (texture,), scale_m=size.get(texture, 1.5), contrast=0.15)
    # polished floors mirror the lamps and lose depth
    return replace(floor, shine=float(rng.uniform(0, 0.25)) if texture in _POLISHED else 0.0)


def wallpaper(rng: np.random.Generator) -> Surface:
    textures = ("render", "plain", "plain", "stripes", "mottle", "planks", "brick")
    light = rng.random() < 0.65
    paints = (0, 3, 10) if light else (0, 1, 3, 4, 7, 8, 11, 12, 14)
    return stuff(rng, c.WALL, textures, *paints, scale_m=0.3, contrast=0.12)


def wall_tiles(rng: np.random.Generator) -> Surface:
    return stuff(rng, c.WALL, ("tiles",), 0, 10, 3, 12, 8, 7, scale_m=0.2, contrast=0.1)


def ceiling(rng: np.random.Generator) -> Surface:
    textures = ("plain", "tiles", "render", "concrete", "planks")
    paints = (0, 10, 3) if rng.random() < 0.7 else (1, 5, 14, 12)
    return stuff(rng, c.CEILING, textures, *paints, scale_m=0.6, contrast=0.12)


def skirting(rng: np.random.Generator) -> Surface:
    return stuff(rng, c.WALL, ("plain", "wood"), 0, 10, 2, 5, 14)


def door_leaf(rng: np.random.Generator) -> Surface:
    return stuff(rng, c.DOOR, ("wood", "plain", "planks", "plain"), scale_m=0.3, contrast=0.15)


def door_frame(rng: np.random.Generator) -> Surface:
    return stuff(rng, c.DOOR, ("plain", "wood"), 0, 1, 2, 5, 10, 14, 12)


def window_frame(rng: np.random.Generator) -> Surface:
    return stuff(rng, c.WINDOW, ("plain", "wood"), 0, 2, 5, 10, 14, 8)


def window_glass(rng: np.random.Generator) -> Surface:
    """What is left of a pane: laser light mostly goes through, the eye sees the sky's light."""
    return stuff(rng, c.WINDOW, ("mottle",), 10, 12, 7, 0, scale_m=3.0,
                 reflectance=(0.03, 0.12), glass=0.88, contrast=0.05)  # fmt: skip


#: makers of surfaces by kind of asset
FINISHES = {
    "flooring": flooring,
    "wallpaper": wallpaper,
    "wall_tiles": wall_tiles,
    "ceiling": ceiling,
    "skirting": skirting,
    "door_leaf": door_leaf,
    "door_frame": door_frame,
    "window_frame": window_frame,
    "window_glass": window_glass,
}


def add_floor(builder: MeshBuilder, T: Array, size: tuple[float, float], stuff: Surface) -> None:
    """The floor of a rectangle from the frame's origin; it belongs to the present object."""
    builder.add(quads(_rectangle(size, 0.0)), stuff, T)


def add_ceiling(builder: MeshBuilder, T: Array, size: tuple[float, float], stuff: Surface) -> None:
    """The ceiling over a rectangle from the frame's origin."""
    builder.begin()
    builder.add(quads(_rectangle(size, CEILING_M)[::-1]), stuff, T)


def _rectangle(size: tuple[float, float], z: float) -> Array:
    x, y = size
    return np.array([[0, 0, z], [x, 0, z], [x, y, z], [0, y, z]])


def add_lining(
    builder: MeshBuilder,
    T: Array,
    length: float,
    openings: list[Opening],
    finish: Finish,
    obstacles: list[tuple[float, ...]] | None = None,
) -> None:
    """One side of a wall along x from 0 to `length`; the room lies at +y, its face at y = 0.

    Args:
        obstacles: what stands on the floor is appended as x, y, yaw, half length, half width.
    """
    t, low, high = LINING_M, [], []
    spans: list[tuple[float, float]] = []
    at = 0.0
    for hole in sorted(openings, key=lambda o: o.start):
        if hole.start > at + 1e-3:
            spans.append((at, hole.start))
        if hole.low > 0:
            low.append((hole.start, -t, 0.0))
            high.append((hole.end, 0.0, hole.low))
        if hole.high < CEILING_M:
            low.append((hole.start, -t, hole.high))
            high.append((hole.end, 0.0, CEILING_M))
        at = hole.end
    if at < length - 1e-3:
        spans.append((at, length))
    low += [(a, -t, 0.0) for a, _ in spans]
    high += [(b, 0.0, CEILING_M) for _, b in spans]
    builder.begin()
    builder.add(boxes(low, high), finish.wall, T)
    feet = spans + [(o.start, o.end) for o in openings if o.low > 0]
    base = boxes([(a, 0.0, 0.0) for a, _ in feet], [(b, 0.012, 0.08) for _, b in feet])
    builder.add(base, finish.skirting, T)
    if obstacles is not None:
        yaw = float(np.arctan2(T[1, 0], T[0, 0]))
        for a, b in feet:
            x, y = T[:2, :2] @ [(a + b) / 2, -t / 2] + T[:2, 3]
            obstacles.append((float(x), float(y), yaw, (b - a) / 2, t / 2))


def add_door_frame(builder: MeshBuilder, T: Array, x: float, frame: Surface) -> None:
    """Jambs and head of a door whose middle is at x in a wall of two linings (room at +y)."""
    half, deep = DOOR_M / 2, 2 * LINING_M + 0.03
    y = -LINING_M
    builder.begin()
    sides = x + np.array([-1, 1]) * (half - 0.015)
    builder.add(block(sides, y, 0, 0.03, deep, DOOR_HIGH_M), frame, T)
    builder.add(block(x, y, DOOR_HIGH_M - 0.03, DOOR_M, deep, 0.03), frame, T)
    faces = x + np.array([-1, 1]) * (half + 0.03)
    for face in (0.008, -2 * LINING_M - 0.008):
        builder.add(block(faces, face, 0, 0.06, 0.016, DOOR_HIGH_M + 0.06), frame, T)
        builder.add(block(x, face, DOOR_HIGH_M, DOOR_M, 0.016, 0.06), frame, T)


def add_door_leaf(
    builder: MeshBuilder,
    T: Array,
    x: float,
    hinge: int,
    angle: float,
    leaf: Surface,
    metal: Surface,
    obstacles: list[tuple[float, ...]],
) -> None:
    """A leaf that swings into the room (+y).

    Args:
        hinge: -1: at the lower x; 1: at the higher.
        angle: 0 is closed, pi / 2 stands square to the wall, radians.
    """
    wide = DOOR_M - 0.08
    T = T @ pose2d(x + hinge * (DOOR_M / 2 - 0.035), 0.0, 0.0)
    # the leaf's own frame: from the hinge along +x when closed, face towards +y
    if hinge > 0:
        T = T @ pose2d(0, 0, np.pi - angle)
        y = (-0.04, 0.0)
    else:
        T = T @ pose2d(0, 0, angle)
        y = (0.0, 0.04)
    builder.begin()
    builder.add(boxes([0, y[0], 0.008], [wide, y[1], DOOR_HIGH_M - 0.035]), leaf, T)
    for side in (y[0] - 0.03, y[1] + 0.03):
        builder.add(block(wide - 0.12, side, 1.03, 0.13, 0.02, 0.02), metal, T)
        knob = block(wide - 0.07, (side + np.mean(y)) / 2, 1.03, 0.02, abs(side - np.mean(y)), 0.02)
        builder.add(knob, metal, T)
    centre = T[:2, :2] @ [wide / 2, float(np.mean(y))] + T[:2, 3]
    yaw = float(np.arctan2(T[1, 0], T[0, 0]))
    obstacles.append((float(centre[0]), float(centre[1]), yaw, wide / 2, 0.05))


def add_window(
    builder: MeshBuilder, T: Array, hole: Opening, frame: Surface, glass: Surface
) -> None:
    """Frame, cross bars, sill and pane of a window in a lining (room at +y)."""
    builder.begin()
    middle, wide, high = (hole.start + hole.end) / 2, hole.end - hole.start, hole.high - hole.low
    y = -LINING_M / 2
    sides = np.r_[hole.start + 0.025, hole.end - 0.025, middle]
    builder.add(block(sides, y, hole.low, 0.05, 0.05, high), frame, T)
    z = np.r_[hole.low, hole.high - 0.05]
    builder.add(block(middle, y, z, wide, 0.05, 0.05), frame, T)
    builder.add(block(middle, 0.05, hole.low - 0.03, wide + 0.1, 0.16, 0.03), frame, T)
    pane = np.array([
        [hole.start, y - 0.01, hole.low], [hole.end, y - 0.01, hole.low],
        [hole.end, y - 0.01, hole.high], [hole.start, y - 0.01, hole.high],
    ])  # fmt: skip
    builder.add(quads(pane), glass, T)
