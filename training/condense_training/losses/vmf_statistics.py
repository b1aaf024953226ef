"""Running von Mises-Fisher distributions of the features of each class (OLIVINE, section 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from condense_ros.errors import TrainingError
from condense_training.losses.inputs import check_labels
from condense_training.losses.vmf_normaliser import concentration

#: bounds of the mean resultant length before kappa is estimated: 0/0 and 1/0 lie beyond
_RESULTANT = (1e-4, 1 - 1e-4)


@dataclass(frozen=True, eq=False)
class ClassDistributions:
    """One von Mises-Fisher distribution per class, none with a gradient.

    Attributes:
        direction: (K, C) unit mean directions, zero where unknown.
        kappa: (K,) concentrations, zero where unknown.
        resultant: (K,) mean resultant lengths as estimated.
        known: (K,) bool: seen often enough.
    """

    direction: Tensor
    kappa: Tensor
    resultant: Tensor
    known: Tensor


def _sum_over_ranks(values: Tensor) -> Tensor:
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)
    return values


class VmfStatistics(nn.Module):
    """Exponential moving averages of the mean feature of each class, and the distributions they
    imply.

    `zbar_k <- a zbar_k + (1 - a) z_k` (eq. 6) where class k is present, z_k being the mean over the
    points of all ranks, each point weighing the same. Everything is in buffers: a saved and
    restored module goes on bit-equally.

    Args:
        classes: K.
        dim: feature length C.
        decay: a.
        collection_steps: updates before the distributions may be used (`collecting`).
        update_after_collection: keep averaging afterwards; the released code freezes them.
        bias_correction: divide by `1 - a^t`, t counting the class's updates, as Adam does. Without
            it, averages start at 0 and resultant lengths stay below `1 - a^t`.
        kappa_max: largest concentration.
        newton_steps: polish of the estimate of kappa.
        min_updates: a class is `known` from so many updates on.
    """

    mean: Tensor
    updates: Tensor
    steps: Tensor

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        decay: float = 0.9999,
        collection_steps: int = 10000,
        update_after_collection: bool = False,
        bias_correction: bool = True,
        kappa_max: float = 100.0,
        newton_steps: int = 0,
        min_updates: int = 2,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.classes, self.decay, self.collection_steps = classes, decay, collection_steps
        self.update_after_collection = update_after_collection
        self.bias_correction, self.kappa_max = bias_correction, kappa_max
        self.newton_steps, self.min_updates = newton_steps, min_updates
        self.register_buffer("mean", torch.zeros(classes, dim, dtype=dtype))
        self.register_buffer("updates", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def collecting(self) -> bool:
        """Whether the collection phase is still going on."""
        return int(self.steps) < self.collection_steps

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Takes in one batch; after the collection phase only with `update_after_collection`.

        Every rank must call it at every step, with or without points. Buffers change in place.

        Args:
            features: (M, C) unit rows; no gradient flows.
            labels: (M,) int64; values outside 0 .. K - 1 have no class and do not count.

        Raises:
            TrainingError: shapes that do not fit.
        """
        check_labels("class statistics", labels, len(features))
        if features.ndim != 2 or features.shape[1] != self.mean.shape[1]:
            raise TrainingError(
                f"class statistics got features {tuple(features.shape)}",
                f"give (M, {self.mean.shape[1]}) rows",
            )
        if not (self.collecting or self.update_after_collection):
            return
        self.steps += 1
        counted = (labels >= 0) & (labels < self.classes)
        rows = features.detach()[counted].to(self.mean.dtype)
        # a matrix product: sums in the same order every time, on GPUs too
        member = functional.one_hot(labels[counted], self.classes).to(rows.dtype)
        with torch.autocast(rows.device.type, enabled=False):
            sums = torch.cat([member.T @ rows, member.sum(0)[:, None]], dim=1)
        sums = _sum_over_ranks(sums)
        present = sums[:, -1] > 0
        self.updates += present
        weight = torch.full_like(sums[:, -1], 1 - self.decay)
        if self.bias_correction:
            # zbar / (1 - a^t) follows the same recursion with steps (1 - a) / (1 - a^t)
            weight = weight / -torch.expm1(self.updates.to(weight.dtype) * math.log(self.decay))
        batch_mean = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        step = torch.where(present, weight, 0.0)[:, None] * (batch_mean - self.mean)
        self.mean += step

    @torch.no_grad()
    def distributions(self) -> ClassDistributions:
        """The distributions by now: `mu = zbar / R`, `R = |zbar|`, `A_C(kappa) = R` (eqs. 7-9)."""
        resultant = self.mean.norm(dim=1)
        known = (self.updates >= self.min_updates) & (resultant > 0)
        direction = self.mean / resultant.clamp(min=torch.finfo(resultant.dtype).tiny)[:, None]
        bounded = resultant.double().clamp(*_RESULTANT)
        kappa = concentration(bounded, self.mean.shape[1], self.newton_steps)
        kappa = kappa.clamp(max=self.kappa_max).to(resultant.dtype)
        zero = torch.zeros((), dtype=resultant.dtype, device=resultant.device)
        return ClassDistributions(
            torch.where(known[:, None], direction, zero),
            torch.where(known, kappa, zero),
            resultant,
            known,
        )
