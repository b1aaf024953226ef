"""Trees, hedges and bushes: trunks of tubes, foliage of many small turned faces."""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim import classes
from condense_ros.sim.materials import Surface, paint, surface
from condense_ros.sim.mesh import MeshBuilder, boxes, leaves, tube


def _leaf_surface(rng: np.random.Generator, semantic: int) -> Surface:
    return surface(
        rng,
        semantic,
        "leaf",
        paint(rng, 8, 9, 13),
        paint(rng, 13, 9, 11, 5),
        scale_m=0.6,
        reflectance=(0.2, 0.6),
        contrast=0.35,
    )


def add_tree(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """A broad-leaved or coniferous tree, 4 to 11 m high."""
    builder.begin()
    bark = surface(
        rng, classes.TRUNK, "mottle", paint(rng, 5, 14, 1), paint(rng, 2, 5), scale_m=0.3
    )
    leaf = _leaf_surface(rng, classes.FOLIAGE)
    height = float(rng.uniform(4.5, 11))
    conifer = rng.random() < 0.22
    fork = float(rng.uniform(0.08, 0.15) if conifer else rng.uniform(0.25, 0.4)) * height
    radius = float(rng.uniform(0.012, 0.02)) * height + 0.04
    lean = rng.normal(0, 0.04, 2) * height
    z = np.array([-0.4, 0.0, 0.25, 0.5, 0.75]) * height
    z[0] = -0.4
    bend = (np.maximum(z, 0) / height)[:, None] ** 1.5 * lean
    path = np.column_stack([bend, z])
    builder.add(tube(path, radius * np.array([1.4, 1.15, 0.9, 0.7, 0.35]), 8), bark, T)
    if conifer:
        n = int(55 * height)
        up = rng.uniform(0, 1, n) ** 1.4
        spread = (1 - up) * 0.24 * height * np.sqrt(rng.uniform(0.15, 1, n)) + 0.1
        angle = rng.uniform(0, 2 * np.pi, n)
        centres = np.column_stack(
            [spread * np.cos(angle), spread * np.sin(angle), fork + up * (height - fork)]
        )
        builder.add(leaves(centres, rng.uniform(0.25, 0.5, n), rng), leaf, T)
        return
    blobs = int(rng.integers(4, 9))
    crown = float(rng.uniform(0.22, 0.34)) * height
    for _ in range(blobs):
        direction = rng.normal(size=3) * [1, 1, 0.6]
        direction *= float(rng.uniform(0.3, 0.85)) * crown / np.linalg.norm(direction)
        centre = np.r_[lean * 0.7, fork + 0.55 * (height - fork)] + direction
        size = crown * float(rng.uniform(0.4, 0.7))
        builder.add(
            tube(np.array([np.r_[lean * 0.4, fork], centre]), [0.5 * radius, 0.03], 5), bark, T
        )
        n = int(80 * size**1.5) + 40
        # leaves sit in the outer shell of a clump
        shell = rng.normal(size=(n, 3))
        shell *= (size * rng.uniform(0.55, 1.0, n) / np.linalg.norm(shell, axis=1))[:, None]
        builder.add(leaves(centre + shell * [1, 1, 0.8], rng.uniform(0.2, 0.42, n), rng), leaf, T)


def add_bush(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """A round bush, 0.5 to 1.6 m high; it counts as hedge."""
    builder.begin()
    leaf = _leaf_surface(rng, classes.HEDGE)
    size = float(rng.uniform(0.35, 1.0))
    n = int(140 * size)
    shell = rng.normal(size=(n, 3))
    shell *= (size * rng.uniform(0.5, 1.0, n) / np.linalg.norm(shell, axis=1))[:, None]
    shell[:, 2] = np.abs(shell[:, 2]) * rng.uniform(0.8, 1.5)
    builder.add(leaves(shell, rng.uniform(0.15, 0.3, n), rng), leaf, T)


def add_hedge(
    builder: MeshBuilder, T: Array, length: float, height: float, rng: np.random.Generator
) -> None:
    """A clipped hedge along x from 0 to `length`, with ragged faces."""
    builder.begin()
    leaf = _leaf_surface(rng, classes.HEDGE)
    half = 0.3
    builder.add(boxes([0, -half + 0.08, -0.3], [length, half - 0.08, height - 0.1]), leaf, T)
    n = int(length * (2 * height + 2 * half) * 16)
    side = rng.random(n)
    x, z = rng.uniform(0, length, n), rng.uniform(0, height, n)
    y = np.where(side < 0.4, -half, np.where(side < 0.8, half, rng.uniform(-half, half, n)))
    z = np.where(side < 0.8, z, height)
    centres = np.column_stack([x, y, z]) + rng.normal(0, 0.04, (n, 3))
    builder.add(leaves(centres, rng.uniform(0.12, 0.3, n), rng), leaf, T)
