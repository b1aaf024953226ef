"""What lies outside a building, where lasers reach through panes: ground, hedges, trees."""

from __future__ import annotations

import numpy as np

from condense_ros.sim.designs import block, stuff
from condense_ros.sim.indoors import classes_building as c
from condense_ros.sim.indoors.floorplan import DEPTH_M, FloorPlan
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, boxes, leaves, pose2d, quads, tube


def outside(rng: np.random.Generator) -> Surface:
    """Lawn, gravel, paving or hedge."""
    textures = ("mottle", "render", "leaf", "tiles")
    return stuff(rng, c.OUTDOORS, textures, 8, 9, 13, 14, 1, 5, scale_m=0.4, contrast=0.3)


def add_outlook(
    builder: MeshBuilder, plan: FloorPlan, surfaces: list[Surface], rng: np.random.Generator
) -> None:
    """Adds the surroundings.

    Args:
        surfaces: of the ground, of hedges and leaves, of trunks.
    """
    ground, green, bark = surfaces
    low = np.array([plan.xs[0], plan.ys[0] - DEPTH_M]) - 3.0
    high = np.array([plan.xs[-1], plan.ys[-1] + DEPTH_M]) + 3.0
    far = 80.0
    x0, y0, x1, y1 = *(low - far), *(high + far)
    builder.begin()
    lawn = np.array([[x0, y0, -0.2], [x1, y0, -0.2], [x1, y1, -0.2], [x0, y1, -0.2]])
    builder.add(quads(lawn), ground)
    middle, half = (low + high) / 2, (high - low) / 2
    for _ in range(26):
        # on a frame around the building, at some metres from its walls
        side, away = int(rng.integers(4)), float(rng.uniform(2.5, 16))
        t = float(rng.uniform(-1, 1))
        across = np.array([t, 1.0]) if side < 2 else np.array([1.0, t])
        across *= half + away
        x, y = middle + across * (1 if side % 2 else -1)
        T = pose2d(float(x), float(y), 0.0 if side < 2 else np.pi / 2, -0.2)
        builder.begin()
        if rng.random() < 0.5:
            long_m, high_m = float(rng.uniform(3, 11)), float(rng.uniform(0.9, 2.2))
            builder.add(boxes([-long_m / 2, -0.3, 0], [long_m / 2, 0.3, high_m]), green, T)
            spots = rng.uniform([-long_m / 2, -0.4, 0.1], [long_m / 2, 0.4, high_m], (90, 3))
            builder.add(leaves(spots, rng.uniform(0.2, 0.5, 90), rng), green, T)
        elif rng.random() < 0.7:
            high_m = float(rng.uniform(3.5, 7))
            builder.add(tube(np.array([[0, 0, -0.2], [0, 0, 0.6 * high_m]]), 0.14, 7), bark, T)
            crown = rng.normal(size=(220, 3)) * [0.16, 0.16, 0.13] * high_m
            builder.add(leaves(crown + [0, 0, 0.7 * high_m], 0.45, rng), green, T)
        else:
            builder.add(block(0, 0, 0, *rng.uniform([1.5, 0.6, 0.5], [4.5, 1.9, 1.6])), bark, T)
