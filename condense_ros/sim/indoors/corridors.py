"""Corridors: their walls, doors' openings, windows and lamps, and what stands and hangs in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import Catalogue
from condense_ros.sim.indoors import shell
from condense_ros.sim.indoors.floorplan import (
    CEILING_M,
    DEPTH_M,
    DOOR_M,
    HALF_CORRIDOR_M,
    LINING_M,
    YARD_M,
    FloorPlan,
)
from condense_ros.sim.indoors.interior import Floor
from condense_ros.sim.indoors.shell import Finish, Opening
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, pose2d

#: the robot's free way in a corridor, to each side of the centre line
WAY_M = HALF_CORRIDOR_M - 0.52


@dataclass(frozen=True, eq=False)
class Stretch:
    """A straight piece of corridor or a crossing. Its frame: x along it, y = 0 its centre line.

    Attributes:
        kind: wing of a long corridor, "cross" or "crossing".
        T: (4, 4) to world; length: metres.
        openings: (side, opening), side 1 on the left (+y), -1 on the right; x along the stretch.
        walls: sides that have a wall; ends: -1 and 1 where an end wall closes it.
        flip: things are placed the other way round.
    """

    kind: str
    T: Array
    length: float
    openings: tuple[tuple[int, Opening], ...]
    walls: tuple[int, ...] = (-1, 1)
    ends: tuple[int, ...] = ()
    flip: bool = False

    def doors(self, side: int) -> list[float]:
        return [(o.start + o.end) / 2 for s, o in self.openings if s == side and o.low == 0]

    def windows(self, side: int) -> list[Opening]:
        return [o for s, o in self.openings if s == side and o.low > 0]


def stretches(plan: FloorPlan) -> list[Stretch]:
    """All pieces of all corridors of a plan."""
    h, found = HALF_CORRIDOR_M, []
    last_x, last_y = len(plan.xs) - 1, len(plan.ys) - 1
    for k, y in enumerate(plan.ys):
        for j, x in enumerate(plan.xs):
            walls = ((-1,) if k == 0 else ()) + ((1,) if k == last_y else ())
            ends = ((-1,) if j == 0 else ()) + ((1,) if j == last_x else ())
            holes = tuple((side, Opening.window(0.5, 2 * h - 0.5)) for side in walls)
            found.append(Stretch("crossing", pose2d(x - h, y, 0), 2 * h, holes, walls, ends))
            if j == last_x:
                continue
            T, length = pose2d(x + h, y, 0), float(plan.xs[j + 1] - x - 2 * h)
            doors = []
            for room in plan.rooms:
                at = room.world(np.array([[room.door, 0.0]]))[0] - T[:2, 3]
                side = 1 if at[1] > 0 else -1
                if abs(abs(at[1]) - h) < 1e-6 and 0 < at[0] < length:
                    doors.append((side, Opening(at[0] - DOOR_M / 2, at[0] + DOOR_M / 2)))
            found.append(Stretch(plan.wings[k], T, length, tuple(doors), flip=j % 2 == 1))
    for j, x in enumerate(plan.xs):
        for k in range(last_y):
            length = 2 * DEPTH_M + YARD_M
            yard = Opening.window(DEPTH_M + 0.5, DEPTH_M + YARD_M - 0.5)
            outer = [Opening.window(a, a + 1.4) for a in (1.6, 5.6, 9.6)]
            windows: list[tuple[int, Opening]] = []
            for side, outside in ((1, j == 0), (-1, j == last_x)):
                windows += [(side, o) for o in (outer if outside else [yard])]
            T = pose2d(x, plan.ys[k] + h, np.pi / 2)
            found.append(Stretch("cross", T, length, tuple(windows)))
    return found


def add_walls(
    builder: MeshBuilder,
    stretch: Stretch,
    finish: Finish,
    window: tuple[Surface, Surface],
    obstacles: list[tuple[float, ...]],
) -> None:
    """Ceiling, linings and windows of a stretch; its floor is added apart."""
    h, length, T = HALF_CORRIDOR_M, stretch.length, stretch.T
    shell.add_ceiling(builder, T @ pose2d(0, -h, 0), (length, 2 * h), finish.ceiling)
    for side in stretch.walls:
        wall = T @ wall_frame(side, length)
        holes = [_along(o, side, length) for s, o in stretch.openings if s == side]
        shell.add_lining(builder, wall, length, holes, finish, obstacles)
        for hole in holes:
            if hole.low > 0:
                shell.add_window(builder, wall, hole, *window)
    for end in stretch.ends:
        x, yaw = (LINING_M, -np.pi / 2) if end < 0 else (length - LINING_M, np.pi / 2)
        wall = T @ pose2d(x, h if end < 0 else -h, yaw)
        hole = Opening.window(0.5, 2 * h - 0.5)
        shell.add_lining(builder, wall, 2 * h, [hole], finish, obstacles)
        shell.add_window(builder, wall, hole, *window)


def wall_frame(side: int, length: float) -> Array:
    """Frame of a side wall: x along it, the corridor at +y, its face at y = 0."""
    y = HALF_CORRIDOR_M - LINING_M
    return pose2d(length, y, np.pi) if side > 0 else pose2d(0.0, -y, 0.0)


def _along(o: Opening, side: int, length: float) -> Opening:
    """An opening as its wall's own frame has it."""
    if side < 0:
        return o
    return Opening(length - o.end, length - o.start, o.low, o.high)


class CorridorPlacer:
    """Puts assets along the walls of one stretch, off doors, windows and the robot's way."""

    def __init__(
        self,
        stretch: Stretch,
        catalogue: Catalogue,
        models: dict[str, list[str]],
        builder: MeshBuilder,
        obstacles: list[tuple[float, ...]],
    ) -> None:
        self.stretch, self.catalogue, self.models = stretch, catalogue, models
        self.builder, self.obstacles = builder, obstacles
        self.floor = Floor([np.array([[0.0, 0.0], [stretch.length, 0.0]])], WAY_M)
        self.taken: dict[int, list[tuple[float, float]]] = {1: [], -1: []}
        for side in (1, -1):
            for x in stretch.doors(side):
                self.taken[side].append((x - DOOR_M / 2 - 0.1, x + DOOR_M / 2 + 0.1))

    def put(self, kind: str, side: int, x: float, pick: int, turn: float = 0.0) -> bool:
        """Puts or hangs an asset with its back to a wall, its middle at x, if it fits there."""
        names = self.models[kind]
        design = self.catalogue.design(names[pick % len(names)])
        if self.stretch.flip:
            x, turn = self.stretch.length - x, -turn
        low, high = x - design.half[1] - 0.03, x + design.half[1] + 0.03
        if low < 0 or high > self.stretch.length or side not in self.stretch.walls:
            return False
        hanging = design.low_m > 0.5
        holes = [(o.start, o.end) for o in self.stretch.windows(side)] if hanging else []
        if any(low < b and a < high for a, b in self.taken[side] + holes):
            return False
        y = side * (HALF_CORRIDOR_M - LINING_M - 0.015 - design.half[0])
        yaw = -side * np.pi / 2 + turn
        if not hanging and not self.floor.clear(x, y, yaw, design.half):
            return False
        self.taken[side].append((low, high))
        self.builder.begin()
        design.add(self.builder, self.stretch.T @ pose2d(x, y, yaw))
        if not hanging:
            (wx, wy), T = (self.stretch.T @ [x, y, 0, 1])[:2], self.stretch.T
            world_yaw = yaw + float(np.arctan2(T[1, 0], T[0, 0]))
            self.obstacles.append((float(wx), float(wy), world_yaw, *design.half))
        return True

    def furnish(self, rng: np.random.Generator) -> None:
        """Pictures, radiators under windows and a few flat pieces of furniture that stay."""
        for side in (1, -1):
            for hole in self.stretch.windows(side):
                x = (hole.start + hole.end) / 2
                self.put("radiator", side, self.stretch.length - x if self.stretch.flip else x, 0)
        count = int(self.stretch.length / 0.9)
        places = rng.uniform(0, self.stretch.length, count)
        sides, picks = rng.choice([-1, 1], count), rng.integers(99, size=count)
        kinds = rng.choice(["picture", "whiteboard", "shelf", "cabinet", "radiator"], count,
                           p=[0.55, 0.1, 0.12, 0.1, 0.13])  # fmt: skip
        for kind, side, x, pick in zip(kinds, sides, places, picks, strict=True):
            self.put(str(kind), int(side), float(x), int(pick))

    def scatter(self, rng: np.random.Generator) -> None:
        """What stands about in one session."""
        count = int(rng.poisson(self.stretch.length / 2.5))
        for _ in range(count):
            kind = str(rng.choice(["box", "plant", "clutter", "person_standing", "chair"],
                                  p=[0.3, 0.2, 0.2, 0.15, 0.15]))  # fmt: skip
            side, x = int(rng.choice([-1, 1])), float(rng.uniform(0, self.stretch.length))
            self.put(kind, side, x, int(rng.integers(99)), float(rng.normal(0, 0.1)))

    def lamps(self) -> list[tuple[float, float, float]]:
        """Hangs ceiling lamps every few metres; returns where their light comes from."""
        design = self.catalogue.design(self.models["ceiling_panel"][0])
        count = max(1, round(self.stretch.length / 4.2))
        found = []
        for x in (np.arange(count) + 0.5) * self.stretch.length / count:
            T = self.stretch.T @ pose2d(float(x), 0.0, 0.0, CEILING_M)
            self.builder.begin()
            design.add(self.builder, T)
            found.append((float(T[0, 3]), float(T[1, 3]), CEILING_M + design.low_m - 0.06))
        return found
