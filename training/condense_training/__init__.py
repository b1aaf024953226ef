"""Offline learning: recipes, trainer, probes. Needs torch, not ROS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_training.evaluate.head import HeadConfig, fit_head
    from condense_training.evaluate.probe import ProbeConfig, ProbeResult, compare, probe
    from condense_training.pretraining import PretrainConfig, pretrain

_HOMES = {
    "HeadConfig": "evaluate.head",
    "PretrainConfig": "pretraining",
    "ProbeConfig": "evaluate.probe",
    "ProbeResult": "evaluate.probe",
    "compare": "evaluate.probe",
    "fit_head": "evaluate.head",
    "pretrain": "pretraining",
    "probe": "evaluate.probe",
}

__all__ = [
    "HeadConfig",
    "PretrainConfig",
    "ProbeConfig",
    "ProbeResult",
    "compare",
    "fit_head",
    "pretrain",
    "probe",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `condense --help` must not pay for it
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
