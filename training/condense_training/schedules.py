"""Learning rate schedules: step -> factor of the base learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from condense_ros.errors import ConfigError


def exponential(gamma: float = 0.99, every: int = 1000) -> Callable[[int], float]:
    """`gamma ** (step // every)`."""
    return lambda step: gamma ** (step // every)


def warmup_cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Linear rise over `warmup` steps, then a half cosine down to zero after `steps`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return factor


def build_schedule(name: str, steps: int) -> Callable[[int], float]:
    """ "exponential" (0.99 every 1000 steps), "cosine" (over `steps`, a tenth of it warm-up) or
    "cosine_annealing" (the same without warm-up).

    Raises:
        ConfigError: unknown name.
    """
    if name == "exponential":
        return exponential()
    if name == "cosine":
        return warmup_cosine(steps, max(1, steps // 10))
    if name == "cosine_annealing":
        return warmup_cosine(steps, 0)
    raise ConfigError(f"unknown schedule {name!r}", "use exponential, cosine or cosine_annealing")
