"""Labelers by name. Each is one module with a config class and `build`, imported when chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from condense_ros.errors import ConfigError
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.protocols import DenseLabeler


@dataclass(frozen=True)
class LabelerEntry:
    """Where a labeler is, and which of its parameters names what `--checkpoint` gives.

    Attributes:
        module: name in this package.
        config: name of its config class there.
        checkpoint: name of that parameter.
    """

    module: str
    config: str
    checkpoint: str

    def config_class(self) -> type:
        """The parameters."""
        found: type = getattr(import_module(f"{__name__}.{self.module}"), self.config)
        return found

    def build(self, config: Any, context: LabelerContext) -> DenseLabeler:
        """The labeler, ready for its first image."""
        make: Callable[[Any, LabelerContext], DenseLabeler]
        make = import_module(f"{__name__}.{self.module}").build
        return make(config, context)


LABELERS: dict[str, LabelerEntry] = {
    "clusters": LabelerEntry("clusters", "ClustersConfig", "network"),
    "grounded_sam": LabelerEntry("grounded_sam", "GroundedSamConfig", "detector"),
    "sam3": LabelerEntry("sam3", "Sam3Config", "model"),
    "semseg": LabelerEntry("semseg", "SemsegConfig", "model"),
    "segment_anything": LabelerEntry("segment_anything", "SegmentAnythingConfig", "detector"),
    "precomputed": LabelerEntry("precomputed", "PrecomputedConfig", "folder"),
}


def find_labeler(name: str) -> LabelerEntry:
    """The labeler of that name.

    Raises:
        ConfigError: unknown.
    """
    if name not in LABELERS:
        raise ConfigError(f"unknown labeler {name!r}", f"use one of: {', '.join(LABELERS)}")
    return LABELERS[name]


__all__ = ["LABELERS", "LabelerContext", "LabelerEntry", "find_labeler"]
