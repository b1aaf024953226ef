"""Things of open country, each made from its asset's generator: trees, rocks, barns, machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from condense_ros.geometry import Array
from condense_ros.sim.designs import Parts, block, stuff
from condense_ros.sim.figures import animal, person
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import extrude, leaves, quads, revolve, tube
from condense_ros.sim.open_country import classes_terrain as c

_GREENS = (8, 9, 13, 11)
_EARTHS = (5, 14, 4, 1, 0)
_TIMBER = (5, 14, 1, 0, 2)


@dataclass(frozen=True, eq=False)
class Plant:
    """A tree or bush: its wood stays, its leaves follow the season.

    Attributes:
        wood: trunk and branches.
        leaf: (L, 2, 3, 3) triangles of the leaves, in random order.
        surface: of the leaves in summer.
    """

    wood: Parts
    leaf: Array
    surface: Surface


def tree(rng: np.random.Generator) -> Plant:
    """A broad-leaved tree, a conifer or a poplar, 5 to 15 m high."""
    form = int(rng.choice([0, 0, 0, 1, 2]))
    height = float(rng.uniform(6, 13) * (1.15 if form else 1.0))
    bark = stuff(rng, c.TRUNK, ("mottle", "planks", "wood", "render"), *_TIMBER, scale_m=0.25)
    leaf = stuff(rng, c.FOLIAGE, ("leaf",), *_GREENS, scale_m=0.6, contrast=0.35)
    radius = height * float(rng.uniform(0.014, 0.022)) + 0.04
    lean = rng.normal(0, 0.03, 2) * height
    z = np.array([-0.5, 0.0, 0.25 * height, 0.5 * height, 0.8 * height])
    path = np.column_stack([(np.maximum(z, 0) / height)[:, None] ** 1.4 * lean, z])
    wood: Parts = [(tube(path, radius * np.array([1.5, 1.15, 0.9, 0.65, 0.25]), 8), bark)]
    if form:
        n = int(80 * height)
        up = rng.uniform(0.02, 1, n) ** (1.3 if form == 1 else 0.9)
        wide = (0.2 if form == 1 else 0.1) * height
        shape = (1 - up) if form == 1 else np.sin(np.pi * np.clip(up * 0.9 + 0.1, 0, 1)) ** 0.5
        reach = shape * wide * np.sqrt(rng.uniform(0.2, 1, n)) + 0.08
        angle = rng.uniform(0, 2 * np.pi, n)
        low = 0.1 * height
        centres = np.column_stack(
            [reach * np.cos(angle), reach * np.sin(angle), low + up * (height - low)]
        )
        size = rng.uniform(0.24, 0.46, n)
        return Plant(wood, leaves(centres, size, rng).reshape(-1, 2, 3, 3), leaf)
    fork = float(rng.uniform(0.22, 0.36)) * height
    crown = float(rng.uniform(0.24, 0.34)) * height
    found = []
    for _ in range(int(rng.integers(6, 11))):
        direction = rng.normal(size=3) * [1, 1, 0.6]
        direction *= float(rng.uniform(0.35, 0.85)) * crown / np.linalg.norm(direction)
        centre = np.r_[lean * 0.7, fork + 0.55 * (height - fork)] + direction
        bend = (centre + [*lean * 0.5, fork]) / 2
        limb = np.array([np.r_[lean * 0.4, fork * 0.95], bend, centre])
        wood.append((tube(limb, np.array([0.55, 0.35, 0.12]) * radius, 5), bark))
        clump = crown * float(rng.uniform(0.4, 0.65))
        n = int(105 * clump**1.7) + 40
        shell = rng.normal(size=(n, 3))
        shell *= (clump * rng.uniform(0.5, 1.0, n) / np.linalg.norm(shell, axis=1))[:, None]
        found.append(leaves(centre + shell * [1, 1, 0.8], rng.uniform(0.18, 0.36, n), rng))
    every = np.concatenate(found).reshape(-1, 2, 3, 3)
    return Plant(wood, every[rng.permutation(len(every))], leaf)


def bush(rng: np.random.Generator) -> Plant:
    """A bush, 0.8 to 3 m high, leafy to the ground."""
    leaf = stuff(rng, c.BUSH, ("leaf",), *_GREENS, 14, scale_m=0.4, contrast=0.35)
    bark = stuff(rng, c.BUSH, ("mottle", "plain"), *_TIMBER)
    size, tall = float(rng.uniform(0.6, 1.3)), float(rng.uniform(0.9, 1.9))
    n = int(190 * size)
    shell = rng.normal(size=(n, 3))
    shell *= (size * rng.uniform(0.35, 1.0, n) / np.linalg.norm(shell, axis=1))[:, None]
    shell[:, 2] = np.abs(shell[:, 2]) * tall
    wood: Parts = []
    for angle in rng.uniform(0, 2 * np.pi, 4):
        tip = 0.6 * size * np.array([np.cos(angle), np.sin(angle), 1.4 * tall])
        wood.append((tube(np.array([[0, 0, -0.2], tip]), [0.035, 0.012], 4), bark))
    return Plant(wood, leaves(shell, rng.uniform(0.14, 0.3, n), rng).reshape(-1, 2, 3, 3), leaf)


def rock(rng: np.random.Generator) -> Parts:
    """A boulder: the hull of a squashed cloud of points."""
    size = rng.uniform([0.3, 0.25, 0.2], [1.3, 1.0, 0.8])
    points = rng.normal(size=(26, 3))
    points *= size / np.linalg.norm(points, axis=1, keepdims=True)
    points += [0, 0, 0.4 * size[2]]
    stone = stuff(rng, c.ROCK, ("render", "mottle", "concrete"), *_EARTHS, 10, 13, scale_m=0.5)
    return [(points[ConvexHull(points).simplices], stone)]


def bale(rng: np.random.Generator) -> Parts:
    """A round or square bale of straw; some are wrapped."""
    wrapped = rng.random() < 0.3
    paints = (10, 2, 8, 12) if wrapped else (3, 11, 14)
    straw = stuff(rng, c.BALE, ("plain",) if wrapped else ("grass", "mottle", "stripes"), *paints,
                  scale_m=0.1)  # fmt: skip
    if rng.random() < 0.7:
        r, wide = float(rng.uniform(0.55, 0.8)), float(rng.uniform(1.1, 1.3))
        roll = revolve(np.array([[r, -wide / 2], [r, wide / 2]]), 16)[..., [2, 0, 1]]
        return [(roll + [0, 0, r - 0.04], straw)]
    return [(block(0, 0, -0.05, float(rng.uniform(1.6, 2.3)), 0.9, 0.85), straw)]


def fence(rng: np.random.Generator) -> Parts:
    """2.5 m of fence along x: one post and wires or rails to the next."""
    post = stuff(rng, c.FENCE, ("wood", "mottle", "plain"), *_TIMBER, scale_m=0.1)
    parts: Parts = [(tube(np.array([[0, 0, -0.4], [0, 0, 1.2]]), 0.055, 6), post)]
    rails = rng.random() < 0.3
    bar = stuff(rng, c.FENCE, ("wood", "plain"), *_TIMBER) if rails else stuff(
        rng, c.FENCE, ("plain",), 1, 0, 12
    )  # fmt: skip
    for z in (0.35, 0.7, 1.05):
        line = np.array([[0, 0.05, z], [2.5, 0.05, z]])
        parts.append((tube(line, 0.04 if rails else 0.008, 4 if rails else 3), bar))
    return parts


def pole(rng: np.random.Generator) -> Parts:
    """A wooden pole of an overhead line, its arm along y, 8 to 9.5 m high."""
    high = float(rng.uniform(8, 9.5))
    timber = stuff(rng, c.POLE, ("wood", "mottle", "concrete"), *_TIMBER, scale_m=0.2)
    parts: Parts = [(tube(np.array([[0, 0, -0.5], [0, 0, high]]), [0.16, 0.1], 8), timber)]
    parts.append((block(0, 0, high - 0.6, 0.1, 2.2, 0.12), timber))
    cap = stuff(rng, c.POLE, ("plain",), 10, 4, 2)
    for y in (-1.0, 0.0, 1.0):
        base = high - (0.48 if y else 0.0)
        parts.append(
            (revolve(np.array([[0.05, base], [0.03, base + 0.18]]) + [0, 0], 6) + [0, y, 0], cap)
        )
    return parts


def barn(rng: np.random.Generator) -> Parts:
    """A barn with a gable roof, its gate to the front."""
    deep, wide = float(rng.uniform(8, 12)), float(rng.uniform(11, 17))
    eaves, ridge = float(rng.uniform(3.2, 4.5)), float(rng.uniform(2.0, 3.5))
    wall = stuff(rng, c.BUILDING, ("planks", "brick", "render", "stripes"), scale_m=0.25)
    roof = stuff(rng, c.BUILDING, ("stripes", "planks", "mottle"), 4, 5, 2, 1, 12, scale_m=0.3)
    dark = stuff(rng, c.BUILDING, ("planks", "plain"), 5, 2, 4, 8, scale_m=0.2)
    x, y = deep / 2, wide / 2
    gable = np.array([[-x, -1.0], [x, -1.0], [x, eaves], [0, eaves + ridge], [-x, eaves]])
    parts: Parts = [(extrude(gable, -y, y), wall)]
    over = 0.5
    drop = ridge * over / x
    for side in (-1, 1):
        low = np.array([side * (x + over), 0, eaves - drop])
        top = np.array([0, 0, eaves + ridge])
        plane = np.array([[*low], [*low], [*top], [*top]])
        plane[:, 1] = (-y - over, y + over, y + over, -y - over)
        parts.append((quads(np.stack([plane + [0, 0, 0.06], plane + [0, 0, 0.2]])), roof))
        edge = np.array([plane[0], plane[1], plane[1], plane[0]])
        edge[:, 2] += (0.06, 0.06, 0.2, 0.2)
        parts.append((quads(edge), roof))
    parts.append((block(x + 0.04, 0, -0.5, 0.1, 3.6, 3.5), dark))
    hatches = np.array([-0.34, 0.34]) * wide
    parts.append((block(x + 0.03, hatches, 1.4, 0.08, 1.1, 0.9), dark))
    return parts


def tractor(rng: np.random.Generator) -> Parts:
    """A tractor, nose to +x."""
    body = stuff(rng, c.VEHICLE, ("plain",), 4, 6, 8, 7, 11, 2)
    dark = stuff(rng, c.VEHICLE, ("plain",), 15, 2, 1, reflectance=(0.03, 0.15))
    rim = stuff(rng, c.VEHICLE, ("plain",), 11, 6, 10, 0)
    pane = stuff(rng, c.VEHICLE, ("mottle",), 12, 2, 15, glass=0.6, reflectance=(0.03, 0.1))
    parts: Parts = [
        (block(0.95, 0, 0.85, 1.7, 0.75, 0.75), body),
        (block(-0.35, 0, 0.8, 1.3, 0.9, 0.6), body),
        (block(-0.4, 0, 1.4, 1.2, 1.15, 1.05), pane),
        (block(-0.4, 0, 2.45, 1.35, 1.3, 0.12), body),
        (tube(np.array([[0.5, 0.25, 1.6], [0.5, 0.25, 2.4]]), 0.05, 6), dark),
        (block(-1.3, 0, 0.5, 0.7, 0.5, 0.25), dark),
    ]
    for x, r, wide in ((-0.55, 0.8, 0.45), (1.3, 0.5, 0.32)):
        wheel = np.array([[0.9, -0.5], [1, -0.35], [1, 0.35], [0.9, 0.5]]) * [r, wide]
        hub = np.array([[0.5 * r, -wide / 2 - 0.02], [0.5 * r, wide / 2 + 0.02]])
        for y in (-0.85, 0.85):
            for profile, what in ((wheel, dark), (hub, rim)):
                parts.append((revolve(profile, 14)[..., [0, 2, 1]] + [x, y, r], what))
        parts.append((block(x, 0, r - 0.08, 0.16, 1.5, 0.16), dark))
    for y in (-0.85, 0.85):
        parts.append((block(-0.55, y, 1.62, 1.1, 0.5, 0.05), body))
    return parts


def trailer(rng: np.random.Generator) -> Parts:
    """A parked farm trailer."""
    sides = stuff(rng, c.VEHICLE, ("planks", "plain", "wood"), scale_m=0.2)
    dark = stuff(rng, c.VEHICLE, ("plain",), 15, 2, 1)
    parts: Parts = [
        (block(0, 0, 0.9, 4.4, 2.2, 0.14), dark),
        (block(0, np.array([-1.08, 1.08]), 1.04, 4.4, 0.05, 0.6), sides),
        (block(np.array([-2.17, 2.17]), 0, 1.04, 0.05, 2.1, 0.6), sides),
        (tube(np.array([[2.2, 0, 0.9], [3.4, 0, 0.5]]), 0.06, 6), dark),
        (block(3.3, 0, 0, 0.1, 0.1, 0.5), dark),
    ]
    for x in (-1.0, 0.2):
        wheel = revolve(np.array([[0.42, -0.12], [0.42, 0.12]]), 12)[..., [0, 2, 1]]
        for y in (-0.95, 0.95):
            parts.append((wheel + [x, y, 0.42], dark))
    return parts


def logs(rng: np.random.Generator) -> Parts:
    """A stack of felled trunks along y."""
    bark = stuff(rng, c.LOG, ("mottle", "wood", "render"), *_TIMBER, scale_m=0.2)
    long_m, r = float(rng.uniform(2.0, 4.5)), float(rng.uniform(0.13, 0.24))
    parts: Parts = []
    rows = int(rng.integers(2, 5))
    for row in range(rows):
        for k in range(rows + 1 - row):
            x, z = (k - (rows - row) / 2) * 2 * r, r * (0.9 + 1.75 * row)
            ends = rng.uniform(-0.2, 0.2, 2) + [-long_m / 2, long_m / 2]
            line = np.array([[x, ends[0], z], [x, ends[1], z]])
            parts.append((tube(line, r * rng.uniform(0.85, 1.0, 2), 8), bark))
    return parts


#: makers of things by kind
MAKERS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "rock": rock,
    "bale": bale,
    "fence": fence,
    "power_pole": pole,
    "barn": barn,
    "tractor": tractor,
    "trailer": trailer,
    "logs": logs,
    "cow": animal(c.ANIMAL, "cow"),
    "sheep": animal(c.ANIMAL, "sheep"),
    "walker": person(c.PERSON, "walking"),
    "stander": person(c.PERSON, "standing"),
}
PLANTS: dict[str, Callable[[np.random.Generator], Plant]] = {"tree": tree, "bush": bush}
