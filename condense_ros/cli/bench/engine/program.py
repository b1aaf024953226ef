"""A U-Net as a list of plain steps with folded weights, for libraries that know nothing of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from condense_ros.errors import ConfigError
from condense_ros.models import SparseUNet
from condense_ros.models.unet import BasicBlock, ConvNorm
from condense_ros.sparse import Linear, StridedConv3d, SubmanifoldConv3d, TransposedConv3d

Step = dict[str, Any]
Weights = dict[str, np.ndarray]


class _Writer:
    """Steps on numbered registers; 0 holds the input."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.weights: Weights = {}
        self._last = 0

    def _register(self) -> int:
        self._last += 1
        return self._last

    def convolution(
        self, conv: Any, norm: Any, source: int, level: int, relu: bool, add: int | None = None
    ) -> int:
        """relu(conv + bias + register `add`), norm folded; level: halvings before the source."""
        name, target = f"w{len(self.steps)}", self._register()
        scale, shift = norm.scale_and_shift()
        if conv.bias is not None:
            shift = shift + conv.bias.float() * scale
        weight = conv.weight.t()[None] if isinstance(conv, Linear) else conv.weight
        self.weights[name] = (weight.float() * scale).detach().cpu().numpy()
        self.weights[f"{name}_bias"] = shift.detach().cpu().numpy()
        kind, size = "linear", 1
        if not isinstance(conv, Linear):
            kind = {
                SubmanifoldConv3d: "submanifold",
                StridedConv3d: "strided",
                TransposedConv3d: "transposed",
            }[type(conv)]
            size = conv.kernel[0]
            usual = (size,) * 3 == conv.kernel and conv.dilation == (1, 1, 1)
            if kind != "submanifold":
                usual &= size == 2 and conv.stride == (2, 2, 2) and conv.padding is None
            if not usual:
                raise ConfigError(
                    f"peers know no {kind} convolution {conv}", "measure a U-Net without --peers"
                )
        self.steps.append(
            {
                "kind": kind,
                "weight": name,
                "size": size,
                "level": level,
                "source": source,
                "target": target,
                "relu": relu,
                "add": add,
            }
        )
        return target

    def part(self, part: nn.Module, source: int, level: int) -> int:
        """Convolutions with norms, or a block, or a row of them."""
        if isinstance(part, ConvNorm):
            for i in range(0, len(part), 3):
                relu = i + 2 < len(part)
                source = self.convolution(part[i], part[i + 1], source, level, relu)
            return source
        if isinstance(part, BasicBlock):
            first = self.convolution(part.conv1, part.norm1, source, level, True)
            if isinstance(part.shortcut, ConvNorm):
                source = self.part(part.shortcut, source, level)
            return self.convolution(part.conv2, part.norm2, first, level, True, source)
        if isinstance(part, nn.Sequential):
            for one in part:
                source = self.part(one, source, level)
            return source
        raise ConfigError(f"peers know no {type(part).__name__}", "measure a U-Net without --peers")

    def join(self, first: int, second: int) -> int:
        """Channels of two registers side by side."""
        target = self._register()
        self.steps.append({"kind": "join", "source": first, "add": second, "target": target})
        return target


def program(network: nn.Module) -> tuple[list[Step], Weights]:
    """Steps and folded weights, (K, C_in, C_out) float32 and (C_out,), of a U-Net.

    Raises:
        ConfigError: another network, or a convolution that peers do not know.
    """
    if not isinstance(network, SparseUNet):
        raise ConfigError(
            f"peers know no {type(network).__name__}", "measure this network without --peers"
        )
    writer = _Writer()
    with torch.no_grad():
        levels = [writer.part(network.stem, 0, 0)]
        for level, (down, stage) in enumerate(zip(network.down, network.encoder, strict=True)):
            x = writer.part(down, levels[-1], level)
            levels.append(writer.part(stage, x, level + 1))
        x = levels.pop()
        for up, stage in zip(network.up, network.decoder, strict=True):
            level = len(levels)
            x = writer.join(writer.part(up, x, level), levels.pop())
            x = writer.part(stage, x, level - 1)
    return writer.steps, writer.weights
