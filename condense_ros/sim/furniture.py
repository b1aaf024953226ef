"""Street furniture: lamps, signs, fences, walls, bollards, bins, benches; and people."""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim import classes
from condense_ros.sim.materials import paint, surface
from condense_ros.sim.mesh import MeshBuilder, boxes, extrude, pose2d, revolve, tube

METAL = (0, 1, 2, 8, 12)


def _pick(rng: np.random.Generator, *textures: str) -> str:
    return str(rng.choice(textures))


def add_lamp(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """A street lamp whose arm reaches along +y."""
    builder.begin()
    metal = surface(rng, classes.POLE, "plain", paint(rng, *METAL))
    height, reach = float(rng.uniform(4.5, 8)), float(rng.uniform(0.0, 1.8))
    r = float(rng.uniform(0.05, 0.1))
    builder.add(
        tube(
            np.array([[0, 0, -0.3], [0, 0, 0.9], [0, 0, 1.0], [0, 0, height]]),
            [1.7 * r, 1.7 * r, r, 0.7 * r],
            8,
        ),
        metal,
        T,
    )
    if reach > 0.4:
        builder.add(
            tube(np.array([[0, 0, height - 0.3], [0, reach, height + 0.1]]), 0.04, 6), metal, T
        )
    builder.add(boxes([-0.14, reach - 0.3, height], [0.14, reach + 0.3, height + 0.16]), metal, T)


def add_traffic_light(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """A signal head on a post, facing +x."""
    builder.begin()
    metal = surface(rng, classes.POLE, "plain", paint(rng, *METAL))
    head = surface(rng, classes.SIGN, "plain", paint(rng, 2, 15))
    builder.add(tube(np.array([[0, 0, -0.3], [0, 0, 3.4]]), 0.06, 8), metal, T)
    builder.add(boxes([0.04, -0.16, 2.5], [0.26, 0.16, 3.4]), head, T)
    for z, colour in ((3.2, 6), (2.95, 11), (2.7, 8)):
        lens = surface(rng, classes.SIGN, "plain", paint(rng, colour))
        builder.add(boxes([0.25, -0.09, z - 0.09], [0.29, 0.09, z + 0.09]), lens, T)


def add_sign(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """A traffic sign on a post, facing +x: disc, triangle, octagon or board."""
    builder.begin()
    metal = surface(rng, classes.POLE, "plain", paint(rng, *METAL))
    texture = str(rng.choice(["plain", "stripes", "checker", "plain"]))
    plate = surface(
        rng,
        classes.SIGN,
        texture,
        paint(rng, 6, 7, 10, 11),
        paint(rng, 10, 2),
        scale_m=0.3,
        reflectance=(0.5, 0.98),
    )
    corners = int(rng.choice([3, 4, 8, 12]))
    size, height = float(rng.uniform(0.3, 0.5)), float(rng.uniform(2.1, 2.9))
    angle = (np.arange(corners) + 0.5) * (2 * np.pi / corners) + np.pi / 2
    outline = np.column_stack([size * np.cos(angle), height + size * np.sin(angle)])
    if corners == 4:
        outline = (outline - [0, height]) * [1.0, float(rng.uniform(0.6, 1.6))] + [0, height]
    builder.add(tube(np.array([[0, 0, -0.3], [0, 0, height + 0.2]]), 0.035, 6), metal, T)
    # the plate's side view lies across the street, so it is extruded along x
    turned = T @ pose2d(0.05, 0, np.pi / 2)
    builder.add(extrude(outline, -0.015, 0.015), plate, turned)


def add_fence(
    builder: MeshBuilder, T: Array, length: float, height: float, rng: np.random.Generator
) -> None:
    """Posts, rails and slats along x from 0 to `length`."""
    builder.begin()
    stuff = surface(
        rng,
        classes.FENCE,
        _pick(rng, "plain", "mottle", "stripes"),
        paint(rng),
        paint(rng),
        scale_m=0.2,
    )
    posts = np.arange(0, length + 0.01, 2.0)
    low = np.column_stack([posts - 0.05, np.full(len(posts), -0.05), np.full(len(posts), -0.4)])
    builder.add(boxes(low, low + [0.1, 0.1, height + 0.5]), stuff, T)
    for z in (0.15, height - 0.2):
        builder.add(boxes([0, -0.02, z], [length, 0.02, z + 0.07]), stuff, T)
    gap = float(rng.choice([0.12, 0.16, 0.22]))
    wide = float(rng.uniform(0.03, 0.8 * gap))
    slats = np.arange(0, length, gap)
    low = np.column_stack([slats, np.full(len(slats), -0.035), np.full(len(slats), 0.05)])
    builder.add(boxes(low, low + [wide, 0.015, height - 0.05]), stuff, T)


def add_wall(
    builder: MeshBuilder, T: Array, length: float, height: float, rng: np.random.Generator
) -> None:
    """A garden wall with a coping along x from 0 to `length`."""
    builder.begin()
    body = surface(
        rng,
        classes.WALL,
        _pick(rng, "brick", "mottle", "plain", "tiles"),
        paint(rng, 0, 1, 3, 4, 14),
        paint(rng, 0, 1, 5),
        scale_m=0.3,
    )
    top = surface(rng, classes.WALL, "plain", paint(rng, 0, 1, 10))
    builder.add(boxes([0, -0.13, -0.5], [length, 0.13, height]), body, T)
    builder.add(boxes([-0.04, -0.18, height], [length + 0.04, 0.18, height + 0.08]), top, T)


def add_person(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """A walking or standing person facing +x, 1.1 to 1.95 m tall."""
    builder.begin()
    tall = float(np.clip(rng.normal(1.7, 0.13), 1.1, 1.95)) / 1.75
    coat = surface(
        rng,
        classes.PERSON,
        _pick(rng, "plain", "stripes", "checker", "mottle"),
        paint(rng),
        paint(rng),
        scale_m=0.12,
    )
    trousers = surface(rng, classes.PERSON, "plain", paint(rng))
    skin = surface(rng, classes.PERSON, "plain", paint(rng, 14, 3, 5))
    stride = float(rng.uniform(-0.35, 0.35))
    wide = float(rng.uniform(0.85, 1.25))

    def limb(points: list[tuple[float, float, float]], radius: list[float]) -> Array:
        return tube(np.array(points) * tall, np.array(radius) * tall, 6)

    for side in (-1, 1):
        s = side * stride
        leg = [(s, side * 0.09, 0.02), (0.35 * s, side * 0.1, 0.45), (0, side * 0.1, 0.88)]
        builder.add(limb(leg, [0.06, 0.07, 0.09]), trousers, T)
        foot = np.array([s * tall, side * 0.09 * tall, 0.0])
        builder.add(boxes(foot - [0.08, 0.045, 0], foot + [0.17, 0.045, 0.08]), trousers, T)
        arm = [
            (0, side * 0.2 * wide, 1.42),
            (-0.3 * s, side * 0.26 * wide, 1.15),
            (-0.8 * s + 0.1, side * 0.25 * wide, 0.92),
        ]
        builder.add(limb(arm, [0.06, 0.05, 0.04]), coat, T)
    torso = revolve(
        np.array([[0.14, 0.82], [0.16, 1.0], [0.19, 1.3], [0.16, 1.45], [0.06, 1.52]]) * tall, 8
    )
    builder.add(torso * [0.75, wide, 1], coat, T)
    head = revolve(
        np.array([[0.05, 1.5], [0.09, 1.56], [0.105, 1.64], [0.09, 1.72], [0.03, 1.76]]) * tall, 8
    )
    builder.add(head, skin, T)


def add_clutter(builder: MeshBuilder, T: Array, rng: np.random.Generator) -> None:
    """One of: bollard, wheeled bin, litter bin, bench, box, cone."""
    builder.begin()
    texture = str(rng.choice(["plain", "stripes", "mottle"]))
    stuff = surface(rng, classes.CLUTTER, texture, paint(rng), paint(rng), scale_m=0.25)
    kind = int(rng.integers(0, 6))
    if kind == 0:
        h, r = float(rng.uniform(0.6, 1.1)), float(rng.uniform(0.06, 0.12))
        builder.add(revolve(np.array([[r, -0.2], [r, h], [0.6 * r, h + 0.06]]), 8), stuff, T)
    elif kind == 1:
        base, top = np.array([-0.24, -0.26, 0.08]), np.array([0.24, 0.26, 1.0])
        builder.add(boxes(base, top), stuff, T)
        builder.add(boxes([-0.28, -0.29, 1.0], [0.28, 0.29, 1.07]), stuff, T)
    elif kind == 2:
        builder.add(
            revolve(np.array([[0.2, 0], [0.25, 0.75], [0.27, 0.8], [0.2, 0.88]]), 10), stuff, T
        )
    elif kind == 3:
        builder.add(
            boxes(
                [[-0.2, -0.75, 0.42], [-0.24, -0.75, 0.5]], [[0.22, 0.75, 0.48], [-0.2, 0.75, 0.9]]
            ),
            stuff,
            T,
        )
        builder.add(
            boxes([[-0.15, -0.65, 0], [-0.15, 0.6, 0]], [[0.15, -0.6, 0.42], [0.15, 0.65, 0.42]]),
            stuff,
            T,
        )
    elif kind == 4:
        size = rng.uniform(0.3, 1.1, 3)
        builder.add(
            boxes([-size[0] / 2, -size[1] / 2, -0.1], [size[0] / 2, size[1] / 2, size[2]]), stuff, T
        )
    else:
        builder.add(revolve(np.array([[0.2, 0], [0.17, 0.05], [0.03, 0.7]]), 8), stuff, T)
