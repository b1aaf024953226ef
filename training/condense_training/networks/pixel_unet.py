"""Pixel feature network: ResNet encoder, Monodepth2-style decoder (Janda et al., section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from condense_ros.errors import CheckpointError, TrainingError
from condense_ros.models import TransferReport, transfer_weights
from condense_training.networks.resnet import ResNetEncoder, normalize_images

#: name -> (encoder widths, encoder blocks)
PIXEL_NETWORKS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "resnet34": ((64, 128, 256, 512), (3, 4, 6, 3)),
    "resnet18": ((64, 128, 256, 512), (2, 2, 2, 2)),
    "small": ((24, 48, 64, 96), (1, 1, 1, 1)),
}
STRIDE = 32


class _Level(nn.Module):
    """3x3 convolution + ELU, nearest x2, skip concatenated, 3x3 convolution + ELU."""

    def __init__(self, in_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.merge = nn.Conv2d(channels + skip_channels, channels, 3, padding=1)
        for conv in (self.reduce, self.merge):
            nn.init.kaiming_normal_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = functional.interpolate(functional.elu(self.reduce(x)), scale_factor=2, mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return functional.elu(self.merge(x))


class PixelUNet(nn.Module):
    """(B, 3, H, W) uint8 RGB images -> (B, out_channels, H, W) features, one per pixel.

    Args:
        widths, blocks: of the encoder, see `ResNetEncoder`.
        out_channels: feature length (16 in the paper; planes above it double, up to half of the
            deepest encoder width: 256, 128, 64, 32, 16).
    """

    #: a feature for every pixel
    stride = 1

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], out_channels: int = 16
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.encoder = ResNetEncoder(widths, blocks)
        skips = (widths[2], widths[1], widths[0], 0, 0)
        planes = [min(out_channels * 2**level, widths[-1] // 2) for level in (4, 3, 2, 1, 0)]
        channels = widths[-1]
        levels = []
        for skip, plane in zip(skips, planes, strict=True):
            levels.append(_Level(channels, skip, max(plane, out_channels)))
            channels = max(plane, out_channels)
        self.levels = nn.ModuleList(levels)

    @property
    def trunk_channels(self) -> int:
        """Length of a feature of `trunk`."""
        return sum(self.encoder.widths)

    def trunk(self, images: Tensor) -> Tensor:
        """The encoder's maps of all levels as one, (B, trunk_channels, H / 4, W / 4): coarser ones
        upsampled (`align_corners=True`), each level's feature of unit length before.

        What stage 1 learned for its own task sits in the last layers; the maps before them tell
        more about what a pixel shows, and a head can choose among them.

        Raises:
            TrainingError: height or width not a multiple of 32.
        """
        maps = [functional.normalize(m, dim=1) for m in self._encoded(images)]
        size = maps[0].shape[-2:]
        rest = [
            functional.interpolate(m, size, mode="bilinear", align_corners=True) for m in maps[1:]
        ]
        return torch.cat([maps[0], *rest], dim=1)

    def _encoded(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE or not height or not width:
            raise TrainingError(
                f"the image network got {height}x{width} pixels",
                f"crop or resize images to multiples of {STRIDE}",
            )
        maps: list[Tensor] = self.encoder(normalize_images(images))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Features at input resolution, not normalised.

        Raises:
            TrainingError: height or width not a multiple of 32.
        """
        maps = self._encoded(images)
        x = maps[3]
        for level, skip in zip(self.levels, (maps[2], maps[1], maps[0], None, None), strict=True):
            x = level(x, skip)
        return x


def build_pixel_network(name: str, out_channels: int = 16) -> PixelUNet:
    """The network of that name in `PIXEL_NETWORKS`, randomly initialised.

    Raises:
        TrainingError: unknown name.
    """
    if name not in PIXEL_NETWORKS:
        raise TrainingError(
            f"unknown image network {name!r}", f"use one of: {', '.join(PIXEL_NETWORKS)}"
        )
    return PixelUNet(*PIXEL_NETWORKS[name], out_channels)


def load_encoder(network: PixelUNet, path: Path) -> TransferReport:
    """Copies an encoder's weights (torchvision names) from a .safetensors or plain tensor file.

    Raises:
        CheckpointError: the file is missing or holds no tensor of this encoder.
    """
    if not path.is_file():
        raise CheckpointError(f"no image encoder weights at {path}", "give a file that exists")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        try:
            # weights_only: tensors in plain containers; anything that would run code is refused
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{path} is no plain tensor file ({error})", "export a state dict or safetensors"
            ) from error
    report = transfer_weights(network.encoder, weights)
    if not report.loaded:
        raise CheckpointError(
            f"{path} holds no tensor of this image encoder", "use weights of the same ResNet"
        )
    return report
