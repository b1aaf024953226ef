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
def tile_lists(
    table, lists, counts, present, n, n_tiles, kernel_size,
    ROWS: tl.constexpr, OFFSETS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The offsets that some row of a tile has, ascending, and their number."""
    tile = tl.program_id(0)
    rows = tile * ROWS + tl.arange(0, ROWS)
    offset = tl.arange(0, OFFSETS)
    start = offset
    if WIDE:
        start = offset.to(tl.int64)
    mask = (offset < kernel_size)[:, None] & (rows < n)[None, :]
    source = tl.load(table + start[:, None] * n + rows[None, :], mask=mask, other=-1)
    there = tl.max(source, axis=1) >= 0
    flag = there.to(tl.int32)
    tl.store(lists + tile * kernel_size + tl.cumsum(flag, 0) - flag, offset, mask=there)
    tl.store(counts + tile, tl.sum(flag, axis=0))
    tl.store(present + offset * n_tiles + tile, flag.to(tl.int8), mask=offset < kernel_size)


@triton.jit(do_not_specialize=["n_tiles"])
def offset_lists(present, lists, counts, n_tiles, BLOCK: tl.constexpr):
    """The tiles that have an offset, ascending, and their number."""
    offset = tl.program_id(0)
    count = tl.program_id(0) * 0
    for first in range(0, n_tiles, BLOCK):
        tile = first + tl.arange(0, BLOCK)
        flag = tl.load(present + offset * n_tiles + tile, mask=tile < n_tiles, other=0)
        flag = flag.to(tl.int32)
        place = offset * n_tiles + count + tl.cumsum(flag, 0) - flag
        tl.store(lists + place, tile, mask=flag > 0)
        count += tl.sum(flag, axis=0)
    tl.store(counts + offset, count)


@dataclass(frozen=True, eq=False)
class Lists:
    """What to visit: (groups, longest) int32, of which the first counts[group] count."""

    lists: Tensor | None
    counts: Tensor | None


_ALL = Lists(None, None)


class Plan:
    """Order, table and tiles of one map.

    Attributes:
        n_target, kernel_size: of the map.
        order: (n_target,) int32, the output row processed at each place; None when every row meets
            itself and nothing else.
        table: (K, n_target) int32, the map's table with columns in that order; None as above.
    """

    def __init__(self, kernel_map: KernelMap) -> None:
        self.n_target, self.kernel_size = kernel_map.n_target, kernel_map.kernel_size
        self.order: Tensor | None = None
        self.table: Tensor | None = None
        self._tiles: dict[int, tuple[Lists, Tensor]] = {}
        self._offsets: dict[int, Lists] = {}
        if self.kernel_size > 1 or kernel_map.identity < 0:
            table = kernel_map.table.contiguous()
            self.order = row_order(table)
            self.table = table.index_select(1, self.order)

    def tiles(self, rows: int) -> Lists:
        """The offsets of each tile of `rows` rows."""
        return _ALL if self.table is None else self._both(self.table, rows)[0]

    def offsets(self, rows: int) -> Lists:
        """The tiles of `rows` rows of each offset."""
        if self.table is None:
            return _ALL
        if rows not in self._offsets:
            _, present = self._both(self.table, rows)
            lists = torch.empty(present.shape, dtype=torch.int32, device=present.device)
            counts = lists.new_empty(self.kernel_size)
            n_tiles = present.shape[1]
            offset_lists[(self.kernel_size,)](present, lists, counts, n_tiles, _LIST_BLOCK)
            self._offsets[rows] = Lists(lists, counts)
        return self._offsets[rows]

    def _both(self, table: Tensor, rows: int) -> tuple[Lists, Tensor]:
        if rows not in self._tiles:
            k, n = table.shape
            n_tiles = triton.cdiv(n, rows)
            lists = torch.empty(n_tiles, k, dtype=torch.int32, device=table.device)
            counts = lists.new_empty(n_tiles)
            present = torch.empty(k, n_tiles, dtype=torch.int8, device=table.device)
            tile_lists[(n_tiles,)](
                table, lists, counts, present, n, n_tiles, k,
                rows, triton.next_power_of_2(k), table.numel() >= 2**31,
            )  # fmt: skip
            self._tiles[rows] = Lists(lists, counts), present
        return self._tiles[rows]


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
