"""What surfaces are made of: colours, textures, and how they answer a laser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.sim.town.classes import ontology

Float = npt.NDArray[np.float32]
RGB = tuple[float, float, float]

TEXTURES = (
    "plain",
    "mottle",
    "brick",
    "stripes",
    "tiles",
    "leaf",
    "checker",
    "wood",
    "concrete",
    "planks",
    "grass",
    "gravel",
    "cloth",
    "asphalt",
    "render",
)


@dataclass(frozen=True)
class Surface:
    """One material of one object.

    Attributes:
        semantic: label value.
        texture: one of `TEXTURES`.
        a, b: the two albedo colours of the texture, linear RGB 0..1.
        scale_m: size of the texture's element (brick length, stripe width, patch size), metres.
        reflectance: share of the laser's light sent back at normal incidence, 0..1.
        glass: share of laser pulses that go through or are mirrored away, 0..1.
        retro: share of the light sent straight back to the laser at any angle (sign foil, number
            plates), 0..1.
        shine: share of the light that is mirrored instead of scattered (lacquer, polished floors),
            0..1; depth cameras lose it.
        contrast: strength of the dirt and grain laid over every texture.
    """

    semantic: int
    texture: str
    a: RGB
    b: RGB = (0.5, 0.5, 0.5)
    scale_m: float = 0.5
    reflectance: float = 0.3
    glass: float = 0.0
    contrast: float = 0.25
    retro: float = 0.0
    shine: float = 0.0


class SurfaceTable:
    """Columns of all surfaces.

    Attributes:
        semantic: (S,) uint8 label values.
        texture: (S,) int8 rows of `TEXTURES`.
        colour_a, colour_b: (S, 3) float32.
        reflectance, glass, retro, shine: (S,) float32.
        columns: (S, 12) float32, as `shading` reads them.
    """

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        self.semantic = np.array([s.semantic for s in surfaces], np.uint8)
        self.texture = np.array([TEXTURES.index(s.texture) for s in surfaces], np.int8)
        self.colour_a = np.array([s.a for s in surfaces], np.float32).reshape(-1, 3)
        self.colour_b = np.array([s.b for s in surfaces], np.float32).reshape(-1, 3)
        self.reflectance = np.array([s.reflectance for s in surfaces], np.float32)
        self.glass = np.array([s.glass for s in surfaces], np.float32)
        self.retro = np.array([s.retro for s in surfaces], np.float32)
        self.shine = np.array([s.shine for s in surfaces], np.float32)
        # each surface reads another part of the shared noise, the same whatever follows it
        shift = np.random.default_rng(77).uniform(0, 100, (len(surfaces), 2))
        rest = [(s.scale_m, s.contrast, s.shine, s.glass) for s in surfaces]
        scale, contrast, shine, glass = np.array(rest, np.float32).reshape(-1, 4).T
        self.columns: Float = np.column_stack(
            [self.colour_a, self.colour_b, scale, shift.astype(np.float32), contrast, shine, glass]
        )

    def __len__(self) -> int:
        return len(self.semantic)

    @classmethod
    def join(cls, tables: Sequence[SurfaceTable]) -> SurfaceTable:
        """One table with the rows of all, each surface looking as it did."""
        joined = cls(())
        for name in vars(joined):
            setattr(joined, name, np.concatenate([getattr(table, name) for table in tables]))
        return joined

    def albedo(
        self, row: npt.NDArray[np.int32], xyz: Float, normal: Float, range_m: Float
    ) -> Float:
        """Colour of surfaces at points.

        Args:
            row: (N,) rows of this table.
            xyz: (N, 3) metres, in the frame the surface is fixed to.
            normal: (N, 3) unit normals in that frame.
            range_m: (N,) distance to the eye; fine grain fades where it would only alias.

        Returns:
            (N, 3) float32 linear RGB 0..1.
        """
        from condense_ros.sim.sensors import shading

        out = np.empty((len(row), 3), np.float32)
        shading.albedo(shading.noise(), self.columns, self.texture, row, xyz, normal, range_m, out)
        return out


#: paints that many classes share, so that a single pixel's colour does not give its class away
PALETTE: tuple[RGB, ...] = (
    (0.62, 0.60, 0.56),
    (0.36, 0.35, 0.34),
    (0.14, 0.14, 0.15),
    (0.70, 0.64, 0.50),
    (0.42, 0.20, 0.13),
    (0.30, 0.22, 0.15),
    (0.52, 0.12, 0.10),
    (0.12, 0.22, 0.42),
    (0.16, 0.30, 0.18),
    (0.30, 0.34, 0.20),
    (0.72, 0.70, 0.66),
    (0.55, 0.44, 0.18),
    (0.22, 0.30, 0.34),
    (0.20, 0.26, 0.10),
    (0.48, 0.36, 0.26),
    (0.05, 0.05, 0.06),
)


def paint(rng: np.random.Generator, *choices: int, spread: float = 0.25) -> RGB:
    """A colour of the shared palette, varied per object; from all of it without `choices`."""
    base = np.array(PALETTE[int(rng.choice(choices or np.arange(len(PALETTE))))])
    varied = np.clip(base * np.exp(rng.normal(0, spread)) * np.exp(rng.normal(0, 0.05, 3)), 0, 0.9)
    return (float(varied[0]), float(varied[1]), float(varied[2]))


def surface(
    rng: np.random.Generator,
    semantic: int,
    texture: str,
    a: RGB,
    b: RGB | None = None,
    *,
    scale_m: float = 0.5,
    reflectance: tuple[float, float] = (0.1, 0.6),
    glass: float = 0.0,
    contrast: float = 0.25,
    retro: float = 0.0,
    shine: float = 0.0,
) -> Surface:
    """A surface with reflectance drawn from a range; every class draws from wide ranges."""
    assert semantic < len(ontology)
    return Surface(
        semantic,
        texture,
        a,
        b if b is not None else a,
        scale_m,
        float(rng.uniform(*reflectance)),
        glass,
        contrast,
        retro,
        shine,
    )
