"""`Backbone`: input features and network as one thing, made from one config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from condense_ros import config
from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_ros.models.inputs import InputSpec
from condense_ros.models.unet import SparseUNet
from condense_ros.sparse import SparseTensor, Voxels

ARCHITECTURE = "sparse-unet"


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """Everything a backbone is built from; stored in each checkpoint."""

    input: InputSpec = dataclasses.field(default_factory=InputSpec)
    widths: tuple[int, ...] = parameter(
        (32, 32, 64, 128, 256, 256, 128, 96, 96),
        "channels of the stem, four encoder and four decoder levels",
        low=1,
        high=4096,
    )
    blocks: tuple[int, ...] = parameter(
        (2, 2, 2, 2, 2, 2, 2, 2),
        "residual blocks of the encoder and decoder levels",
        low=1,
        high=64,
    )
    stem_kernel: int = parameter(3, "odd kernel size of the first convolution", low=1, high=9)
    stem_layers: int = parameter(
        1, "convolutions of the stem; those after the first are 3x3x3", low=1, high=8
    )
    widening: str = parameter(
        "block", "where encoder levels take their width: block or down (the strided convolution)"
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {
            "architecture": ARCHITECTURE,
            "input": self.input.to_dict(),
            "widths": list(self.widths),
            "blocks": list(self.blocks),
            "stem_kernel": self.stem_kernel,
        }
        # named only where another network is meant: the identity of a checkpoint, which maps
        # remember, is a hash of this
        if self.stem_layers != 1:
            values["stem_layers"] = self.stem_layers
        if self.widening != "block":
            values["widening"] = self.widening
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BackboneConfig:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: another architecture, or values a backbone cannot be built from.
        """
        values = dict(values)
        architecture = values.pop("architecture", ARCHITECTURE)
        if architecture != ARCHITECTURE:
            raise ConfigError(
                f"backbone architecture {architecture!r}", f"this software knows {ARCHITECTURE!r}"
            )
        spec = values.pop("input", {})
        if not isinstance(spec, Mapping):
            raise ConfigError(f"backbone input is {spec!r}", "give the fields of an InputSpec")
        return config.build(cls, {**values, "input": config.build(InputSpec, spec)})


#: widths and blocks by name. unet14, unet18 and unet34c are the Res16UNet family of Choy et al.;
#: live is for a robot's own computer: under 5 GMAC on a sweep of 32 or 64 beams in voxels of 10 cm.
#: demo is narrow enough to train on two CPU cores.
presets: dict[str, dict[str, tuple[int, ...]]] = {
    "unet14": {
        "widths": (32, 32, 64, 128, 256, 128, 128, 96, 96),
        "blocks": (1, 1, 1, 1, 1, 1, 1, 1),
    },
    "unet18": {
        "widths": (32, 32, 64, 128, 256, 128, 128, 96, 96),
        "blocks": (2, 2, 2, 2, 2, 2, 2, 2),
    },
    "unet34c": {
        "widths": (32, 32, 64, 128, 256, 256, 128, 96, 96),
        "blocks": (2, 3, 4, 6, 2, 2, 2, 2),
    },
    "live": {
        "widths": (32, 32, 64, 96, 128, 96, 64, 48, 32),
        "blocks": (1, 1, 1, 1, 1, 1, 1, 1),
    },
    "demo": {
        "widths": (16, 16, 32, 48, 64, 48, 32, 32, 32),
        "blocks": (1, 1, 1, 1, 1, 1, 1, 1),
    },
}


def preset(name: str, input: InputSpec | None = None) -> BackboneConfig:
    """The config of a preset.

    Raises:
        ConfigError: no such preset.
    """
    if name not in presets:
        raise ConfigError(f"no backbone preset {name!r}", f"use one of: {', '.join(presets)}")
    shape = presets[name]
    return BackboneConfig(input or InputSpec(), shape["widths"], shape["blocks"])


class Backbone(nn.Module):
    """A sparse U-Net with the description of its input.

    Attributes:
        config: what it was built from.
        input: how clouds become its voxels.
        net: the network; its state dict has the prefix "net.".
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.net = SparseUNet(
            config.input.channels,
            config.widths,
            config.blocks,
            config.stem_kernel,
            config.stem_layers,
            config.widening,
        )

    @property
    def input(self) -> InputSpec:
        return self.config.input

    @property
    def out_channels(self) -> int:
        return self.net.out_channels

    def forward(self, voxels: Voxels) -> Tensor:
        """(M, out_channels) features of the voxels of one or several clouds."""
        features: Tensor = self.net(voxels.sparse_tensor()).features
        return features

    def tensor(self, voxels: Voxels) -> SparseTensor:
        """The same as a sparse tensor, for pooling per cloud and further layers."""
        out: SparseTensor = self.net(voxels.sparse_tensor())
        return out

    def point_features(self, voxels: Voxels) -> Tensor:
        """(N, out_channels) features of every point; zeros for points left out."""
        return voxels.to_points(self(voxels))


def build_backbone(config: BackboneConfig | str, input: InputSpec | None = None) -> Backbone:
    """A backbone with fresh weights (seed torch first) from a config or a preset's name.

    Args:
        input: input of a preset; ignored when a config is given, which has its own.

    Raises:
        ConfigError: unknown preset, or widths a network cannot have.
    """
    return Backbone(preset(config, input) if isinstance(config, str) else config)
