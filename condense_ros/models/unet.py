"""Residual sparse U-Net: features for every voxel of a cloud."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from condense_ros.errors import ConfigError, SparseError
from condense_ros.sparse import (
    BatchNorm,
    Linear,
    ReLU,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    TransposedConv3d,
    cat,
    conv_norm,
)

LEVELS = 4
WIDENINGS = ("block", "down")


class ConvNorm(nn.Sequential):
    """A convolution or linear map, its norm and, as a third part, perhaps a rectifier; a stem of
    several layers repeats the three."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        for i in range(0, len(self), 3):
            conv: Any = self[i]
            norm: Any = self[i + 1]
            x = conv_norm(conv, norm, x, relu=i + 2 < len(self))
        return x


class BasicBlock(nn.Module):
    """Two 3x3x3 submanifold convolutions around a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = SubmanifoldConv3d(in_channels, out_channels)
        self.norm1 = BatchNorm(out_channels)
        self.conv2 = SubmanifoldConv3d(out_channels, out_channels)
        self.norm2 = BatchNorm(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = ConvNorm(
                Linear(in_channels, out_channels, bias=False), BatchNorm(out_channels)
            )

    def forward(self, x: SparseTensor) -> SparseTensor:
        y = conv_norm(self.conv1, self.norm1, x, relu=True)
        if isinstance(self.shortcut, ConvNorm):
            x = self.shortcut(x)
        return conv_norm(self.conv2, self.norm2, y, residual=x, relu=True)


def _stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    channels = [in_channels] + [out_channels] * blocks
    return nn.Sequential(*(BasicBlock(a, b) for a, b in pairwise(channels)))


class SparseUNet(nn.Module):
    """Encoder of four strided levels and a decoder with skip connections, after Res16UNet
    (Choy et al. 2019, "4D Spatio-Temporal ConvNets", section 5).

    Args:
        in_channels: features per input voxel.
        widths: stem, four encoder levels, four decoder levels: 9 channel counts.
        blocks: residual blocks of the four encoder and the four decoder levels: 8 counts.
        stem_kernel: odd kernel size of the first convolution.
        stem_layers: convolutions of the stem; those after the first are 3x3x3 (two in the
            MinkUNet of Tang et al. 2020).
        widening: where an encoder level takes its width: "block", in its first residual block
            (Choy et al.), or "down", in the strided convolution before it (SpUNet of Pointcept).

    Raises:
        ConfigError: not 9 positive widths and 8 positive block counts, an even stem kernel, no
            stem, or another widening.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        stem_kernel: int = 3,
        stem_layers: int = 1,
        widening: str = "block",
    ) -> None:
        super().__init__()
        widths, blocks = tuple(widths), tuple(blocks)
        if len(widths) != 1 + 2 * LEVELS or min(widths) < 1:
            raise ConfigError(
                f"backbone widths are {widths}",
                "give 9 positive channel counts: stem, 4 encoder levels, 4 decoder levels",
            )
        if len(blocks) != 2 * LEVELS or min(blocks) < 1:
            raise ConfigError(
                f"backbone blocks are {blocks}", "give 8 positive block counts, one per level"
            )
        if stem_kernel < 1 or stem_kernel % 2 == 0:
            raise ConfigError(f"stem_kernel is {stem_kernel}", "use an odd kernel size")
        if stem_layers < 1:
            raise ConfigError(f"stem_layers is {stem_layers}", "use at least one convolution")
        if widening not in WIDENINGS:
            raise ConfigError(f"widening is {widening!r}", f"use one of: {', '.join(WIDENINGS)}")
        self.in_channels, self.widths, self.blocks = in_channels, widths, blocks
        stem: list[nn.Module] = []
        for i in range(stem_layers):
            c_in, size = (widths[0], 3) if i else (in_channels, stem_kernel)
            stem += [SubmanifoldConv3d(c_in, widths[0], size), BatchNorm(widths[0]), ReLU()]
        self.stem = ConvNorm(*stem)
        down, encoder = [], []
        for i in range(LEVELS):
            c = widths[i + 1] if widening == "down" else widths[i]
            down.append(ConvNorm(StridedConv3d(widths[i], c), BatchNorm(c), ReLU()))
            encoder.append(_stage(c, widths[i + 1], blocks[i]))
        up, decoder = [], []
        for i in range(LEVELS):
            c_in, c_out, skip = widths[LEVELS + i], widths[LEVELS + 1 + i], widths[LEVELS - 1 - i]
            up.append(ConvNorm(TransposedConv3d(c_in, c_out), BatchNorm(c_out), ReLU()))
            decoder.append(_stage(c_out + skip, c_out, blocks[LEVELS + i]))
        self.down, self.encoder = nn.ModuleList(down), nn.ModuleList(encoder)
        self.up, self.decoder = nn.ModuleList(up), nn.ModuleList(decoder)

    @property
    def out_channels(self) -> int:
        return self.widths[-1]

    def encode(self, x: SparseTensor) -> list[SparseTensor]:
        """Features of strides 1, 2, 4, 8 and 16."""
        if x.channels != self.in_channels:
            raise SparseError(
                f"{x.channels} features per voxel for a network of {self.in_channels}",
                "voxelize with the backbone's own InputSpec",
            )
        levels = [self.stem(x)]
        for down, stage in zip(self.down, self.encoder, strict=True):
            levels.append(stage(down(levels[-1])))
        return levels

    def decode(self, levels: list[SparseTensor]) -> SparseTensor:
        """Back from the coarsest level to stride 1, on the voxels of the input."""
        x = levels[-1]
        for up, stage, skip in zip(self.up, self.decoder, levels[-2::-1], strict=True):
            x = stage(cat(up(x), skip))
        return x

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features (N, out_channels) on the input's voxels, in its row order."""
        return self.decode(self.encode(x))
