"""Street furniture: lamps, signals, signs, fences and garden walls."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_rng
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, boxes, extrude, pose2d, tube
from condense_ros.sim.town import classes
from condense_ros.sim.town.assets import Assets, Model, Shapes

METAL = (0, 1, 2, 8, 12)


def metal(assets: Assets, rng: np.random.Generator) -> Surface:
    """The paint of poles."""
    return assets.paint(rng, classes.POLE, "plain wood concrete", METAL, scale_m=0.3)


@lru_cache(maxsize=64)
def lamp(name: str) -> Model:
    """A street lamp whose arm reaches along +y, or a plain mast; 4.5 to 8 m high."""
    rng, shapes = asset_rng(name), Shapes()
    height, reach = float(rng.uniform(4.5, 8)), float(rng.choice([0.0, rng.uniform(0.6, 1.8)]))
    r = float(rng.uniform(0.06, 0.1))
    path = np.array([[0, 0, -0.3], [0, 0, 0.9], [0, 0, 1.0], [0, 0, height]])
    shapes.add("pole", tube(path, [1.6 * r, 1.6 * r, r, 0.75 * r], 8))
    if reach:
        arm = np.array([[0, 0, height - 0.3], [0, 0.6 * reach, height + 0.02], [0, reach, height]])
        shapes.add("pole", tube(arm, 0.045, 6))
        low = [-0.14, reach - 0.1, height - 0.05]
        shapes.add("pole", boxes(low, [0.14, reach + 0.5, height + 0.09]))
    else:
        shapes.add("pole", boxes([-0.2, -0.2, height], [0.2, 0.2, height + 0.4]))
    return shapes.model()


@lru_cache(maxsize=64)
def signal(name: str) -> Model:
    """A traffic light on a post, its lenses to +x."""
    rng, shapes = asset_rng(name), Shapes()
    top = float(rng.uniform(3.1, 3.6))
    shapes.add("pole", tube(np.array([[0, 0, -0.3], [0, 0, top]]), 0.075, 8))
    shapes.add("back", boxes([0.05, -0.32, top - 1.1], [0.09, 0.32, top + 0.15]))
    shapes.add("back", boxes([0.09, -0.17, top - 0.95], [0.27, 0.17, top]))
    for k, slot in enumerate(("red", "amber", "green")):
        z = top - 0.17 - 0.3 * k
        shapes.add(slot, boxes([0.26, -0.1, z - 0.1], [0.31, 0.1, z + 0.1]))
        shapes.add("back", boxes([0.27, -0.13, z + 0.1], [0.42, 0.13, z + 0.13]))
    return shapes.model()


@lru_cache(maxsize=128)
def sign(name: str) -> Model:
    """A traffic sign facing +x: disc, triangle, octagon, a pair of them, or a large board."""
    rng, shapes = asset_rng(name), Shapes()
    kind = int(rng.choice(4, p=[0.44, 0.27, 0.17, 0.12]))
    corners, size = (24, 3, 4, 4)[kind], float(rng.uniform(0.38, 0.5))
    height = float(rng.uniform(2.2, 2.7))

    def plate(z: float, corners: int, wide: float, high: float) -> None:
        angle = (np.arange(corners) + 0.5) * (2 * np.pi / corners) + np.pi / 2
        outline = np.column_stack([wide * np.cos(angle), z + high * np.sin(angle)])
        # the plate's side view lies across the street, so it is extruded along x
        shapes.add("plate", extrude(outline, -0.015, 0.015), pose2d(0.08, 0, np.pi / 2))

    if kind == 3:
        wide, high = float(rng.uniform(0.8, 1.3)), float(rng.uniform(0.55, 0.9))
        plate(height + 0.3, 4, wide * 1.41, high * 1.41)
        for y in (-0.7 * wide, 0.7 * wide):
            path = np.array([[0, y, -0.3], [0, y, height + 0.3 + high]])
            shapes.add("pole", tube(path, 0.05, 7))
        return shapes.model()
    plate(height, corners, size, size)
    if rng.random() < 0.5:
        below = height - size - 0.3
        plate(below, int(rng.choice([4, 24])), 0.8 * size, 0.7 * size)
    shapes.add("pole", tube(np.array([[0, 0, -0.3], [0, 0, height + 0.3]]), 0.045, 7))
    return shapes.model()


def post_look(assets: Assets, rng: np.random.Generator) -> dict[str, Surface]:
    """Paints of lamps, signals and signs."""
    s = classes.SIGN
    plate = assets.paint(
        rng, s, "plain stripes", (), (), scale_m=0.5, reflectance=(0.3, 0.9), retro=(0.2, 0.9)
    )
    return {
        "pole": metal(assets, rng),
        "plate": plate,
        "back": assets.paint(rng, s, "plain", (2, 15, 12)),
        "red": assets.paint(rng, s, "plain", (6,)),
        "amber": assets.paint(rng, s, "plain", (11,)),
        "green": assets.paint(rng, s, "plain", (8,)),
    }


def add_fence(
    builder: MeshBuilder, T: Array, length: float, height: float, name: str, look: Surface
) -> None:
    """Posts, rails and bars or slats with gaps between them, along x from 0 to `length`."""
    rng = asset_rng(name)
    gap, thick = float(rng.uniform(0.14, 0.32)), float(rng.uniform(0.02, 0.04))
    wide = float(rng.uniform(0.16, 0.36)) * gap
    cap = float(rng.uniform(0.03, 0.12))
    posts = np.append(np.arange(0, length - 0.5, 2.0), length - 0.06)
    low = np.column_stack([posts - 0.06, np.full(len(posts), -0.06), np.full(len(posts), -0.4)])
    builder.add(boxes(low, low + [0.12, 0.12, height + 0.4 + cap]), look, T)
    for z in (0.12, height - 0.2):
        builder.add(boxes([0, -0.03, z], [length, 0.03, z + 0.08]), look, T)
    if rng.random() < 0.3:
        # rails only, as around a paddock
        for z in np.arange(0.35, height - 0.3, 0.28):
            builder.add(boxes([0, -0.025, z], [length, 0.025, z + 0.1]), look, T)
        return
    slats = np.arange(0.06, length - wide, gap)
    low = np.column_stack([slats, np.full(len(slats), -thick), np.full(len(slats), 0.05)])
    builder.add(boxes(low, low + [wide, thick, height - 0.05]), look, T)


def fence_paint(assets: Assets, rng: np.random.Generator) -> Surface:
    return assets.paint(rng, classes.FENCE, "plain wood planks", scale_m=0.2)


def add_wall(
    builder: MeshBuilder,
    T: Array,
    length: float,
    height: float,
    name: str,
    look: tuple[Surface, Surface],
) -> None:
    """A garden wall with piers and a coping along x from 0 to `length`."""
    rng, (body, top) = asset_rng(name), look
    half = float(rng.uniform(0.11, 0.17))
    builder.add(boxes([0, -half, -0.5], [length, half, height]), body, T)
    builder.add(boxes([-0.03, -half - 0.06, height], [length + 0.03, half + 0.06, height + 0.09]),
                top, T)  # fmt: skip
    if rng.random() < 0.6:
        piers = np.arange(0.2, length, float(rng.uniform(2.0, 3.2)))
        low = np.column_stack([piers - 0.2, np.full(len(piers), -0.2), np.full(len(piers), -0.5)])
        builder.add(boxes(low, low + [0.4, 0.4, height + 0.7]), body, T)
        low = low + [-0.05, -0.05, height + 0.7]
        builder.add(boxes(low, low + [0.5, 0.5, 0.08]), top, T)


def wall_paints(assets: Assets, rng: np.random.Generator) -> tuple[Surface, Surface]:
    body = assets.paint(
        rng, classes.WALL, "brick render concrete tiles", (0, 1, 3, 4, 14), (0, 1, 5), scale_m=0.3
    )
    return body, assets.paint(rng, classes.WALL, "plain concrete", (0, 1, 10))
