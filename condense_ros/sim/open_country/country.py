"""Where the things of open country stand: landmarks that stay, and what comes and goes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import Catalogue, Design
from condense_ros.sim.indoors.interior import rectangle_distance
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, tube
from condense_ros.sim.open_country import classes_terrain as c
from condense_ros.sim.open_country.fields import Season
from condense_ros.sim.open_country.relief import Ditch, ground_height
from condense_ros.sim.open_country.tracks import CLEAR_M, Land, resample
from condense_ros.sim.scenery import Mover
from condense_ros.sim.walkers import racetrack, walk


class Placer:
    """Puts things on the ground, off the tracks and off each other.

    Attributes:
        obstacles: rows x, y, yaw, half length, half width, metres.
    """

    def __init__(
        self, land: Land, ditch: Ditch, catalogue: Catalogue, builder: MeshBuilder
    ) -> None:
        self.land, self.ditch = land, ditch
        self.catalogue, self.builder = catalogue, builder
        self.obstacles: list[tuple[float, float, float, float, float]] = []

    def ground(self, xy: Array) -> Array:
        return ground_height(self.land, self.ditch, np.atleast_2d(xy))

    def pose(self, x: float, y: float, yaw: float, *, tilt: bool = False) -> Array:
        """(4, 4) of a thing that stands at (x, y); tilted, it lies along the slope."""
        c_, s_ = np.cos(yaw), np.sin(yaw)
        T = np.eye(4)
        ahead, left = np.array([c_, s_, 0.0]), np.array([-s_, c_, 0.0])
        if tilt:
            gx, gy = self.land.network.slope(np.array([x, y]))
            ahead[2], left[2] = gx * c_ + gy * s_, -gx * s_ + gy * c_
            ahead /= np.linalg.norm(ahead)
            up = np.cross(ahead, left)
            T[:3, 2] = up / np.linalg.norm(up)
            T[:3, 1] = np.cross(T[:3, 2], ahead)
            T[:3, 0] = ahead
        else:
            T[:3, 0], T[:3, 1] = ahead, left
        T[:3, 3] = (x, y, float(self.ground(np.array([x, y]))[0]))
        return T

    def free(self, x: float, y: float, half: tuple[float, float], gap: float = CLEAR_M) -> bool:
        """Whether a thing of that footprint stands clear of tracks, ditch and other things."""
        reach = float(np.hypot(*half))
        at = np.array([[x, y]])
        if float(self.land.distance(at)[0]) < gap + reach or float(self.ditch.depth(at)[0]) > 0:
            return False
        if not self.obstacles:
            return True
        return bool(rectangle_distance(at, np.array(self.obstacles)).min() > reach + 0.1)

    def take(self, x: float, y: float, yaw: float, half: tuple[float, float]) -> None:
        self.obstacles.append((float(x), float(y), float(yaw), float(half[0]), float(half[1])))

    def put(
        self, name: str, x: float, y: float, yaw: float, *, tilt: bool = False, gap: float = CLEAR_M
    ) -> bool:
        """Puts an asset there if it stands free."""
        design = self.catalogue.design(name)
        if not self.free(x, y, design.half, gap):
            return False
        self.builder.begin()
        design.add(self.builder, self.pose(x, y, yaw, tilt=tilt))
        self.take(x, y, yaw, design.half)
        return True

    def spots(
        self, rng: np.random.Generator, fields: list[int], count: int, band: tuple[float, float]
    ) -> Array:
        """(count, 2) random points of fields at distances `band` from the tracks."""
        far = float(self.land.radius_m.max()) + band[1]
        found = np.empty((0, 2))
        for _ in range(60):
            xy = rng.uniform(-far, far, (400, 2))
            d = self.land.distance(xy)
            xy = xy[(d > band[0]) & (d < band[1])]
            found = np.concatenate([found, xy[np.isin(self.land.field(xy), fields)]])
            if len(found) >= count:
                break
        return found[:count]

    def fields(self, *uses: str) -> list[int]:
        return [k for k, use in enumerate(self.land.uses) if use in uses]


def add_landmarks(p: Placer, rng: np.random.Generator) -> None:
    """What stays: the barn, a fence, poles with wires, rocks, a stack of logs."""
    names = {kind: p.catalogue.draw(rng, kind, n) for kind, n in
             (("barn", 1), ("fence", 1), ("power_pole", 1), ("rock", 5), ("logs", 2))}  # fmt: skip
    yard = 4 + p.land.uses[4:].index("pasture")
    at = p.land.middle(yard, 17.0)
    away = float(np.arctan2(-at[1], -at[0])) + float(rng.normal(0, 0.25))
    p.put(names["barn"][0], float(at[0]), float(at[1]), away)
    _add_fence(p, names["fence"][0], yard, rng)
    _add_line(p, names["power_pole"][0], rng)
    every = list(range(8))
    for x, y in p.spots(rng, every, 26, (3.0, 26.0)):
        name = names["rock"][int(rng.integers(5))]
        p.put(name, x, y, float(rng.uniform(0, 6.28)), gap=CLEAR_M)
    for (x, y), name in zip(
        p.spots(rng, p.fields("wood", "pasture"), 4, (5.0, 12.0)), names["logs"] * 2, strict=False
    ):
        p.put(name, x, y, float(rng.uniform(0, 6.28)), tilt=True)


def _add_fence(p: Placer, name: str, field: int, rng: np.random.Generator) -> None:
    """A fence along the ring before a pasture, with a gate left open."""
    middle = p.land.middle(field)
    angle = float(np.arctan2(middle[1], middle[0]))
    line = p.land.beside_ring(angle - 0.62, angle + 0.62, 4.1, 2.5)
    gate = int(rng.integers(8, len(line) - 8))
    design = p.catalogue.design(name)
    p.builder.begin()
    for k, (a, b) in enumerate(pairwise(line)):
        if k in (gate, gate + 1) or rng.random() < 0.02:
            continue
        x, y = (a + b) / 2
        yaw = float(np.arctan2(*(b - a)[::-1]))
        if float(p.land.distance(np.array([[x, y]]))[0]) < CLEAR_M + 0.4:
            continue
        design.add(p.builder, p.pose(x, y, yaw, tilt=True))
        p.take(x, y, yaw, (1.25, 0.06))


def _add_line(p: Placer, name: str, rng: np.random.Generator) -> None:
    """Poles of an overhead line across the country, and its wires."""
    yaw = float(rng.uniform(0, np.pi))
    d = np.array([np.cos(yaw), np.sin(yaw)])
    start = np.array([-d[1], d[0]]) * float(rng.uniform(-0.4, 0.4)) * float(p.land.radius_m.mean())
    design = p.catalogue.design(name)
    tops = []
    for s in np.arange(-270, 271, 41.0):
        for shift in (0.0, 2.5, -2.5, 5.0, -5.0, 7.5, -7.5):
            x, y = start + (s + shift) * d
            if p.free(x, y, (0.16, 0.16)):
                break
        else:
            continue
        p.builder.begin()
        T = p.pose(x, y, yaw)
        design.add(p.builder, T)
        p.take(x, y, 0.0, (0.16, 0.16))
        high = design.top_m - 0.3
        tops.append(np.array([T[:3, 3] + T[:3, 1] * side + [0, 0, high] for side in (-1, 0, 1)]))
    wire = Surface(c.POLE, "plain", (0.1, 0.1, 0.11), reflectance=0.15)
    t = np.linspace(0, 1, 12)[:, None]
    for a, b in pairwise(tops):
        p.builder.begin()
        for u, v in zip(a, b, strict=True):
            sag = u + t * (v - u) - 4 * t * (1 - t) * [0, 0, 0.9]
            p.builder.add(tube(sag, 0.012, 3), wire)


def add_passing(p: Placer, rng: np.random.Generator, season: Season, animals: int) -> None:
    """What one session holds: bales after the harvest, animals, people, a trailer."""
    names = {kind: p.catalogue.draw(rng, kind, n) for kind, n in
             (("bale", 2), ("cow", 3), ("sheep", 2), ("stander", 3), ("trailer", 1))}  # fmt: skip
    many = {"harvest": 26, "autumn": 9, "summer": 7, "spring": 4}[season.name]
    for x, y in p.spots(rng, p.fields("cereal", "meadow", "pasture"), many, (4.5, 38.0)):
        p.put(names["bale"][int(rng.integers(2))], x, y, float(rng.uniform(0, 6.28)), tilt=True)
    herd = names["cow"] if rng.random() < 0.6 else names["sheep"]
    for x, y in p.spots(rng, p.fields("pasture"), animals, (4.5, 30.0)):
        p.put(herd[int(rng.integers(len(herd)))], x, y, float(rng.uniform(0, 6.28)), tilt=True)
    for x, y in p.spots(rng, list(range(8)), 3, (3.2, 6.0)):
        p.put(names["stander"][int(rng.integers(3))], x, y, float(rng.uniform(0, 6.28)))
    yard = p.spots(rng, p.fields("pasture", "plough"), 12, (5.0, 14.0))
    for x, y in yard:
        if p.put(names["trailer"][0], x, y, float(rng.uniform(0, 6.28)), tilt=True):
            break


def movers(
    p: Placer, rng: np.random.Generator, walkers: int, first_instance: int
) -> tuple[Mover, ...]:
    """A tractor that works the ploughed field, people beside the tracks, one animal that walks."""
    found: list[Mover] = []
    net = p.land.network

    def add(design: Design, line: Array, speed: float, tilted: bool = False) -> None:
        number, shift = first_instance + len(found), float(rng.uniform())
        found.append(walk(design, line, speed, shift, number, net, tilted=tilted))

    tractor = p.catalogue.design(p.catalogue.draw(rng, "tractor")[0])
    for field in p.fields("plough")[:1]:
        middle, yaw = p.land.middle(field), float(rng.uniform(0, np.pi))
        reach = 0.13 * float(p.land.radius_m.mean()) * np.array([np.cos(yaw), np.sin(yaw)])
        line = resample(racetrack(middle - reach, middle + reach, 5.0), 0.5)
        add(tractor, line, float(rng.uniform(1.6, 2.6)), True)
    for name in p.catalogue.draw(rng, "walker", min(walkers, 6)) if walkers else ():
        spoke = p.land.spokes[int(rng.integers(4))]
        add(p.catalogue.design(name), _verge(spoke, rng), float(rng.uniform(1.0, 1.5)))
    for field in p.fields("pasture")[-1:]:
        beast = p.catalogue.design(p.catalogue.draw(rng, "cow")[0])
        angle = np.linspace(0, 2 * np.pi, 25)[:-1]
        at = p.land.middle(field, 34.0) + 5 * np.column_stack([np.cos(angle), np.sin(angle)])
        add(beast, at, 0.5)
    return tuple(found)


def _verge(spoke: Array, rng: np.random.Generator) -> Array:
    """There on one side of a track, back on the other."""
    line = resample(spoke, 1.0)
    a = int(rng.integers(8, max(9, len(line) - 40)))
    line = line[a : a + 36]
    side = np.gradient(line, axis=0)
    side = np.column_stack([-side[:, 1], side[:, 0]]) / np.linalg.norm(side, axis=1, keepdims=True)
    return np.concatenate([line - 2.3 * side, (line + 2.3 * side)[::-1]])
