"""Capture: matches sensor messages, checks their calibration, records them. Needs no ROS."""

from condense_ros.capture.calibration import CalibrationWatch
from condense_ros.capture.capture import Capture
from condense_ros.capture.config import CaptureConfig
from condense_ros.capture.counts import CaptureReport, ContextCount

__all__ = [
    "CalibrationWatch",
    "Capture",
    "CaptureConfig",
    "CaptureReport",
    "ContextCount",
]
