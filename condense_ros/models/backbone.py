"""`Backbone`: input features and network as one thing, made from one config."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from condense_ros.models.catalogue import preset, presets
from condense_ros.models.configs import (
    AnyBackboneConfig,
    BackboneConfig,
    VoxelNetConfig,
    WaffleIronConfig,
)
from condense_ros.models.inputs import InputSpec
from condense_ros.models.unet import SparseUNet
from condense_ros.models.voxelnet import VoxelNet
from condense_ros.models.waffleiron import WaffleIron
from condense_ros.sparse import SparseTensor, Voxels

__all__ = ["Backbone", "BackboneConfig", "build_backbone", "preset", "presets"]


def _network(config: AnyBackboneConfig) -> nn.Module:
    if isinstance(config, VoxelNetConfig):
        return VoxelNet(config)
    if isinstance(config, WaffleIronConfig):
        return WaffleIron(config)
    return SparseUNet(
        config.input.channels,
        config.widths,
        config.blocks,
        config.stem_kernel,
        config.stem_layers,
        config.widening,
    )


class Backbone(nn.Module):
    """A network with the description of its input: features for every voxel, whatever is inside.

    Attributes:
        config: what it was built from.
        input: how clouds become its voxels.
        net: the network, a `SparseUNet` (of a sparse tensor), `VoxelNet` or `WaffleIron` (of
            voxels); its state dict has the prefix "net.".
    """

    def __init__(self, config: AnyBackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.net: Any = _network(config)

    @property
    def input(self) -> InputSpec:
        return self.config.input

    @property
    def out_channels(self) -> int:
        return self.config.out_channels

    def forward(self, voxels: Voxels) -> Tensor:
        """(M, out_channels) features of the voxels of one or several clouds."""
        unet = isinstance(self.net, SparseUNet)
        features: Tensor = self.net(voxels.sparse_tensor()).features if unet else self.net(voxels)
        return features

    def tensor(self, voxels: Voxels) -> SparseTensor:
        """The same as a sparse tensor, for pooling per cloud and further layers."""
        x = voxels.sparse_tensor()
        if isinstance(self.net, SparseUNet):
            out: SparseTensor = self.net(x)
            return out
        return x.replace(self.net(voxels))

    def point_features(self, voxels: Voxels) -> Tensor:
        """(N, out_channels) features of every point; zeros for points left out."""
        return voxels.to_points(self(voxels))


def build_backbone(config: AnyBackboneConfig | str, input: InputSpec | None = None) -> Backbone:
    """A backbone with fresh weights (seed torch first) from a config or a preset's name.

    Args:
        input: input of a preset; ignored when a config is given, which has its own.

    Raises:
        ConfigError: unknown preset, or values a network cannot have.
    """
    return Backbone(preset(config, input) if isinstance(config, str) else config)
