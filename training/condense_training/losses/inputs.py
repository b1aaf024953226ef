"""What every loss over rows of features checks and does first."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.errors import TrainingError


def unit_rows(features: Tensor) -> Tensor:
    """(n, C) rows of unit length, in float32 (float64 stays float64)."""
    if features.dtype != torch.float64:
        features = features.float()
    return functional.normalize(features, dim=1)


def check_pairs(what: str, queries: Tensor, keys: Tensor) -> None:
    """Refuses what is not two (n, C) tensors with n >= 1 (TrainingError)."""
    if queries.shape != keys.shape or queries.ndim != 2 or len(queries) == 0:
        raise TrainingError(
            f"{what} got queries {tuple(queries.shape)} and keys {tuple(keys.shape)}",
            "give two (n, C) tensors with n >= 1 pairs in the same order",
        )


def check_labels(what: str, labels: Tensor, rows: int) -> None:
    """Refuses what is not (rows,) integers (TrainingError)."""
    if labels.shape != (rows,) or labels.is_floating_point() or labels.is_complex():
        raise TrainingError(
            f"{what} got labels {labels.dtype} {tuple(labels.shape)} for {rows} rows",
            "give one int64 label per row",
        )


def row_weights(
    what: str, features: Tensor, reduction: str, weights: Tensor | None = None
) -> Tensor:
    """(n,) weights of the rows in a sum: 1/n for "mean", 1 for "sum", or as given.

    Raises:
        TrainingError: an unknown reduction, or weights of another length.
    """
    n = len(features)
    if weights is not None:
        if weights.shape != (n,):
            raise TrainingError(
                f"{what} got weights {tuple(weights.shape)} for {n} rows", "give one per row"
            )
        return weights.to(features.dtype)
    if reduction not in ("mean", "sum"):
        raise TrainingError(f"{what}: unknown reduction {reduction!r}", "use mean or sum")
    return features.new_full((n,), 1 / n if reduction == "mean" else 1.0)


def reduce_rows(values: Tensor, labels: Tensor, classes: int, reduction: str) -> Tensor:
    """Scalar of values per row: their mean ("point"), or the mean over the classes that are present
    of the mean within each ("class"), so that rare classes count as much as common ones.

    Args:
        values: (n,), n >= 1.
        labels: (n,) int64 in 0 .. classes - 1.

    Raises:
        TrainingError: an unknown reduction.
    """
    if reduction == "point":
        return values.mean()
    if reduction != "class":
        raise TrainingError(f"unknown reduction {reduction!r}", "use class or point")
    counts = torch.bincount(labels, minlength=classes).to(values.dtype)
    present = (counts > 0).sum()
    return (values / counts[labels]).sum() / present
