"""The ground of open country: a mesh that is fine near the tracks, with ruts, furrows and ditch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import Delaunay, cKDTree

from condense_ros.geometry import Array
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, strip
from condense_ros.sim.open_country.tracks import HALF_TRACK_M, Land, resample

#: (spacing of vertices, up to this distance from a track), metres
_RINGS = ((0.42, 4.0), (0.9, 13.0), (2.2, 45.0))
#: rows of vertices along the tracks: crown, ruts, edge
_ROWS_M = (0.0, 0.28, 0.55, 0.78, 1.02, HALF_TRACK_M, 1.5)
_DITCH_M, _DITCH_HALF_M = 0.75, 1.5


@dataclass(frozen=True, eq=False)
class Ditch:
    """A ditch beside the ring: its line (P, 2), and where the ground falls to it."""

    line: Array
    tree: cKDTree

    def depth(self, xy: Array) -> Array:
        """(N,) metres below the land's height at points (N, 2)."""
        d = self.tree.query(xy)[0]
        return np.asarray(_DITCH_M * np.clip(1.25 - d / _DITCH_HALF_M, 0, 1))


def make_ditch(land: Land, start: float, end: float) -> Ditch:
    """A ditch outside the ring between two angles, radians."""
    line = land.beside_ring(start, end, 5.2, 1.0)
    return Ditch(line, cKDTree(resample(line, 0.2)))


def add_ground(
    builder: MeshBuilder,
    land: Land,
    ditch: Ditch,
    surfaces: dict[str, list[Surface]],
    rng: np.random.Generator,
    extent_m: float,
) -> None:
    """Adds the ground, object 0.

    Args:
        surfaces: of "track", "grass", "soil", "floor" (of the wood) and "water"; each at least one.
        extent_m: half the width of the modelled land; a plain of coarse triangles goes on beyond.
    """
    xy = _vertices(land, ditch, rng, extent_m)
    faces = Delaunay(xy).simplices
    z = ground_height(land, ditch, xy) + _rough(land, xy, rng)
    corners = np.column_stack([xy, z])[faces]
    centre = corners.mean(axis=1)[:, :2]
    kind, patch = ground_kind(land, centre), land.field(centre)
    far = np.abs(centre).max(axis=1) > extent_m
    patch = np.where(far, _blocks(centre) @ np.array([5, 7]), patch)
    # the ring is of one stuff, the spokes of another
    rho, angle = np.hypot(*centre.T), np.arctan2(centre[:, 1], centre[:, 0])
    between = land.distance(centre) < 0.3
    patch = np.where((kind == 0) | between, np.abs(rho - land.ring(angle)) < 3.0, patch)
    for name, number in _KINDS.items():
        options = surfaces[name]
        for i, stuff in enumerate(options):
            builder.add(corners[(kind == number) & (patch % len(options) == i)], stuff)
    water = resample(ditch.line, 2.0)
    side = np.gradient(water, axis=0)
    side = np.column_stack([-side[:, 1], side[:, 0]]) / np.linalg.norm(side, axis=1, keepdims=True)
    level = land.network.height(water)[:, None] - 0.78 * _DITCH_M
    left, right = (np.c_[water + s * 0.75 * side, level] for s in (1, -1))
    builder.add(strip(left, right), surfaces["water"][0])


_KINDS = {"track": 0, "grass": 1, "soil": 2, "floor": 3}
_OF_USE = {"rows": 2, "cereal": 2, "plough": 2, "pasture": 1, "meadow": 1, "wood": 3}


def ground_kind(land: Land, xy: Array) -> npt.NDArray[np.int64]:
    """(N,) 0 track, 1 grass, 2 soil, 3 floor of the wood at points (N, 2)."""
    d = land.distance(xy)
    field = land.field(xy)
    of_field = np.array([_OF_USE[use] for use in land.uses])
    kind = of_field[field]
    # the far country is fields of some hundred metres
    far = np.abs(xy).max(axis=1) > 1.9 * float(land.radius_m.mean())
    kind = np.where(far, 1 + (_blocks(xy) @ np.array([2, 3])) % 2, kind)
    wobble = 0.1 * np.sin(xy[:, 0] * 0.9) * np.sin(xy[:, 1] * 0.7 + 1)
    kind = np.where(d < 3.2 + 4 * wobble, 1, kind)
    on_track = d < HALF_TRACK_M
    # the wheels leave a strip of grass between them on some stretches
    crown = (d < 0.28) & (np.sin(xy[:, 0] * 0.05) + np.sin(xy[:, 1] * 0.043) > 0.1)
    return np.asarray(np.where(on_track & ~crown, 0, kind), np.int64)


def _blocks(xy: Array) -> npt.NDArray[np.int64]:
    """(N, 2) numbers of the far fields, some hundred metres wide."""
    turned = xy @ np.array([[0.8, -0.6], [0.6, 0.8]])
    return np.floor(turned / 130).astype(np.int64)


def ground_height(land: Land, ditch: Ditch, xy: Array) -> Array:
    """(N,) height of the ground at points (N, 2): the land, less ruts and ditch."""
    d = land.distance(xy)
    rut = 0.045 * np.exp(-(((d - 0.78) / 0.24) ** 2))
    return np.asarray(land.network.height(xy) - rut - ditch.depth(xy))


def _rough(land: Land, xy: Array, rng: np.random.Generator) -> Array:
    """Clods, tussocks and stones, centimetres."""
    kind = ground_kind(land, xy)
    size = np.array([0.012, 0.03, 0.045, 0.04])[kind]
    return np.asarray(size * np.clip(rng.standard_normal(len(xy)), -2.5, 2.5))


def _vertices(land: Land, ditch: Ditch, rng: np.random.Generator, extent_m: float) -> Array:
    ends = land.network.nodes[land.network.edges]
    found = [_rows(land, ends, rng)]
    inner = _ROWS_M[-1] + 0.15
    for spacing, outer in _RINGS:
        found.append(_band(land, ends, spacing, inner, outer, rng))
        inner = outer
    found.append(_near_ditch(ditch, rng))
    coarse = _grid(extent_m, 6.5, rng)
    found.append(coarse[land.distance(coarse) > inner])
    far = _grid(9.0 * extent_m, 0.3 * extent_m, rng)
    found.append(far[np.abs(far).max(axis=1) > extent_m])
    xy = np.concatenate(found)
    # points nearer than this would make slivers
    return np.asarray(xy[~_too_near(xy, 0.12)])


def _rows(land: Land, ends: Array, rng: np.random.Generator) -> Array:
    """Vertices in rows along all tracks; beside a second track its own rows count."""
    found = []
    for a, b in ends:
        n = max(2, int(np.linalg.norm(b - a) / 0.4))
        d = (b - a) / np.linalg.norm(b - a)
        line = a + (np.arange(n)[:, None] + 0.5) / n * (b - a)
        for t in _ROWS_M:
            for side in (1, -1) if t else (1,):
                shift = rng.uniform(-0.12, 0.12, (n, 1)) * d
                aside = t + rng.normal(0, 0.025, (n, 1))
                row = line + side * aside * np.array([-d[1], d[0]]) + shift
                found.append(row[np.abs(land.distance(row) - t) < 0.1])
    return np.concatenate(found)


def _band(
    land: Land, ends: Array, spacing: float, inner: float, outer: float, rng: np.random.Generator
) -> Array:
    """A jittered grid of points whose distance to the tracks lies between two bounds."""
    cells = []
    reach = int(np.ceil((outer + 4.5) / spacing))
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1)
    for a, b in ends:
        cell = np.round((a + b) / 2 / spacing).astype(np.int64)
        cells.append(cell + offsets.reshape(-1, 2))
    # one number per cell: far quicker to sort than pairs
    both = np.concatenate(cells) + 2**20
    number = np.unique(both[:, 0] << 32 | both[:, 1])
    grid = np.column_stack([number >> 32, number & (2**32 - 1)]) - 2**20
    xy = (grid + rng.uniform(-0.3, 0.3, grid.shape)) * spacing
    d = land.distance(xy)
    return np.asarray(xy[(d >= inner) & (d < outer)])


def _near_ditch(ditch: Ditch, rng: np.random.Generator) -> Array:
    line = resample(ditch.line, 0.6)
    side = np.gradient(line, axis=0)
    side = np.column_stack([-side[:, 1], side[:, 0]]) / np.linalg.norm(side, axis=1, keepdims=True)
    rows = [line + t * side for t in (-1.9, -1.2, -0.6, 0.0, 0.6, 1.2, 1.9)]
    xy = np.concatenate(rows)
    return np.asarray(xy + rng.uniform(-0.08, 0.08, xy.shape))


def _grid(extent_m: float, spacing: float, rng: np.random.Generator) -> Array:
    x = np.arange(-extent_m, extent_m + spacing, spacing)
    xy = np.stack(np.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 2)
    return np.asarray(xy + rng.uniform(-0.3, 0.3, xy.shape) * spacing)


def _too_near(xy: Array, least_m: float) -> npt.NDArray[np.bool_]:
    drop = np.zeros(len(xy), bool)
    pairs = cKDTree(xy).query_pairs(least_m, output_type="ndarray")
    drop[pairs[:, 1]] = True
    return drop
