"""InfoNCE over paired features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from condense_ros.errors import TrainingError
from condense_training.losses.contrast import contrast
from condense_training.losses.inputs import (
    check_pairs,
    full_precision,
    gathered_keys,
    row_weights,
    unit_rows,
)


def _rows(queries: Tensor, keys: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return functional.cross_entropy(queries @ keys.T / temperature, targets, reduction="none")


@full_precision
def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float,
    reduction: str = "mean",
    weights: Tensor | None = None,
    negatives: str = "per_rank",
    chunk_rows: int | None = None,
) -> Tensor:
    """Row i of `queries` should find row i of `keys` among all keys.

    `S = q k^T / temperature` of unit features, `loss_i = logsumexp_j S_ij - S_ii` (Janda et al.,
    eq. 1; OLIVINE, eq. 1). One way: queries look for keys. Computed in float32 (float64 inputs stay
    float64). Memory is chunk_rows x n, not n x n.

    Args:
        queries, keys: (n, C), row i of both is a positive pair; normalised here.
        temperature: positive.
        reduction: "mean" over pairs (released code), "sum" (as the paper writes it) or "none".
        weights: (n,) weights of a sum over pairs, instead of "mean" or "sum".
        negatives: "per_rank": keys of this process; "gathered": keys of all processes, so that the
            mean over processes is the loss of their joint batch. All must then call it together.
        chunk_rows: query rows at a time; None: as many as fit the cache. With "none", logits are
            recomputed in the backward pass, and None means all at once.

    Raises:
        TrainingError: shapes that differ, no pairs, an unknown reduction or kind of negatives.
    """
    check_pairs("InfoNCE", queries, keys)
    if reduction not in ("mean", "sum", "none"):
        raise TrainingError(f"unknown reduction {reduction!r}", "use mean, sum or none")
    queries, keys = unit_rows(queries), unit_rows(keys)
    keys, first, factor = gathered_keys(keys, reduction, negatives)
    if reduction != "none" or weights is not None:
        factor = 1.0 if weights is not None else factor
        weights = row_weights("InfoNCE", queries, reduction, weights) * factor
        return contrast(
            queries,
            keys,
            weights,
            temperature=temperature,
            first_key=first,
            chunk_rows=chunk_rows,
        )
    targets = torch.arange(len(queries), device=queries.device) + first
    if chunk_rows is None or chunk_rows >= len(queries):
        return _rows(queries, keys, targets, temperature)
    parts = zip(queries.split(chunk_rows), targets.split(chunk_rows), strict=True)
    return torch.cat(
        [
            checkpoint(_rows, part, keys, target, temperature, use_reentrant=False)
            for part, target in parts
        ]
    )
