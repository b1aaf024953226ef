"""Multinomial logistic regression on fixed features: the linear probe's only learner."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.errors import TrainingError


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """`logits = features @ weight.T + bias`.

    Attributes:
        weight: (K, C) float32.
        bias: (K,) float32.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return features @ self.weight.T + self.bias


def fit_linear(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    steps: int = 100,
    l2: float = 1e-4,
) -> LinearClassifier:
    """Minimises mean cross-entropy + l2/2 |W|^2 on standardised features, by L-BFGS.

    Convex, started at zero: the result depends on the data alone. Standardisation is folded into
    the returned weights, so that features of any scale compete on equal terms.

    Args:
        features: (n, C).
        labels: (n,) int64 in 0..classes-1; classes without a sample are never predicted.
        steps: L-BFGS iterations, the same for every network compared.

    Raises:
        TrainingError: no samples, or features that are not finite.
    """
    if len(features) == 0 or len(features) != len(labels):
        raise TrainingError(
            f"{len(features)} features and {len(labels)} labels", "give one label per feature row"
        )
    if not bool(torch.isfinite(features).all()):
        raise TrainingError("backbone features are not finite", "retrain or repair the checkpoint")
    x = features.double()
    mean, std = x.mean(0), x.std(0, unbiased=False).clamp(min=1e-6)
    x = ((x - mean) / std).float()
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    absent = torch.bincount(labels, minlength=classes) == 0
    mask = torch.zeros(classes).masked_fill(absent, -1e9)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(x @ weight.T + bias + mask, labels)
        loss = loss + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        scaled = weight.double() / std
        shift = bias.double() - scaled @ mean + mask
        return LinearClassifier(scaled.float(), shift.float())
