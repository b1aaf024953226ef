"""`World`: a procedural town, the same bytes for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from condense_ros.config import parameter
from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim import furniture, plants, vehicles
from condense_ros.sim.buildings import Style, add_building, make_style
from condense_ros.sim.classes import ontology
from condense_ros.sim.ground import CLEAR_M, KERB_M, add_ground
from condense_ros.sim.mesh import MeshBuilder, pose2d
from condense_ros.sim.network import Network, make_network
from condense_ros.sim.scenery import Light, Mover


@dataclass(frozen=True)
class WorldConfig:
    """A town's size and how full it is."""

    columns: int = parameter(5, "crossings along one side of the town", low=2, high=40)
    rows: int = parameter(4, "crossings along the other side", low=2, high=40)
    block_m: float = parameter(78.0, "mean distance of neighbouring crossings", low=50, high=300)
    hill_m: float = parameter(2.0, "largest height of the hills", low=0, high=10)
    styles: int = parameter(9, "kinds of houses in the town", low=1, high=200)
    parked: float = parameter(0.5, "share of parking places that are taken", low=0, high=1)
    people_per_100m: float = parameter(5.0, "people per 100 m of street", low=0, high=100)
    trees: float = parameter(0.55, "share of tree places that hold one", low=0, high=1)


class Footprints:
    """Rectangles on the ground that are taken."""

    def __init__(self) -> None:
        self._rows, self._count = np.empty((256, 5)), 0

    def add(self, x: float, y: float, yaw: float, half_x: float, half_y: float) -> None:
        """Takes a rectangle: centre, heading in radians, half length and half width in metres."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._count] = x, y, yaw, half_x, half_y
        self._count += 1

    def array(self) -> Array:
        """(F, 5) x, y, yaw, half length, half width of all."""
        return self._rows[: self._count]

    def clear(self, x: float, y: float, yaw: float, half_x: float, half_y: float) -> bool:
        """Whether a rectangle overlaps none that is taken (separating axes)."""
        other = self.array()
        delta = other[:, :2] - (x, y)
        near = np.linalg.norm(delta, axis=1) < np.hypot(other[:, 3], other[:, 4]) + np.hypot(
            half_x, half_y
        )
        for ox, oy, oyaw, ohx, ohy in other[near]:
            apart = False
            for angle in (yaw, yaw + np.pi / 2, oyaw, oyaw + np.pi / 2):
                axis = np.array([np.cos(angle), np.sin(angle)])
                reach = sum(
                    h * abs(np.cos(a - angle))
                    for h, a in (
                        (half_x, yaw),
                        (half_y, yaw + np.pi / 2),
                        (ohx, oyaw),
                        (ohy, oyaw + np.pi / 2),
                    )
                )
                if abs((ox - x) * axis[0] + (oy - y) * axis[1]) > reach:
                    apart = True
                    break
            if not apart:
                return False
        return True


class World:
    """A town made from a seed.

    Attributes:
        seed, config: what it was made from.
        network: streets and hills.
        mesh: all triangles with their surfaces and instances.
        obstacles: (O, 5) things on the ground, x, y, yaw, half length, half width, metres.

    Raises:
        SimulationError: a negative seed.
    """

    def __init__(self, seed: int, config: WorldConfig | None = None) -> None:
        if seed < 0:
            raise SimulationError(f"world seed {seed} is negative", "use a seed of 0 or more")
        self.seed, self.config = seed, config or WorldConfig()
        rng = np.random.default_rng([seed, 7041])
        c = self.config
        self.network: Network = make_network(rng, c.columns, c.rows, c.block_m, c.hill_m)
        self._taken = Footprints()
        self._builder = MeshBuilder()
        add_ground(self._builder, self.network, rng)
        styles = [make_style(rng) for _ in range(c.styles)]
        for e in range(len(self.network.edges)):
            for side in (1, -1):
                _Side(self, e, side, rng).fill(styles)
        self._fill_parks(rng)
        self.mesh = self._builder.mesh()
        self.kind, self.session, self.split = "town", 0, "train"
        self.movers: tuple[Mover, ...] = ()
        self.ontology, self.assets = ontology, frozenset[str]()
        del self._builder
        self.obstacles = self._taken.array().copy()
        sun_up, sun_round = np.radians(rng.uniform(25, 60)), rng.uniform(0, 2 * np.pi)
        #: (3,) unit vector towards the sun
        self.sun: Array = np.array(
            [np.cos(sun_up) * np.cos(sun_round), np.cos(sun_up) * np.sin(sun_round), np.sin(sun_up)]
        )
        x, y, z = self.sun.tolist()
        self.light = Light(sun=(x, y, z))

    def height(self, xy: Array) -> Array:
        """Ground height (...,) at positions (..., 2), metres; roads lie on it."""
        return self.network.height(xy)

    def _fill_parks(self, rng: np.random.Generator) -> None:
        low, high = self.network.nodes.min(axis=0) - 30, self.network.nodes.max(axis=0) + 30
        count = int(np.prod(high - low) / 300)
        xy = rng.uniform(low, high, (count, 2))
        distance, edge = self.network.offsets(xy)
        for (x, y), d, e in zip(xy, distance, edge, strict=True):
            if d < self.network.half_street[e] + 3 or not self._taken.clear(x, y, 0, 1.2, 1.2):
                continue
            T = pose2d(x, y, rng.uniform(0, 2 * np.pi), float(self.height(np.array([x, y]))) + 0.1)
            if rng.random() < 0.6:
                plants.add_tree(self._builder, T, rng)
                self._taken.add(x, y, 0, 0.4, 0.4)
            else:
                plants.add_bush(self._builder, T, rng)
                self._taken.add(x, y, 0, 0.8, 0.8)


class _Side:
    """One side of one street: its own frame (s along, t outwards), filled from kerb to gardens."""

    def __init__(self, world: World, edge: int, side: int, rng: np.random.Generator) -> None:
        self.world, self.rng, self.builder, self.taken = world, rng, world._builder, world._taken
        a, b = world.network.nodes[world.network.edges[edge]]
        if side < 0:
            a, b = b, a
        # with the ends swapped for the other side, outwards is always to the left
        self.origin, self.length = a, float(np.linalg.norm(b - a))
        self.along = (b - a) / self.length
        self.out = np.array([-self.along[1], self.along[0]])
        self.yaw = float(np.arctan2(self.along[1], self.along[0]))
        self.road = float(world.network.half_road[edge])
        self.street = float(world.network.half_street[edge])

    def at(self, s: float, t: float, turn: float = 0.0, z: float = 0.0) -> Array:
        """(4, 4) pose at `s` along and `t` outwards, on the ground plus z."""
        x, y = self.origin + s * self.along + t * self.out
        return pose2d(x, y, self.yaw + turn, float(self.world.height(np.array([x, y]))) + z)

    def claim(self, s0: float, s1: float, t0: float, t1: float) -> bool:
        """Takes a rectangle if it is free and off every other street's carriageway."""
        mid = self.origin + (s0 + s1) / 2 * self.along + (t0 + t1) / 2 * self.out
        args = (float(mid[0]), float(mid[1]), self.yaw, (s1 - s0) / 2, (t1 - t0) / 2)
        if t0 >= self.street - 0.01:
            s, t = np.meshgrid(np.linspace(s0, s1, 7), np.linspace(t0 + 0.05, t1, 5))
            xy = self.origin + s.reshape(-1, 1) * self.along + t.reshape(-1, 1) * self.out
            distance, edge = self.world.network.offsets(xy)
            if (distance < self.world.network.half_street[edge]).any():
                return False
        if not self.taken.clear(*args):
            return False
        self.taken.add(*args)
        return True

    def fill(self, styles: list[Style]) -> None:
        self._lots(styles)
        self._parking()
        self._pavement()

    def _lots(self, styles: list[Style]) -> None:
        rng = self.rng
        s = CLEAR_M * 0.6 + rng.uniform(0, 4)
        style = styles[int(rng.integers(len(styles)))]
        while s < self.length - CLEAR_M:
            if rng.random() < 0.3:
                style = styles[int(rng.integers(len(styles)))]
            width = float(rng.integers(3, 7)) * style.bay_m
            setback = float(rng.choice([0.3, 0.3, 2.5, 4.0, 6.0]))
            front = self.street + setback
            if rng.random() < 0.1:
                s += self._open_lot(s)
            elif self.claim(s, s + width, front, front + style.depth_m):
                # the front faces the street: the house frame's +y points outwards
                self.builder_house(s, front, width, style)
                if setback > 2:
                    self._border(s, s + width)
                s += width + float(rng.choice([0.0, 0.0, 1.2, 3.0, 6.0]))
            else:
                s += 3.0

    def builder_house(self, s: float, front: float, width: float, style: Style) -> None:
        add_building(self.builder, self.at(s, front, z=0.08), width, style, self.rng)

    def _open_lot(self, s: float) -> float:
        width = float(self.rng.uniform(8, 18))
        end = min(s + width, self.length - CLEAR_M)
        if end - s > 4 and self.claim(s, end, self.street + 0.5, self.street + 1.2):
            self._border(s, end, claimed=True)
        return width

    def _border(self, s0: float, s1: float, *, claimed: bool = False) -> None:
        """Hedge, fence or wall at the back of the pavement, with a gate left open."""
        rng = self.rng
        if not claimed and not self.claim(s0, s1, self.street + 0.4, self.street + 1.1):
            return
        kind = rng.choice(["hedge", "fence", "wall", "none"], p=[0.3, 0.33, 0.22, 0.15])
        gate = float(rng.uniform(s0 + 0.5, max(s0 + 0.6, s1 - 2.0)))
        height = float(rng.uniform(0.7, 1.9))
        for a, b in ((s0, gate), (gate + 1.5, s1)):
            if b - a < 1.0 or kind == "none":
                continue
            make = {
                "hedge": plants.add_hedge,
                "fence": furniture.add_fence,
                "wall": furniture.add_wall,
            }[str(kind)]
            # in short pieces that follow the slope of the ground
            pieces = max(1, int((b - a) / 4))
            for piece in range(pieces):
                start = a + (b - a) * piece / pieces
                make(
                    self.builder,
                    self.at(start, self.street + 0.7, z=0.08),
                    (b - a) / pieces,
                    height,
                    rng,
                )

    def _parking(self) -> None:
        rng, config = self.rng, self.world.config
        full = float(np.clip(rng.normal(config.parked, 0.22), 0, 1))
        s = CLEAR_M + 4.0
        while s < self.length - CLEAR_M - 6:
            if rng.random() < full:
                van = rng.random() < 0.13
                half = 3.2 if van else 2.5
                t = self.road - 1.15 + rng.uniform(-0.1, 0.1)
                if self.claim(s, s + 2 * half, t - 1.05, t + 1.05):
                    turn = np.pi * (rng.random() < 0.85) + rng.normal(0, 0.03)
                    T = self.at(s + half, t, turn)
                    vehicles.add_car(self.builder, T, rng, "van" if van else "car")
                s += 2 * half + rng.uniform(0.5, 1.5)
            else:
                s += 6.0

    def _pavement(self) -> None:
        """Lamps, trees, signs, bins, bicycles and people between kerb and houses."""
        rng, config, b = self.rng, self.world.config, self.builder
        kerb, back = self.road + 0.5, self.street - 0.5
        first, last = CLEAR_M + 0.5, self.length - CLEAR_M - 0.5
        lamp_gap = float(rng.uniform(24, 36))
        for s in np.arange(first + rng.uniform(0, 10), last, lamp_gap):
            if self.claim(s - 0.2, s + 0.2, kerb - 0.2, kerb + 0.2):
                furniture.add_lamp(b, self.at(s, kerb, np.pi, KERB_M), rng)
        if self.street - self.road > 2.6 and rng.random() < 0.7:
            gap = float(rng.uniform(7, 13))
            for s in np.arange(first + rng.uniform(0, gap), last, gap):
                if rng.random() < config.trees and self.claim(s - 0.3, s + 0.3, kerb, kerb + 0.6):
                    plants.add_tree(b, self.at(s, kerb + 0.3, rng.uniform(0, 6.3), KERB_M), rng)
        for s in (CLEAR_M - 0.5, self.length - CLEAR_M + 0.5):
            if rng.random() < 0.8 and self.claim(s - 0.2, s + 0.2, kerb - 0.2, kerb + 0.2):
                add = furniture.add_traffic_light if rng.random() < 0.35 else furniture.add_sign
                add(b, self.at(s, kerb, np.pi * (rng.random() < 0.5), KERB_M), rng)
        for count, make, half in (
            (rng.poisson(self.length / 40), furniture.add_sign, 0.3),
            (rng.poisson(self.length / 12), furniture.add_clutter, 0.4),
            (rng.poisson(self.length / 28), vehicles.add_bicycle, 0.9),
            (rng.poisson(self.length / 200 * config.people_per_100m), furniture.add_person, 0.4),
        ):
            for _ in range(int(count)):
                s, t = rng.uniform(first, last), rng.uniform(kerb, back)
                turn = float(rng.choice([0, np.pi])) + rng.normal(0, 0.3)
                if self.claim(s - half, s + half, t - 0.35, t + 0.35):
                    make(b, self.at(s, t, turn, KERB_M), rng)


@lru_cache(maxsize=2)
def shared_world(seed: int, config: WorldConfig | None = None) -> World:
    """The world of a seed, built once per process (some seconds) for all that only look at it.

    Raises:
        SimulationError: a negative seed.
    """
    return World(seed, config)
