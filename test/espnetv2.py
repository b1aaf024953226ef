"""ESPNetv2 for street scenes (Mehta et al., CVPR 2019), for tests with real weights only.

A small closed-set network trained on Cityscapes: no foundation model, no labeler of the product. It
shows that the label pipeline gives sensible labels on real images where real weights go in.
Module names are those of the published weight files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from condense_training.labels.id_maps import IdMap
from condense_training.labels.images import SourceImage
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import LabelImage

#: width factor -> channels at strides 2, 4, 8, 16
CHANNELS = {0.5: (16, 32, 64, 128), 2.0: (32, 128, 256, 512)}
CLASSES = 20  # 19 of Cityscapes, and background


def named(**parts: nn.Module) -> nn.Sequential:
    """A sequence with named parts."""
    made = nn.Sequential()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


def conv(inward: int, out: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1):
    padding = (kernel - 1) // 2 * dilation
    return nn.Conv2d(inward, out, kernel, stride, padding, dilation, groups, bias=False)


def conv_bn(inward: int, out: int, kernel: int, stride: int = 1, groups: int = 1):
    return named(conv=conv(inward, out, kernel, stride, groups), bn=nn.BatchNorm2d(out))


def conv_bn_act(inward: int, out: int, kernel: int, stride: int = 1, groups: int = 1):
    made = conv_bn(inward, out, kernel, stride, groups)
    made.add_module("act", nn.PReLU(out))
    return made


class Pyramid(nn.Module):
    """EESP unit: grouped reduction, dilated depthwise branches added up one after another."""

    def __init__(self, inward: int, out: int, stride: int, reach: int) -> None:
        super().__init__()
        part = out // 4
        self.down = stride == 2
        self.proj_1x1 = conv_bn_act(inward, part, 1, groups=4)
        # receptive fields 3, 5, 7, 9, those beyond the reach replaced by 3
        fields = sorted(size if size <= reach else 3 for size in (3, 5, 7, 9))
        self.spp_dw = nn.ModuleList(
            named(conv=conv(part, part, 3, stride, part, (size - 1) // 2)) for size in fields
        )
        self.conv_1x1_exp = conv_bn(out, out, 1, groups=4)
        self.br_after_cat = named(bn=nn.BatchNorm2d(out), act=nn.PReLU(out))
        self.module_act = nn.PReLU(out)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)
        branches: list[Tensor] = []
        for branch in self.spp_dw:
            made = branch(reduced)
            branches.append(made + branches[-1] if branches else made)
        merged = self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, 1)))
        if self.down:
            return merged
        return self.module_act(merged + x if merged.shape == x.shape else merged)


class Down(nn.Module):
    """Half the size: average pooling beside a strided unit, the shrunk image added."""

    def __init__(self, inward: int, out: int, reach: int) -> None:
        super().__init__()
        self.eesp = Pyramid(inward, out - inward, 2, reach)
        self.inp_reinf = nn.Sequential(conv_bn_act(3, 3, 3), conv_bn(3, out, 1))
        self.act = nn.PReLU(out)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        pooled = functional.avg_pool2d(x, 3, 2, 1)
        while image.shape[2] > pooled.shape[2]:
            image = functional.avg_pool2d(image, 3, 2, 1)
        return self.act(torch.cat([pooled, self.eesp(x)], 1) + self.inp_reinf(image))


class Shuffle(nn.Module):
    """Channels of several groups interleaved."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Pool(nn.Module):
    """Depthwise filters at five scales, merged."""

    SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)

    def __init__(self, inward: int, middle: int, out: int, last: bool = False) -> None:
        super().__init__()
        self.projection_layer = named(cbr=nn.Sequential(*conv_bn_act(inward, middle, 1)))
        self.stages = nn.ModuleList(conv(middle, middle, 3, groups=middle) for _ in self.SCALES)
        wide = middle * len(self.SCALES)
        self.merge_layer = nn.Sequential(
            named(br=nn.Sequential(nn.BatchNorm2d(wide), nn.PReLU(wide))),
            Shuffle(len(self.SCALES)),
            named(cbr=nn.Sequential(*conv_bn_act(wide, middle, 3, groups=middle))),
            nn.Conv2d(middle, out, 1, bias=last),
        )
        self.last = last
        if not last:
            self.br = named(br=nn.Sequential(nn.BatchNorm2d(out), nn.PReLU(out)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)
        full = x.shape[2:]
        seen = []
        for scale, stage in zip(self.SCALES, self.stages, strict=True):
            size = tuple(max(5, math.ceil(side * scale)) for side in full)
            if scale < 1:
                seen.append(_bilinear(stage(functional.adaptive_avg_pool2d(x, size)), full))
            elif scale > 1:
                seen.append(functional.adaptive_avg_pool2d(stage(_bilinear(x, size)), full))
            else:
                seen.append(stage(x))
        merged = self.merge_layer(torch.cat(seen, 1))
        return merged if self.last else self.br(merged)


class Lateral(nn.Module):
    """Encoder features brought to the decoder's width, channels weighed by their global mean."""

    def __init__(self, inward: int, out: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inward, out, 1, bias=False), nn.Sigmoid()
        )
        groups = math.gcd(inward, out)
        self.expansion_layer = named(cbr=nn.Sequential(*conv_bn_act(inward, out, 3, groups=groups)))

    def forward(self, x: Tensor) -> Tensor:
        return self.expansion_layer(x) * self.wt_layer(x)


class Encoder(nn.Module):
    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.level1 = conv_bn_act(3, widths[0], 3, 2)
        self.level2_0 = Down(widths[0], widths[1], 13)
        self.level3_0 = Down(widths[1], widths[2], 11)
        self.level3 = nn.ModuleList(Pyramid(widths[2], widths[2], 1, 9) for _ in range(3))
        self.level4_0 = Down(widths[2], widths[3], 9)
        self.level4 = nn.ModuleList(Pyramid(widths[3], widths[3], 1, 7) for _ in range(7))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8 and 16."""
        maps = [self.level1(image)]
        maps.append(self.level2_0(maps[-1], image))
        for down, units in ((self.level3_0, self.level3), (self.level4_0, self.level4)):
            x = down(maps[-1], image)
            for unit in units:
                x = unit(x)
            maps.append(x)
        return maps


class EspNetV2(nn.Module):
    """(B, 3, H, W) normalised images -> (B, 20, H, W) logits."""

    def __init__(self, width: float) -> None:
        super().__init__()
        w = CHANNELS[width]
        self.base_net = Encoder(w)
        self.bu_dec_l1 = Pool(w[3], 10, 64)
        self.bu_dec_l2 = Pool(64, 10, 48)
        self.bu_dec_l3 = Pool(48, 10, 32)
        self.bu_dec_l4 = Pool(32, 10, CLASSES, last=True)
        self.merge_enc_dec_l2 = Lateral(w[2], 64)
        self.merge_enc_dec_l3 = Lateral(w[1], 48)
        self.merge_enc_dec_l4 = Lateral(w[0], 32)
        for level, channels in ((2, 64), (3, 48), (4, 32)):
            self.add_module(
                f"bu_br_l{level}", nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))
            )

    def forward(self, image: Tensor) -> Tensor:
        maps = self.base_net(image)
        x = self.bu_dec_l1(maps[3])
        for level, skip in ((2, maps[2]), (3, maps[1]), (4, maps[0])):
            parts = self.get_submodule
            x = parts(f"merge_enc_dec_l{level}")(skip) + _bilinear(x, skip.shape[2:])
            x = parts(f"bu_dec_l{level}")(parts(f"bu_br_l{level}")(x))
        return _bilinear(x, image.shape[2:])


def _bilinear(x: Tensor, size: Any) -> Tensor:
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


class EspNetLabeler:
    """A dense labeler for nuscenes_16.

    Args:
        weights: published file, or None for random weights.
        size: the image is resized to this (width, height) for the network.
    """

    def __init__(
        self, weights: Path | None, width: float = 2.0, size: tuple[int, int] = (1024, 512)
    ) -> None:
        torch.manual_seed(0)
        self.network = EspNetV2(width)
        digest = "random"
        if weights is not None:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            self.network.load_state_dict(state)  # strict: every weight has its place
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.network.eval()
        self.ontology = LabelOntology.load("nuscenes_16")
        self.identity: Mapping[str, Any] = {"weights": digest, "size": list(size)}
        id_map = IdMap.load("cityscapes")
        # its names stand in the order of Cityscapes' training ids, which the network uses
        table = id_map.name_table(dict(enumerate(id_map.names or {})), self.ontology)
        self._table = np.append(table, 255)  # background
        self._size = size

    @torch.inference_mode()
    def label(self, image: SourceImage) -> LabelImage:
        height, width = image.pixels.shape[:2]
        small = cv2.resize(image.pixels, self._size, interpolation=cv2.INTER_LINEAR)
        values = torch.from_numpy(small.astype(np.float32) / 255).permute(2, 0, 1)[None]
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        logits = self.network((values - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        logits = functional.interpolate(
            logits, (height, width), mode="bilinear", align_corners=False
        )
        sure, best = logits[0].softmax(0).max(0)
        labels = self._table[best.numpy()].astype(np.uint8)
        return LabelImage(labels, np.where(labels == 255, 0, sure.numpy()).astype(np.float32))
