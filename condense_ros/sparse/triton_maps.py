# mypy: disable-error-code="no-untyped-def"
"""Tables of kernel maps by Triton: one launch each, nothing in between is stored.

Keys are sorted, and what lies next to each other along z follows each other there: one binary
search serves a whole column of the kernel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from condense_ros.sparse import keys as _keys
from condense_ros.sparse.search import Triple

_ROWS = 128
_BITS = tl.constexpr(_keys.BITS)
_MASK = tl.constexpr((1 << _keys.BITS) - 1)


@triton.jit(do_not_specialize=["n", "m", "steps"])
def _search(
    keys, queries, table, n, m, steps, first_x, first_y, first_z, step_x, step_y,
    kernel_y, KERNEL_Z: tl.constexpr, STEP_Z: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One column of the kernel for ROWS queries."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1)
    mask = i < m
    x = first_x + (column // kernel_y) * step_x
    y = first_y + (column % kernel_y) * step_y
    shift = (((x.to(tl.int64) << _BITS) + y) << _BITS) + first_z
    wanted = tl.load(queries + i, mask=mask, other=0) + shift
    # number of keys below the wanted one, bit by bit
    low = tl.zeros((ROWS,), dtype=tl.int32)
    span = tl.full((ROWS,), 1, dtype=tl.int32) << steps
    for _ in range(0, steps + 1):
        inside = mask & (low + span <= n)
        key = tl.load(keys + low + span - 1, mask=inside, other=0)
        low = tl.where(inside & (key < wanted), low + span, low)
        span = span >> 1
    place = table + (column * KERNEL_Z).to(tl.int64) * m + i
    for z in tl.static_range(KERNEL_Z):
        if z > 0:
            wanted += STEP_Z
            # keys are distinct: at most STEP_Z of them lie between two wanted ones
            for _ in tl.static_range(STEP_Z):
                inside = mask & (low < n)
                key = tl.load(keys + low, mask=inside, other=0)
                low = tl.where(inside & (key < wanted), low + 1, low)
        inside = mask & (low < n)
        key = tl.load(keys + low, mask=inside, other=0)
        tl.store(place, tl.where(inside & (key == wanted), low, -1), mask=mask)
        place += m


@triton.jit(do_not_specialize=["n", "n_coarse"])
def _tile(
    keys, parents, table, n, n_coarse, bias_x, bias_y, bias_z, factor_x, factor_y, factor_z,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Puts ROWS voxels where their parent and their place in it say."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = i < n
    key = tl.load(keys + i, mask=mask, other=0)
    x = (((key >> (2 * _BITS)) & _MASK) + bias_x) % factor_x
    y = (((key >> _BITS) & _MASK) + bias_y) % factor_y
    z = ((key & _MASK) + bias_z) % factor_z
    offset = (x * factor_y + y) * factor_z + z
    parent = tl.load(parents + i, mask=mask, other=0)
    tl.store(table + offset * n_coarse + parent, i, mask=mask)


def lookup_table(
    keys: Tensor, queries: Tensor, first: Triple, kernel: Triple, dilation: Triple
) -> Tensor:
    """(K, M) int32 place of query + first + k * dilation among the keys, or -1.

    Args:
        keys: (N,) int64, sorted and distinct.
        queries: (M,) int64.
    """
    n, m = len(keys), len(queries)
    table = torch.empty(kernel[0] * kernel[1] * kernel[2], m, dtype=torch.int32, device=keys.device)
    _search[(triton.cdiv(m, _ROWS), kernel[0] * kernel[1])](
        keys, queries, table, n, m, max(n.bit_length() - 1, 0),
        *first, dilation[0], dilation[1], kernel[1], kernel[2], dilation[2], _ROWS,
    )  # fmt: skip
    return table


def tiled_table(keys: Tensor, parents: Tensor, factor: Triple, n_coarse: int) -> Tensor:
    """(K, n_coarse) int32: the voxel at each place of each parent, or -1.

    Args:
        keys: (N,) int64.
        parents: (N,) int32, the parent of each key.
    """
    shape = (factor[0] * factor[1] * factor[2], n_coarse)
    table = torch.full(shape, -1, dtype=torch.int32, device=keys.device)
    bias = [-_keys.BIAS % size for size in factor]
    n = len(keys)
    _tile[(triton.cdiv(n, _ROWS),)](keys, parents, table, n, n_coarse, *bias, *factor, _ROWS)
    return table
