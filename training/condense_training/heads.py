"""Projection heads between features and losses; thrown away after pretraining."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from condense_ros.errors import ConfigError
from condense_training.losses.inputs import unit_rows

HEADS = ("linear", "mlp")


def projection_head(kind: str, in_channels: int, out_channels: int) -> nn.Module:
    """(n, in_channels) -> (n, out_channels): "linear", or "mlp" with a hidden layer of the width of
    its input.

    Raises:
        ConfigError: another kind.
    """
    if kind not in HEADS:
        raise ConfigError(f"unknown head {kind!r}", f"use {' or '.join(HEADS)}")
    if kind == "linear":
        return nn.Linear(in_channels, out_channels)
    return nn.Sequential(
        nn.Linear(in_channels, in_channels, bias=False),
        nn.BatchNorm1d(in_channels),
        nn.ReLU(),
        nn.Linear(in_channels, out_channels),
    )


class PairHeads(nn.Module):
    """Heads that bring points and pixels into common spaces: one of single pairs, one of classes
    (OLIVINE, section 3; table 6b compares with one space for both).

    A head on pixels is a 1x1 convolution followed by bilinear upsampling in the papers. Both are
    linear with weights that add up to one, so sampling the map first and projecting the sampled
    rows gives the same, at the cost of some pairs instead of a full image of features.

    Args:
        point_channels, pixel_channels: of the backbone and of the teacher.
        dim: of the common spaces.
        shared: one space, and one head per side, for pairs and classes.
        kind: of the heads on points; those on pixels are linear.
    """

    def __init__(
        self,
        point_channels: int,
        pixel_channels: int,
        dim: int,
        *,
        shared: bool = False,
        kind: str = "linear",
    ) -> None:
        super().__init__()
        spaces = ("pair",) if shared else ("pair", "class")
        self.shared = shared
        self.points = nn.ModuleDict({s: projection_head(kind, point_channels, dim) for s in spaces})
        self.pixels = nn.ModuleDict({s: nn.Linear(pixel_channels, dim) for s in spaces})

    def point_rows(self, space: str, features: Tensor) -> Tensor:
        """Unit rows (n, dim) of backbone features in space "pair" or "class"."""
        return unit_rows(self.points["pair" if self.shared else space](features))

    def pixel_rows(self, space: str, features: Tensor) -> Tensor:
        """Unit rows (n, dim) of teacher features in space "pair" or "class"."""
        return unit_rows(self.pixels["pair" if self.shared else space](features))

    def pixel_maps(self, space: str, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Unit features (B, dim, *size) of every pixel in space "pair" or "class".

        The head as the papers have it: a 1x1 convolution, then bilinear upsampling with aligned
        corners.

        Args:
            maps: (B, pixel_channels, h, w).
            size: (H, W) of the images.
        """
        linear = cast(nn.Linear, self.pixels["pair" if self.shared else space])
        projected = functional.conv2d(maps, linear.weight[:, :, None, None], linear.bias)
        if projected.shape[-2:] != size:
            projected = functional.interpolate(projected, size, mode="bilinear", align_corners=True)
        if projected.dtype != torch.float64:
            projected = projected.float()
        return functional.normalize(projected, dim=1)
