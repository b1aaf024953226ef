"""Furniture of offices: desks, chairs, tables, shelves, cupboards, screens.

Frames: x to the front (where one stands to use it), z up, the floor or the wall mount at z = 0 or
at the height where the thing hangs.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import Parts, block, stuff
from condense_ros.sim.indoors import classes_building as c
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import revolve, tube

#: textures of hard and of soft things, paints of metal: shared by all classes
HARD = ("plain", "wood", "planks", "mottle", "plain")
SOFT = ("cloth", "plain", "stripes", "checker", "mottle")
METAL = (0, 1, 2, 10, 12, 15)


def legs(x: float, y: float, top: float, thick: float) -> Array:
    """Four legs of square section under a rectangle of half size (x, y)."""
    sx, sy = np.array([-1, -1, 1, 1]) * (x - thick), np.array([-1, 1, -1, 1]) * (y - thick)
    return block(sx, sy, 0, thick, thick, top)


def desk(rng: np.random.Generator) -> Parts:
    """A desk one sits at from +x, with a drawer unit under it."""
    deep, wide, high = rng.uniform(0.65, 0.8), rng.uniform(1.3, 1.8), rng.uniform(0.71, 0.76)
    top, frame = stuff(rng, c.DESK, HARD, scale_m=0.4), stuff(rng, c.DESK, ("plain",), *METAL)
    parts: Parts = [(block(0, 0, high - 0.03, deep, wide, 0.03), top)]
    if rng.random() < 0.5:
        parts.append((legs(deep / 2, wide / 2, high - 0.03, 0.05), frame))
    else:
        sides = np.array([-1, 1]) * (wide / 2 - 0.02)
        parts.append((block(0, sides, 0, deep * 0.9, 0.03, high - 0.03), top))
        parts.append((block(-deep * 0.4, 0, 0.25, 0.02, wide - 0.06, high - 0.3), top))
    drawers = stuff(rng, c.CABINET, HARD)
    side = float(rng.choice([-1, 1])) * (wide / 2 - 0.28)
    parts.append((block(0, side, 0.05, deep * 0.8, 0.42, 0.52), drawers))
    handles = block(deep * 0.41, side, np.array([0.2, 0.36, 0.5]), 0.02, 0.16, 0.02)
    parts.append((handles, frame))
    return parts


def office_chair(rng: np.random.Generator) -> Parts:
    """A swivel chair on five castors."""
    seat = stuff(rng, c.CHAIR, SOFT, scale_m=0.15)
    frame = stuff(rng, c.CHAIR, ("plain",), *METAL)
    parts: Parts = [(revolve(np.array([[0.03, 0.06], [0.025, 0.44]]), 6), frame)]
    for angle in np.arange(5) * 1.2566:
        end = np.array([0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.05])
        parts.append((tube(np.array([[0, 0, 0.09], end]), 0.022, 4), frame))
        parts.append((block(end[0], end[1], 0, 0.05, 0.05, 0.06), frame))
    parts.append((block(0, 0, 0.44, 0.48, 0.48, 0.07), seat))
    high = float(rng.uniform(0.4, 0.65))
    parts.append((tube(np.array([[-0.2, 0, 0.44], [-0.28, 0, 0.75]]), 0.025, 4), frame))
    parts.append((block(-0.27, 0, 0.56, 0.05, 0.44, high), seat))
    if rng.random() < 0.6:
        for y in (-0.27, 0.27):
            parts.append((block(0, y, 0.64, 0.26, 0.05, 0.03), frame))
            parts.append((block(0, y, 0.48, 0.04, 0.03, 0.16), frame))
    return parts


def chair(rng: np.random.Generator) -> Parts:
    """A chair on four legs."""
    wood = stuff(rng, c.CHAIR, HARD, scale_m=0.2)
    seat = stuff(rng, c.CHAIR, SOFT, scale_m=0.12) if rng.random() < 0.6 else wood
    high = float(rng.uniform(0.36, 0.55))
    parts: Parts = [
        (legs(0.21, 0.21, 0.44, 0.035), wood),
        (block(0, 0, 0.43, 0.43, 0.43, 0.04), seat),
    ]
    parts.append((block(-0.2, np.array([-0.19, 0.19]), 0.45, 0.03, 0.03, high), wood))
    if rng.random() < 0.5:
        slats = np.linspace(0.6, 0.4 + high, 3)
        parts.append((block(-0.2, 0, slats, 0.02, 0.38, 0.06), wood))
    else:
        parts.append((block(-0.2, 0, 0.55, 0.03, 0.4, high - 0.12), seat))
    return parts


def table(rng: np.random.Generator, long_m: float, wide_m: float, high: float = 0.74) -> Parts:
    """A table, rectangular and long along x, or round where it is nearly square."""
    top, frame = stuff(rng, c.TABLE, HARD, scale_m=0.5), stuff(rng, c.TABLE, HARD)
    if long_m / wide_m < 1.2 and rng.random() < 0.6:
        r = wide_m / 2
        disc = np.array([[r - 0.01, high - 0.03], [r, high - 0.015], [r - 0.01, high]])
        column = np.array([[0.28, 0], [0.26, 0.03], [0.05, 0.06], [0.05, high - 0.02]])
        return [(revolve(disc, 20), top), (revolve(column, 8), frame)]
    parts: Parts = [(block(0, 0, high - 0.035, long_m, wide_m, 0.035), top)]
    if rng.random() < 0.6:
        parts.append((legs(long_m / 2, wide_m / 2, high - 0.035, 0.06), frame))
    else:
        x = np.array([-1, 1]) * long_m * 0.3
        parts.append((block(x, 0, 0.04, 0.08, 0.08, high - 0.08), frame))
        parts.append((block(x, 0, 0, 0.1, wide_m * 0.7, 0.04), frame))
    return parts


def shelf(rng: np.random.Generator) -> Parts:
    """A rack of boards, open to the front, with books, folders and a few boxes."""
    deep, wide, high = rng.uniform(0.28, 0.36), rng.uniform(0.8, 1.2), rng.uniform(1.5, 2.1)
    wood = stuff(rng, c.SHELF, HARD, scale_m=0.25)
    levels = np.linspace(0.06, high - 0.03, int(rng.integers(5, 7)))
    parts: Parts = [
        (block(0, 0, levels, deep, wide, 0.025), wood),
        (block(0, np.array([-1, 1]) * wide / 2, 0, deep, 0.025, high), wood),
    ]
    if rng.random() < 0.6:
        parts.append((block(-deep / 2, 0, 0, 0.01, wide, high), wood))
    for z, above in pairwise(levels):
        start = -wide / 2 + 0.03
        while start < wide / 2 - 0.15:
            run = min(float(rng.uniform(0.15, 0.5)), wide / 2 - 0.03 - start)
            draw = rng.random()
            if draw < 0.7:
                parts.append(_books(rng, deep, start, run, z + 0.025, above - z - 0.05))
            elif draw < 0.8:
                stuffed = stuff(rng, c.BOX, ("plain", "mottle", "stripes"))
                tall = (above - z) * float(rng.uniform(0.4, 0.8))
                at = block(0, start + run / 2, z + 0.025, deep * 0.8, run * 0.8, tall)
                parts.append((at, stuffed))
            start += run + float(rng.uniform(0.0, 0.1))
    return parts


def _books(
    rng: np.random.Generator, deep: float, start: float, run: float, z: float, room: float
) -> tuple[Array, Surface]:
    """One row of upright books between y = start and start + run."""
    count = max(2, int(run / 0.045))
    y = start + (np.arange(count) + 0.5) * run / count
    tall = room * rng.uniform(0.6, 0.95, count)
    thick = run / count * rng.uniform(0.7, 0.96, count)
    depth = deep * rng.uniform(0.55, 0.8, count)
    spines = stuff(rng, c.BOOKS, ("stripes", "checker", "plain", "mottle"), scale_m=0.08)
    return block(depth / 2 - deep / 2 + 0.02, y, z, depth, thick, tall), spines


def cabinet(rng: np.random.Generator) -> Parts:
    """A cupboard or sideboard with doors and handles."""
    high = float(rng.choice([0.85, 1.2, 1.95]) * rng.uniform(0.92, 1.08))
    return cupboard(rng, rng.uniform(0.38, 0.5), rng.uniform(0.8, 1.3), high)


def wardrobe(rng: np.random.Generator) -> Parts:
    """A wardrobe of a bedroom."""
    return cupboard(rng, rng.uniform(0.55, 0.62), rng.uniform(1.0, 1.7), rng.uniform(1.9, 2.25))


def cupboard(rng: np.random.Generator, deep: float, wide: float, high: float) -> Parts:
    """A box with doors and handles to its front, on the floor."""
    body, metal = (
        stuff(rng, c.CABINET, HARD, scale_m=0.4),
        stuff(rng, c.CABINET, ("plain",), *METAL),
    )
    front = body if rng.random() < 0.5 else stuff(rng, c.CABINET, HARD, scale_m=0.4)
    parts: Parts = [(block(-0.02, 0, 0, deep - 0.04, wide - 0.02, high), body)]
    doors = max(2, round(wide / 0.5))
    y = (np.arange(doors) + 0.5) * wide / doors - wide / 2
    parts.append((block(deep / 2 - 0.03, y, 0.08, 0.02, wide / doors - 0.012, high - 0.1), front))
    grip = y + np.where(np.arange(doors) % 2 == 0, 1, -1) * (wide / doors / 2 - 0.06)
    parts.append((block(deep / 2 - 0.01, grip, high * 0.45, 0.02, 0.02, 0.16), metal))
    return parts


def monitor(rng: np.random.Generator) -> Parts:
    """A screen on a foot that stands on a desk."""
    wide = float(rng.uniform(0.48, 0.68))
    case = stuff(rng, c.SCREEN, ("plain",), *METAL)
    face = stuff(
        rng,
        c.SCREEN,
        ("plain", "checker", "stripes", "tiles"),
        scale_m=0.1,
        reflectance=(0.03, 0.2),
    )
    return [
        (block(0, 0, 0, 0.2, 0.24, 0.015), case),
        (block(-0.04, 0, 0.01, 0.03, 0.06, 0.2), case),
        (block(0, 0, 0.12, 0.03, wide, wide * 0.58), case),
        (block(0.016, 0, 0.132, 0.006, wide - 0.03, wide * 0.58 - 0.03), face),
    ]


def keyboard(rng: np.random.Generator) -> Parts:
    """Keyboard, papers and a cup."""
    paper = stuff(rng, c.CLUTTER, ("stripes", "plain"), 0, 10, scale_m=0.02)
    cup = np.array([[0.035, 0], [0.04, 0.09]])
    y = float(rng.uniform(0.3, 0.5)) * float(rng.choice([-1, 1]))
    return [
        (
            block(0, 0, 0, 0.15, 0.42, 0.02),
            stuff(rng, c.CLUTTER, ("checker", "plain"), scale_m=0.02),
        ),
        (block(0.05, y, 0, 0.3, 0.21, 0.012), paper),
        (revolve(cup, 8) + [-0.15, y, 0], stuff(rng, c.CLUTTER, ("plain", "stripes"))),
    ]


def whiteboard(rng: np.random.Generator) -> Parts:
    """A white board of a meeting room on a wall at x = 0."""
    wide = float(rng.uniform(1.4, 2.2))
    white, rail = (
        stuff(rng, c.PICTURE, ("plain",), 0, 10, 8),
        stuff(rng, c.PICTURE, ("plain",), *METAL),
    )
    return [
        (block(0.015, 0, 0.95, 0.03, wide, 1.1), white),
        (block(0.05, 0, 0.92, 0.08, wide * 0.9, 0.02), rail),
    ]
