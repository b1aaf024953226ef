"""Optimisers by name, with the settings the recipes share."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from condense_ros.errors import ConfigError


def build_optimiser(
    name: str, lr: float, weight_decay: float, parameters: list[nn.Parameter]
) -> Optimizer:
    """ "sgd" (momentum 0.9, dampening 0.1, as Janda et al. and CSC) or "adamw".

    Raises:
        ConfigError: unknown name.
    """
    if name == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=0.9, dampening=0.1, weight_decay=weight_decay
        )
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    raise ConfigError(f"unknown optimiser {name!r}", "use sgd or adamw")
