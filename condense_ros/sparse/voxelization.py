"""Points to voxels, in slices: memory beside input and output does not grow with the cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import keys as _keys
from condense_ros.sparse import native_maps
from condense_ros.sparse.backends.switch import native_for
from condense_ros.sparse.grid import Grid
from condense_ros.sparse.voxels import Overflow, Voxels

Array = npt.NDArray[np.floating] | Tensor
#: points handled at once; a sweep of any LiDAR is one slice
SLICE_POINTS = 1 << 18


def voxelize(
    xyz: Array,
    features: Array,
    voxel_size_m: float | Sequence[float],
    reduce: str = "mean",
    *,
    coordinates: str = "cartesian",
    max_points: int = 0,
    max_voxels: int = 0,
    slice_points: int = SLICE_POINTS,
) -> Voxels:
    """Merges the points of each voxel.

    Clouds of any size (memory-mapped arrays too) are taken `slice_points` at a time, with the same
    result up to the rounding of float64 sums; memory needed beside the arrays given is stated in
    docs/benchmarks/voxels.md.

    Args:
        xyz: (N, 3) metres, NumPy or torch; results lie on its device.
        features: (N, F).
        voxel_size_m: edge length, or one per axis; voxel c holds the points with
            floor(xyz / voxel_size_m) = c. See `Grid` for cylindrical voxels.
        reduce: "mean" of the features of a voxel's points, or those of its "first" point.
        coordinates: "cartesian" or "cylindrical".
        max_points: at most so many points make a voxel's mean, the first ones of the cloud (as
            VoxelNet's generator takes them); 0 for all.
        max_voxels: at most so many voxels, those whose first point comes first in the cloud (as
            there); 0 for all. `Voxels.overflow` counts what either limit left out.
        slice_points: points handled at once.

    Raises:
        SparseError: shapes that do not fit, a voxel size that is not positive, an unknown
            reduction, negative limits, non-finite coordinates, or coordinates beyond the packing
            range.
    """
    device = _check(xyz, features)
    grid = Grid.of(voxel_size_m, coordinates)
    if reduce not in ("mean", "first"):
        raise SparseError(f"reduce is {reduce!r}", 'use "mean" or "first"')
    if min(max_points, max_voxels) < 0 or slice_points < 1:
        raise SparseError(
            f"limits are {max_points} points, {max_voxels} voxels, slices of {slice_points}",
            "give 0 for no limit, and slices of at least one point",
        )
    parts = list(_slices(len(xyz), slice_points))
    table, inverse = _group(xyz, grid, parts, device)
    lost_voxels = lost_points = 0
    if 0 < max_voxels < len(table):
        lost_voxels = len(table) - max_voxels
        table, inverse = _earliest(table, inverse, max_voxels, parts)
        lost_points = sum(int((inverse[part] < 0).sum()) for part in parts)
    counts = _counts(inverse, len(table), parts)
    if reduce == "mean":
        merged, positions = _means(xyz, features, inverse, counts, max_points, parts)
    else:
        first = _first(inverse, len(table), parts)
        merged, positions = _rows(features, first).float(), _rows(xyz, first).float()
    crowded = int((counts - max_points).clamp(min=0).sum()) if max_points else 0
    return Voxels(
        _keys.unpack(table),
        merged,
        inverse,
        (len(xyz),),
        grid,
        positions,
        Overflow(crowded, lost_voxels, lost_points),
    )


def _check(points: Array, values: Array) -> torch.device:
    floating = points.dtype.is_floating_point if isinstance(points, Tensor) else None
    if floating is None:
        floating = np.issubdtype(points.dtype, np.floating)  # type: ignore[arg-type]
    if points.ndim != 2 or points.shape[1] != 3 or not floating:
        raise SparseError(
            f"points are {points.dtype} {tuple(points.shape)}", "give (N, 3) metres as floats"
        )
    devices = [x.device if isinstance(x, Tensor) else torch.device("cpu") for x in (points, values)]
    if values.ndim != 2 or len(values) != len(points) or devices[0] != devices[1]:
        raise SparseError(
            f"features are {tuple(values.shape)} on {devices[1]} for {len(points)} points on "
            f"{devices[0]}",
            "give one row of features per point, on the same device",
        )
    return devices[0]


def _rows(x: Array, index: slice | Tensor) -> Tensor:
    """Some rows as a tensor; of an array (perhaps read-only, or on disk) only these are copied."""
    if isinstance(x, Tensor):
        return x[index]
    return torch.from_numpy(np.array(x[index if isinstance(index, slice) else index.numpy()]))


def _slices(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _point_keys(points: Tensor, grid: Grid) -> Tensor:
    native = native_for(points)
    simple = grid.coordinates == "cartesian" and points.dtype in (torch.float32, torch.float64)
    if native is not None and simple:
        keys = native_maps.voxel_keys(native, points, grid.sizes)
        if keys is not None:
            return keys
    cells = torch.floor(grid.locate(points))
    extreme = cells.abs().amax(0)
    if not bool((extreme <= _keys.COORDINATE_LIMIT).all()):
        raise SparseError(
            f"points are non-finite or up to {extreme.tolist()} voxels away along the axes",
            f"leave out non-finite points and those beyond {_keys.COORDINATE_LIMIT} voxels of "
            f"{grid.sizes}",
        )
    coords = torch.zeros(len(points), 4, dtype=torch.int64, device=points.device)
    coords[:, 1:] = cells.long()
    return _keys.pack(coords)


def _group(
    xyz: Array, grid: Grid, parts: list[slice], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sorted keys of the voxels, and the row of each point's voxel among them."""
    if len(parts) == 1:
        keys = _point_keys(_rows(xyz, parts[0]), grid)
        native = native_for(keys)
        if native is not None:
            table, places = native_maps.unique(native, keys)
            return table, places.long()
        order = _keys.argsort(keys)
        ordered = keys[order]
        new = torch.ones_like(ordered, dtype=torch.bool)
        new[1:] = ordered[1:] != ordered[:-1]
        inverse = torch.empty_like(order)
        inverse[order] = new.cumsum(0) - 1
        return ordered[new], inverse
    # keys wait in the place of the inverse until all voxels are known
    inverse = torch.empty(len(xyz), dtype=torch.int64, device=device)
    table = inverse[:0]
    for part in parts:
        inverse[part] = _point_keys(_rows(xyz, part), grid)
        table = _merged(table, _distinct(inverse[part].sort().values))
    for part in parts:
        keys, order = inverse[part].sort()
        inverse[part.start + order] = _keys.searchsorted(table, keys)
    return table, inverse


def _distinct(keys: Tensor) -> Tensor:
    """Sorted keys without repetitions."""
    new = torch.ones_like(keys, dtype=torch.bool)
    new[1:] = keys[1:] != keys[:-1]
    return keys[new]


def _merged(table: Tensor, keys: Tensor) -> Tensor:
    """The union of two sorted sets of keys, sorted."""
    place = _keys.searchsorted(table, keys)
    if len(table):
        fresh = table[place.clamp(max=len(table) - 1)] != keys
        place, keys = place[fresh], keys[fresh]
    out = table.new_empty(len(table) + len(keys))
    place = place + torch.arange(len(keys), device=place.device)
    rest = torch.ones_like(out, dtype=torch.bool)
    rest[place] = False
    out[place], out[rest] = keys, table
    return out


def _first(inverse: Tensor, n: int, parts: list[slice]) -> Tensor:
    """(n,) the first point of each voxel."""
    first = inverse.new_full((n,), len(inverse))
    for part in parts:
        rows = inverse[part]
        points = torch.arange(part.start, part.stop, device=inverse.device)
        kept = rows >= 0
        if not bool(kept.all()):
            rows, points = rows[kept], points[kept]
        first.scatter_reduce_(0, rows, points, "amin")
    return first


def _earliest(table: Tensor, inverse: Tensor, n: int, parts: list[slice]) -> tuple[Tensor, Tensor]:
    """The n voxels whose first points come first; points of the others get -1."""
    chosen = torch.argsort(_first(inverse, len(table), parts))[:n].sort().values
    renumber = inverse.new_full((len(table),), -1)
    renumber[chosen] = torch.arange(n, device=inverse.device)
    for part in parts:
        inverse[part] = renumber[inverse[part]]
    return table[chosen], inverse


def _counts(inverse: Tensor, n: int, parts: list[slice]) -> Tensor:
    counts = inverse.new_zeros(n)
    for part in parts:
        rows = inverse[part]
        counts += torch.bincount(rows[rows >= 0], minlength=n)
    return counts


def _means(
    xyz: Array,
    features: Array,
    inverse: Tensor,
    counts: Tensor,
    max_points: int,
    parts: list[slice],
) -> tuple[Tensor, Tensor]:
    """Mean features and mean positions, summed in float64. Gradients of features flow through."""
    used = counts
    if max_points and len(counts) and int(counts.max()) > max_points:
        inverse = _first_of_each(inverse, len(counts), max_points, parts)
        used = counts.clamp(max=max_points)
    whole = len(parts) == 1 and used is counts and bool((inverse >= 0).all())
    results = []
    for source in (features, xyz):
        if whole:
            values = _rows(source, parts[0])
            native = native_for(values)
            if native is not None and not values.requires_grad:
                results.append(native_maps.means(native, values, inverse, len(counts)))
                continue
        means = torch.empty(len(counts), source.shape[1], device=counts.device)
        # a column at a time: its sums are all that is held beside the result
        for k in range(source.shape[1]):
            sums = torch.zeros(len(counts), dtype=torch.float64, device=counts.device)
            for part in parts:
                rows, values = inverse[part], _rows(source, part)[:, k]
                kept = rows >= 0
                if not bool(kept.all()):
                    rows, values = rows[kept], values[kept]
                sums = _added(sums, rows, values)
            means[:, k] = sums / used
        results.append(means)
    return results[0], results[1]


def _added(sums: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    values = values.double()
    if values.requires_grad:
        return sums.index_add(0, rows, values)
    if sums.device.type != "cpu" or len(sums) > len(rows):
        return sums.index_add_(0, rows, values)
    # faster than torch's index_add_ on a CPU
    sums += torch.from_numpy(np.bincount(rows.numpy(), values.numpy(), len(sums)))
    return sums


def _first_of_each(inverse: Tensor, n: int, limit: int, parts: list[slice]) -> Tensor:
    """The inverse with -1 for all but the first `limit` points of each voxel."""
    inverse = inverse.clone()
    seen = inverse.new_zeros(n)
    for part in parts:
        rows = inverse[part]
        known = rows.clamp(min=0)
        late = _ranks(rows) + seen[known] >= limit
        seen += torch.bincount(rows[rows >= 0], minlength=n)
        inverse[part] = torch.where(late, -1, rows)
    return inverse


def _ranks(rows: Tensor) -> Tensor:
    """How many equal rows come before each."""
    order = torch.argsort(rows, stable=True)
    ordered = rows[order]
    place = torch.arange(len(rows), device=rows.device)
    start = torch.ones_like(ordered, dtype=torch.bool)
    start[1:] = ordered[1:] != ordered[:-1]
    began = torch.cummax(torch.where(start, place, 0), dim=0).values
    rank = torch.empty_like(place)
    rank[order] = place - began
    return rank
