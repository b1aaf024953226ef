"""Models of people: walking, standing, sitting or riding."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_rng
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import boxes, pose2d, revolve, tube
from condense_ros.sim.town import classes
from condense_ros.sim.town.assets import Assets, Model, Shapes

POSES = ("walk", "stand", "sit", "ride")


def add_body(shapes: Shapes, rng: np.random.Generator, pose: str) -> None:
    """Adds a body that faces +x; 1.1 to 1.95 m tall when it stands."""
    tall = float(np.clip(rng.normal(1.72, 0.12), 1.15, 1.95)) / 1.76
    if pose == "ride":
        tall = float(np.clip(tall, 0.93, 1.05))
    wide = float(rng.uniform(0.88, 1.22))
    # where hips are, and how far the trunk leans forward
    seat = {"walk": 0.9, "stand": 0.9, "sit": 0.5 / tall, "ride": 1.02 / tall}[pose]
    lean = {"walk": 0.06, "stand": 0.0, "sit": -0.08, "ride": 0.42}[pose] + rng.normal(0, 0.03)
    back = -0.18 if pose == "ride" else 0.0

    def limb(slot: str, points: list[tuple[float, float, float]], radius: list[float]) -> None:
        shapes.add(slot, tube(np.array(points) * tall, np.array(radius) * tall, 7))

    stride = float(rng.uniform(0.2, 0.36)) if pose == "walk" else float(rng.uniform(0, 0.06))
    trunk = pose2d(0, 0, 0)
    c, s = np.cos(lean), np.sin(lean)
    trunk[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    trunk[:3, 3] = np.array([back, 0, seat]) * tall
    for side in (-1, 1):
        step, y = side * stride, side * 0.1
        if pose == "sit":
            knee, foot = (0.42, side * 0.12, seat), (0.44, side * 0.12, 0.05)
        elif pose == "ride":
            knee, foot = (0.2, y, 0.72 - 0.12 * side), (0.0, y, 0.3 - 0.14 * side)
        else:
            knee, foot = (0.4 * step + 0.05, y, 0.47), (step, y, 0.05)
        limb("trousers", [(back, y, seat), knee, foot], [0.095, 0.07, 0.05])
        toe = np.array(foot) * tall
        shapes.add("trousers", boxes(toe - [0.09, 0.05, 0.05], toe + [0.18, 0.05, 0.05]))
        shoulder = (trunk @ np.array([0.0, side * 0.2 * wide * tall, 0.53 * tall, 1]))[:3] / tall
        if pose == "ride":
            hand = (0.32 / tall, side * 0.27, 1.06 / tall)
        elif pose == "sit":
            hand = (0.3, side * 0.12, seat + 0.1)
        else:
            hand = (0.06 - 0.8 * step, side * 0.28 * wide, 0.85)
        middle = (np.array(shoulder) + np.array(hand)) / 2 + [-0.06, side * 0.03, -0.02]
        elbow = (float(middle[0]), float(middle[1]), float(middle[2]))
        limb("coat", [tuple(shoulder.tolist()), elbow, hand], [0.065, 0.05, 0.04])
        shapes.add("skin", boxes(np.array(hand) * tall - 0.04, np.array(hand) * tall + 0.04))
    torso = revolve(
        np.array([[0.13, -0.06], [0.155, 0.1], [0.15, 0.25], [0.19, 0.45], [0.14, 0.57],
                  [0.06, 0.63]]) * tall, 9)  # fmt: skip
    shapes.add("coat", torso * [0.72, wide, 1], trunk)
    if rng.random() < 0.35:
        # a long coat or a skirt
        low = -0.4 if pose in ("walk", "stand") else -0.06
        skirt = revolve(np.array([[0.22, low], [0.16, 0.08]]) * tall, 9)
        shapes.add("coat", skirt * [0.85, wide, 1], trunk)
    neck = trunk @ pose2d(0.01, 0, 0, 0.0)
    head = np.array([[0.05, 0.6], [0.085, 0.67], [0.105, 0.75], [0.09, 0.83], [0.03, 0.87]]) * tall
    shapes.add("skin", revolve(head, 9), neck)
    if rng.random() < 0.6:
        hair = np.array([[0.115, 0.74], [0.11, 0.82], [0.05, 0.89]]) * tall
        shapes.add("trousers", revolve(hair, 9) - [0.015, 0, 0], neck)
    if rng.random() < 0.4:
        bag = boxes([-0.3, -0.16, 0.12], [-0.1, 0.16, 0.5]) * tall
        shapes.add("bag", bag, trunk)


@lru_cache(maxsize=512)
def person(name: str, pose: str = "walk") -> Model:
    """A person in one of `POSES`."""
    rng, shapes = asset_rng(name), Shapes()
    add_body(shapes, rng, pose)
    return shapes.model()


def person_look(assets: Assets, rng: np.random.Generator) -> dict[str, Surface]:
    """Clothes."""
    p = classes.PERSON
    return {
        "coat": assets.paint(rng, p, "cloth plain stripes checker", scale_m=0.12),
        "trousers": assets.paint(rng, p, "plain cloth", scale_m=0.2),
        "skin": assets.paint(rng, p, "plain", (14, 3, 5)),
        "bag": assets.paint(rng, p, "plain checker", scale_m=0.1),
    }


def facing(xy: Array, target: Array) -> float:
    """Heading (radians) from `xy` to `target`, both (2,)."""
    return float(np.arctan2(target[1] - xy[1], target[0] - xy[0]))
