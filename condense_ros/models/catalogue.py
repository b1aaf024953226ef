"""Backbones by name."""

from __future__ import annotations

import dataclasses

from condense_ros.errors import ConfigError
from condense_ros.models.configs import (
    WAFFLEIRON_INPUT,
    AnyBackboneConfig,
    BackboneConfig,
    VoxelNetConfig,
    WaffleIronConfig,
)
from condense_ros.models.inputs import InputSpec

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
#: the other architectures. waffleiron-48-256 and -384 are those of Puy et al. 2023 on SemanticKITTI
#: and nuScenes, waffleiron-48-768 that of ScaLR (Puy et al. 2024); waffleiron-demo is small enough
#: for two CPU cores. voxelnet is the one of SLidR and OLIVINE.
other_presets: dict[str, AnyBackboneConfig] = {
    "voxelnet": VoxelNetConfig(),
    "waffleiron-48-256": WaffleIronConfig(
        dataclasses.replace(
            WAFFLEIRON_INPUT,
            features=("intensity", "height", "range"),
            intensity_scale=1.0,
            box_m=(-50.0, -50.0, -5.0, 50.0, 50.0, 3.0),
        ),
        cell_m=0.4,
    ),
    "waffleiron-48-384": WaffleIronConfig(channels=384, drop_path=0.2),
    "waffleiron-48-768": WaffleIronConfig(
        dataclasses.replace(
            WAFFLEIRON_INPUT, max_range_m=95.0, box_m=(-64.0, -64.0, -8.0, 64.0, 64.0, 8.0)
        ),
        channels=768,
        cell_m=0.5,
        norm="layer",
    ),
    "waffleiron-demo": WaffleIronConfig(
        InputSpec(
            0.3,
            features=("height", "range"),
            reduce="first",
            box_m=(-40.2, -40.2, -4.8, 40.2, 40.2, 9.6),
        ),
        channels=48,
        depth=6,
        cell_m=0.6,
        neighbours=8,
    ),
}


def preset(name: str, input: InputSpec | None = None) -> AnyBackboneConfig:
    """The config of a preset.

    Args:
        input: instead of the preset's own. Where the architecture needs a box and the input has
            none, it gets the preset's box.

    Raises:
        ConfigError: no such preset, or an input that does not suit the architecture.
    """
    if name in presets:
        shape = presets[name]
        return BackboneConfig(input or InputSpec(), shape["widths"], shape["blocks"])
    if name not in other_presets:
        known = ", ".join((*presets, *other_presets))
        raise ConfigError(f"no backbone preset {name!r}", f"use one of: {known}")
    found = other_presets[name]
    if input is None:
        return found
    if not input.box_m:
        input = dataclasses.replace(input, box_m=found.input.box_m)
    return dataclasses.replace(found, input=input)
