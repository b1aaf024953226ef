"""Which of a batch's point-pixel pairs a loss looks at (OLIVINE, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from condense_ros.errors import TrainingError
from condense_training.losses.inputs import check_labels
from condense_training.sampling.density import radial_density

#: uniform: every pair alike; density: rare distances more often; category: rare classes more
#: often; density_category: both (DCAS)
STRATEGIES = ("uniform", "density", "category", "density_category")


def pair_probabilities(
    strategy: str, distance_m: Tensor, labels: Tensor, *, resolution_m: float = 0.1
) -> Tensor:
    """Chance of each pair in a single draw, `1 / (f(d_i) n_{y_i})` normalised (eq. 13).

    Args:
        strategy: one of `STRATEGIES`; a part that it does not name is left out of the product.
        distance_m: (M,) metres from the sensor along the ground.
        labels: (M,) int64 >= 0; n is the number of pairs of a label.
        resolution_m: of `radial_density`.

    Returns:
        (M,) float64 that sums to one.

    Raises:
        TrainingError: an unknown strategy, or distances and labels that do not fit.
    """
    if strategy not in STRATEGIES:
        raise TrainingError(f"unknown sampling {strategy!r}", f"use {', '.join(STRATEGIES)}")
    check_labels("sampling", labels, len(distance_m))
    weight = torch.ones(len(labels), dtype=torch.float64, device=labels.device)
    if "density" in strategy:
        weight /= radial_density(distance_m, resolution_m=resolution_m)
    if "category" in strategy:
        if len(labels) and int(labels.min()) < 0:
            raise TrainingError("sampling got a negative label", "number classes from 0")
        weight /= torch.bincount(labels)[labels]
    return weight / weight.sum()


def draw(probabilities: Tensor, count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draws without replacement, one after the other, each from what is left.

    Exponential races: the pair with the smallest `E_i / p_i`, `E_i` exponential, is the first of
    such a draw, the next smallest the second, and so on (Efraimidis and Spirakis, 2006).

    Args:
        probabilities: (M,) >= 0; pairs of probability 0 are never drawn.
        count: at most so many.
        generator: on the same device; None: torch's global one.

    Returns:
        (min(count, possible),) int64 rows in the order drawn.
    """
    race = torch.empty(len(probabilities), dtype=torch.float64, device=probabilities.device)
    race.exponential_(generator=generator)
    race /= probabilities.double()  # division by zero: infinitely late
    possible = int((probabilities > 0).sum())
    return race.topk(min(count, possible), largest=False, sorted=True).indices


def sample_pairs(
    strategy: str,
    count: int,
    distance_m: Tensor,
    labels: Tensor,
    *,
    resolution_m: float = 0.1,
    ignored: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Rows of at most `count` pairs, without replacement; the same for the same generator state.

    Args:
        strategy, distance_m, labels, resolution_m: see `pair_probabilities`.
        ignored: label of pairs that neither count nor are drawn; None: there are none.

    Returns:
        (min(count, M),) int64 rows of the batch's pairs.

    Raises:
        TrainingError: as `pair_probabilities`.
    """
    if ignored is None:
        chances = pair_probabilities(strategy, distance_m, labels, resolution_m=resolution_m)
        return draw(chances, count, generator=generator)
    rows = (labels != ignored).nonzero()[:, 0]
    chances = pair_probabilities(
        strategy, distance_m[rows], labels[rows], resolution_m=resolution_m
    )
    return rows[draw(chances, count, generator=generator)]
