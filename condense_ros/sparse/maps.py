"""Geometry of sparse convolutions: which input row meets which output row under which weight.

Everything here depends on coordinates only. A `MapCache` computes each map once; all layers and all
tensors of one geometry share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import keys as _keys

Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Pairs of a convolution, grouped by kernel offset.

    Attributes:
        source: (P,) int64 input rows; the pairs of offset k are one contiguous run.
        target: (P,) int64 output rows, unique within a run.
        counts: K run lengths, offsets ordered x slowest, z fastest.
        n_source, n_target: rows of the input and of the output.
        identity: index of the offset under which every row meets itself, or -1; its run is empty.
    """

    source: Tensor
    target: Tensor
    counts: tuple[int, ...]
    n_source: int
    n_target: int
    identity: int = -1

    @cached_property
    def runs(self) -> tuple[tuple[int, Tensor, Tensor], ...]:
        """(offset index, source rows, target rows) of every offset that has pairs."""
        sources, targets = self.source.split(self.counts), self.target.split(self.counts)
        triples = zip(range(len(self.counts)), sources, targets, strict=True)
        return tuple(triple for triple in triples if len(triple[1]))

    def transposed(self) -> KernelMap:
        """The map of the transposed convolution: same offsets, input and output exchanged."""
        return KernelMap(
            self.target, self.source, self.counts, self.n_target, self.n_source, self.identity
        )


@dataclass(frozen=True, eq=False)
class Level:
    """Active voxels of one stride.

    Attributes:
        coords: (N, 4) int32 (batch, x, y, z) in voxels of this stride, in the caller's row order.
        keys: (N,) int64 packed coordinates, sorted.
        order: (N,) int64, row of each sorted key, or None where rows are sorted already.
    """

    coords: Tensor
    keys: Tensor
    order: Tensor | None

    def rows(self, positions: Tensor) -> Tensor:
        """Rows of positions in `keys`."""
        return positions if self.order is None else self.order[positions]


def _level(coords: Tensor) -> Level:
    keys = _keys.pack(coords)
    order = None
    if keys.numel() > 1 and not bool((keys[1:] > keys[:-1]).all()):
        order = _keys.argsort(keys)
        keys = keys[order]
        same = keys[1:] == keys[:-1]
        if bool(same.any()):
            row = coords[order[int(same.nonzero()[0])]].tolist()
            raise SparseError(
                f"{int(same.sum())} duplicate voxel coordinates, first (batch, x, y, z) = {row}",
                "merge points of one voxel first, with sparse.voxelize",
            )
    return Level(coords, keys, order)


class MapCache:
    """Levels and kernel maps of one set of voxels.

    A voxel at stride s covers s x s x s voxels of stride 1; its coordinate is the floor of theirs
    divided by s. So a level depends on the stride alone, not on the kernels that lead to it.
    Not safe for use by several threads at once.

    Args:
        coords: (N, 4) int32 (batch, x, y, z), any row order, at stride `stride`.
        batch_size: number of batch elements, some of which may be empty; default the highest
            batch index plus one.

    Raises:
        SparseError: coordinates of another shape or dtype, duplicates, or beyond the key range.
    """

    def __init__(self, coords: Tensor, batch_size: int | None = None, stride: int = 1) -> None:
        if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype != torch.int32:
            raise SparseError(
                f"coordinates are {coords.dtype} {tuple(coords.shape)}",
                "give an (N, 4) int32 tensor of (batch, x, y, z)",
            )
        if stride < 1:
            raise SparseError(f"stride is {stride}", "give a stride of at least 1")
        coords = coords.contiguous()
        _keys.check_range(coords)
        self._levels: dict[int, Level] = {stride: _level(coords)}
        self._parents: dict[tuple[int, int], Tensor] = {}
        self._maps: dict[tuple[object, ...], KernelMap] = {}
        present = int(coords[:, 0].max()) + 1 if len(coords) else 0
        self.batch_size = present if batch_size is None else int(batch_size)
        if self.batch_size < present:
            raise SparseError(
                f"batch index {present - 1} in a batch of {batch_size}",
                "give a batch_size above every batch index",
            )

    @property
    def device(self) -> torch.device:
        return next(iter(self._levels.values())).coords.device

    def level(self, stride: int) -> Level:
        """The level of a stride reached before.

        Raises:
            SparseError: no layer has made this stride yet.
        """
        if stride not in self._levels:
            raise SparseError(
                f"no voxels of stride {stride}, only of {sorted(self._levels)}",
                "apply the strided convolution that makes this level first",
            )
        return self._levels[stride]

    def coarsen(self, stride: int, factor: int) -> Level:
        """The level of `stride * factor`, made from `stride`; rows come out sorted by key."""
        fine, coarse = self.level(stride), stride * factor
        if (stride, factor) in self._parents:
            return self._levels[coarse]
        coords = fine.coords.clone()
        coords[:, 1:] = torch.div(fine.coords[:, 1:], factor, rounding_mode="floor")
        parent_keys = _keys.pack(coords)
        if coarse in self._levels:
            level = self._levels[coarse]
            place = _keys.searchsorted(level.keys, parent_keys)
            parents = level.rows(place)
        else:
            order = _keys.argsort(parent_keys)
            ordered = parent_keys[order]
            first = torch.ones_like(ordered, dtype=torch.bool)
            first[1:] = ordered[1:] != ordered[:-1]
            parents = torch.empty_like(order)
            parents[order] = first.cumsum(0) - 1
            unique = ordered[first]
            level = self._levels[coarse] = Level(_keys.unpack(unique), unique, None)
        self._parents[stride, factor] = parents
        return level

    def submanifold(self, stride: int, kernel: Triple, dilation: int = 1) -> KernelMap:
        """Pairs of a stride-1 convolution whose outputs are exactly the active voxels."""
        name = ("submanifold", stride, kernel, dilation)
        if name not in self._maps:
            self._maps[name] = _submanifold(self.level(stride), kernel, dilation)
        return self._maps[name]

    def strided(self, stride: int, kernel: Triple, factor: int, dilation: int = 1) -> KernelMap:
        """Pairs of a strided convolution; the output is the level `coarsen` makes.

        Output voxel o gathers the inputs o * factor + first + k * dilation, k = 0 .. kernel - 1,
        where first = -dilation * (kernel // 2) for odd kernels and -(kernel - factor) // 2 for
        even ones (0 when kernel = factor: output voxels tile the input).
        """
        name = ("strided", stride, kernel, factor, dilation)
        if name not in self._maps:
            coarse = self.coarsen(stride, factor)
            fine = self.level(stride)
            if kernel == (factor,) * 3 and dilation == 1 and factor % 2 == 0:
                parents = self._parents[stride, factor]
                self._maps[name] = _tiled(fine, coarse, parents, factor)
            else:
                self._maps[name] = _strided(fine, coarse, kernel, factor, dilation)
        return self._maps[name]

    def transposed(self, stride: int, kernel: Triple, factor: int, dilation: int = 1) -> KernelMap:
        """Pairs of the transposed convolution from `stride * factor` back to `stride`.

        Raises:
            SparseError: the voxels of either stride are unknown.
        """
        name = ("transposed", stride, kernel, factor, dilation)
        if name not in self._maps:
            self._maps[name] = self.strided(stride, kernel, factor, dilation).transposed()
        return self._maps[name]


def first_offset(kernel: int, factor: int, dilation: int) -> int:
    """Position of kernel element 0 relative to output * factor (see `MapCache.strided`)."""
    return -dilation * (kernel // 2) if kernel % 2 else -((kernel - factor) // 2)


def _offsets(kernel: Triple, dilation: int) -> list[Triple]:
    halves = [k // 2 for k in kernel]
    axes = [[dilation * (i - h) for i in range(k)] for k, h in zip(kernel, halves, strict=True)]
    offsets = [(x, y, z) for x, y, z in product(*axes)]
    reach = max(max(map(abs, offset)) for offset in offsets)
    if reach > _keys.MARGIN:
        raise SparseError(
            f"a kernel {kernel} with dilation {dilation} reaches {reach} voxels",
            f"keep kernel // 2 * dilation at most {_keys.MARGIN}",
        )
    return offsets


def _lookup(level: Level, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Which queries are keys of the level, and the positions of those that are."""
    place = _keys.searchsorted(level.keys, queries)
    found = level.keys[place.clamp_(max=max(len(level.keys) - 1, 0))] == queries
    hits = found.nonzero().squeeze(1)
    return hits, place[hits]


def _submanifold(level: Level, kernel: Triple, dilation: int) -> KernelMap:
    offsets = _offsets(kernel, dilation)
    n, centre = len(level.keys), len(offsets) // 2
    empty = torch.empty(0, dtype=torch.int64, device=level.keys.device)
    sources, targets = [empty] * len(offsets), [empty] * len(offsets)
    # offset -k pairs the same voxels the other way round, so half of the kernel is searched
    k = 0
    while k < centre and n:
        # a column of the kernel along z: where a neighbour lies, the next one up follows it in
        # sorted order, so one search serves the whole column when it has no gaps
        column = min(kernel[2], centre - k)
        start = level.keys + _keys.offset_key(*offsets[k])
        place = _keys.searchsorted(level.keys, start)
        for step in range(column):
            if step and dilation > 1:
                start = level.keys + _keys.offset_key(*offsets[k + step])
                place = _keys.searchsorted(level.keys, start)
            query = start + step if dilation == 1 else start
            # a place past the end is clamped onto a smaller key, which never equals the query
            found = level.keys[place.clamp(max=n - 1)] == query
            target = found.nonzero().squeeze(1)
            source = level.rows(place[target])
            target = level.rows(target)
            sources[k + step], targets[k + step] = source, target
            sources[-1 - k - step], targets[-1 - k - step] = target, source
            place = place + found
        k += column
    counts = tuple(len(source) for source in sources)
    return KernelMap(torch.cat(sources), torch.cat(targets), counts, n, n, identity=centre)


def _tiled(fine: Level, coarse: Level, parents: Tensor, factor: int) -> KernelMap:
    """Kernel = stride: every input has one parent, and its place in it is the kernel offset."""
    local = (fine.coords[:, 1:] % factor).long()
    offset = (local[:, 0] * factor + local[:, 1]) * factor + local[:, 2]
    order = torch.sort(offset, stable=True).indices
    counts = torch.bincount(offset, minlength=factor**3).tolist()
    return KernelMap(order, parents[order], tuple(counts), len(fine.keys), len(coarse.keys))


def _strided(fine: Level, coarse: Level, kernel: Triple, factor: int, dilation: int) -> KernelMap:
    corner = coarse.coords.clone()
    corner[:, 1:] *= factor
    first = [first_offset(k, factor, dilation) for k in kernel]
    reach = max(max(-f, f + (k - 1) * dilation) for f, k in zip(first, kernel, strict=True))
    if reach + factor > _keys.MARGIN:
        raise SparseError(
            f"a kernel {kernel} with stride {factor}, dilation {dilation} reaches {reach} voxels",
            f"keep kernel and stride within {_keys.MARGIN} voxels",
        )
    base = _keys.pack(corner)
    sources, targets = [], []
    for index in product(*(range(k) for k in kernel)):
        dx, dy, dz = (f + i * dilation for f, i in zip(first, index, strict=True))
        hits, place = _lookup(fine, base + _keys.offset_key(dx, dy, dz))
        sources.append(fine.rows(place))
        targets.append(coarse.rows(hits))
    counts = tuple(len(source) for source in sources)
    n, m = len(fine.keys), len(coarse.keys)
    return KernelMap(torch.cat(sources), torch.cat(targets), counts, n, m)
