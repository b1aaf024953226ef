"""What a recipe is: ordered stages over named model parts.

A recipe file (`recipes/janda.py`) is written in these terms only; the trainer knows nothing else
about it. Samples are made by pure functions of (frame, random generator), so any step's batch can
be made again, in any process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.optim import Optimizer

from condense_ros.frame import Frame

#: arrays of one training sample, by name
Sample = dict[str, npt.NDArray[Any]]
#: tensors of one batch, by name
Batch = dict[str, Tensor]
#: model parts by name
Parts = nn.ModuleDict


@dataclass(frozen=True)
class Stage:
    """One phase of training with its own data, loss and optimiser.

    Attributes:
        name: shown in logs and progress.
        steps: optimiser steps.
        batch_size: samples per step.
        trainable: parts in train mode, whose parameters the optimiser gets.
        frozen: parts in eval mode, without gradients; no tensor of them changes.
        sample: makes one sample, or None where the frame has nothing to learn from (it is replaced
            by another frame).
        collate: samples -> batch.
        loss: (parts, batch) -> (scalar loss, further numbers for the log).
        optimiser: parameters -> optimiser, with the base learning rate.
        schedule: step -> factor of the base learning rate.
        frozen_until: parameter name prefixes ("image.encoder") -> step at which they start to
            learn.
    """

    name: str
    steps: int
    batch_size: int
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    sample: Callable[[Frame, np.random.Generator], Sample | None]
    collate: Callable[[Sequence[Sample]], Batch]
    loss: Callable[[Parts, Batch], tuple[Tensor, dict[str, float]]]
    optimiser: Callable[[list[nn.Parameter]], Optimizer]
    schedule: Callable[[int], float]
    frozen_until: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A way to pretrain the 3D backbone.

    Attributes:
        name: as on the command line.
        settings: every value the result depends on, JSON; a changed value forbids resuming.
        build: makes the parts; called after the random generator was seeded.
        stages: in order; a stage's parts start as the stage before left them.
        backbone: name of the part that is exported.
        supervision: where the recipe's knowledge comes from, written into the checkpoint.
        head: name of a trained linear segmentation head that is exported with it; empty for none.
    """

    name: str
    settings: dict[str, Any]
    build: Callable[[], Parts]
    stages: tuple[Stage, ...]
    backbone: str
    supervision: str = "none: self-supervised"
    head: str = ""
