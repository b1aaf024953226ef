"""Lovász-softmax: a loss whose minimum is the best mean IoU.

M. Berman, A. Rannen Triki, M. Blaschko, "The Lovász-Softmax loss", CVPR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condense_ros.frame import IGNORE


def lovasz_gradient(truth: Tensor) -> Tensor:
    """(n,) gradient of the Lovász extension of the Jaccard loss (algorithm 1 of the paper).

    Args:
        truth: (n,) 0 or 1, in order of decreasing error.
    """
    total = truth.sum()
    intersection = total - truth.cumsum(0)
    union = total + (1 - truth).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the classes present of the Lovász extension of 1 - IoU.

    Args:
        logits: (n, K) float.
        labels: (n,) int64; `IGNORE` does not count.

    Returns:
        Scalar; zero where no label counts.
    """
    kept = labels != IGNORE
    probabilities, labels = logits[kept].float().softmax(1), labels[kept]
    losses = []
    for label in labels.unique():
        truth = (labels == label).float()
        errors = (truth - probabilities[:, label]).abs()
        errors, order = errors.sort(descending=True)
        losses.append(errors @ lovasz_gradient(truth[order]))
    return torch.stack(losses).mean() if losses else logits.sum() * 0.0
