"""What surfaces look like: colour textures evaluated at hit points, and how they answer a laser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.sim.classes import ontology

Float = npt.NDArray[np.float32]
Values = npt.NDArray[np.floating[Any]]
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
_SIZE = 512


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


@cache
def _noise(seed: int) -> Float:
    """(512, 512) periodic noise with a 1/f spectrum, zero mean and unit variance."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((_SIZE, _SIZE))) / frequency**1.1
    field = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _lookup(table: Float, u: Values, v: Values, cell_m: Values | float) -> Float:
    i = np.floor(u / cell_m).astype(np.int32) & (_SIZE - 1)
    j = np.floor(v / cell_m).astype(np.int32) & (_SIZE - 1)
    return table.ravel()[i * _SIZE + j]


def _smooth(table: Float, u: Values, v: Values, cell_m: Values | float) -> Float:
    """As `_lookup`, interpolated, for patches whose cells would show as squares."""
    x, y = u / cell_m, v / cell_m
    i, j = np.floor(x), np.floor(y)
    fx, fy = (x - i).astype(np.float32), (y - j).astype(np.float32)
    a, b = i.astype(np.int32) & (_SIZE - 1), j.astype(np.int32) & (_SIZE - 1)
    c, d, flat = (a + 1) & (_SIZE - 1), (b + 1) & (_SIZE - 1), table.ravel()
    low = flat[a * _SIZE + b] * (1 - fy) + flat[a * _SIZE + d] * fy
    high = flat[c * _SIZE + b] * (1 - fy) + flat[c * _SIZE + d] * fy
    return np.asarray(low * (1 - fx) + high * fx, np.float32)


class SurfaceTable:
    """Columns of all surfaces, and the texture lookup over them."""

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        self.semantic = np.array([s.semantic for s in surfaces], np.uint8)
        self.texture = np.array([TEXTURES.index(s.texture) for s in surfaces], np.int8)
        self.colour_a = np.array([s.a for s in surfaces], np.float32)
        self.colour_b = np.array([s.b for s in surfaces], np.float32)
        self.scale = np.array([s.scale_m for s in surfaces], np.float32)
        self.reflectance = np.array([s.reflectance for s in surfaces], np.float32)
        self.glass = np.array([s.glass for s in surfaces], np.float32)
        self.contrast = np.array([s.contrast for s in surfaces], np.float32)
        self.retro = np.array([s.retro for s in surfaces], np.float32)
        self.shine = np.array([s.shine for s in surfaces], np.float32)
        # each surface reads another part of the shared noise
        self.shift = (
            np.random.default_rng(len(surfaces))
            .uniform(0, 100, (len(surfaces), 2))
            .astype(np.float32)
        )

    def albedo(
        self, row: npt.NDArray[np.int32], xyz: Float, normal: Float, range_m: Float
    ) -> Float:
        """Colour of surfaces at points.

        Args:
            row: (N,) rows of this table.
            xyz: (N, 3) metres, world frame.
            normal: (N, 3) unit normals.
            range_m: (N,) distance to the eye; fine grain fades where it would only alias.

        Returns:
            (N, 3) float32 linear RGB 0..1.
        """
        # vertical faces: u along the wall, v up; others seen from above
        nx, ny, nz = normal.T
        flat = np.abs(nz) > 0.7
        length = np.maximum(np.hypot(nx, ny), 1e-3)
        u = np.where(flat, xyz[:, 0], (xyz[:, 1] * nx - xyz[:, 0] * ny) / length)
        v = np.where(flat, xyz[:, 1], xyz[:, 2])
        scale, shift = self.scale[row], self.shift[row]
        s, t = u + shift[:, 0], v + shift[:, 1]
        mix = np.zeros(len(row), np.float32)
        kind = self.texture[row]
        for number in np.unique(kind):
            pick = np.nonzero(kind == number)[0]
            mix[pick] = _PATTERNS[number](u[pick], v[pick], scale[pick], s[pick], t[pick])
        colour = self.colour_a[row]
        colour += mix[:, None] * (self.colour_b[row] - colour)
        fade = np.clip(12.0 / range_m, 0.0, 1.0)
        grain = _lookup(_noise(1), s, t, 0.02) * fade
        dirt = _lookup(_noise(2), s, t, 0.11)
        colour *= np.exp(self.contrast[row] * (0.6 * grain + 0.5 * dirt))[:, None]
        return np.clip(colour, 0.01, 0.97, out=colour)


def _plain(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    return np.zeros_like(u)


def _mottle(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    value = _smooth(_noise(3), s, t, scale / 32)
    return np.clip(0.5 + value * 0.45, 0, 1)


def _brick(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    row = np.floor(v / (scale * 0.33))
    column = np.floor(u / scale + 0.5 * (row % 2))
    fu = u / scale + 0.5 * (row % 2) - column
    fv = v / (scale * 0.33) - row
    mortar = (fu < 0.05) | (fv < 0.14)
    one = _lookup(_noise(4), column * 7, row * 13, 1.0)
    return np.where(mortar, 1.0, np.clip(0.12 + 0.16 * one, 0, 0.5)).astype(np.float32)


def _stripes(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    phase = (u / scale) % 1.0
    return np.clip((phase - 0.5) * 8 + 0.5, 0, 1) * np.clip((1 - phase) * 12, 0, 1)


def _tiles(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    i, j = np.floor(u / scale), np.floor(v / scale)
    joint = (u / scale - i < 0.05) | (v / scale - j < 0.05)
    one = _lookup(_noise(5), i * 5, j * 11, 1.0)
    return np.where(joint, 0.9, np.clip(0.25 + 0.2 * one, 0, 0.7)).astype(np.float32)


def _leaf(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    fine = _lookup(_noise(6), s, t, scale / 40)
    return np.clip(0.4 + 0.45 * fine, 0, 1)


def _checker(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    return ((np.floor(u / scale) + np.floor(v / scale)) % 2).astype(np.float32)


def _wood(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Grain along v, rings bent by slow noise; `scale` is the width of one band of grain."""
    bend = _smooth(_noise(7), s, t / 6, scale / 6)
    phase = (u / scale + 0.5 * bend) % 1.0
    fine = _lookup(_noise(8), s, t / 24, scale / 24)
    return np.clip(0.25 + 0.5 * phase * phase + 0.12 * fine, 0, 1)


def _concrete(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Clouded grey cast in panels of `scale` metres with thin joints."""
    fu, fv = (u / scale) % 1.0, (v / scale) % 1.0
    stain = _smooth(_noise(9), s, t, scale / 48)
    pores = _lookup(_noise(10), s, t, 0.015)
    value = np.clip(0.3 + 0.22 * stain + 0.08 * pores, 0, 0.8)
    return np.where((fu < 0.012) | (fv < 0.012), 1.0, value).astype(np.float32)


def _planks(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Boards `scale` metres wide along v, each with its own tone and grain, dark gaps between."""
    board = np.floor(u / scale)
    fu = u / scale - board
    tone = _lookup(_noise(4), board * 7, board * 3, 1.0)
    grain = _lookup(_noise(8), s, t / 20, scale / 16)
    value = np.clip(0.35 + 0.18 * tone + 0.14 * grain, 0, 0.85)
    return np.where(fu < 0.06, 1.0, value).astype(np.float32)


def _grass(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Tufts of `scale` metres and blades far finer than they."""
    tuft = _smooth(_noise(11), s, t, scale / 12)
    blade = _lookup(_noise(12), s, t, scale / 60)
    return np.clip(0.45 + 0.22 * tuft + 0.3 * blade, 0, 1)


def _gravel(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Stones of `scale` metres, each of one tone."""
    jitter = _lookup(_noise(13), s, t, scale / 3)
    i, j = np.floor(s / scale + 0.3 * jitter), np.floor(t / scale - 0.3 * jitter)
    stone = _lookup(_noise(5), i * 5, j * 11, 1.0)
    return np.clip(0.5 + 0.3 * stone + 0.1 * jitter, 0, 1)


def _cloth(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Weave of `scale` metres under soft folds."""
    weave = np.sin(u * (6.2831855 / scale)) * np.sin(v * (6.2831855 / scale))
    fold = _smooth(_noise(14), s, t, scale * 2)
    return np.clip(0.4 + 0.18 * weave + 0.25 * fold, 0, 1)


def _asphalt(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Grit, worn patches of `scale` metres, and cracks filled with tar."""
    grit = _lookup(_noise(15), s, t, 0.012)
    wear = _smooth(_noise(16), s, t, scale / 24)
    crack = np.abs(_smooth(_noise(17), s, t, scale / 10)) < 0.012
    value = np.clip(0.35 + 0.2 * wear + 0.14 * grit, 0, 0.9)
    return np.where(crack, 0.0, value).astype(np.float32)


def _render(u: Float, v: Float, scale: Float, s: Float, t: Float) -> Float:
    """Plaster: fine grain, and streaks of rain of `scale` metres that run down."""
    streak = _smooth(_noise(18), s, t / 8, scale / 16)
    grain = _lookup(_noise(19), s, t, 0.01)
    return np.clip(0.25 + 0.16 * streak + 0.1 * grain, 0, 1)


_PATTERNS = (
    _plain,
    _mottle,
    _brick,
    _stripes,
    _tiles,
    _leaf,
    _checker,
    _wood,
    _concrete,
    _planks,
    _grass,
    _gravel,
    _cloth,
    _asphalt,
    _render,
)

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
