"""Capture: matches sensor messages, checks their calibration, records them. Needs no ROS."""

from condense_ros.capture.calibration import CalibrationWatch
from condense_ros.capture.capture import Capture
from condense_ros.capture.config import CaptureConfig, camera_info_topic, camera_name
from condense_ros.capture.counts import CaptureReport, ContextCount, MatchedCount

__all__ = [
    "CalibrationWatch",
    "Capture",
    "CaptureConfig",
    "CaptureReport",
    "ContextCount",
    "MatchedCount",
    "camera_info_topic",
    "camera_name",
]
