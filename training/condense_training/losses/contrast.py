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


def _row_chunks(n: int, columns: int, chunk_rows: int | None) -> Iterator[tuple[int, int]]:
    rows = chunk_rows or max(32, _CHUNK_ELEMENTS // columns)
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
        labels: tuple[Tensor, Tensor] | None,
        first_key: int,
        temperature: float,
        chunk_rows: int | None,
    ) -> Tensor:
        scaled = queries / temperature
        columns = keys.T
        need_queries, need_keys = ctx.needs_input_grad[:2]
        grad_queries = torch.empty_like(queries) if need_queries else None
        grad_keys = torch.zeros_like(keys) if need_keys else None
        chunks = list(_row_chunks(len(queries), len(keys), chunk_rows))
        logits = keys.new_empty(chunks[0][1], len(keys))
        total = queries.new_zeros(())
        blocks = _blocks(*labels, chunks) if labels is not None else None
        for number, (first, last) in enumerate(chunks):
            s = torch.mm(scaled[first:last], columns, out=logits[: last - first])
            weight = weights[first:last, None]
            if labels is None or blocks is None:
                rows = torch.arange(last - first, device=s.device)
                diagonal = rows + first + first_key
                positive = s[rows, diagonal][:, None]
                every = _softmax_(s)
                s[rows, diagonal] -= 1.0
            else:
                low, high, mixed = blocks[number]
                block = s[:, low:high].clone()
                if mixed:
                    same = labels[0][first:last, None] == labels[1][None, low:high]
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
            None,
        )


def _blocks(
    labels: Tensor, key_labels: Tensor, chunks: list[tuple[int, int]]
) -> list[tuple[int, int, bool]]:
    """Per chunk of rows the columns [low, high) with any of their classes, and whether there are
    several; both kinds of labels are sorted, so the columns of a class lie together."""
    first = labels[[a for a, _ in chunks]]
    last = labels[[b - 1 for _, b in chunks]]
    low = torch.searchsorted(key_labels, first)
    high = torch.searchsorted(key_labels, last, right=True)
    columns = torch.stack([low, high, (first != last).long()], 1).tolist()
    return [(a, b, bool(mixed)) for a, b, mixed in columns]


def contrast(
    queries: Tensor,
    keys: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    labels: Tensor | None = None,
    key_labels: Tensor | None = None,
    first_key: int = 0,
    chunk_rows: int | None = None,
) -> Tensor:
    """`sum_i w_i (logsumexp_j S_ij - logsumexp_{j in A(i)} S_ij)` with `S = q k^T / temperature`.

    Gradients are those of the formula, made in the forward pass; they cannot be differentiated
    again.

    Args:
        queries: (n, C) float32 or float64, used as they are. n may be 0: the loss is then 0.
        keys: (m, C) of the same dtype, m >= 1: those of the queries, and others besides.
        weights: (n,) of the same dtype, without gradient.
        labels: (n,) int64: A(i) are all keys of the label of i; None: A(i) = {i + first_key}.
        key_labels: (m,) int64, every label of a query among them; None: `labels`.
        first_key: row of the key of query 0, where there are no labels.
        chunk_rows: rows of logits held at a time; None: about 4 MiB of them.

    Returns:
        Scalar.
    """
    if not len(queries):
        return (queries.sum() + keys.sum()) * 0.0
    if not torch.is_grad_enabled():
        queries, keys = queries.detach(), keys.detach()
    sorted_labels = None
    if labels is not None:
        order = torch.argsort(labels, stable=True)
        key_order = order if key_labels is None else torch.argsort(key_labels, stable=True)
        of_keys = labels if key_labels is None else key_labels
        queries, weights, keys = queries[order], weights[order], keys[key_order]
        sorted_labels = (labels[order].contiguous(), of_keys[key_order].contiguous())
    with torch.autocast(queries.device.type, enabled=False):
        total: Tensor = _Contrast.apply(
            queries, keys, weights.detach(), sorted_labels, first_key, temperature, chunk_rows
        )
    return total
