"""Networks, their input features, heads and checkpoints.

Names load on first use: torch takes seconds to import, `condense --help` must not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.models.backbone import (
        Backbone,
        build_backbone,
    )
    from condense_ros.models.bev import (
        sample_bev,
    )
    from condense_ros.models.catalogue import (
        other_presets,
        preset,
        presets,
    )
    from condense_ros.models.checkpoint import (
        Checkpoint,
        load_checkpoint,
        save_checkpoint,
    )
    from condense_ros.models.configs import (
        AnyBackboneConfig,
        BackboneConfig,
        VoxelNetConfig,
        WaffleIronConfig,
    )
    from condense_ros.models.heads import (
        HeadInfo,
        LinearHead,
    )
    from condense_ros.models.inputs import (
        InputSpec,
    )
    from condense_ros.models.neighbours import (
        nearest_neighbours,
    )
    from condense_ros.models.transfer import (
        TransferReport,
        transfer_weights,
    )
    from condense_ros.models.unet import (
        SparseUNet,
    )
    from condense_ros.models.voxelnet import (
        UnitHead,
        VoxelNet,
    )
    from condense_ros.models.waffleiron import (
        WaffleIron,
    )

_HOMES = {
    "AnyBackboneConfig": "configs",
    "Backbone": "backbone",
    "BackboneConfig": "configs",
    "Checkpoint": "checkpoint",
    "HeadInfo": "heads",
    "InputSpec": "inputs",
    "LinearHead": "heads",
    "SparseUNet": "unet",
    "TransferReport": "transfer",
    "UnitHead": "voxelnet",
    "VoxelNet": "voxelnet",
    "VoxelNetConfig": "configs",
    "WaffleIron": "waffleiron",
    "WaffleIronConfig": "configs",
    "build_backbone": "backbone",
    "load_checkpoint": "checkpoint",
    "nearest_neighbours": "neighbours",
    "other_presets": "catalogue",
    "preset": "catalogue",
    "presets": "catalogue",
    "sample_bev": "bev",
    "save_checkpoint": "checkpoint",
    "transfer_weights": "transfer",
}

__all__ = [
    "AnyBackboneConfig",
    "Backbone",
    "BackboneConfig",
    "Checkpoint",
    "HeadInfo",
    "InputSpec",
    "LinearHead",
    "SparseUNet",
    "TransferReport",
    "UnitHead",
    "VoxelNet",
    "VoxelNetConfig",
    "WaffleIron",
    "WaffleIronConfig",
    "build_backbone",
    "load_checkpoint",
    "nearest_neighbours",
    "other_presets",
    "preset",
    "presets",
    "sample_bev",
    "save_checkpoint",
    "transfer_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
