"""Capture: matches sensor messages, checks their calibration, records them. Needs no ROS."""

from condense_ros.capture.calibration import CalibrationState
from condense_ros.capture.capture import Capture
from condense_ros.capture.config import CaptureConfig
from condense_ros.capture.counts import CaptureReport, ContextCount
from condense_ros.capture.pairs import PairObserver, SeenPair
from condense_ros.capture.ring import RingConfig, RingState, Snapshot
from condense_ros.capture.trigger import TriggerConfig

__all__ = [
    "CalibrationState",
    "Capture",
    "CaptureConfig",
    "CaptureReport",
    "ContextCount",
    "PairObserver",
    "RingConfig",
    "RingState",
    "SeenPair",
    "Snapshot",
    "TriggerConfig",
]
