"""Assets of buildings and open country: shapes with materials that follow from a name alone.

An asset is named "kind/number", as in "chair/17". Its split is a pure function of the number, and
everything about it (sizes, textures, paints, reflectance) is drawn from a generator seeded by the
name, so that a chair is the same chair in every world that holds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.materials import RGB, Surface, paint
from condense_ros.sim.mesh import MeshBuilder, boxes

SPLITS = ("train", "test")
#: numbers 0 .. 29 of every kind: twenty for training, ten for the test
_PER_KIND = 30

Parts = list[tuple[Array, Surface]]


def asset_split(name: str) -> str:
    """ "train" or "test": where an asset named "kind/number" may appear."""
    return "test" if int(name.rsplit("/", 1)[1]) % 3 == 2 else "train"


def asset_rng(name: str) -> np.random.Generator:
    """The generator that everything about an asset is drawn from."""
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()[:16]))


@dataclass(frozen=True, eq=False)
class Design:
    """One asset in its own frame: x to its front, its footprint centred on the origin, z up.

    Attributes:
        parts: shapes (T, 3, 3) metres with their surfaces.
        half: half length (x) and half width (y) of the footprint, metres.
        low_m, top_m: lowest and highest z.
    """

    parts: tuple[tuple[Array, Surface], ...]
    half: tuple[float, float]
    low_m: float
    top_m: float

    def add(self, builder: MeshBuilder, T: Array) -> None:
        """Adds the asset to the builder's present object."""
        for shape, stuff in self.parts:
            builder.add(shape, stuff, T)


def centred(parts: Parts) -> Design:
    """A design whose footprint is shifted onto the origin."""
    corners = np.concatenate([shape.reshape(-1, 3) for shape, _ in parts])
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle = np.r_[(low + high)[:2] / 2, 0.0]
    half = (high - low)[:2] / 2
    moved = tuple((shape - middle, stuff) for shape, stuff in parts)
    return Design(moved, (float(half[0]), float(half[1])), float(low[2]), float(high[2]))


class Catalogue:
    """Draws assets of one split, makes their designs once, and keeps count of what was used.

    Args:
        split: "train" or "test".
        makers: per kind a function from the asset's generator to its parts.

    Raises:
        SimulationError: another split.
    """

    def __init__(
        self, split: str, makers: dict[str, Callable[[np.random.Generator], Parts]]
    ) -> None:
        if split not in SPLITS:
            raise SimulationError(f"split {split!r} is unknown", f"use one of {SPLITS}")
        self._numbers = [n for n in range(_PER_KIND) if asset_split(f"x/{n}") == split]
        self._makers, self._made = makers, dict[str, Design]()
        self._names: set[str] = set()

    @property
    def used(self) -> frozenset[str]:
        return frozenset(self._names)

    def draw(self, rng: np.random.Generator, kind: str, count: int = 1) -> list[str]:
        """Names of `count` different assets of a kind; all are taken as used."""
        numbers = rng.choice(self._numbers, count, replace=False)
        names = [f"{kind}/{int(n)}" for n in numbers]
        self._names.update(names)
        return names

    def surface(self, name: str, maker: Callable[[np.random.Generator], Surface]) -> Surface:
        """The material that a drawn asset is made of."""
        return maker(asset_rng(name))

    def design(self, name: str) -> Design:
        """The design of a drawn asset."""
        if name not in self._made:
            maker = self._makers[name.rsplit("/", 1)[0]]
            self._made[name] = centred(maker(asset_rng(name)))
        return self._made[name]


def block(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    z: npt.ArrayLike,
    dx: npt.ArrayLike,
    dy: npt.ArrayLike,
    dz: npt.ArrayLike,
) -> Array:
    """Boxes centred on (x, y), standing on z, of size (dx, dy, dz); numbers or (B,) arrays."""
    values = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (x, y, z, dx, dy, dz)))
    cx, cy, cz, sx, sy, sz = (np.atleast_1d(v) for v in values)
    low = np.column_stack([cx - sx / 2, cy - sy / 2, cz])
    return boxes(low, low + np.column_stack([sx, sy, sz]))


def stuff(
    rng: np.random.Generator,
    semantic: int,
    textures: Sequence[str],
    *paints: int,
    scale_m: float = 0.3,
    reflectance: tuple[float, float] = (0.1, 0.8),
    glass: float = 0.0,
    contrast: float = 0.2,
    spread: float = 0.25,
) -> Surface:
    """A material of one of the textures in two shared paints (from the whole palette without
    `paints`); every class draws from wide ranges, so that no pixel gives its class away."""
    a, b = paint(rng, *paints, spread=spread), paint(rng, *paints, spread=spread)
    texture = textures[int(rng.integers(len(textures)))]
    size = float(scale_m * rng.uniform(0.7, 1.4))
    return Surface(semantic, texture, a, b, size, float(rng.uniform(*reflectance)), glass, contrast)


def shaded(a: RGB, factor: float) -> RGB:
    """A darker or lighter tone of a paint."""
    r, g, b = (float(np.clip(v * factor, 0.01, 0.95)) for v in a)
    return (r, g, b)
