"""Materials of the ground of open country, drawn from a split's assets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from condense_ros.sim.designs import Catalogue, stuff
from condense_ros.sim.materials import Surface
from condense_ros.sim.open_country import classes_terrain as c

_TRACK = ("gravel", "mottle", "render", "asphalt")
_GRASS = ("grass", "leaf", "grass")
_SOIL = ("gravel", "mottle", "grass")
_FLOOR = ("leaf", "gravel", "grass")


def track(rng: np.random.Generator) -> Surface:
    return _toned(stuff(rng, c.TRACK, _TRACK, 0, 3, 14, 1, 5, scale_m=0.12), rng)


def grass(rng: np.random.Generator) -> Surface:
    paints = (9, 13, 9, 11)
    return _toned(stuff(rng, c.GRASS, _GRASS, *paints, scale_m=0.5, contrast=0.3), rng)


def soil(rng: np.random.Generator) -> Surface:
    return _toned(stuff(rng, c.SOIL, _SOIL, 5, 14, 1, 3, 9, scale_m=0.2, contrast=0.35), rng)


def wood_floor(rng: np.random.Generator) -> Surface:
    return _toned(stuff(rng, c.SOIL, _FLOOR, 5, 14, 13, scale_m=0.3, contrast=0.35), rng)


def water(rng: np.random.Generator) -> Surface:
    """Little laser light comes back from water."""
    return stuff(rng, c.WATER, ("mottle",), 12, 2, 5, scale_m=2.0,
                 reflectance=(0.02, 0.06), glass=0.75, contrast=0.08)  # fmt: skip


def _toned(material: Surface, rng: np.random.Generator) -> Surface:
    """Ground whose second colour is a tone of its first, a little towards what it was."""
    tone, share = float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.1, 0.35))
    r, g, b = (tone * (u + share * (v - u)) for u, v in zip(material.a, material.b, strict=True))
    return replace(material, b=(r, g, b))


_MAKERS: dict[str, tuple[Callable[[np.random.Generator], Surface], int]] = {
    "track": (track, 2),
    "grass": (grass, 4),
    "soil": (soil, 4),
    "floor": (wood_floor, 2),
    "water": (water, 1),
}


def ground_surfaces(catalogue: Catalogue, rng: np.random.Generator) -> dict[str, list[Surface]]:
    """Surfaces by kind of ground: track, grass, soil, floor (of the wood), water."""
    return {
        kind: [catalogue.surface(name, maker) for name in catalogue.draw(rng, f"ground_{kind}", n)]
        for kind, (maker, n) in _MAKERS.items()
    }
