"""Batch norms of a backbone: their momentum, and their statistics when it is finished."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from condense_ros.frame import PointCloud
from condense_ros.models import Backbone


def _norms(backbone: Backbone) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def set_momentum(backbone: Backbone, momentum: float) -> None:
    """Share of a batch in the running statistics of every batch norm."""
    for norm in _norms(backbone):
        norm.momentum = momentum


@torch.no_grad()
def calibrate_batch_norm(backbone: Backbone, clouds: Iterable[PointCloud]) -> None:
    """Replaces running statistics by those of these clouds, each weighing the same; ends in eval.

    Statistics gathered while training are those of augmented clouds under changing weights. And a
    random network has none of its own: probed without this it would be a strawman.
    """
    norms = _norms(backbone)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    for cloud in clouds:
        backbone(backbone.input.voxelize(cloud))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    backbone.eval()
