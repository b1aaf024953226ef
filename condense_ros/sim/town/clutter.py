"""Models of what stands about: bins, benches, bollards, and the stuff of building sites."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_rng
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import boxes, extrude, quads, revolve, tube
from condense_ros.sim.town import classes
from condense_ros.sim.town.assets import Assets, Model, Shapes

SMALL = ("bollard", "bin", "basket", "bench", "box", "planter", "cabinet")
LARGE = ("skip", "container", "heap", "pallet", "toilet", "barrier", "cone")


@lru_cache(maxsize=1024)
def thing(name: str, kind: str) -> Model:
    """One of `SMALL` or `LARGE`, varied by the asset's name."""
    rng, shapes = asset_rng(f"{name} {kind}"), Shapes()
    _MAKERS[kind](shapes, rng)
    return shapes.model()


def look(assets: Assets, rng: np.random.Generator) -> dict[str, Surface]:
    c = classes.CLUTTER
    return {
        "a": assets.paint(rng, c, "plain stripes wood concrete", scale_m=0.25),
        "b": assets.paint(rng, c, "plain gravel planks", scale_m=0.3, retro=(0.0, 0.3)),
        "dark": assets.paint(rng, c, "plain", (15, 2, 1)),
    }


def _bollard(s: Shapes, rng: np.random.Generator) -> None:
    h, r = float(rng.uniform(0.7, 1.1)), float(rng.uniform(0.09, 0.16))
    s.add("a", revolve(np.array([[r, -0.2], [r, h], [1.3 * r, h + 0.03], [0.5 * r, h + 0.14]]), 9))
    s.add("b", revolve(np.array([[r + 0.01, 0.6 * h], [r + 0.01, 0.75 * h]]), 9))


def _bin(s: Shapes, rng: np.random.Generator) -> None:
    """Wheeled bins, small or with four wheels."""
    wide = float(rng.choice([0.28, 0.3, 0.68]))
    deep, h = 0.28 + 0.25 * (wide > 0.5), float(rng.uniform(0.95, 1.1)) + 0.2 * (wide > 0.5)
    side = np.array([[-deep, 0.08], [deep, 0.08], [1.15 * deep, h], [-1.1 * deep, h]])
    s.add("a", extrude(side, -wide * 0.95, wide * 0.95))
    lid = np.array([[-1.2 * deep, h], [1.25 * deep, h], [0.9 * deep, h + 0.12], [-deep, h + 0.1]])
    s.add("b", extrude(lid, -wide - 0.03, wide + 0.03))
    s.add("dark", boxes([-deep - 0.05, -wide, 0], [-deep + 0.12, wide, 0.16]))


def _basket(s: Shapes, rng: np.random.Generator) -> None:
    r = float(rng.uniform(0.22, 0.32))
    s.add("a", revolve(np.array([[r, 0], [1.15 * r, 0.75], [1.25 * r, 0.8], [0.8 * r, 0.95]]), 10))


def _bench(s: Shapes, rng: np.random.Generator) -> None:
    n = float(rng.uniform(0.75, 1.0))
    for k in range(3):
        s.add("a", boxes([-0.22 + 0.15 * k, -n, 0.44], [-0.1 + 0.15 * k, n, 0.49]))
    if rng.random() < 0.75:
        for z in (0.6, 0.76):
            s.add("a", boxes([-0.3, -n, z], [-0.25, n, z + 0.11]))
    for y in (-0.8 * n, 0.8 * n):
        s.add("dark", boxes([-0.28, y - 0.04, -0.1], [0.22, y + 0.04, 0.44]))
        s.add("dark", boxes([-0.3, y - 0.04, 0.4], [-0.24, y + 0.04, 0.88]))


def _box(s: Shapes, rng: np.random.Generator) -> None:
    for k in range(int(rng.integers(1, 5))):
        size = rng.uniform(0.25, 0.6, 3)
        low = np.array([*rng.uniform(-0.45, 0.45 - size[:2] / 2, 2), 0.0 if k < 2 else 0.4])
        s.add("a" if k % 2 else "b", boxes(low, low + size))


def _planter(s: Shapes, rng: np.random.Generator) -> None:
    w, h = float(rng.uniform(0.35, 0.55)), float(rng.uniform(0.45, 0.7))
    s.add("a", boxes([-w, -w, -0.1], [w, w, h]))
    s.add("b", boxes([-w - 0.04, -w - 0.04, h - 0.1], [w + 0.04, w + 0.04, h]))


def _cabinet(s: Shapes, rng: np.random.Generator) -> None:
    w, h = float(rng.uniform(0.35, 0.7)), float(rng.uniform(1.0, 1.5))
    s.add("a", boxes([-0.2, -w, -0.1], [0.2, w, h]))
    s.add("a", boxes([-0.25, -w - 0.05, h], [0.25, w + 0.05, h + 0.07]))
    s.add("dark", boxes([-0.22, -w - 0.01, -0.1], [0.22, w + 0.01, 0.15]))


def _skip(s: Shapes, rng: np.random.Generator) -> None:
    """An open skip, half full of rubble."""
    n, h = float(rng.uniform(1.5, 2.1)), float(rng.uniform(1.1, 1.5))
    side = np.array([[-0.6 * n, 0.1], [0.6 * n, 0.1], [n, h], [-n, h]])
    s.add("a", extrude(side, -0.9, 0.9))
    for x in np.linspace(-0.5, 0.5, 4) * n:
        s.add("a", boxes([x - 0.05, -0.97, 0.15], [x + 0.05, 0.97, h]))
    s.add("dark", boxes([-1.02 * n, -0.97, h - 0.1], [1.02 * n, 0.97, h]))
    _mound(s, rng, "b", 0.8 * n, 0.75, h - 0.2, 0.55)


def _container(s: Shapes, rng: np.random.Generator) -> None:
    """A site container with ribbed walls."""
    n, h = float(rng.choice([1.5, 2.0, 3.0])), float(rng.uniform(2.2, 2.5))
    s.add("a", boxes([-n, -1.1, 0.1], [n, 1.1, h]))
    x = np.arange(-n + 0.1, n - 0.1, 0.3)
    low = np.column_stack([x, np.full(len(x), -1.15), np.full(len(x), 0.2)])
    s.add("a", boxes(low, low + [0.14, 2.3, h - 0.35]))
    for z in (0.05, h - 0.12):
        s.add("dark", boxes([-n - 0.04, -1.17, z], [n + 0.04, 1.17, z + 0.15]))
    s.add("b", boxes([n, -0.9, 0.3], [n + 0.05, 0.9, h - 0.25]))


def _mound(
    s: Shapes, rng: np.random.Generator, slot: str, rx: float, ry: float, z: float, h: float
) -> None:
    g = np.linspace(-1, 1, 9)
    x, y = np.meshgrid(g, g, indexing="ij")
    up = np.clip(1 - np.hypot(x, y) ** 1.3, 0, None) * rng.uniform(0.7, 1.2, x.shape)
    points = np.stack([x * rx, y * ry, z + h * up], -1)
    s.add(slot, quads(np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:],
                                points[:-1, 1:]], 2)))  # fmt: skip


def _heap(s: Shapes, rng: np.random.Generator) -> None:
    """A heap of sand, earth or rubble."""
    r = float(rng.uniform(0.8, 1.5))
    _mound(s, rng, "b", r, r * float(rng.uniform(0.7, 1.0)), -0.02, float(rng.uniform(0.7, 1.2)))


def _pallet(s: Shapes, rng: np.random.Generator) -> None:
    """Bricks, sacks or boards on a pallet."""
    for y in np.linspace(-0.55, 0.43, 4):
        s.add("dark", boxes([-0.6, y, 0], [0.6, y + 0.12, 0.14]))
    z = 0.14
    for k in range(int(rng.integers(2, 6))):
        d = rng.uniform(-0.05, 0.05, 2)
        low = [-0.56 + d[0], -0.5 + d[1], z]
        z += float(rng.uniform(0.15, 0.25))
        s.add("a" if k % 2 else "b", boxes(low, [0.52 + d[0], 0.5 + d[1], z]))


def _toilet(s: Shapes, rng: np.random.Generator) -> None:
    s.add("a", boxes([-0.55, -0.55, 0.05], [0.55, 0.55, 2.15]))
    s.add("b", extrude(np.array([[-0.6, 2.15], [0.6, 2.15], [0.3, 2.4], [-0.3, 2.4]]), -0.6, 0.6))
    s.add("b", boxes([0.55, -0.35, 0.2], [0.6, 0.35, 2.0]))


def _barrier(s: Shapes, rng: np.random.Generator) -> None:
    """Boards across two feet, 1.8 to 2.2 m wide (along y)."""
    n = float(rng.uniform(0.9, 1.1))
    for z in (0.35, 0.78):
        s.add("a", boxes([-0.03, -n, z], [0.03, n, z + 0.24]))
    for y in (-0.8 * n, 0.8 * n):
        s.add("dark", boxes([-0.03, y - 0.05, 0.05], [0.03, y + 0.05, 1.1]))
        s.add("dark", boxes([-0.35, y - 0.1, 0], [0.35, y + 0.1, 0.1]))
        if rng.random() < 0.5:
            lamp = np.array([[0, y, 1.1], [0, y, 1.35]])
            s.add("b", tube(lamp, 0.1, 8))


def _cone(s: Shapes, rng: np.random.Generator) -> None:
    h = float(rng.uniform(0.7, 1.0))
    s.add("a", revolve(np.array([[0.19, 0.04], [0.04, h]]), 9))
    s.add("b", revolve(np.array([[0.155, 0.35 * h], [0.1, 0.6 * h]]), 9))
    s.add("dark", boxes([-0.24, -0.24, 0], [0.24, 0.24, 0.05]))


def _digger(s: Shapes, rng: np.random.Generator) -> None:
    """A small excavator on tracks."""
    k = float(rng.uniform(0.85, 1.15))
    track = np.array(
        [[-1.1, 0.05], [1.1, 0.05], [1.3, 0.35], [1.1, 0.65], [-1.1, 0.65], [-1.3, 0.35]]
    )
    for y in (-0.75, 0.75):
        s.add("dark", extrude(track * k, (y - 0.2) * k, (y + 0.2) * k))
    s.add("a", boxes(np.array([-1.2, -0.85, 0.7]) * k, np.array([0.6, 0.85, 1.5]) * k))
    s.add("a", boxes(np.array([-0.1, 0.05, 1.5]) * k, np.array([0.75, 0.8, 2.5]) * k))
    s.add("dark", boxes(np.array([-0.05, 0.1, 1.6]) * k, np.array([0.78, 0.75, 2.3]) * k))
    arm = np.array([[0.4, -0.2, 1.2], [1.6, -0.2, 2.9], [2.6, -0.2, 2.4], [2.9, -0.2, 0.9]]) * k
    s.add("a", tube(arm, np.array([0.2, 0.18, 0.15, 0.1]) * k, 5))
    s.add("b", boxes(np.array([2.5, -0.6, 0.35]) * k, np.array([3.1, 0.2, 0.9]) * k))


_MAKERS = {
    "bollard": _bollard,
    "bin": _bin,
    "basket": _basket,
    "bench": _bench,
    "box": _box,
    "planter": _planter,
    "cabinet": _cabinet,
    "skip": _skip,
    "container": _container,
    "heap": _heap,
    "pallet": _pallet,
    "toilet": _toilet,
    "barrier": _barrier,
    "cone": _cone,
    "digger": _digger,
}


def scaffold(length: float, height: float) -> list[tuple[str, Array]]:
    """Scaffolding along x from 0 to `length`, y from -1.3 (the street) to -0.4, by slots."""
    poles, planks = [], []
    for x in np.linspace(0.1, length - 0.1, max(2, round(length / 2.2) + 1)):
        for y in (-1.3, -0.4):
            poles.append(tube(np.array([[x, y, 0], [x, y, height]]), 0.05, 5))
    for z in np.arange(2.0, height, 2.0):
        planks.append(boxes([0, -1.3, z], [length, -0.4, z + 0.06]))
        for up in (0.5, 1.0):
            rail = np.array([[0, -1.3, z + up], [length, -1.3, z + up]])
            poles.append(tube(rail, 0.04, 4))
        slope = np.array([[0.1, -1.3, z - 2.0], [min(2.3, length), -1.3, z]])
        poles.append(tube(slope, 0.04, 4))
    return [("dark", np.concatenate(poles)), ("b", np.concatenate(planks))]
