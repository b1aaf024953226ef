"""What every loss over rows of features checks and does first."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.errors import TrainingError
from condense_training.distributed import gather_rows, world_size

P = ParamSpec("P")

NEGATIVES = ("per_rank", "gathered")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """A loss that computes in the precision of its own choice also where networks are autocast."""

    @wraps(loss)
    def run(*args: P.args, **options: P.kwargs) -> Tensor:
        given = (*args, *options.values())
        device = next(value.device.type for value in given if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*args, **options)

    return run


def unit_rows(features: Tensor) -> Tensor:
    """(n, C) rows of unit length, in float32 (float64 stays float64)."""
    if features.dtype != torch.float64:
        features = features.float()
    return functional.normalize(features, dim=1)


def check_pairs(what: str, queries: Tensor, keys: Tensor) -> None:
    """Refuses what is not two (n, C) tensors with n >= 1 (TrainingError); where several processes
    train together, one of them may have no pair."""
    none = len(queries) == 0 and world_size() == 1
    if queries.shape != keys.shape or queries.ndim != 2 or none:
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
    return features.new_full((n,), 1 / max(n, 1) if reduction == "mean" else 1.0)


def gathered_keys(keys: Tensor, reduction: str, negatives: str) -> tuple[Tensor, int, float]:
    """Keys that queries of this process are compared with.

    Gradients are averaged over processes. With the factor, that is the gradient of the joint batch
    of all of them, however their pairs are spread; weights of one's own count as they are.

    Returns:
        (keys, row at which those of this process begin, factor of the weights of "mean" or "sum").

    Raises:
        TrainingError: unknown kind of negatives.
    """
    if negatives not in NEGATIVES:
        raise TrainingError(f"unknown negatives {negatives!r}", f"use {' or '.join(NEGATIVES)}")
    if negatives == "per_rank" or world_size() == 1:
        return keys, 0, 1.0
    every, first = gather_rows(keys)
    share = len(keys) / max(1, len(every)) if reduction == "mean" else 1.0
    return every, first, share * world_size()


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
