"""Assets of towns: shapes and paints that follow from a name alone, one part for each split.

An asset is named "kind/number" ("car/17"). The number alone decides whether it may appear in worlds
for training or for the test, and everything about it is drawn from a generator seeded by the name:
the same car model in every world that holds it, and none of it in a world of the other split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.designs import SPLITS, asset_rng
from condense_ros.sim.materials import Surface, paint
from condense_ros.sim.mesh import MeshBuilder

#: how many models of each kind exist; two thirds are for training
LIBRARY = {
    "house": 240,
    "car": 120,
    "van": 60,
    "bicycle": 45,
    "person": 180,
    "tree": 150,
    "bush": 60,
    "sign": 90,
    "lamp": 45,
    "signal": 15,
    "fence": 60,
    "wall": 45,
    "hedge": 45,
    "clutter": 180,
}
_PAINTS = 3 * 2**29


@dataclass(frozen=True, eq=False)
class Model:
    """The geometry of an asset in its own frame: x forward, centred on the origin, z up.

    Attributes:
        parts: (slot, triangles (T, 3, 3)) pairs; the slot says which of the object's paints it has.
        half: half length (x) and half width (y), metres.
    """

    parts: tuple[tuple[str, Array], ...]
    half: tuple[float, float]

    def add(self, builder: MeshBuilder, T: Array, look: dict[str, Surface]) -> None:
        """Adds the model to the builder's present object, painted by slot."""
        for slot, shape in self.parts:
            builder.add(shape, look[slot], T)


class Shapes:
    """Gathers the parts of one model."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {}

    def add(self, slot: str, shape: Array, T: Array | None = None) -> None:
        """Adds triangles (T, 3, 3), moved by the (4, 4) transform `T`."""
        if T is not None:
            shape = shape @ T[:3, :3].T + T[:3, 3]
        self._parts.setdefault(slot, []).append(shape)

    def model(self) -> Model:
        parts = tuple((slot, np.concatenate(shapes)) for slot, shapes in self._parts.items())
        far = np.abs(np.concatenate([p.reshape(-1, 3)[:, :2] for _, p in parts])).max(axis=0)
        return Model(parts, (float(far[0]), float(far[1])))


class Assets:
    """Draws assets of one split and keeps count of what was drawn.

    Raises:
        SimulationError: a split other than "train" and "test".
    """

    def __init__(self, split: str) -> None:
        if split not in SPLITS:
            raise SimulationError(f"split {split!r} is unknown", f"use one of {SPLITS}")
        self.split = split
        self._used: set[str] = set()

    @property
    def used(self) -> frozenset[str]:
        """Names of all assets drawn so far."""
        return frozenset(self._used)

    def draw(self, rng: np.random.Generator, kind: str) -> str:
        """The name of one asset of a kind."""
        return self._name(rng, kind, LIBRARY[kind])

    def _name(self, rng: np.random.Generator, kind: str, count: int) -> str:
        third = 3 * int(rng.integers(count // 3))
        number = third + (2 if self.split == "test" else int(rng.integers(2)))
        name = f"{kind}/{number}"
        self._used.add(name)
        return name

    def paint(
        self,
        rng: np.random.Generator,
        semantic: int,
        textures: str = "plain",
        choices: tuple[int, ...] = (),
        second: tuple[int, ...] | None = None,
        *,
        scale_m: float = 0.5,
        reflectance: tuple[float, float] = (0.08, 0.6),
        glass: float = 0.0,
        retro: tuple[float, float] = (0.0, 0.0),
        shine: float = 0.0,
        contrast: float = 0.25,
        spread: float = 0.25,
    ) -> Surface:
        """A surface whose colours, texture and reflectance follow from one paint asset.

        Args:
            textures: names of `materials.TEXTURES` to choose from, separated by spaces.
            choices, second: palette numbers of the two colours; the whole palette if empty, and
                the second as the first if None.
        """
        g = asset_rng(self._name(rng, "paint", _PAINTS))
        kinds = textures.split()
        a = paint(g, *choices, spread=spread)
        b = paint(g, *(choices if second is None else second), spread=spread)
        return Surface(
            semantic,
            kinds[int(g.integers(len(kinds)))],
            a,
            b,
            scale_m * float(g.uniform(0.75, 1.35)),
            float(g.uniform(*reflectance)),
            glass,
            contrast,
            float(g.uniform(*retro)),
            shine,
        )
