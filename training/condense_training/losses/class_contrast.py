"""Contrast in which every pixel of a point's class is a positive (OLIVINE, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from condense_training.distributed import gather_rows
from condense_training.losses.contrast import contrast
from condense_training.losses.inputs import (
    check_labels,
    check_pairs,
    full_precision,
    gathered_keys,
    row_weights,
    unit_rows,
)


@full_precision
def class_contrast(
    queries: Tensor,
    keys: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    mean_of_positives: bool = True,
    reduction: str = "mean",
    weights: Tensor | None = None,
    negatives: str = "per_rank",
    chunk_rows: int | None = None,
) -> Tensor:
    """Row i of `queries` should find the keys of its class, A(i) = {j : y_j = y_i}.

    `loss_i = logsumexp_j S_ij - logsumexp_{j in A(i)} S_ij + log |A(i)|`, `S = q k^T / temperature`
    of unit features: the logarithm of the mean over positives, with the sum inside (not the mean of
    logarithms of Khosla et al., 2020). Nothing is exponentiated before its largest term is taken
    off. With one pair per class it is InfoNCE; with one class alone it is log n and teaches
    nothing. Memory is chunk_rows x n.

    Args:
        queries, keys: (n, C), row i of both is a pair; normalised here.
        labels: (n,) int64 classes of the pairs; any values.
        temperature: positive.
        mean_of_positives: False leaves out `log |A(i)|` (as the released code does): other values,
            the same gradient.
        reduction: "mean" or "sum" over pairs.
        weights: (n,) weights of a sum over pairs, instead of `reduction`.
        negatives: "per_rank": keys of this process; "gathered": keys of all processes, positives
            among them, so that the mean over processes is the loss of their joint batch. All must
            then call it together.
        chunk_rows: query rows at a time; None: as many as fit the cache.

    Raises:
        TrainingError: shapes that differ, no pairs, an unknown reduction or kind of negatives.
    """
    check_pairs("class contrast", queries, keys)
    check_labels("class contrast", labels, len(queries))
    queries, keys = unit_rows(queries), unit_rows(keys)
    keys, _, factor = gathered_keys(keys, reduction, negatives)
    factor = 1.0 if weights is not None else factor
    weights = row_weights("class contrast", queries, reduction, weights) * factor
    key_labels = gather_rows(labels)[0] if negatives == "gathered" else None
    loss = contrast(
        queries,
        keys,
        weights,
        temperature=temperature,
        labels=labels,
        key_labels=key_labels,
        chunk_rows=chunk_rows,
    )
    if not mean_of_positives:
        return loss
    of_keys = labels if key_labels is None else key_labels
    known, counts = torch.unique(of_keys, return_counts=True)
    positives = counts[torch.searchsorted(known, labels)].to(weights.dtype)
    return loss + (weights * positives.log()).sum()
