"""One optimiser step: what learns in it, and what happens when it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from condense_ros.errors import TrainingError
from condense_training.distributed import average_gradients, mean_of
from condense_training.recipe import Batch, Parts, Stage
from condense_training.validation import mean_terms


def set_modes(parts: Parts, stage: Stage, step: int) -> list[nn.Parameter]:
    """Puts parts into train or eval mode and marks what learns; returns the stage's parameters."""
    parts.requires_grad_(False)
    parts.eval()
    for name in stage.trainable:
        parts[name].train().requires_grad_(True)
    parameters = [p for name in stage.trainable for p in parts[name].parameters()]
    waiting = tuple(f"{prefix}." for prefix, until in stage.frozen_until.items() if step < until)
    for name, weight in parts.named_parameters():
        if name.startswith(waiting):
            weight.requires_grad_(False)
    return parameters


def _running_statistics(parts: Parts) -> list[tuple[Tensor, Tensor]]:
    return [(buffer, buffer.clone()) for buffer in parts.buffers()]


def train_step(
    parts: Parts,
    stage: Stage,
    batches: Batch | Iterator[Batch],
    optimiser: torch.optim.Optimizer,
    *,
    micro_batches: int = 1,
    bfloat16: bool = False,
) -> tuple[float, float, dict[str, float], bool]:
    """(loss, gradient norm, log terms, skipped): a step with NaN or infinity, in any process,
    changes nothing in all of them.

    Args:
        batches: the batch of the step, or its micro-batches one after the other.
    """
    before = _running_statistics(parts)
    parts.zero_grad(set_to_none=True)  # also what an earlier stage left on parts now frozen
    values, terms, norm = [], [], math.nan
    for batch in iter([batches]) if isinstance(batches, dict) else batches:
        kind = next(iter(batch.values())).device.type
        with torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
            loss, more = stage.loss(parts, batch)
        terms.append(more)
        # a mean over the processes is finite in all of them or in none
        values.append(mean_of(float(loss.detach())))
        if not math.isfinite(values[-1]):
            break
        (loss / micro_batches).backward()
    value = sum(values) / len(values)
    if math.isfinite(value):
        average_gradients([p for p in parts.parameters() if p.requires_grad])
        gradients = [p.grad for p in parts.parameters() if p.grad is not None]
        if not gradients:
            raise TrainingError(
                f"no parameter of stage {stage.name!r} gets a gradient",
                "name the parts its loss uses in `trainable`",
            )
        norm = float(torch.stack([g.norm() for g in gradients]).norm())
    if not math.isfinite(norm):
        # the forward pass has already put the bad values into batch statistics
        for buffer, old in before:
            buffer.copy_(old)
        return value, norm, mean_terms(terms), True
    optimiser.step()
    return value, norm, mean_terms(terms), False
