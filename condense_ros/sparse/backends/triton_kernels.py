# mypy: disable-error-code="no-untyped-def, attr-defined"
"""Triton kernels of sparse convolutions: masked implicit GEMM and the gradient of its weights.

Rows are processed in an order that groups those with the same neighbours (`triton_plan`), tile by
tile; a tile visits only the kernel offsets that some row of it has. Every sum is made by one
program in a fixed order and no atomic operation is used, so the same inputs give the same bits.

Only what every GPU from compute capability 8.0 on has (Orin included) is used.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: arguments that change from cloud to cloud: no new compilation for lucky values of them
VARYING = ["n_target", "n_tiles", "n_columns", "n_inner", "splits", "chunk", "kernel_size"]


@triton.jit
def _loaded_rows(pointer, rows, stride, columns, mask, WIDE: tl.constexpr):
    """(rows, columns) of a row-major matrix, zeros where masked."""
    if WIDE:  # rows * stride exceeds 32 bits
        rows = rows.to(tl.int64)
    return tl.load(pointer + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0)


@triton.jit
def _store(
    sums, target, columns, mask, scale, shift, residual, stride_residual, out, stride_out, c_out,
    RELU: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Scale, shift, residual, rectifier; then the output's dtype."""
    there = columns < c_out
    if scale is not None:
        sums = sums * tl.load(scale + columns, mask=there, other=0.0)[None, :]
    if shift is not None:
        sums = sums + tl.load(shift + columns, mask=there, other=0.0)[None, :]
    if residual is not None:
        added = _loaded_rows(residual, target, stride_residual, columns, mask, WIDE)
        sums = sums + added.to(tl.float32)
    if RELU:
        sums = tl.where(sums < 0, 0.0, sums)  # NaN stays NaN
    if WIDE:
        target = target.to(tl.int64)
    place = out + target[:, None] * stride_out + columns[None, :]
    tl.store(place, sums.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=VARYING)
def convolve(
    x, stride_x, weight, stride_offset, stride_in, stride_out_channel,
    order, sources, offsets, counts,
    out, stride_out, partial, scale, shift, residual, stride_residual,
    n_target, kernel_size, c_in, c_out, n_columns, n_inner, splits,
    ROWS: tl.constexpr, INNER: tl.constexpr, COLUMNS: tl.constexpr,
    WHOLE_INNER: tl.constexpr, FLIP: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """One tile of ROWS output rows x COLUMNS output channels.

    Programs: (tiles of rows * n_columns, splits). A split sums a share of the tile's products and,
    where there is more than one, leaves it in `partial` (splits, n_target, c_out) float32.
    sources, offsets, counts: see `triton_plan.Tiling`. Without them every row meets itself under
    the one offset there is.
    FLIP: offsets of the weights run backwards.
    WIDEN: half precision operands become float32, for interpreters that cannot multiply them.
    """
    tile = tl.program_id(0) // n_columns
    column = tl.program_id(0) % n_columns
    split = tl.program_id(1)
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = rows < n_target
    columns = column * COLUMNS + tl.arange(0, COLUMNS)
    in_columns = columns < c_out
    channels = tl.arange(0, INNER)

    steps = n_inner
    if sources is not None:
        steps = tl.load(counts + tile) * n_inner
    sums = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    # offsets and blocks of input channels as one loop, so that loads run ahead across both
    for step in range(steps * split // splits, steps * (split + 1) // splits):
        place = step // n_inner
        at = (step - place * n_inner) * INNER + channels
        if sources is None:
            offset = place
            source = tl.where(inside, rows, -1)
        else:
            slot = tile * kernel_size + place
            offset = tl.load(offsets + slot)
            start = slot.to(tl.int64) * ROWS if WIDE else slot * ROWS
            source = tl.load(sources + start + tl.arange(0, ROWS))
        there = (source >= 0)[:, None]
        in_weight = in_columns[None, :]
        if not WHOLE_INNER:
            there = there & (at < c_in)[None, :]
            in_weight = in_weight & (at < c_in)[:, None]
        left = _loaded_rows(x, source, stride_x, at, there, WIDE)
        if FLIP:
            offset = kernel_size - 1 - offset
        right = tl.load(
            weight + offset * stride_offset
            + at[:, None] * stride_in + columns[None, :] * stride_out_channel,
            mask=in_weight, other=0.0,
        )  # fmt: skip
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        sums = tl.dot(left, right, sums, input_precision=PRECISION)

    mask = inside[:, None] & in_columns[None, :]
    if partial is not None:
        row = rows + split * n_target
        if WIDE:
            row = rows + split * n_target.to(tl.int64)
        tl.store(partial + row[:, None] * c_out + columns[None, :], sums, mask=mask)
    else:
        target = rows
        if order is not None:
            target = tl.load(order + rows, mask=inside, other=0)
        _store(
            sums, target, columns, mask, scale, shift, residual, stride_residual, out, stride_out,
            c_out, RELU, WIDE,
        )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def finish(
    partial, order, out, stride_out, scale, shift, residual, stride_residual,
    n_target, c_out, n_columns, splits,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Adds the splits of `convolve` in their order, then what follows the sums."""
    rows = (tl.program_id(0) // n_columns) * ROWS + tl.arange(0, ROWS)
    columns = (tl.program_id(0) % n_columns) * COLUMNS + tl.arange(0, COLUMNS)
    inside = rows < n_target
    mask = inside[:, None] & (columns < c_out)[None, :]
    sums = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for split in range(0, splits):
        row = rows + split * n_target
        if WIDE:
            row = rows + split * n_target.to(tl.int64)
        sums += tl.load(partial + row[:, None] * c_out + columns[None, :], mask=mask, other=0.0)
    target = rows
    if order is not None:
        target = tl.load(order + rows, mask=inside, other=0)
    _store(
        sums, target, columns, mask, scale, shift, residual, stride_residual, out, stride_out,
        c_out, RELU, WIDE,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def weight_gradient(
    x, stride_x, grad, stride_grad, order, sources, slots, counts, out,
    n_target, n_tiles, kernel_size, c_in, c_out, n_columns, n_inner, chunk,
    ROWS: tl.constexpr, INNER: tl.constexpr, COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """INNER x COLUMNS weights of one offset: sum of x[source]^T grad[target] over a chunk of tiles.

    Programs: (K * n_inner * n_columns, chunks). Chunk number c of an offset takes tiles
    [c * chunk, (c + 1) * chunk) of the offset's list and writes out[c, offset]. Chunks past the end
    of the list write nothing, but the first always does. sources, slots, counts: see
    `triton_plan.Tiling` and `Slots`.
    """
    block = tl.program_id(0) // n_columns
    offset = block // n_inner
    at = (block % n_inner) * INNER + tl.arange(0, INNER)
    columns = (tl.program_id(0) % n_columns) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(1)
    count = n_tiles
    if sources is not None:
        count = tl.load(counts + offset)
    first = part * chunk
    end = tl.minimum(first + chunk, count)
    if (first < end) | (part == 0):
        sums = tl.zeros((INNER, COLUMNS), dtype=tl.float32)
        for place in range(first, end):
            if sources is None:
                target = place * ROWS + tl.arange(0, ROWS)
                source = tl.where(target < n_target, target, -1)
            else:
                slot = tl.load(slots + offset * n_tiles + place)
                rows = (slot // kernel_size) * ROWS + tl.arange(0, ROWS)
                start = slot.to(tl.int64) * ROWS if WIDE else slot * ROWS
                source = tl.load(sources + start + tl.arange(0, ROWS))
                target = tl.load(order + rows, mask=rows < n_target, other=0)
            there = (source >= 0)[:, None]
            left = _loaded_rows(x, source, stride_x, at, there & (at < c_in)[None, :], WIDE)
            right = _loaded_rows(
                grad, target, stride_grad, columns, there & (columns < c_out)[None, :], WIDE
            )
            if WIDEN:
                left, right = left.to(tl.float32), right.to(tl.float32)
            sums = tl.dot(tl.trans(left), right, sums, input_precision=PRECISION)
        row = (part * kernel_size + offset).to(tl.int64) * c_in + at
        mask = (at < c_in)[:, None] & (columns < c_out)[None, :]
        tl.store(out + row[:, None] * c_out + columns[None, :], sums, mask=mask)


@triton.jit(do_not_specialize=VARYING)
def add_chunks(
    partial, counts, out, n_tiles, kernel_size, size, chunk, n_columns,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Adds the chunks of `weight_gradient` that were written, in their order."""
    offset = tl.program_id(0) // n_columns
    columns = (tl.program_id(0) % n_columns) * COLUMNS + tl.arange(0, COLUMNS)
    mask = columns < size
    count = n_tiles
    if counts is not None:
        count = tl.load(counts + offset)
    sums = tl.zeros((COLUMNS,), dtype=tl.float32)
    for part in range(0, (count + chunk - 1) // chunk):
        at = (part * kernel_size + offset).to(tl.int64) * size
        sums += tl.load(partial + at + columns, mask=mask, other=0.0)
    tl.store(out + offset.to(tl.int64) * size + columns, sums, mask=mask)
