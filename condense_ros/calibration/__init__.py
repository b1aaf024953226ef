"""Calibration watch: camera-LiDAR extrinsics and time offset, checked without a target.

Names load on first use: `--help` must not wait for scipy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense_ros.calibration.config import CalibrationConfig
    from condense_ros.calibration.estimate import AxisEstimate, CalibrationEstimate
    from condense_ros.calibration.watch import CalibrationWatch, estimate_from, watch_dataset

_WHERE = {
    "AxisEstimate": "estimate",
    "CalibrationConfig": "config",
    "CalibrationEstimate": "estimate",
    "CalibrationWatch": "watch",
    "estimate_from": "watch",
    "watch_dataset": "watch",
}
__all__ = [
    "AxisEstimate",
    "CalibrationConfig",
    "CalibrationEstimate",
    "CalibrationWatch",
    "estimate_from",
    "watch_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
