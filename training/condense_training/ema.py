"""An exponential moving average of the weights: steadier than the weights of any one step."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from condense_training.recipe import Parts


class WeightAverage:
    """`average <- decay * average + (1 - decay) * weight`, from the initial weights on.

    Buffers (running statistics, counters) are copied. After n steps with weights w_1 .. w_n it is
    `decay^n w_0 + (1 - decay) sum_k decay^(n - k) w_k`.

    Attributes:
        parts: the averaged parts, in eval mode and without gradients.
    """

    def __init__(self, parts: Parts, decay: float) -> None:
        self.decay = decay
        self.parts: Parts = copy.deepcopy(parts).requires_grad_(False)
        self.parts.eval()

    @torch.no_grad()
    def update(self, parts: Parts, names: Sequence[str]) -> None:
        """Takes in the named parts after an optimiser step; the others have not changed."""
        for name in names:
            old, new = self.parts[name], parts[name]
            for mean, weight in zip(old.parameters(), new.parameters(), strict=True):
                mean.lerp_(weight, 1 - self.decay)
            for copied, buffer in zip(old.buffers(), new.buffers(), strict=True):
                copied.copy_(buffer)
