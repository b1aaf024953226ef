"""InfoNCE over paired features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from condense_ros.errors import TrainingError


def _rows(queries: Tensor, keys: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return functional.cross_entropy(queries @ keys.T / temperature, targets, reduction="none")


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float,
    reduction: str = "mean",
    chunk_rows: int | None = None,
) -> Tensor:
    """Row i of `queries` should find row i of `keys` among all keys.

    `S = q k^T / temperature` of unit features, `loss_i = logsumexp_j S_ij - S_ii` (Janda et al.,
    eq. 1). One way: queries look for keys. Computed in float32 (float64 inputs stay float64).

    Args:
        queries, keys: (n, C), row i of both is a positive pair; normalised here.
        temperature: positive.
        reduction: "mean" over pairs (released code), "sum" (as the paper writes it) or "none".
        chunk_rows: query rows at a time, with logits recomputed in the backward pass, so that
            memory is chunk_rows x n instead of n x n; None: all at once.

    Raises:
        TrainingError: shapes that differ, no pairs, or an unknown reduction.
    """
    if queries.shape != keys.shape or queries.ndim != 2 or len(queries) == 0:
        raise TrainingError(
            f"InfoNCE got queries {tuple(queries.shape)} and keys {tuple(keys.shape)}",
            "give two (n, C) tensors with n >= 1 pairs in the same order",
        )
    if reduction not in ("mean", "sum", "none"):
        raise TrainingError(f"unknown reduction {reduction!r}", "use mean, sum or none")
    if queries.dtype != torch.float64:
        queries, keys = queries.float(), keys.float()
    queries, keys = functional.normalize(queries, dim=1), functional.normalize(keys, dim=1)
    targets = torch.arange(len(queries), device=queries.device)
    if chunk_rows is None or chunk_rows >= len(queries):
        loss = _rows(queries, keys, targets, temperature)
    else:
        loss = torch.cat(
            [
                checkpoint(_rows, part, keys, target, temperature, use_reentrant=False)
                for part, target in zip(
                    queries.split(chunk_rows), targets.split(chunk_rows), strict=True
                )
            ]
        )
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()
