"""Contrast in which every pixel of a point's class is a positive (OLIVINE, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from condense_training.losses.contrast import contrast
from condense_training.losses.inputs import check_labels, check_pairs, row_weights, unit_rows


def class_contrast(
    queries: Tensor,
    keys: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    mean_of_positives: bool = True,
    reduction: str = "mean",
    weights: Tensor | None = None,
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
        chunk_rows: query rows at a time; None: as many as fit the cache.

    Raises:
        TrainingError: shapes that differ, no pairs, or an unknown reduction.
    """
    check_pairs("class contrast", queries, keys)
    check_labels("class contrast", labels, len(queries))
    queries, keys = unit_rows(queries), unit_rows(keys)
    weights = row_weights("class contrast", queries, reduction, weights)
    loss = contrast(
        queries, keys, weights, temperature=temperature, labels=labels, chunk_rows=chunk_rows
    )
    if not mean_of_positives:
        return loss
    _, which, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return loss + (weights * counts[which].to(weights.dtype).log()).sum()
