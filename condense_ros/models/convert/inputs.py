"""Input features that differ from the source's by scale and offset, folded into the stem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from condense_ros.errors import ConfigError
from condense_ros.models.inputs import InputSpec


@dataclass(frozen=True)
class FeatureMap:
    """How the source's feature follows from ours: source = scale * ours + offset.

    An example: a network that saw intensities of 0..255 takes our intensity, divided by an
    `intensity_scale` of 255, with a scale of 255.
    """

    scale: float = 1.0
    offset: float = 0.0


def fold_features(weight: Tensor, input: InputSpec, maps: Mapping[str, FeatureMap]) -> Tensor:
    """The first convolution's weight for our input features.

    An offset counts once for each voxel under the kernel, as a feature that is 1 everywhere does;
    it is added to the weights of the feature "one", which the input must name for that. Exact,
    since features of a voxel are means of its points.

    Args:
        weight: (K, C, C_out) for the source's C features.
        input: our features, in the order of the source's. "one" may be named in addition when
            there are offsets.
        maps: by feature, where they differ.

    Returns:
        (K, input.channels, C_out).

    Raises:
        ConfigError: another number of features than the weights have, an offset without "one",
            or a map for a feature that the input does not name.
    """
    unknown = sorted(set(maps) - set(input.features))
    if unknown:
        raise ConfigError(
            f"a scale or offset for {', '.join(unknown)}, which the input does not name",
            f"name features of the input: {', '.join(input.features)}",
        )
    channels = weight.shape[1]
    shifted = {name for name, value in maps.items() if value.offset}
    theirs = list(input.features)
    if shifted and len(theirs) == channels + 1 and "one" in theirs:
        theirs.remove("one")
    if len(theirs) != channels:
        raise ConfigError(
            f"the weights take {channels} input features, {len(theirs)} are named: "
            f"{', '.join(theirs)}",
            "name the features the weights were trained with, in their order",
        )
    if shifted and "one" not in input.features:
        raise ConfigError(
            f"offsets of {', '.join(sorted(shifted))} need a feature that is 1 everywhere",
            "name `one` among the features as well",
        )
    wide = weight.double()
    out = wide.new_zeros(weight.shape[0], input.channels, weight.shape[2])
    for k, name in enumerate(theirs):
        value = maps.get(name, FeatureMap())
        out[:, input.features.index(name)] += value.scale * wide[:, k]
        if value.offset:
            out[:, input.features.index("one")] += value.offset * wide[:, k]
    return out.to(weight.dtype)
