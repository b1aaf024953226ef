"""t-SNE: a picture of which features are near each other.

Van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008, with all pairs (no tree): for
the few thousand points of a picture. One seed, one result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import TrainingError

_EXAGGERATION, _EARLY_STEPS = 12.0, 250
_FLOOR = 1e-12


def affinities(features: Tensor, perplexity: float) -> Tensor:
    """Symmetric joint probabilities P (n, n), summing to one.

    The Gaussian around each point is as wide as gives it `perplexity` effective neighbours.

    Args:
        features: (n, C) float64.
    """
    rows = len(features)
    squared = torch.cdist(features, features).square()
    itself = torch.eye(rows, dtype=torch.bool)
    # distances in units of each point's nearest neighbours, so that one search range fits all
    scale = squared.masked_fill(itself, torch.inf).topk(min(3, rows - 1), largest=False).values
    squared = squared / scale.mean(1, keepdim=True).clamp(min=_FLOOR)
    low, high = torch.full((rows,), -30.0), torch.full((rows,), 30.0)
    low, high = low.to(features), high.to(features)
    target = float(np.log(perplexity))
    for _ in range(60):
        middle = (low + high) / 2
        logits = (-middle.exp()[:, None] * squared).masked_fill(itself, -torch.inf)
        entropy = _entropy(torch.softmax(logits, dim=1))
        low = torch.where(entropy > target, middle, low)
        high = torch.where(entropy > target, high, middle)
    logits = (-((low + high) / 2).exp()[:, None] * squared).masked_fill(itself, -torch.inf)
    conditional = torch.softmax(logits, dim=1)
    return (conditional + conditional.T) / (2 * rows)


def _entropy(conditional: Tensor) -> Tensor:
    return -(conditional * conditional.clamp(min=1e-300).log()).sum(1)


def _kernel(places: Tensor) -> Tensor:
    """(n, n) Student's t of the distances in the map, not normalised; zero on the diagonal."""
    lengths = places.square().sum(1)
    kernel = torch.addmm(1 + lengths[:, None] + lengths, places, places.T, alpha=-2)
    kernel.reciprocal_()
    kernel.fill_diagonal_(0.0)
    return kernel


def divergence(joint: Tensor, places: Tensor) -> float:
    """Kullback-Leibler divergence of a map (n, 2) from P: what t-SNE makes small."""
    kernel = _kernel(places)
    low = (kernel / kernel.sum()).clamp(min=_FLOOR)
    return float((joint * (joint.clamp(min=_FLOOR) / low).log()).sum())


def gradient(joint: Tensor, places: Tensor) -> Tensor:
    """(n, 2) derivative of the divergence with respect to the map (equation 5 of the paper)."""
    kernel = _kernel(places)
    pull = torch.sub(joint, kernel, alpha=1 / float(kernel.sum())).mul_(kernel)
    return 4 * (pull.sum(1, keepdim=True) * places - pull @ places)


def tsne(
    features: npt.NDArray[np.floating], *, perplexity: float = 30.0, steps: int = 750
) -> npt.NDArray[np.float64]:
    """Places (n, 2) of features (n, C) in the plane; their unit means nothing.

    Starts from the two main directions; memory grows with n^2 (3,000 points: about 0.5 GB).

    Raises:
        TrainingError: fewer than four points, or features that are not finite.
    """
    if features.ndim != 2 or len(features) < 4:
        raise TrainingError(
            f"t-SNE of features of shape {features.shape}", "give (n, channels), four rows or more"
        )
    if not np.isfinite(features).all():
        raise TrainingError("features for t-SNE are not finite", "leave out points without feature")
    x = torch.from_numpy(np.asarray(features, np.float64))
    x = x - x.mean(0)
    joint = affinities(x, min(perplexity, (len(x) - 1) / 3))
    _, _, directions = torch.linalg.svd(x, full_matrices=False)
    # a sign is as good as its opposite: the largest loading is positive
    largest = directions.abs().argmax(1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()
    places = torch.zeros(len(x), 2, dtype=torch.float64)
    places[:, : min(2, len(directions))] = x @ directions[:2].T
    places = places / places[:, 0].std().clamp(min=_FLOOR) * 1e-4
    rate = max(len(x) / _EXAGGERATION / 4, 50.0)
    update, gains = torch.zeros_like(places), torch.ones_like(places)
    for step in range(steps):
        early = step < min(_EARLY_STEPS, steps // 3)
        slope = gradient(joint * _EXAGGERATION if early else joint, places)
        opposed = update * slope < 0
        gains = torch.where(opposed, gains + 0.2, gains * 0.8).clamp(min=0.01)
        update = (0.5 if early else 0.8) * update - rate * gains * slope
        places = places + update
        places = places - places.mean(0)
    return np.asarray(places.numpy())
