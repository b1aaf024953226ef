"""Models of trees, bushes and hedges: wood of tubes, foliage of many small turned faces.

Leaves are kept in an order without meaning, so that the first share of them is a thinner crown:
that is how a later session's season is made without moving a single trunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_rng
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, pose2d, quads, tube
from condense_ros.sim.town import classes
from condense_ros.sim.town.assets import Assets, Model, Shapes

#: palette numbers of foliage from early summer to late autumn
SEASONS = ((8, 9, 13), (9, 13, 8), (13, 11, 9), (11, 4, 14))


@dataclass(frozen=True, eq=False)
class Plant:
    """Wood that stays, and leaves that come and go.

    Attributes:
        wood: trunk and branches.
        leaves: (L, 3, 3) one triangle per leaf, in an order without meaning.
        radius_m: of the trunk at the ground.
    """

    wood: Model
    leaves: Array
    radius_m: float


def leaf_faces(centres: Array, size: Array, rng: np.random.Generator) -> Array:
    """(N, 3, 3) one randomly turned triangle around each of the centres (N, 3)."""
    a = rng.normal(size=(len(centres), 3))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.cross(a, rng.normal(size=a.shape))
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    corner = np.radians([90.0, 210.0, 330.0])
    turned = np.cos(corner)[:, None, None] * a + np.sin(corner)[:, None, None] * b
    return np.asarray(np.swapaxes(centres + turned * size[:, None] * 0.6, 0, 1))


def _shell(rng: np.random.Generator, n: int, inner: float) -> Array:
    """(n, 3) points in the unit ball, outside its `inner` part."""
    p = rng.normal(size=(n, 3))
    return np.asarray(p * (rng.uniform(inner, 1, n) / np.linalg.norm(p, axis=1))[:, None])


@lru_cache(maxsize=256)
def tree(name: str) -> Plant:
    """A broad-leaved tree or a conifer, 4.5 to 11 m high."""
    rng, shapes = asset_rng(name), Shapes()
    height, conifer = float(rng.uniform(4.5, 11)), rng.random() < 0.22
    fork = float(rng.uniform(0.1, 0.18) if conifer else rng.uniform(0.26, 0.4)) * height
    radius = float(rng.uniform(0.014, 0.022)) * height + 0.05
    lean = rng.normal(0, 0.045, 2) * height
    z = np.array([-0.4, 0.0, 0.25, 1.0, 0.3 * height, 0.5 * height, 0.75 * height])
    bend = (np.maximum(z, 0) / height)[:, None] ** 1.5 * lean
    bend[2:5] += rng.normal(0, 0.03, (3, 2))
    thick = radius * np.array([1.9, 1.7, 1.2, 1.0, 0.85, 0.65, 0.25])
    shapes.add("bark", tube(np.column_stack([bend, z]), thick, 8))
    for angle in rng.uniform(0, 2 * np.pi, 5):
        # roots that rise out of the ground
        out = np.array([np.cos(angle), np.sin(angle)]) * radius
        path = np.array([[*(0.7 * out), 0.3], [*(1.7 * out), 0.07], [*(3.2 * out), -0.1]])
        shapes.add("bark", tube(path, [0.4 * radius, 0.3 * radius, 0.12 * radius], 4))
    leaf = []
    if conifer:
        n = int(135 * height)
        up = rng.uniform(0, 1, n) ** 1.4
        tiers = np.round(up * 9) / 9 * 0.6 + up * 0.4
        spread = (1 - tiers) * 0.24 * height * np.sqrt(rng.uniform(0.1, 1, n)) + 0.1
        angle = rng.uniform(0, 2 * np.pi, n)
        centres = np.column_stack(
            [spread * np.cos(angle), spread * np.sin(angle), fork + tiers * (height - fork)]
        )
        leaf.append(leaf_faces(centres, rng.uniform(0.18, 0.36, n), rng))
    else:
        crown = float(rng.uniform(0.22, 0.34)) * height
        for _ in range(int(rng.integers(5, 10))):
            direction = rng.normal(size=3) * [1, 1, 0.6]
            direction *= float(rng.uniform(0.3, 0.85)) * crown / np.linalg.norm(direction)
            centre = np.r_[lean * 0.7, fork + 0.55 * (height - fork)] + direction
            size = crown * float(rng.uniform(0.4, 0.7))
            limb = np.array([np.r_[lean * 0.4, fork], centre])
            shapes.add("limb", tube(limb, [0.5 * radius, 0.03], 4))
            n = int(95 * size**1.7) + 50
            points = centre + _shell(rng, n, 0.35) * size * [1, 1, 0.8]
            leaf.append(leaf_faces(points, rng.uniform(0.17, 0.33, n), rng))
    leaves = np.concatenate(leaf)
    return Plant(shapes.model(), leaves[rng.permutation(len(leaves))], 1.7 * radius)


@lru_cache(maxsize=256)
def bush(name: str) -> Array:
    """(L, 3, 3) leaves of a round bush, 0.5 to 1.6 m high, in an order without meaning."""
    rng = asset_rng(name)
    size = float(rng.uniform(0.4, 1.0))
    n = int(380 * size**1.5)
    points = _shell(rng, n, 0.35) * size
    points[:, 2] = np.abs(points[:, 2]) * rng.uniform(0.8, 1.5)
    return leaf_faces(points, rng.uniform(0.1, 0.23, n), rng)


def add_hedge(
    builder: MeshBuilder,
    T: Array,
    length: float,
    height: float,
    grown: float,
    name: str,
    look: Surface,
    rng: np.random.Generator,
) -> None:
    """A clipped hedge along x from 0 to `length`, `height` times `grown` high, bumpy all over."""
    style = asset_rng(name)
    half, bump = float(style.uniform(0.32, 0.55)), float(style.uniform(0.05, 0.1))
    half, height = half * (0.7 + 0.3 * grown), height * grown
    # the outline from foot to foot, carried along x, every point pushed in or out
    outline = np.array([[-half, -0.3], [-half, 0.3 * height], [-half, 0.7 * height],
                        [-0.8 * half, height], [0, height], [0.8 * half, height],
                        [half, 0.7 * height], [half, 0.3 * height], [half, -0.3]])  # fmt: skip
    x = np.linspace(0, length, max(2, int(length / 0.4) + 1))
    grid = np.empty((len(x), len(outline), 3))
    grid[..., 0], grid[..., 1:] = x[:, None], outline
    grid[..., 1:] += rng.normal(0, bump, (len(x), len(outline), 2))
    corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], 2)
    builder.add(quads(corners), look, T)
    caps = np.stack([grid[[0, -1]], np.roll(grid[[0, -1]], -1, axis=1)], 2)[:, :-1]
    middle = np.broadcast_to(grid[[0, -1]].mean(axis=1)[:, None, None], caps[:, :, :1].shape)
    builder.add(np.concatenate([caps, middle], axis=2).reshape(-1, 3, 3), look, T)
    n = int(length * (2 * height + 2 * half) * 14)
    i, j = rng.integers(0, len(x), n), rng.integers(1, len(outline) - 1, n)
    centres = grid[i, j] + rng.normal(0, 1, (n, 3)) * [0.2, 0.05, 0.15]
    centres[:, 0] = np.clip(centres[:, 0], 0, length)
    builder.add(leaf_faces(centres, rng.uniform(0.1, 0.22, n), rng), look, T)


def bark(assets: Assets, rng: np.random.Generator) -> dict[str, Surface]:
    """Paints of a tree's wood; limbs inside the crown count as foliage."""
    trunk = assets.paint(
        rng, classes.TRUNK, "mottle brick wood", (5, 14, 1, 0), (2, 5, 1, 13), scale_m=0.3
    )
    return {"bark": trunk, "limb": replace(trunk, semantic=classes.FOLIAGE)}


def foliage(assets: Assets, rng: np.random.Generator, semantic: int, season: int) -> Surface:
    """The paint of leaves in one of the `SEASONS`."""
    return assets.paint(
        rng,
        semantic,
        "leaf grass",
        SEASONS[season],
        (*SEASONS[season], 5, 11),
        scale_m=0.6,
        reflectance=(0.15, 0.6),
        contrast=0.35,
    )


def standing(T: Array, scale: float) -> Array:
    """`T` with the object made larger by `scale`."""
    return np.asarray(T @ np.diag([scale, scale, scale, 1.0]))


def turned(T: Array, rng: np.random.Generator) -> Array:
    """`T` with a random heading."""
    return np.asarray(T @ pose2d(0, 0, float(rng.uniform(0, 2 * np.pi))))
