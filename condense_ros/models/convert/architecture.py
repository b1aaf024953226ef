"""The architecture that a state dict has, read off the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from condense_ros.errors import CheckpointError
from condense_ros.models.backbone import BackboneConfig
from condense_ros.models.convert.networks import Names, Network
from condense_ros.models.inputs import InputSpec
from condense_ros.models.unet import LEVELS

#: more residual blocks per level than any published network has
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Architecture:
    """What the shapes in a file say; the rest of a `BackboneConfig` is not in the file.

    Attributes:
        in_channels: input features.
        widths, blocks, stem_kernel, stem_layers, widening: see `SparseUNet`.
    """

    in_channels: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    stem_kernel: int
    stem_layers: int
    widening: str

    def config(self, input: InputSpec) -> BackboneConfig:
        """A backbone of this architecture on that input."""
        return BackboneConfig(
            input, self.widths, self.blocks, self.stem_kernel, self.stem_layers, self.widening
        )

    def check(self, target: BackboneConfig) -> None:
        """Compares with the architecture that is wanted; the input is not looked at.

        Raises:
            CheckpointError: naming every difference.
        """
        differences = [
            f"{name} {getattr(self, name)} instead of {getattr(target, name)}"
            for name in ("widths", "blocks", "stem_kernel", "stem_layers", "widening")
            if getattr(self, name) != getattr(target, name)
        ]
        if differences:
            raise CheckpointError(
                f"the weights are of another architecture: {'; '.join(differences)}",
                "give the target these values, or leave the preset out: the file has them",
            )


def read_architecture(state: Mapping[str, Tensor], network: Network) -> Architecture:
    """Widths, blocks and stem of a network.

    Args:
        state: its tensors, without a prefix.
        network: what it is.

    Raises:
        CheckpointError: tensors missing, bottleneck blocks, or a stem that is no cube.
    """
    suffix = ".weight" if network.library == "spconv" else ".kernel"
    norm = ".bn.weight" if network.library == "minkowski" else ".weight"
    names = network.names((MOST_BLOCKS,) * 2 * LEVELS)
    if "block1.0.conv3.kernel" in state:
        raise CheckpointError(
            "the residual blocks are bottlenecks of three convolutions (Res16UNet50 or 101)",
            "use a network with basic blocks: Res16UNet14, 18 or 34",
        )

    def width(path: str) -> int:
        name = names[path] + norm
        if name not in state:
            raise CheckpointError(f"the weights lack {name}", "give a complete file")
        return int(state[name].numel())

    stem, levels = width("stem.1"), range(LEVELS)
    widths = (
        stem,
        *(width(f"encoder.{i}.0.norm1") for i in levels),
        *(width(f"up.{i}.1") for i in levels),
    )
    blocks = tuple(
        _blocks(state, names, f"{side}.{i}", suffix)
        for side in ("encoder", "decoder")
        for i in levels
    )
    down = tuple(width(f"down.{i}.1") for i in levels)
    layers = 2 if names.get("stem.3", "") + suffix in state else 1
    in_channels, kernel = _stem(state[names["stem.0"] + suffix], stem, names["stem.0"])
    # equal widths all along: both ways are one network
    widening = "down" if down == widths[1 : LEVELS + 1] != widths[:LEVELS] else "block"
    return Architecture(in_channels, widths, blocks, kernel, layers, widening)


def _blocks(state: Mapping[str, Tensor], names: Names, level: str, suffix: str) -> int:
    count = 0
    while names.get(f"{level}.{count}.conv1", "") + suffix in state:
        count += 1
    if not count:
        raise CheckpointError(
            f"the weights lack {names[f'{level}.0.conv1']}{suffix}", "give a complete file"
        )
    return count


def _stem(weight: Tensor, width: int, name: str) -> tuple[int, int]:
    """Input channels and kernel size of the first convolution."""
    shape = tuple(weight.shape)
    choices: list[tuple[int, tuple[int, ...]]] = []
    if len(shape) == 3:
        edge = round(shape[0] ** (1 / 3))
        choices = [(shape[1], (edge,) * 3)] if edge**3 == shape[0] else []
    elif len(shape) == 5:
        if shape[0] == width:
            choices.append((shape[4], shape[1:4]))
        if width in shape[3:]:
            choices.append((shape[3] if shape[4] == width else shape[4], shape[:3]))
    cubes = {(c_in, kernel[0]) for c_in, kernel in choices if len(set(kernel)) == 1}
    if len(cubes) != 1:
        raise CheckpointError(
            f"the stem {name} is {shape} with {width} output channels: its kernel is no cube, or "
            "it is not clear which of the axes are the kernel's",
            "such a network cannot be converted",
        )
    return cubes.pop()
