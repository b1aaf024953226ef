"""Kernel maps by sorting and binary search, in torch alone: any device, and the reference.

Functions take sorted keys and give positions in them; `maps.MapCache` turns positions into rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from condense_ros.sparse import keys as _keys
from condense_ros.sparse.kernel_map import Pairs

Triple = tuple[int, int, int]


@lru_cache(maxsize=256)
def on_device(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Constants as an int64 tensor, sent to a GPU once and without waiting for it."""
    return torch.tensor(values).to(device, non_blocking=True)


def unique(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted distinct keys (M,) int64, and the place (N,) int32 of each key among them."""
    order = _keys.argsort(keys)
    ordered = keys[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    places = torch.empty_like(order)
    places[order] = first.cumsum(0) - 1
    return ordered[first], places.int()


def parent_keys(keys: Tensor, factor: Triple) -> Tensor:
    """(N,) keys of the voxels `factor` times as large that hold the given ones."""
    coords = _keys.unpack(keys)
    size = on_device(factor, keys.device)
    coords[:, 1:] = torch.div(coords[:, 1:], size, rounding_mode="floor")
    return _keys.pack(coords)


def coarsen(keys: Tensor, factor: Triple) -> tuple[Tensor, Tensor]:
    """Keys of the coarser level, and the place of every key's parent among them."""
    return unique(parent_keys(keys, factor))


def half_kernel(keys: Tensor, kernel: Triple, dilation: Triple) -> Pairs:
    """Pairs of a submanifold convolution: half of the offsets are searched, half are mirrored."""
    offsets = centred_offsets(kernel, dilation)
    n, centre = len(keys), len(offsets) // 2
    empty = torch.empty(0, dtype=torch.int32, device=keys.device)
    sources, targets = [empty] * len(offsets), [empty] * len(offsets)
    k = 0
    while k < centre and n:
        # a column of the kernel along z: where a neighbour lies, the next one up follows it in
        # sorted order, so one search serves the whole column when it has no gaps
        column = min(kernel[2], centre - k)
        start = keys + _keys.offset_key(*offsets[k])
        place = _keys.searchsorted(keys, start)
        for step in range(column):
            if step and dilation[2] > 1:
                start = keys + _keys.offset_key(*offsets[k + step])
                place = _keys.searchsorted(keys, start)
            query = start + step if dilation[2] == 1 else start
            # a place past the end is clamped onto a smaller key, which never equals the query
            found = keys[place.clamp(max=n - 1)] == query
            target = found.nonzero().squeeze(1)
            source = place[target].int()
            target = target.int()
            sources[k + step], targets[k + step] = source, target
            sources[-1 - k - step], targets[-1 - k - step] = target, source
            place = place + found
        k += column
    counts = tuple(len(source) for source in sources)
    return Pairs(torch.cat(sources), torch.cat(targets), counts, True, True)


def key_shifts(first: Triple, kernel: Triple, dilation: Triple) -> list[int]:
    """What to add to a key for each offset first + k * dilation of a kernel, x slowest."""
    axes = [[f + i * d for i in range(k)] for f, k, d in zip(first, kernel, dilation, strict=True)]
    return [_keys.offset_key(x, y, z) for x, y, z in product(*axes)]


def lookup(keys: Tensor, queries: Tensor, first: Triple, kernel: Triple, dilation: Triple) -> Pairs:
    """Pairs of keys and queries + first + k * dilation for all k of a kernel."""
    sources, targets = [], []
    for shift in key_shifts(first, kernel, dilation):
        wanted = queries + shift
        place = _keys.searchsorted(keys, wanted)
        found = keys[place.clamp_(max=max(len(keys) - 1, 0))] == wanted if len(keys) else place > 0
        hits = found.nonzero().squeeze(1)
        sources.append(place[hits].int())
        targets.append(hits.int())
    counts = tuple(len(source) for source in sources)
    return Pairs(torch.cat(sources), torch.cat(targets), counts, True, True)


def lookup_table(keys: Tensor, queries: Tensor, shifts: Sequence[int]) -> Tensor:
    """(K, M) int32 place of query + shift among the keys, or -1: no synchronisation on a GPU."""
    if not len(keys):
        shape = (len(shifts), len(queries))
        return torch.full(shape, -1, dtype=torch.int32, device=keys.device)
    wanted = queries + on_device(tuple(shifts), keys.device)[:, None]
    place = torch.searchsorted(keys, wanted)
    found = keys[place.clamp(max=len(keys) - 1)] == wanted
    return torch.where(found, place, -1).int()


def tiled(keys: Tensor, parents: Tensor, factor: Triple) -> Pairs:
    """Pairs where kernel = stride: every voxel has one parent, its place in it is the offset."""
    size = on_device(factor, keys.device)
    local = _keys.unpack(keys)[:, 1:].long() % size
    offset = (local[:, 0] * factor[1] + local[:, 1]) * factor[2] + local[:, 2]
    order = torch.sort(offset, stable=True).indices
    counts = torch.bincount(offset, minlength=factor[0] * factor[1] * factor[2]).tolist()
    return Pairs(order.int(), parents[order], tuple(counts), True, True)


def tiled_table(keys: Tensor, parents: Tensor, factor: Triple, n_coarse: int) -> Tensor:
    """The same as a table (K, n_coarse), without a synchronisation."""
    size = on_device(factor, keys.device)
    local = _keys.unpack(keys)[:, 1:].long() % size
    offset = (local[:, 0] * factor[1] + local[:, 1]) * factor[2] + local[:, 2]
    shape = (factor[0] * factor[1] * factor[2], n_coarse)
    table = torch.full(shape, -1, dtype=torch.int32, device=keys.device)
    table[offset, parents.long()] = torch.arange(len(keys), dtype=torch.int32, device=keys.device)
    return table


def centred_offsets(kernel: Triple, dilation: Triple) -> list[Triple]:
    """Offsets of an odd kernel around its middle, x slowest."""
    axes = [[d * (i - k // 2) for i in range(k)] for k, d in zip(kernel, dilation, strict=True)]
    return [(x, y, z) for x, y, z in product(*axes)]
