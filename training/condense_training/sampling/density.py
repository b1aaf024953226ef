"""How densely points lie at each distance from the sensor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from condense_ros.errors import TrainingError

#: kernel values held at a time
_CHUNK_ELEMENTS = 1 << 22


def radial_density(distance_m: Tensor, *, resolution_m: float = 0.1) -> Tensor:
    """Kernel density of distances, at each of them (OLIVINE, eq. 12).

    `f(d) = 1/(M h) sum_i K((d - d_i)/h)` with a Gaussian kernel and Silverman's bandwidth
    `h = 1.06 std M^(-1/5)`, std with M - 1 degrees of freedom. Distances are rounded to whole
    multiples of the resolution, so the sum runs over U occupied radii with their counts: O(U^2 + M)
    and exact, where the sum over points would be O(U M).

    Args:
        distance_m: (M,) metres, from the sensor along the ground.
        resolution_m: step of the rounded distances, also the smallest bandwidth.

    Returns:
        (M,) float64, per metre.

    Raises:
        TrainingError: a distance that is negative or not finite.
    """
    total = len(distance_m)
    steps = torch.round(distance_m.detach().double() / resolution_m)
    if not bool((torch.isfinite(steps) & (steps >= 0)).all()):
        raise TrainingError(
            "a distance is negative or not finite", "leave such points out of the pairs"
        )
    if not total:
        return steps
    radius = steps.long()
    # distances differ by few steps where they are many: counting is faster than sorting
    radius = radius - radius.min()
    histogram = torch.bincount(radius)
    occupied = histogram.nonzero()[:, 0]
    counts = histogram[occupied].double()
    where = torch.empty_like(histogram)
    where[occupied] = torch.arange(len(occupied), device=where.device)

    position = occupied.double()
    mean = (counts * position).sum() / total
    variance = (counts * (position - mean) ** 2).sum() / max(1, total - 1)
    bandwidth = max(1.0, 1.06 * math.sqrt(float(variance)) * total**-0.2)  # in steps
    table = torch.arange(len(histogram), device=radius.device, dtype=torch.float64) / bandwidth
    table = torch.exp(-0.5 * table * table)
    rows = max(1, _CHUNK_ELEMENTS // len(occupied))
    density = torch.cat(
        [table[(some[:, None] - occupied[None]).abs()] @ counts for some in occupied.split(rows)]
    )
    scale = math.sqrt(2 * math.pi) * total * bandwidth * resolution_m
    return (density / scale)[where[radius]]
