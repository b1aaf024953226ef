"""People and animals: standing, walking, sitting; made for any ontology."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import Parts, block, stuff
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import revolve, tube

_CLOTH = ("cloth", "plain", "stripes", "checker", "mottle")


def person(semantic: int, posture: str) -> Callable[[np.random.Generator], Parts]:
    """Maker of a person of class `semantic`; posture is "standing", "walking" or "sitting".

    A sitting person's seat is 0.46 m high; the origin lies under the hips.
    """

    def make(rng: np.random.Generator) -> Parts:
        tall = float(np.clip(rng.normal(1.72, 0.1), 1.45, 1.98)) / 1.75
        wide = float(rng.uniform(0.85, 1.2))
        coat = stuff(rng, semantic, _CLOTH, scale_m=0.12)
        trousers = stuff(rng, semantic, ("plain", "mottle"))
        skin = stuff(rng, semantic, ("plain",), 14, 3, 5, spread=0.3)
        hair = stuff(rng, semantic, ("plain",), 2, 5, 11, 15, 1)
        stride = float(rng.uniform(0.22, 0.36)) if posture == "walking" else 0.04
        low = 0.46 / tall - 0.82 if posture == "sitting" else 0.0
        parts: Parts = []

        def limb(points: list[tuple[float, float, float]], radius: list[float]) -> Array:
            return tube(np.array(points) * tall, np.array(radius) * tall, 6)

        def foot(x: float, y: float) -> None:
            parts.append((block(x * tall + 0.05, y * tall, 0, 0.25, 0.09, 0.08), hair))

        for side in (-1, 1):
            y, s = side * 0.1, side * stride
            if posture == "sitting":
                hip, knee = 0.82 + low, 0.42 / tall
                leg = [(0.0, y, hip), (0.42, y, knee + 0.06), (0.44, y, 0.05)]
                foot(0.44, y)
                arm = [(0.0, 2 * y * wide, 1.4 + low), (0.1, 2.5 * y * wide, 1.12 + low)]
                arm.append((0.34, 2.2 * y, 1.08 + low))
            else:
                leg = [(s, 0.9 * y, 0.03), (0.35 * s + 0.03, y, 0.45), (0.0, y, 0.88)]
                foot(s, 0.9 * y)
                arm = [(0.0, 2 * y * wide, 1.42), (-0.3 * s, 2.6 * y * wide, 1.15)]
                arm.append((-0.8 * s + 0.1, 2.5 * y * wide, 0.92))
            parts.append((limb(leg, [0.06, 0.07, 0.09]), trousers))
            parts.append((limb(arm, [0.06, 0.05, 0.04]), coat))
        torso = [[0.13, 0.8], [0.16, 0.98], [0.19, 1.3], [0.16, 1.45], [0.06, 1.52]]
        body = revolve(np.array(torso) + [0, low], 8) * tall
        parts.append((body * [0.75, wide, 1], coat))
        head = [[0.05, 1.5], [0.09, 1.56], [0.105, 1.63], [0.1, 1.67]]
        parts.append((revolve((np.array(head) + [0, low]) * tall, 8), skin))
        cap = [[0.108, 1.66], [0.09, 1.72], [0.03, 1.76]]
        parts.append((revolve((np.array(cap) + [0, low]) * tall, 8), hair))
        return parts

    return make


def animal(semantic: int, kind: str) -> Callable[[np.random.Generator], Parts]:
    """Maker of a standing "cow" or "sheep" of class `semantic`, nose to +x."""

    def make(rng: np.random.Generator) -> Parts:
        size = float(rng.uniform(0.9, 1.1)) * (1.0 if kind == "cow" else 0.5)
        textures = ("mottle", "plain") if kind == "cow" else ("leaf", "plain")
        paints = (2, 4, 5, 10, 14) if kind == "cow" else (0, 10, 3, 2)
        hide = stuff(rng, semantic, textures, *paints, scale_m=0.9 * size, contrast=0.3)
        dark = stuff(rng, semantic, ("plain",), 2, 5, 15, 14)
        grazing = rng.random() < 0.5
        parts: Parts = [(_barrel(size, 0.36 if kind == "cow" else 0.5), hide)]
        for x in (-0.55, 0.5):
            for y in (-0.2, 0.2):
                path = np.array([[x, y, 0.0], [x - 0.03, y, 0.4], [x, y, 0.85]]) * size
                parts.append((tube(path, np.array([0.06, 0.06, 0.12]) * size, 6), dark))
        mouth = (1.35, 0.12) if grazing else (1.3, 1.25)
        neck = np.array([[0.7, 0, 1.15], [1.0, 0, (1.15 + mouth[1]) / 2 + 0.15]]) * size
        head = np.array([neck[1] / size, [mouth[0], 0, mouth[1]]]) * size
        parts.append((tube(neck, np.array([0.26, 0.16]) * size, 8), hide))
        parts.append((tube(head, np.array([0.15, 0.08]) * size, 8), _other(hide, dark, rng)))
        tail = np.array([[-0.85, 0, 1.2], [-0.95, 0, 0.6]]) * size
        parts.append((tube(tail, 0.03 * size, 4), hide))
        for y in (-1, 1):
            ear = block(neck[1, 0], y * 0.2 * size, neck[1, 2], 0.05 * size, 0.18 * size, 0.1)
            parts.append((ear, hide))
        return parts

    return make


def _barrel(size: float, thick: float) -> Array:
    """The trunk: a lying tube, deeper than wide."""
    x = np.array([-0.88, -0.75, -0.3, 0.3, 0.7, 0.85])
    path = np.column_stack([x, np.zeros(6), [1.05, 1.05, 1.0, 1.0, 1.08, 1.12]])
    radius = np.array([0.12, 0.32, thick, thick, 0.32, 0.16])
    return tube(path * [1, 1, 1], radius, 10) * [size, 0.85 * size, size]


def _other(a: Surface, b: Surface, rng: np.random.Generator) -> Surface:
    return a if rng.random() < 0.6 else b
