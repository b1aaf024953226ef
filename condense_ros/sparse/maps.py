"""`MapCache`: the voxels of one geometry at every stride, and its kernel maps, each made once.

Everything here depends on coordinates only. All layers and all tensors of one geometry share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import keys as _keys
from condense_ros.sparse import native_maps, search
from condense_ros.sparse.backends.switch import native_for, triton_for
from condense_ros.sparse.kernel_map import KernelMap, Pairs
from condense_ros.sparse.search import Triple


def triple(value: int | tuple[int, ...], name: str, low: int = 1) -> Triple:
    """One integer per axis (x, y, z) from one for all or three.

    Raises:
        SparseError: something else, or a value below `low`.
    """
    sizes = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(sizes) != 3 or not all(isinstance(size, int) and size >= low for size in sizes):
        wanted = "positive integer" if low == 1 else f"integer from {low} on"
        raise SparseError(f"{name} is {value!r}", f"give one {wanted}, or three")
    return sizes[0], sizes[1], sizes[2]


@dataclass(frozen=True, eq=False)
class Level:
    """Active voxels of one stride.

    Attributes:
        coords: (N, 4) int32 (batch, x, y, z) in voxels of this stride, in the caller's row order.
        keys: (N,) int64 packed coordinates, sorted.
        order: (N,) int32, row of each sorted key, or None where rows are sorted already.
    """

    coords: Tensor
    keys: Tensor
    order: Tensor | None

    def __len__(self) -> int:
        return len(self.keys)

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
        order = order.int()
    return Level(coords, keys, order)


class MapCache:
    """Levels and kernel maps of one set of voxels.

    A voxel at stride s covers s x s x s voxels of stride 1 (s may differ by axis); its coordinate
    is the floor of theirs divided by s. So a level depends on the stride alone, not on the kernels
    that lead to it. Not safe for use by several threads at once.

    Args:
        coords: (N, 4) int32 (batch, x, y, z), any row order, at stride `stride`.
        batch_size: number of batch elements, some of which may be empty; default the highest
            batch index plus one.

    Raises:
        SparseError: coordinates of another shape or dtype, duplicates, or beyond the key range.
    """

    def __init__(
        self,
        coords: Tensor,
        batch_size: int | None = None,
        stride: int | tuple[int, ...] = 1,
    ) -> None:
        if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype != torch.int32:
            raise SparseError(
                f"coordinates are {coords.dtype} {tuple(coords.shape)}",
                "give an (N, 4) int32 tensor of (batch, x, y, z)",
            )
        size = triple(stride, "stride")
        coords = coords.contiguous()
        present = _keys.check_range(coords)
        self._levels: dict[Triple, Level] = {size: _level(coords)}
        self._parents: dict[tuple[Triple, Triple], Tensor] = {}
        self._maps: dict[tuple[object, ...], KernelMap] = {}
        self._reached: dict[tuple[object, ...], tuple[MapCache, KernelMap]] = {}
        self.batch_size = present if batch_size is None else int(batch_size)
        if self.batch_size < present:
            raise SparseError(
                f"batch index {present - 1} in a batch of {batch_size}",
                "give a batch_size above every batch index",
            )

    @property
    def device(self) -> torch.device:
        return next(iter(self._levels.values())).coords.device

    def level(self, stride: int | Triple) -> Level:
        """The level of a stride reached before.

        Raises:
            SparseError: no layer has made this stride yet.
        """
        size = triple(stride, "stride")
        if size not in self._levels:
            known = ", ".join(_short(s) for s in sorted(self._levels))
            raise SparseError(
                f"no voxels of stride {_short(size)}, only of {known}",
                "apply the strided convolution that makes this level first",
            )
        return self._levels[size]

    def coarsen(self, stride: int | Triple, factor: int | Triple) -> Level:
        """The level of `stride * factor`, made from `stride`; rows come out sorted by key."""
        size, by = triple(stride, "stride"), triple(factor, "factor")
        fine, coarse = self.level(size), _times(size, by)
        if (size, by) in self._parents:
            return self._levels[coarse]
        if coarse in self._levels:
            level = self._levels[coarse]
            wanted = search.parent_keys(fine.keys, by)
            parents = _keys.searchsorted(level.keys, wanted).int()
        else:
            native = native_for(fine.keys)
            if native is not None:
                keys, parents = native_maps.coarsen(native, fine.keys, by)
            else:
                keys, parents = search.coarsen(fine.keys, by)
            level = self._levels[coarse] = Level(_keys.unpack(keys), keys, None)
        self._parents[size, by] = parents
        return level

    def submanifold(
        self, stride: int | Triple, kernel: int | Triple, dilation: int | Triple = 1
    ) -> KernelMap:
        """Pairs of a stride-1 convolution whose outputs are exactly the active voxels."""
        size, shape = triple(stride, "stride"), triple(kernel, "kernel")
        spacing = triple(dilation, "dilation")
        name = ("submanifold", size, shape, spacing)
        if name not in self._maps:
            self._maps[name] = _submanifold(self.level(size), shape, spacing)
        return self._maps[name]

    def strided(
        self,
        stride: int | Triple,
        kernel: int | Triple,
        factor: int | Triple,
        dilation: int | Triple = 1,
        padding: int | Triple | None = None,
    ) -> KernelMap:
        """Pairs of a strided convolution; the output is the level `coarsen` makes.

        Output voxel o gathers the inputs o * factor + first + k * dilation, k = 0 .. kernel - 1.
        With a padding, first = -padding. Without, first = -dilation * (kernel // 2) for odd kernels
        and -(kernel - factor) // 2 for even ones (0 when kernel = factor: output voxels tile the
        input).
        """
        size, shape, by = (
            triple(stride, "stride"), triple(kernel, "kernel"), triple(factor, "factor")
        )  # fmt: skip
        spacing = triple(dilation, "dilation")
        first = _first(shape, by, spacing, padding)
        name = ("strided", size, shape, by, spacing, first)
        if name not in self._maps:
            coarse, fine = self.coarsen(size, by), self.level(size)
            if shape == by and spacing == (1, 1, 1) and first == (0, 0, 0):
                self._maps[name] = _tiled(fine, coarse, self._parents[size, by], by)
            else:
                self._maps[name] = _strided(fine, coarse, first, shape, by, spacing)
        return self._maps[name]

    def transposed(
        self,
        stride: int | Triple,
        kernel: int | Triple,
        factor: int | Triple,
        dilation: int | Triple = 1,
        padding: int | Triple | None = None,
    ) -> KernelMap:
        """Pairs of the transposed convolution from `stride * factor` back to `stride`.

        Raises:
            SparseError: the voxels of either stride are unknown.
        """
        return self.strided(stride, kernel, factor, dilation, padding).transposed

    def reached(
        self,
        stride: int | Triple,
        kernel: int | Triple,
        factor: int | Triple,
        dilation: int | Triple = 1,
        padding: int | Triple | None = None,
        bounds: tuple[Triple, Triple] | None = None,
    ) -> tuple[MapCache, KernelMap]:
        """Outputs wherever a kernel element meets an active voxel (spconv's SparseConv3d).

        Args:
            bounds: lowest and highest output coordinate per axis (both inside); outputs beyond are
                left out. A dense grid of D voxels has (0, 0, 0) and the convolution's output size
                minus one.

        Returns:
            The geometry of the outputs (its finest stride is `stride * factor`), and the map.
        """
        size, shape, by = (
            triple(stride, "stride"), triple(kernel, "kernel"), triple(factor, "factor")
        )  # fmt: skip
        spacing = triple(dilation, "dilation")
        first = _first(shape, by, spacing, padding)
        name = (size, shape, by, spacing, first, bounds)
        if name not in self._reached:
            fine = self.level(size)
            keys = _reached_keys(fine.keys, first, shape, by, spacing, bounds)
            cache = MapCache(_keys.unpack(keys), self.batch_size, _times(size, by))
            coarse = cache.level(_times(size, by))
            self._reached[name] = cache, _strided(fine, coarse, first, shape, by, spacing)
        return self._reached[name]


def _short(size: Triple) -> str:
    return str(size[0]) if len(set(size)) == 1 else str(size)


def _times(a: Triple, b: Triple) -> Triple:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


def first_offset(kernel: int, factor: int, dilation: int) -> int:
    """Position of kernel element 0 relative to output * factor (see `MapCache.strided`)."""
    return -dilation * (kernel // 2) if kernel % 2 else -((kernel - factor) // 2)


def _first(
    kernel: Triple, factor: Triple, dilation: Triple, padding: int | Triple | None
) -> Triple:
    if padding is not None:
        x, y, z = triple(padding, "padding", low=0)
        return -x, -y, -z
    x, y, z = (first_offset(k, f, d) for k, f, d in zip(kernel, factor, dilation, strict=True))
    return x, y, z


def _check_reach(first: Triple, kernel: Triple, factor: Triple, dilation: Triple) -> None:
    reach = max(max(-f, f + (k - 1) * d) for f, k, d in zip(first, kernel, dilation, strict=True))
    if reach + max(factor) > _keys.MARGIN:
        raise SparseError(
            f"a kernel {kernel} with stride {factor}, dilation {dilation} reaches {reach} voxels",
            f"keep kernel and stride within {_keys.MARGIN} voxels",
        )


def _in_rows(pairs: Pairs, source: Level, target: Level) -> Pairs:
    """Positions among sorted keys to rows of the caller's order."""
    if source.order is None and target.order is None:
        return pairs
    return Pairs(
        source.rows(pairs.source),
        target.rows(pairs.target),
        pairs.counts,
        pairs.source_sorted and source.order is None,
        pairs.target_sorted and target.order is None,
    )


def _table_in_rows(table: Tensor, source: Level, target: Level) -> Tensor:
    if source.order is not None and len(source):
        table = torch.where(table >= 0, source.order[table.clamp(min=0)], -1)
    if target.order is not None:
        # column of a row: the inverse of `order`
        ordered = torch.empty_like(table)
        ordered[:, target.order.long()] = table
        table = ordered
    return table.int()


def _lookup_table(
    keys: Tensor, queries: Tensor, first: Triple, kernel: Triple, dilation: Triple
) -> Tensor:
    by_triton = triton_for(keys)
    if by_triton is not None:
        return by_triton.lookup_table(keys, queries, first, kernel, dilation)
    return search.lookup_table(keys, queries, search.key_shifts(first, kernel, dilation))


def _submanifold(level: Level, kernel: Triple, dilation: Triple) -> KernelMap:
    x, y, z = (-d * (k // 2) for k, d in zip(kernel, dilation, strict=True))
    first: Triple = (x, y, z)
    _check_reach(first, kernel, (0, 0, 0), dilation)
    k, n = kernel[0] * kernel[1] * kernel[2], len(level)
    if level.keys.device.type != "cpu":
        table = _lookup_table(level.keys, level.keys, first, kernel, dilation)
        table = _table_in_rows(table, level, level)
        return KernelMap(k, n, n, k // 2, table=table, symmetric=True)
    native = native_for(level.keys)
    if native is not None:
        pairs = native_maps.half_kernel(native, level.keys, kernel, dilation)
    else:
        pairs = search.half_kernel(level.keys, kernel, dilation)
    return KernelMap(k, n, n, k // 2, pairs=_in_rows(pairs, level, level), symmetric=True)


def _tiled(fine: Level, coarse: Level, parents: Tensor, factor: Triple) -> KernelMap:
    k, n, m = factor[0] * factor[1] * factor[2], len(fine), len(coarse)
    if fine.keys.device.type != "cpu":
        by_triton = triton_for(fine.keys)
        tiled_table = by_triton.tiled_table if by_triton else search.tiled_table
        table = tiled_table(fine.keys, parents, factor, m)
        return KernelMap(k, n, m, table=_table_in_rows(table, fine, coarse))
    native = native_for(fine.keys)
    if native is not None:
        pairs = native_maps.tiled(native, fine.keys, parents, factor)
    else:
        pairs = search.tiled(fine.keys, parents, factor)
    return KernelMap(k, n, m, pairs=_in_rows(pairs, fine, coarse))


def _strided(
    fine: Level, coarse: Level, first: Triple, kernel: Triple, factor: Triple, dilation: Triple
) -> KernelMap:
    _check_reach(first, kernel, factor, dilation)
    corner = _keys.unpack(coarse.keys)
    corner[:, 1:] *= search.on_device(factor, corner.device)
    queries = _keys.pack(corner)
    k, n, m = kernel[0] * kernel[1] * kernel[2], len(fine), len(coarse)
    if queries.device.type != "cpu":
        table = _lookup_table(fine.keys, queries, first, kernel, dilation)
        return KernelMap(k, n, m, table=_table_in_rows(table, fine, coarse))
    native = native_for(queries)
    if native is not None:
        pairs = native_maps.lookup(native, fine.keys, queries, first, kernel, dilation)
    else:
        pairs = search.lookup(fine.keys, queries, first, kernel, dilation)
    return KernelMap(k, n, m, pairs=_in_rows(pairs, fine, coarse))


def _reached_keys(
    keys: Tensor,
    first: Triple,
    kernel: Triple,
    factor: Triple,
    dilation: Triple,
    bounds: tuple[Triple, Triple] | None,
) -> Tensor:
    """Sorted keys of all outputs o with o * factor + first + k * dilation active for some k."""
    _check_reach(first, kernel, factor, dilation)
    coords = _keys.unpack(keys)
    for axis in range(3):
        steps = torch.arange(kernel[axis], dtype=torch.int32, device=keys.device)
        at = coords[:, 1 + axis, None] - first[axis] - steps * dilation[axis]
        whole = at % factor[axis] == 0
        out = torch.div(at, factor[axis], rounding_mode="floor")
        if bounds is not None:
            whole &= (out >= bounds[0][axis]) & (out <= bounds[1][axis])
        row, step = whole.nonzero(as_tuple=True)
        coords = coords[row].contiguous()
        coords[:, 1 + axis] = out[row, step]
        # distinct after every axis: the number of candidates stays near that of the outputs
        _keys.check_range(coords)
        distinct, _ = search.unique(_keys.pack(coords))
        coords = _keys.unpack(distinct)
    return _keys.pack(coords)
