# mypy: disable-error-code="no-untyped-def"
"""In which order the rows of a kernel map are processed, and which offsets each tile visits.

Rows with the same neighbours are brought together: a tile of rows has to visit every offset that
any of its rows has, and of 27 a voxel on a LiDAR surface has 3 to 9. Computed once per map, on its
device, without asking the device for anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from condense_ros.sparse.kernel_map import KernelMap

_KEY = "triton"
_MASK_ROWS = 128
_LIST_BLOCK = 1024
#: bits of a sorting key that never make it negative
_BITS = {torch.int32: 31, torch.int64: 63}


@triton.jit(do_not_specialize=["n", "kernel_size", "group"])
def row_masks(table, masks, n, kernel_size, group, ROWS: tl.constexpr):
    """One bit per `group` of offsets: has the row a partner there."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    word = tl.zeros((ROWS,), dtype=masks.dtype.element_ty)
    one = tl.full((ROWS,), 1, dtype=masks.dtype.element_ty)
    place = table + rows
    for k in range(0, kernel_size):
        source = tl.load(place, mask=rows < n, other=-1)
        word = word | tl.where(source >= 0, one << (k // group), 0)
        place += n
    tl.store(masks + rows, word, mask=rows < n)


@triton.jit(do_not_specialize=["n", "n_tiles", "kernel_size"])
def cut(
    table, order, sources, offsets, counts, ranks, n, n_tiles, kernel_size,
    ROWS: tl.constexpr, OFFSETS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """What one tile visits: see `Tiling`. `ranks` (K, n_tiles): place of an offset there, or -1."""
    tile = tl.program_id(0)
    lane = tl.arange(0, ROWS)
    rows = tile * ROWS + lane
    offset = tl.arange(0, OFFSETS)
    inside = rows < n
    row = tl.load(order + rows, mask=inside, other=0)
    start = offset
    slot = tile * kernel_size
    if WIDE:
        start, slot = offset.to(tl.int64), slot.to(tl.int64)
    mask = (offset < kernel_size)[:, None] & inside[None, :]
    source = tl.load(table + start[:, None] * n + row[None, :], mask=mask, other=-1)
    there = tl.max(source, axis=1) >= 0
    flag = there.to(tl.int32)
    rank = tl.cumsum(flag, 0) - flag
    place = sources + (slot + rank)[:, None] * ROWS + lane[None, :]
    tl.store(place, source, mask=there[:, None] & (lane >= 0)[None, :])
    tl.store(offsets + tile * kernel_size + rank, offset, mask=there)
    tl.store(counts + tile, tl.sum(flag, axis=0))
    rank = tl.where(there, rank, -1)
    tl.store(ranks + offset * n_tiles + tile, rank.to(tl.int16), mask=offset < kernel_size)


@triton.jit(do_not_specialize=["n_tiles", "kernel_size"])
def gather_slots(ranks, slots, counts, n_tiles, kernel_size, BLOCK: tl.constexpr):
    """The slots of one offset, tile by tile: see `Slots`."""
    offset = tl.program_id(0)
    count = tl.program_id(0) * 0
    for first in range(0, n_tiles, BLOCK):
        tile = first + tl.arange(0, BLOCK)
        rank = tl.load(ranks + offset * n_tiles + tile, mask=tile < n_tiles, other=-1)
        rank = rank.to(tl.int32)
        flag = (rank >= 0).to(tl.int32)
        place = offset * n_tiles + count + tl.cumsum(flag, 0) - flag
        tl.store(slots + place, tile * kernel_size + rank, mask=rank >= 0)
        count += tl.sum(flag, axis=0)
    tl.store(counts + offset, count)


@dataclass(frozen=True, eq=False)
class Tiling:
    """A map cut into tiles of a number of rows.

    Attributes:
        sources: (n_tiles, K, rows) int32. The first counts[tile] of the K are the input rows under
            the offsets that some row of the tile has, -1 where a row has none.
        offsets: (n_tiles, K) int32, which offsets these are, ascending.
        counts: (n_tiles,) int32.
        ranks: (K, n_tiles) int16, the place of an offset among those of a tile, or -1.
    """

    sources: Tensor
    offsets: Tensor
    counts: Tensor
    ranks: Tensor


@dataclass(frozen=True, eq=False)
class Slots:
    """The same by offset.

    Attributes:
        slots: (K, n_tiles) int32: tile * K + place, tiles ascending; the first counts[k] count.
        counts: (K,) int32.
    """

    slots: Tensor
    counts: Tensor


class Plan:
    """Order and tiles of one map.

    Attributes:
        n_target, kernel_size: of the map.
        order: (n_target,) int32, the output row processed at each place; None when every row meets
            itself and nothing else, where nothing has to be planned.
    """

    def __init__(self, kernel_map: KernelMap) -> None:
        self.n_target, self.kernel_size = kernel_map.n_target, kernel_map.kernel_size
        self.order: Tensor | None = None
        if self.kernel_size > 1 or kernel_map.identity < 0:
            self._table = kernel_map.table.contiguous()
            self.order = row_order(self._table)
        self._tilings: dict[int, Tiling] = {}
        self._slots: dict[int, Slots] = {}

    def tiling(self, rows: int) -> Tiling | None:
        """Tiles of `rows` rows."""
        if self.order is None:
            return None
        if rows not in self._tilings:
            table, k = self._table, self.kernel_size
            n_tiles = triton.cdiv(self.n_target, rows)
            made = Tiling(
                table.new_empty(n_tiles, k, rows),
                table.new_empty(n_tiles, k),
                table.new_empty(n_tiles),
                table.new_empty(k, n_tiles, dtype=torch.int16),
            )
            wide = n_tiles * rows * k >= 2**31
            cut[(n_tiles,)](
                table, self.order, made.sources, made.offsets, made.counts, made.ranks,
                self.n_target, n_tiles, k, rows, triton.next_power_of_2(k), wide,
            )  # fmt: skip
            self._tilings[rows] = made
        return self._tilings[rows]

    def slots(self, rows: int) -> Slots | None:
        """Tiles of `rows` rows, by offset."""
        tiling = self.tiling(rows)
        if tiling is None:
            return None
        if rows not in self._slots:
            k, n_tiles = tiling.ranks.shape
            made = Slots(tiling.counts.new_empty(k, n_tiles), tiling.counts.new_empty(k))
            gather_slots[(k,)](tiling.ranks, made.slots, made.counts, n_tiles, k, _LIST_BLOCK)
            self._slots[rows] = made
        return self._slots[rows]


def row_order(table: Tensor) -> Tensor:
    """(n,) int32: rows sorted by which offsets they have, rows of equal neighbours in their order.

    Kernels of more than 63 offsets share bits between neighbouring offsets: tiles are right
    whatever the order.
    """
    k, n = table.shape
    dtype = torch.int32 if k <= _BITS[torch.int32] else torch.int64
    masks = torch.empty(n, dtype=dtype, device=table.device)
    row_masks[(triton.cdiv(n, _MASK_ROWS),)](
        table, masks, n, k, triton.cdiv(k, _BITS[dtype]), _MASK_ROWS
    )
    return torch.sort(masks, stable=True).indices.int()


def plan_of(kernel_map: KernelMap) -> Plan:
    """The plan of a map, made when first asked for."""
    plan = kernel_map.kept.get(_KEY)
    if plan is None:
        plan = kernel_map.kept[_KEY] = Plan(kernel_map)
    assert isinstance(plan, Plan)
    return plan
