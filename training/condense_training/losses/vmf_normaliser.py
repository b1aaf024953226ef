"""Normaliser and mean resultant length of the von Mises-Fisher distribution, of any dimension.

Density on the unit sphere of R^C: `f(g) = K_C(kappa) exp(kappa mu.g)`, with
`log K_C(kappa) = nu log kappa - (C/2) log 2 pi - log I_nu(kappa)`, `nu = C/2 - 1`
(OLIVINE, eqs. 3-5). Power series and recurrences from I_0 overflow or lose the order; here
everything rests on the uniform expansion of I_m for large order m (DLMF 10.41), written so that
nothing cancels: `log kappa` drops out, and values are counted from the exact one at kappa = 0.
Small dimensions are led to orders >= 40 by ratios of neighbouring orders. The truncation is below
1e-8; float32 serves from kappa = 0 to 1e5 and beyond.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from condense_ros.errors import TrainingError

#: from this order on, three terms of the expansion suffice
_LARGE_ORDER = 40.0


def _orders(dim: int) -> tuple[float, int]:
    """(nu, steps up to a large order) of a dimension."""
    if dim < 2:
        raise TrainingError(
            f"a von Mises-Fisher distribution in {dim} dimensions", "features need 2 or more"
        )
    nu = dim / 2 - 1
    return nu, max(0, math.ceil(_LARGE_ORDER - nu))


def _series(p: Tensor, m: float) -> Tensor:
    """u_1/m + u_2/m^2 + u_3/m^3 of the expansion, p = 1/sqrt(1 + (kappa/m)^2)."""
    q = p * p
    u1 = p * (3 - 5 * q) / 24
    u2 = q * (81 - 462 * q + 385 * q * q) / 1152
    u3 = p * q * (30375 - 369603 * q + 765765 * q * q - 425425 * q * q * q) / 414720
    return u1 / m + u2 / m**2 + u3 / m**3


def _ratios(kappa: Tensor, dim: int) -> list[Tensor]:
    """`I_{j+1}(kappa) / (kappa I_j(kappa))` for j = nu, nu + 1, ... up to a large order.

    The last comes from `I'_m / I_m - m / kappa`, whose expansion is divided out by hand so that no
    difference of equal numbers is left; the others from the recurrence downwards, which damps
    errors.
    """
    nu, steps = _orders(dim)
    m = nu + steps
    z = kappa / m
    root = torch.sqrt(1 + z * z)
    p = 1 / root
    q = p * p
    second = q * p * (840 * q - 216) / 1152
    third = q * q * (-72900 + 748440 * q - 900900 * q * q) / 414720
    terms = -q / (2 * m) + second / m**2 + third / m**3
    ratios = [(1 / (1 + root) + terms / (1 + _series(p, m))) / m]
    for step in range(steps, 0, -1):
        ratios.append(1 / (2 * (nu + step) + kappa * kappa * ratios[-1]))
    return ratios[::-1]


def mean_resultant(kappa: Tensor, dim: int) -> Tensor:
    """`A_C(kappa) = I_{C/2}(kappa) / I_{C/2-1}(kappa)`, the length of the mean of unit vectors.

    Args:
        kappa: any shape, >= 0, float32 or float64.
        dim: C >= 2.

    Raises:
        TrainingError: fewer than two dimensions.
    """
    return kappa * _ratios(kappa, dim)[0]


def _log_normaliser(kappa: Tensor, dim: int) -> Tensor:
    nu, steps = _orders(dim)
    m = nu + steps
    z = kappa / m
    rise = z * z / (1 + torch.sqrt(1 + z * z))  # sqrt(1 + z^2) - 1
    at_zero = torch.log1p(_series(torch.ones_like(kappa), m))
    series = torch.log1p(_series(1 / (1 + rise), m))
    # of order m, counted from kappa = 0
    value = m * (torch.log1p(rise / 2) - rise) + torch.log1p(z * z) / 4 + at_zero - series
    for step, ratio in enumerate(_ratios(kappa, dim)[:-1], start=1):
        value = value + torch.log(2 * (nu + step) * ratio)
    return value + math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi)


class _LogNormaliser(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.dim = dim
        return _log_normaliser(kappa, dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (kappa,) = ctx.saved_tensors
        return -grads[0] * mean_resultant(kappa, ctx.dim), None


def log_vmf_normaliser(kappa: Tensor, dim: int) -> Tensor:
    """`log K_C(kappa)`; its derivative is `-A_C(kappa)`. At 0: minus the log area of the sphere.

    Args:
        kappa: any shape, >= 0; float32 unless float64.
        dim: C >= 2.

    Raises:
        TrainingError: fewer than two dimensions.
    """
    if kappa.dtype != torch.float64:
        kappa = kappa.float()
    value: Tensor = _LogNormaliser.apply(kappa, dim)
    return value


def concentration(resultant: Tensor, dim: int, newton_steps: int = 0) -> Tensor:
    """kappa with `A_C(kappa) = resultant`, the maximum likelihood estimate.

    Sra's approximation `R (C - R^2) / (1 - R^2)` (OLIVINE, eq. 9), polished by Newton steps with
    `A' = 1 - A^2 - (C - 1) A / kappa`; two reach 1e-6.

    Args:
        resultant: any shape, mean resultant lengths in [0, 1).
        dim: C >= 2.
    """
    squared = resultant * resultant
    kappa = resultant * (dim - squared) / (1 - squared)
    for _ in range(newton_steps):
        ratio = _ratios(kappa, dim)[0]  # A / kappa, also where kappa is 0
        length = kappa * ratio
        slope = 1 - length * length - (dim - 1) * ratio
        kappa = (kappa - (length - resultant) / slope).clamp(min=0)
    return kappa
