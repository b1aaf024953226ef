"""Published sparse-convolution weights as checkpoints of ours; docs/weights.md has the layouts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.models.convert.architecture import Architecture
    from condense_ros.models.convert.files import convert_file
    from condense_ros.models.convert.inputs import FeatureMap
    from condense_ros.models.convert.libraries import Library, minkowski, spconv, torchsparse
    from condense_ros.models.convert.modules import convert_modules
    from condense_ros.models.convert.networks import VOXEL_BACKBONE_8X
    from condense_ros.models.convert.report import Conversion, ConversionReport
    from condense_ros.models.convert.state import convert_state, source_architecture
    from condense_ros.models.convert.weights import WeightFile, read_weights

_HOMES = {
    "Architecture": "architecture",
    "Conversion": "report",
    "ConversionReport": "report",
    "FeatureMap": "inputs",
    "Library": "libraries",
    "VOXEL_BACKBONE_8X": "networks",
    "WeightFile": "weights",
    "convert_file": "files",
    "convert_modules": "modules",
    "convert_state": "state",
    "minkowski": "libraries",
    "read_weights": "weights",
    "source_architecture": "state",
    "spconv": "libraries",
    "torchsparse": "libraries",
}

__all__ = [
    "VOXEL_BACKBONE_8X",
    "Architecture",
    "Conversion",
    "ConversionReport",
    "FeatureMap",
    "Library",
    "WeightFile",
    "convert_file",
    "convert_modules",
    "convert_state",
    "minkowski",
    "read_weights",
    "source_architecture",
    "spconv",
    "torchsparse",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
