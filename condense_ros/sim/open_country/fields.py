"""What grows on fields: crops in rows, cereals, tall grass; all by the season of a session."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.designs import stuff
from condense_ros.sim.materials import PALETTE, RGB, Surface
from condense_ros.sim.mesh import quads
from condense_ros.sim.open_country import classes_terrain as c
from condense_ros.sim.open_country.tracks import Land


@dataclass(frozen=True)
class Season:
    """One state of all that grows.

    Attributes:
        name: "spring", "summer", "harvest" or "autumn".
        leaves: share of the leaves that are out.
        tint: what leaves turn to, linear RGB; `turned`: how far, 0..1.
        rows_m, cereal_m: height of the crops in metres; under 0.2 a cereal is stubble.
        grass_m: height of tall grass.
    """

    name: str
    leaves: float
    tint: RGB
    turned: float
    rows_m: float
    cereal_m: float
    grass_m: float


SEASONS = (
    Season("spring", 0.75, PALETTE[9], 0.3, 0.3, 0.35, 0.35),
    Season("summer", 1.0, PALETTE[8], 0.1, 1.3, 0.85, 0.6),
    Season("harvest", 0.95, PALETTE[11], 0.25, 1.9, 0.14, 0.45),
    Season("autumn", 0.45, PALETTE[4], 0.65, 0.16, 0.12, 0.3),
)


def turn(stuff: Surface, season: Season, more: float = 1.0) -> Surface:
    """A plant's surface in a season."""

    def mixed(a: RGB) -> RGB:
        share = min(season.turned * more, 0.95)
        r, g, b = (float(u + share * (v - u)) for u, v in zip(a, season.tint, strict=True))
        return (r, g, b)

    return replace(stuff, a=mixed(stuff.a), b=mixed(stuff.b))


def crop_surface(rng: np.random.Generator) -> Surface:
    textures = ("leaf", "grass", "stripes")
    return stuff(rng, c.CROP, textures, 8, 9, 13, 11, 3, scale_m=0.3, contrast=0.35)


def grass_surface(rng: np.random.Generator) -> Surface:
    return stuff(rng, c.TALL_GRASS, ("leaf", "grass", "plain"), 8, 9, 13, 11, 3, 14, scale_m=0.2)


def lattice(
    land: Land, field: int, yaw: float, steps: tuple[float, float], band: tuple[float, float]
) -> Array:
    """(N, 2) points of a grid turned by `yaw` that lie in a field, at distances `band` from tracks.

    Args:
        steps: metres along the rows and across them.
    """
    half = float(land.radius_m.max()) + band[1]
    turned = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    # blocks of some metres first; only those near the band are filled with points
    fill = [np.arange(max(1, int(5.0 / step))) * step for step in steps]
    reach = 1.42 * half
    corner = [np.arange(-reach, reach, len(f) * s) for f, s in zip(fill, steps, strict=True)]
    blocks = np.stack(np.meshgrid(*corner, indexing="ij"), -1).reshape(-1, 2)
    centre = (blocks + [f.mean() for f in fill]) @ turned
    blocks = blocks[np.abs(centre).max(axis=1) < half]
    d = land.distance((blocks + [f.mean() for f in fill]) @ turned)
    blocks = blocks[(d > band[0] - 4.0) & (d < band[1] + 4.0)]
    inside = np.stack(np.meshgrid(*fill, indexing="ij"), -1).reshape(-1, 2)
    xy = (blocks[:, None] + inside).reshape(-1, 2) @ turned
    xy = xy[land.field(xy) == field]
    d = land.distance(xy)
    return np.asarray(xy[(d > band[0]) & (d < band[1])])


def row_plants(base: Array, height_m: float, rng: np.random.Generator) -> Array:
    """Plants with arching leaves around a stem at (N, 3): (10 N, 3, 3) triangles."""
    n, count = len(base), 5
    high = height_m * rng.uniform(0.75, 1.15, n)
    found = []
    stem = np.zeros((n, 3, 3))
    turned = rng.uniform(0, np.pi, n)
    side = np.stack([np.cos(turned), np.sin(turned), np.zeros(n)], 1)
    side *= 0.012 * (1 + high)[:, None]
    stem[:, 0], stem[:, 1], stem[:, 2] = base - side, base + side, base
    stem[:, 2, 2] += high
    found.append(stem)
    for k in range(count):
        angle = rng.uniform(0, 2 * np.pi, n)
        out = np.stack([np.cos(angle), np.sin(angle), np.zeros(n)], 1)
        across = np.stack([-np.sin(angle), np.cos(angle), np.zeros(n)], 1)
        low = base + [0, 0, 1] * (high * (0.15 + 0.7 * k / count))[:, None]
        reach = (0.28 * high + 0.06)[:, None] * rng.uniform(0.7, 1.2, (n, 1))
        bend = low + out * reach * 0.6 + [0, 0, 1] * (0.22 * high)[:, None]
        tip = low + out * reach * 1.3 + [0, 0, 1] * (0.02 * high)[:, None]
        wide = (0.025 + 0.03 * high)[:, None] * across
        found.append(np.stack([low, bend - wide, bend + wide], axis=1))
        found.append(np.stack([bend - wide, tip, bend + wide], axis=1))
    return np.concatenate(found)


def tufts(
    base: Array, height_m: float, blades: int, wide_m: float, rng: np.random.Generator
) -> Array:
    """Tufts of leaning blades at (N, 3): (N * blades, 3, 3) triangles."""
    n = len(base) * blades
    foot = np.repeat(base, blades, axis=0)
    angle, facing = rng.uniform(0, 2 * np.pi, (2, n))
    spread = rng.uniform(0, 0.12, n) + 0.02
    out = np.stack([np.cos(angle), np.sin(angle), np.zeros(n)], 1)
    across = np.stack([np.cos(facing), np.sin(facing), np.zeros(n)], 1) * (wide_m / 2)
    foot = foot + out * spread[:, None]
    high = height_m * rng.uniform(0.5, 1.25, n)
    tip = foot + out * (0.45 * high)[:, None] + [0, 0, 1] * high[:, None]
    foot = foot - [0, 0, 0.03]
    return np.stack([foot - across, foot + across, tip], axis=1)


def strips(
    xy: Array, yaw: float, length_m: float, height_m: float, land: Land, rng: np.random.Generator
) -> Array:
    """Rows seen from afar: upright ragged quadrilaterals along `yaw` at (N, 2)."""
    n = len(xy)
    half = 0.5 * length_m * np.array([np.cos(yaw), np.sin(yaw)])
    a, b = xy - half, xy + half
    za, zb = land.network.height(a), land.network.height(b)
    ha, hb = height_m * rng.uniform(0.75, 1.1, (2, n))
    lean = rng.normal(0, 0.08, (n, 2)) * height_m
    corners = np.stack(
        [
            np.c_[a, za - 0.05],
            np.c_[b, zb - 0.05],
            np.c_[b + lean, zb + hb],
            np.c_[a + lean, za + ha],
        ],
        axis=1,
    )
    return quads(corners)


def keep(rng: np.random.Generator, count: int, share: float) -> npt.NDArray[np.bool_]:
    """(count,) bool, each true with probability `share`."""
    return np.asarray(rng.random(count) < share)
