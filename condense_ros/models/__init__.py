"""Networks, their input features, heads and checkpoints.

Names load on first use: torch takes seconds to import, `condense --help` must not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.models.backbone import (
        Backbone,
        BackboneConfig,
        build_backbone,
        preset,
        presets,
    )
    from condense_ros.models.checkpoint import (
        Checkpoint,
        load_checkpoint,
        save_checkpoint,
    )
    from condense_ros.models.heads import HeadInfo, LinearHead
    from condense_ros.models.inputs import InputSpec
    from condense_ros.models.transfer import TransferReport, transfer_weights
    from condense_ros.models.unet import SparseUNet

_HOMES = {
    "Backbone": "backbone",
    "BackboneConfig": "backbone",
    "Checkpoint": "checkpoint",
    "HeadInfo": "heads",
    "InputSpec": "inputs",
    "LinearHead": "heads",
    "SparseUNet": "unet",
    "TransferReport": "transfer",
    "build_backbone": "backbone",
    "load_checkpoint": "checkpoint",
    "preset": "backbone",
    "presets": "backbone",
    "save_checkpoint": "checkpoint",
    "transfer_weights": "transfer",
}

__all__ = [
    "Backbone",
    "BackboneConfig",
    "Checkpoint",
    "HeadInfo",
    "InputSpec",
    "LinearHead",
    "SparseUNet",
    "TransferReport",
    "build_backbone",
    "load_checkpoint",
    "preset",
    "presets",
    "save_checkpoint",
    "transfer_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
