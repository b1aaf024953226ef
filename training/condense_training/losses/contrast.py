"""The kernel under every contrastive loss: logits of a few rows at a time, never all of them.

A row of logits is made, turned into probabilities and into the gradients of both sides while it
lies in the cache. n x n logits are never kept, and nothing is computed twice, so a step costs
little more than its three matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: logits held at a time; 4 MiB in float32 stay in the cache of a CPU core
_CHUNK_ELEMENTS = 1 << 20


def _row_chunks(n: int, chunk_rows: int | None) -> Iterator[tuple[int, int]]:
    rows = chunk_rows or max(32, _CHUNK_ELEMENTS // n)
    for first in range(0, n, rows):
        yield first, min(first + rows, n)


def _softmax_(logits: Tensor) -> Tensor:
    """Rows become probabilities in place; returns their logsumexp (r, 1)."""
    highest = logits.amax(1, keepdim=True)
    logits.sub_(highest).exp_()
    total = logits.sum(1, keepdim=True)
    logits.div_(total)
    return highest + total.log_()


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        weights: Tensor,
        labels: Tensor | None,
        temperature: float,
        chunk_rows: int | None,
    ) -> Tensor:
        n = len(queries)
        scaled = queries / temperature
        columns = keys.T
        need_queries, need_keys = ctx.needs_input_grad[:2]
        grad_queries = torch.empty_like(queries) if need_queries else None
        grad_keys = torch.zeros_like(keys) if need_keys else None
        chunks = list(_row_chunks(n, chunk_rows))
        logits = keys.new_empty(chunks[0][1], n)
        total = queries.new_zeros(())
        blocks = _blocks(labels, chunks) if labels is not None else None
        for number, (first, last) in enumerate(chunks):
            s = torch.mm(scaled[first:last], columns, out=logits[: last - first])
            weight = weights[first:last, None]
            if labels is None or blocks is None:
                diagonal = torch.arange(first, last, device=s.device)
                rows = diagonal - first
                positive = s[rows, diagonal][:, None]
                every = _softmax_(s)
                s[rows, diagonal] -= 1.0
            else:
                low, high, mixed = blocks[number]
                block = s[:, low:high].clone()
                if mixed:
                    same = labels[first:last, None] == labels[None, low:high]
                    block.masked_fill_(~same, -torch.inf)
                positive = _softmax_(block)
                every = _softmax_(s)
                s[:, low:high] -= block
            total += ((every - positive) * weight).sum()
            if need_queries or need_keys:
                s.mul_(weight)
            if grad_queries is not None:
                torch.mm(s, keys, out=grad_queries[first:last])
            if grad_keys is not None:
                grad_keys.addmm_(s.T, scaled[first:last])
        if grad_queries is not None:
            grad_queries.div_(temperature)
        ctx.save_for_backward(grad_queries, grad_keys)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_queries, grad_keys = ctx.saved_tensors
        return (
            None if grad_queries is None else grad_queries * grads[0],
            None if grad_keys is None else grad_keys * grads[0],
            None,
            None,
            None,
            None,
        )


def _blocks(labels: Tensor, chunks: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """Per chunk of rows the columns [low, high) with any of their classes, and whether there are
    several; `labels` are sorted, so the columns of a class lie together."""
    first = labels[[a for a, _ in chunks]]
    last = labels[[b - 1 for _, b in chunks]]
    low = torch.searchsorted(labels, first)
    high = torch.searchsorted(labels, last, right=True)
    columns = torch.stack([low, high, (first != last).long()], 1).tolist()
    return [(a, b, bool(mixed)) for a, b, mixed in columns]


def contrast(
    queries: Tensor,
    keys: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    labels: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`sum_i w_i (logsumexp_j S_ij - logsumexp_{j in A(i)} S_ij)` with `S = q k^T / temperature`.

    Gradients are those of the formula, made in the forward pass; they cannot be differentiated
    again.

    Args:
        queries, keys: (n, C) float32 or float64, used as they are; n >= 1.
        weights: (n,) of the same dtype, without gradient.
        labels: (n,) int64: A(i) are all rows of the label of i; None: A(i) = {i}.
        chunk_rows: rows of logits held at a time; None: about 4 MiB of them.

    Returns:
        Scalar.
    """
    if not torch.is_grad_enabled():
        queries, keys = queries.detach(), keys.detach()
    if labels is not None:
        order = torch.argsort(labels, stable=True)
        queries, keys = queries[order], keys[order]
        weights, labels = weights[order], labels[order].contiguous()
    with torch.autocast(queries.device.type, enabled=False):
        total: Tensor = _Contrast.apply(
            queries, keys, weights.detach(), labels, temperature, chunk_rows
        )
    return total
