"""Points to voxels, in slices: memory beside input and output does not grow with the cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import keys as _keys
from condense_ros.sparse.grid import Grid
from condense_ros.sparse.voxels import Overflow, Voxels

Array = npt.NDArray[np.floating] | Tensor
#: points handled at once; a sweep of any LiDAR is one slice
SLICE_POINTS = 1 << 20


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
        table = _unique(torch.cat([table, _unique(inverse[part])]))
    for part in parts:
        inverse[part] = _keys.searchsorted(table, inverse[part])
    return table, inverse


def _unique(keys: Tensor) -> Tensor:
    if keys.device.type != "cpu":
        return keys.unique()
    return torch.from_numpy(np.unique(keys.numpy()))


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
    n = len(counts)
    sums = [inverse.new_zeros(n, dtype=torch.float64) for _ in range(features.shape[1] + 3)]
    limited = bool(max_points) and n > 0 and int(counts.max()) > max_points
    seen = torch.zeros_like(counts)
    for part in parts:
        rows = inverse[part]
        use = rows >= 0
        if limited:
            rank = _ranks(rows)
            known = rows[use]
            use[use.clone()] = rank[use] + seen[known] < max_points
            seen += torch.bincount(known, minlength=n)
        some = not bool(use.all())
        rows = rows[use] if some else rows
        columns = (*_rows(features, part).unbind(1), *_rows(xyz, part).unbind(1))
        for k, column in enumerate(columns):
            sums[k] = _added(sums[k], rows, column[use] if some else column)
    used = counts.clamp(max=max_points) if max_points else counts
    means = [(total / used).float() for total in sums]
    width = features.shape[1]
    merged = torch.stack(means[:width], 1) if width else inverse.new_zeros(n, 0).float()
    return merged, torch.stack(means[width:], 1)


def _added(sums: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    if sums.device.type != "cpu" or values.requires_grad:
        return sums.index_add(0, rows, values.double())
    # four times faster than torch's index_add on a CPU
    weights = values.double().numpy()
    return sums + torch.from_numpy(np.bincount(rows.numpy(), weights, len(sums)))


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
