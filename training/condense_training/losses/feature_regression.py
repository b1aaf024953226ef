"""Points learn the teacher's feature itself, with no negatives (ScaLR).

G. Puy et al., "Three Pillars Improving Vision Foundation Model Distillation for Lidar", CVPR 2024,
eq. 1; the student's projection is a linear layer there and a small MLP in its successors
(`heads.projection_head`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.errors import TrainingError
from condense_training.losses.inputs import check_pairs, full_precision, row_weights, unit_rows

KINDS = ("l2", "cosine", "mse")


@full_precision
def feature_regression(
    predicted: Tensor,
    target: Tensor,
    *,
    kind: str = "l2",
    reduction: str = "mean",
    weights: Tensor | None = None,
) -> Tensor:
    """Distance of each predicted feature from the teacher's feature of the same row.

    Pairs drawn by `sampling` make it category-aware, `weights` does so without drawing.

    Args:
        predicted: (n, C) of the student's head.
        target: (n, C); no gradient flows to it.
        kind: "l2": `|p - t|` of unit rows (ScaLR); "cosine": `1 - p.t`, half the square of it;
            "mse": `|p - t|^2 / C` as they are.
        reduction: "mean" or "sum" over rows.
        weights: (n,) weights of a sum over rows, instead of `reduction`.

    Raises:
        TrainingError: shapes that differ, no rows, an unknown kind or reduction.
    """
    check_pairs("feature regression", predicted, target)
    if kind not in KINDS:
        raise TrainingError(f"unknown kind of regression {kind!r}", f"use {', '.join(KINDS)}")
    target = target.detach()
    if kind == "mse":
        if predicted.dtype != torch.float64:
            predicted = predicted.float()
        rows = functional.mse_loss(predicted, target.to(predicted.dtype), reduction="none").mean(1)
    else:
        unit, aim = unit_rows(predicted), unit_rows(target)
        rows = 1 - (unit * aim).sum(1) if kind == "cosine" else (unit - aim).norm(dim=1)
    return (rows * row_weights("feature regression", rows, reduction, weights)).sum()
