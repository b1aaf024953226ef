"""Frozen image networks that teach points: ResNet-50, DINOv2 and DINOv3, from files or the hub.

A teacher is found first (its weights located, hashed and compared with what is expected), so that
a run can note what it depends on, and built later.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from condense_ros.errors import CheckpointError, ConfigError
from condense_ros.models.convert.weights import read_weights
from condense_training.labels.libraries import transformers_class
from condense_training.labels.weights import (
    ModelFolder,
    check_hash,
    file_hash,
    find_model,
    load_network,
)
from condense_training.networks.resnet import IMAGE_MEAN, IMAGE_STD, normalize_images
from condense_training.networks.resnet50 import ResNet50, load_resnet50


class Teacher(Protocol):
    """Images in, features out: (B, 3, H, W) uint8 RGB -> (B, out_channels, h, w).

    `sample_features` reads the map at pixels of the images.

    Attributes:
        out_channels: length of a feature.
        stride: pixels between two features, about.
    """

    out_channels: int
    stride: int

    def __call__(self, images: Tensor) -> Tensor: ...


class FrozenTeacher(nn.Module):
    """A teacher that never changes: in eval mode, without gradients, and in no state.

    The network moves between devices with this module, but none of its tensors is a parameter or
    buffer of it: no optimiser sees them, no mode of training reaches them, and saved states do not
    repeat weights that a file holds already.

    Args:
        network: in eval mode from here on.
        out_channels, stride: see `Teacher`.
    """

    def __init__(self, network: nn.Module, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride
        self._held = (network.eval().requires_grad_(False),)

    @property
    def network(self) -> Any:
        """What computes."""
        return self._held[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenTeacher:
        self.network._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB -> (B, out_channels, h, w)."""
        with torch.no_grad():
            return self.features(images)

    def features(self, images: Tensor) -> Tensor:
        """The map of `forward`."""
        raise NotImplementedError


class ResNetTeacher(FrozenTeacher):
    """ResNet-50: stride 4 with dilation (SLidR, OLIVINE), or 32 (a variant of PPKT)."""

    def __init__(self, network: ResNet50) -> None:
        super().__init__(network, network.out_channels, network.stride)

    def features(self, images: Tensor) -> Tensor:
        """(B, 2048, H / stride, W / stride)."""
        out: Tensor = self.network(normalize_images(images))
        return out


class PatchTeacher(FrozenTeacher):
    """Patch features of a vision transformer (DINOv2, DINOv3), class and register tokens left out.

    Images are resized to the nearest multiple of the patch.

    Args:
        network: of transformers; the last hidden state is what is taken.
        patch_px: edge of a patch.
        prefix: tokens before the first patch.
        mean, std: of the images it was trained on, 0..1.
    """

    def __init__(
        self,
        network: nn.Module,
        out_channels: int,
        patch_px: int,
        prefix: int,
        mean: tuple[float, ...] = IMAGE_MEAN,
        std: tuple[float, ...] = IMAGE_STD,
    ) -> None:
        super().__init__(network, out_channels, patch_px)
        self.prefix, self.mean, self.std = prefix, mean, std

    def features(self, images: Tensor) -> Tensor:
        """(B, out_channels, rows, columns) of patches."""
        patch = self.stride
        rows, columns = (max(1, round(side / patch)) for side in images.shape[-2:])
        pixels = images.float() / 255
        size = rows * patch, columns * patch
        if pixels.shape[-2:] != size:
            pixels = functional.interpolate(
                pixels, size, mode="bilinear", align_corners=False, antialias=True
            )
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        tokens: Tensor = self.network(pixel_values=(pixels - mean) / std).last_hidden_state
        patches = tokens[:, self.prefix :]
        return patches.transpose(1, 2).reshape(len(images), self.out_channels, rows, columns)


@dataclass(frozen=True)
class FoundTeacher:
    """A teacher whose weights are there and are the expected ones.

    Attributes:
        kind: a key of `TEACHERS`.
        weights: a file, or a model's folder.
        sha256: of the weights.
        revision: commit of the hub; empty for what lies on disk.
        dilated: of a ResNet-50.
    """

    kind: str
    weights: Path | ModelFolder
    sha256: str
    revision: str = ""
    dilated: bool = True

    def build(self) -> FrozenTeacher:
        """The network with its weights, on the CPU.

        Raises:
            CheckpointError: they are damaged, or of another network.
            EnvironmentProblem: a library is missing.
        """
        return TEACHERS[self.kind](self)


def find_teacher(
    kind: str, source: str, *, sha256: str = "", revision: str = "main", dilated: bool = True
) -> FoundTeacher:
    """Locates a teacher's weights, downloading them first where `source` is an id of the hub.

    Args:
        kind: a key of `TEACHERS`.
        source: a file (.pth, .pth.tar, .safetensors; ResNet-50 only), a folder with
            *.safetensors, or an id like "facebook/dinov2-small".
        sha256: of the weights, checked where it is not empty.
        revision: branch, tag or commit of the hub.

    Raises:
        ConfigError: another kind.
        CheckpointError: nothing there, not reachable, or another sha256.
        EnvironmentProblem: an id, and huggingface_hub is not installed.
    """
    if kind not in TEACHERS:
        raise ConfigError(f"unknown teacher {kind!r}", f"use {', '.join(TEACHERS)}")
    path = Path(source)
    if path.is_file():
        if kind != "resnet50":
            raise CheckpointError(
                f"{source} is a file, and {kind} needs a model's folder",
                "give the folder with config.json and *.safetensors, or an id of the hub such as "
                f"{EXAMPLES[kind]}",
            )
        digest = file_hash(path)
        check_hash(source, digest, sha256)
        return FoundTeacher(kind, path, digest, dilated=dilated)
    model = find_model(source, sha256=sha256, revision=revision)
    return FoundTeacher(kind, model, model.sha256, model.revision, dilated)


def _resnet50(found: FoundTeacher) -> FrozenTeacher:
    if isinstance(found.weights, ModelFolder):
        files = sorted(found.weights.path.glob("*.safetensors"))
        if len(files) > 1:
            raise CheckpointError(
                f"{found.weights.name} holds {len(files)} weight files", "give one of them"
            )
        path, name = files[0], found.weights.name
    else:
        path, name = found.weights, str(found.weights)
    network = ResNet50(dilated=found.dilated)
    load_resnet50(network, read_weights(path).state, name)
    return ResNetTeacher(network)


def _patches(found: FoundTeacher) -> FrozenTeacher:
    model = found.weights
    assert isinstance(model, ModelFolder)
    family = str(model.config.get("model_type", ""))
    classes = _FAMILIES[found.kind]
    if family not in classes:
        raise CheckpointError(
            f"{model.name} is a {family or 'model without model_type'}, no {found.kind}",
            f"give weights of {' or '.join(classes)}, such as {EXAMPLES[found.kind]}",
        )
    loader = transformers_class(classes[family], f"teacher={found.kind}")
    network = load_network(loader, model, "cpu", torch.float32)
    settings = network.config
    prefix = 1 + int(getattr(settings, "num_register_tokens", 0))
    mean, std = _statistics(model)
    return PatchTeacher(
        network, int(settings.hidden_size), int(settings.patch_size), prefix, mean, std
    )


def _statistics(model: ModelFolder) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the training images: what the model's folder says, or ImageNet's."""
    path = model.path / "preprocessor_config.json"
    if not path.is_file():
        return IMAGE_MEAN, IMAGE_STD
    try:
        said = json.loads(path.read_text())
        mean = tuple(float(value) for value in said.get("image_mean", IMAGE_MEAN))
        std = tuple(float(value) for value in said.get("image_std", IMAGE_STD))
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"image_mean {mean}, image_std {std}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} says nothing of use about images ({error})",
            "restore the file, or remove it where the images were ImageNet's",
        ) from None
    return mean, std


TEACHERS: dict[str, Callable[[FoundTeacher], FrozenTeacher]] = {
    "resnet50": _resnet50,
    "dinov2": _patches,
    "dinov3": _patches,
}
#: model_type of config.json -> class of transformers
_FAMILIES: dict[str, dict[str, str]] = {
    "dinov2": {
        "dinov2": "Dinov2Model",
        "dinov2_with_registers": "Dinov2WithRegistersModel",
    },
    "dinov3": {"dinov3_vit": "DINOv3ViTModel"},
}
#: where weights of each kind are found
EXAMPLES = {
    "resnet50": "moco_v2_800ep_pretrain.pth.tar",
    "dinov2": "facebook/dinov2-small",
    "dinov3": "facebook/dinov3-vits16-pretrain-lvd1689m",
}
