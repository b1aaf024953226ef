"""Kernel maps by the compiled library: radix sort, then walks of sorted keys side by side.

The same functions as `search`, CPU tensors only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from condense_ros.sparse import keys as _keys
from condense_ros.sparse.kernel_map import Pairs
from condense_ros.sparse.native_library import NativeLibrary, pointer, threads
from condense_ros.sparse.search import Triple, centred_offsets


def _factor(values: Triple) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def argsort(native: NativeLibrary, keys: Tensor) -> Tensor:
    """(N,) int32 stable sorting permutation."""
    order = torch.empty(len(keys), dtype=torch.int32)
    native.argsort(pointer(keys), len(keys), pointer(order))
    return order


def unique(native: NativeLibrary, keys: Tensor) -> tuple[Tensor, Tensor]:
    """As `search.unique`."""
    distinct, places = torch.empty_like(keys), torch.empty(len(keys), dtype=torch.int32)
    count = native.unique(pointer(keys), len(keys), pointer(distinct), pointer(places))
    return distinct[:count].clone(), places


def coarsen(native: NativeLibrary, keys: Tensor, factor: Triple) -> tuple[Tensor, Tensor]:
    """As `search.coarsen`."""
    coarse, parents = torch.empty_like(keys), torch.empty(len(keys), dtype=torch.int32)
    size = _factor(factor)
    count = native.coarsen(
        pointer(keys), len(keys), pointer(size), pointer(coarse), pointer(parents)
    )
    return coarse[:count].clone(), parents


def voxel_keys(native: NativeLibrary, xyz: Tensor, sizes: Sequence[float]) -> Tensor | None:
    """(N,) int64 keys of the Cartesian voxels of points; None where one of them does not fit."""
    xyz = xyz.contiguous()
    edges = torch.tensor(sizes, dtype=torch.float64)
    keys = torch.empty(len(xyz), dtype=torch.int64)
    bits = 32 if xyz.dtype == torch.float32 else 64
    good = native.voxel_keys(
        bits, pointer(xyz), len(xyz), pointer(edges), _keys.COORDINATE_LIMIT, pointer(keys)
    )
    return keys if good == len(xyz) else None


def means(native: NativeLibrary, values: Tensor, rows: Tensor, n: int) -> Tensor:
    """(n, C) float32 means of the values (N, C) of each row; sums in float64."""
    values, places = values.float().contiguous(), rows.int()
    out = torch.empty(n, values.shape[1])
    native.mean(pointer(values), pointer(places), len(values), values.shape[1], n, pointer(out))
    return out


def tiled(native: NativeLibrary, keys: Tensor, parents: Tensor, factor: Triple) -> Pairs:
    """As `search.tiled`."""
    size, n = _factor(factor), len(keys)
    source, target = torch.empty(2, n, dtype=torch.int32)
    counts = torch.empty(factor[0] * factor[1] * factor[2], dtype=torch.int64)
    native.tiled(
        pointer(keys), pointer(parents), n, pointer(size),
        pointer(source), pointer(target), pointer(counts),
    )  # fmt: skip
    return Pairs(source, target, tuple(counts.tolist()), True, True)


def half_kernel(native: NativeLibrary, keys: Tensor, kernel: Triple, dilation: Triple) -> Pairs:
    """As `search.half_kernel`."""
    offsets = centred_offsets(kernel, dilation)
    columns = []
    k, centre = 0, len(offsets) // 2
    while k < centre:
        depth = min(kernel[2], centre - k)
        columns.append((_keys.offset_key(*offsets[k]), depth, k))
        k += depth
    return _walk(native, keys, keys, columns, dilation[2], len(offsets), mirrored=True)


def lookup(
    native: NativeLibrary, keys: Tensor, queries: Tensor, first: Triple, kernel: Triple,
    dilation: Triple,
) -> Pairs:  # fmt: skip
    """Pairs of keys and queries + first + k * dilation for all k of a kernel; queries sorted."""
    columns = []
    for x in range(kernel[0]):
        for y in range(kernel[1]):
            corner = (first[0] + x * dilation[0], first[1] + y * dilation[1], first[2])
            columns.append((_keys.offset_key(*corner), kernel[2], (x * kernel[1] + y) * kernel[2]))
    return _walk(native, keys, queries, columns, dilation[2], kernel[0] * kernel[1] * kernel[2])


def _walk(
    native: NativeLibrary,
    keys: Tensor,
    queries: Tensor,
    columns: Sequence[tuple[int, int, int]],
    dilation: int,
    kernel_size: int,
    mirrored: bool = False,
) -> Pairs:
    m, found = len(queries), sum(depth for _, depth, _ in columns)
    if not m or not found or not len(keys):
        empty = torch.empty(0, dtype=torch.int32)
        return Pairs(empty, empty, (0,) * kernel_size, True, True)
    shift = torch.tensor([column[0] for column in columns])
    depth, first = (
        torch.tensor([column[i] for column in columns], dtype=torch.int32) for i in (1, 2)
    )
    # room for every query under every offset; pages that stay untouched are never allocated
    loose = torch.empty(2, found, m, dtype=torch.int32)
    chunks = -(-m // int(native.walk_chunk()))
    counts = torch.empty(chunks, found, dtype=torch.int32)
    native.walk(
        pointer(keys), len(keys), pointer(queries), m, len(columns), pointer(shift),
        pointer(depth), pointer(first), dilation, found,
        pointer(loose[0]), pointer(loose[1]), pointer(counts), threads(),
    )  # fmt: skip
    half = counts.sum(0, dtype=torch.int64).tolist()
    totals = half + [0] * (kernel_size - 2 * found) + half[::-1] if mirrored else half
    starts = torch.tensor([0, *totals]).cumsum(0)
    source, target = torch.empty(2, int(starts[-1]), dtype=torch.int32)
    back = starts[:-1].flip(0)[:found].contiguous() if mirrored else None
    native.compact(
        pointer(loose[0]), pointer(loose[1]), pointer(counts), m, found,
        pointer(starts), pointer(back), pointer(source), pointer(target), threads(),
    )  # fmt: skip
    return Pairs(source, target, tuple(totals), True, True)
