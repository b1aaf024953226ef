"""Pseudo-labels: a class and a confidence for every pixel of a robot's images.

Names load on first use, because torch takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_training.labels.folder import LabelFolder
    from condense_training.labels.labelers import LABELERS
    from condense_training.labels.ontology import LabelOntology
    from condense_training.labels.protocols import DenseLabeler, Detector, LabelImage, Masker
    from condense_training.labels.report import write_report
    from condense_training.labels.run import LabelConfig, LabelReport, label
    from condense_training.labels.shards import Shard

_HOMES = {
    "LABELERS": "labelers",
    "DenseLabeler": "protocols",
    "Detector": "protocols",
    "LabelConfig": "run",
    "LabelFolder": "folder",
    "LabelImage": "protocols",
    "LabelOntology": "ontology",
    "LabelReport": "run",
    "Masker": "protocols",
    "Shard": "shards",
    "label": "run",
    "write_report": "report",
}

__all__ = [
    "LABELERS",
    "DenseLabeler",
    "Detector",
    "LabelConfig",
    "LabelFolder",
    "LabelImage",
    "LabelOntology",
    "LabelReport",
    "Masker",
    "Shard",
    "label",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
