"""ResNet-50 (He et al., 2016) as the teacher of PPKT, SLidR and OLIVINE: with dilation instead of
strides, or as it is, and the weights of MoCo and torchvision.

Module names follow torchvision. The stride of a block lies in its 3x3 convolution, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from condense_ros.errors import CheckpointError
from condense_ros.models import transfer_weights

_EXPANSION = 4
#: of several encoders in one file, the one that was trained by gradients
_TRAINED = ("encoder_q.", "base_encoder.")


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut; `4 * width` channels come out."""

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = width * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """Features of the last level, without pooling and classifier.

    Dilated, levels 2 to 4 keep the resolution of the first: what would have been a stride widens
    the kernels after it instead (torchvision's `replace_stride_with_dilation`). At every eighth row
    and column the features are those of the undilated network.

    Args:
        dilated: stride 4 instead of 32.
        width: channels of the stem; 64 is the published network, whose features are 2048.
        blocks: of the four levels.
    """

    def __init__(
        self, *, dilated: bool = True, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)
    ) -> None:
        super().__init__()
        self.stride = 4 if dilated else 32
        self.out_channels = width * 8 * _EXPANSION
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        in_channels, dilation = width, 1
        for level, count in enumerate(blocks):
            stride = 2 if level else 1
            layers = []
            for i in range(count):
                first = i == 0
                # the first block still sees its input undilated, as the stride would have come
                # after its 3x3 convolution had read it
                step = stride if first and not dilated else 1
                layers.append(Bottleneck(in_channels, width * 2**level, step, dilation))
                in_channels = width * 2**level * _EXPANSION
                if first and dilated:
                    dilation *= stride
            setattr(self, f"layer{level + 1}", nn.Sequential(*layers))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, out_channels, H / stride, W / stride), rounded
        up."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.max_pool2d(x, 3, 2, 1)
        for level in range(1, 5):
            x = getattr(self, f"layer{level}")(x)
        return x


def load_resnet50(network: ResNet50, state: Mapping[str, Tensor], name: str) -> None:
    """Copies every weight of the network from a state dict by torchvision's names.

    They may have a prefix (`module.encoder_q.` of MoCo v1 and v2, `module.base_encoder.` of v3).
    The classifier and MoCo's other encoder and queue are left aside; nothing else may be missing or
    left over.

    Args:
        name: of the weights, for messages.

    Raises:
        CheckpointError: weights of another network.
    """
    prefix = _prefix(state, name)
    own = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and not key.removeprefix(prefix).startswith("fc.")
    }
    if not prefix:  # without prefix, what lies beside the network cannot be told from it
        own = {key: value for key, value in own.items() if key.split(".")[0] in _tops(network)}
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    report = transfer_weights(network, own)
    missing = [key for key in report.missing if key not in counters]
    if missing or report.unused or report.mismatched:
        lacking = f"lacks {missing[0]}" if missing else ""
        over = f"has {report.unused[0]}, which a ResNet-50 has not" if report.unused else ""
        shape = f"has another shape of {report.mismatched[0][0]}" if report.mismatched else ""
        raise CheckpointError(
            f"{name} holds no ResNet-50: it {lacking or over or shape}",
            "give weights of ResNet-50 by torchvision's names, such as MoCo v2's",
        )


def _tops(network: ResNet50) -> set[str]:
    return {key.split(".")[0] for key in network.state_dict()}


def _prefix(state: Mapping[str, Tensor], name: str) -> str:
    stem = "conv1.weight"
    found = [
        key.removesuffix(stem)
        for key, value in state.items()
        if key.endswith(stem) and value.ndim == 4 and value.shape[1] == 3
    ]
    trained = [prefix for prefix in found if prefix.endswith(_TRAINED)]
    if len(trained or found) != 1:
        what = f"several networks ({', '.join(found)})" if found else "no network with a conv1"
        raise CheckpointError(
            f"{name} holds {what}",
            "give the state dict of one ResNet-50 by torchvision's names",
        )
    return (trained or found)[0]
