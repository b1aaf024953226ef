"""Perception: one forward pass over a cloud gives labels, features and what places need.

Names load on first use: torch takes seconds to import, `condense --help` must not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.perception.labelling import SegmentReport, segment
    from condense_ros.perception.mapping import build_map
    from condense_ros.perception.observer import Observer
    from condense_ros.perception.perceiver import Perceiver, Perception, PerceptionConfig

_WHERE = {
    "Observer": "observer",
    "Perceiver": "perceiver",
    "Perception": "perceiver",
    "PerceptionConfig": "perceiver",
    "SegmentReport": "labelling",
    "build_map": "mapping",
    "segment": "labelling",
}
__all__ = [
    "Observer",
    "Perceiver",
    "Perception",
    "PerceptionConfig",
    "SegmentReport",
    "build_map",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
