"""The calibration watch behind a capture: what it is given, and what it says."""

from __future__ import annotations

import time

import numpy as np
import pytest
from capture_robot import CAMERA, IMAGE, SECOND, XYZ, Robot, closes

from condense_ros.capture import Capture, CaptureConfig
from condense_ros.config import build
from condense_ros.errors import ConfigError
from condense_ros.nodes.calibration_observer import CalibrationObserver, CalibrationWatchConfig
from condense_ros.sync import SyncConfig

CONFIG = build(CaptureConfig, {"image_topics": (IMAGE,), "transform_wait_s": 0.0})


def until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def observer_of():
    made = []

    def make(**values):
        made.append(CalibrationObserver(CalibrationWatchConfig(every_s=1e-3, **values), CONFIG))
        return made[-1]

    yield make
    for observer in made:
        observer.close()


def drive(observer, frames=4):
    """Frames one at a time, so that none is passed over."""
    capture = Capture(CONFIG, SyncConfig(tolerance_s=0.03), observer=observer)
    robot = Robot(capture)
    robot.calibrate()
    for k in range(frames):
        robot.step(k)
        until(lambda wanted=k + 1: observer.looked_at == wanted)
    return capture


def test_it_sees_the_pairs_of_a_capture_and_says_when_it_cannot_tell(observer_of):
    observer = observer_of()
    seen = []
    add = observer._watch.add
    observer._watch.add = lambda frame: (seen.append(frame), add(frame))[1]
    capture = drive(observer)
    until(lambda: observer._watch.last is not None)
    assert "too few" in observer._watch.last.reason
    frame = seen[0]
    np.testing.assert_array_equal(frame.cloud.xyz, XYZ)
    assert frame.stamp_ns == SECOND
    assert frame.images[0].camera.K[0, 0] == CAMERA.K[0, 0]
    assert frame.T_world_lidar[0, 3] == pytest.approx(1.0)
    status = observer.status()
    assert status.name == "capture_node: calibration"
    assert status.level == 0
    assert observer.diagnose() == []
    closes(capture)


def test_a_camera_that_is_not_there_is_named_and_capture_goes_on(observer_of):
    observer = observer_of(camera="rear")
    capture = drive(observer)
    (text,) = observer.diagnose()
    assert "calibration.camera = 'rear' is not among the cameras" in text
    assert "choose one of: front" in text
    assert text in capture.report().warnings
    assert capture.report().completed == 4


def test_clouds_without_point_times_cannot_be_deskewed_and_that_is_said(observer_of):
    observer = observer_of(deskew=True)
    drive(observer)
    (text,) = observer.diagnose()
    assert "cannot be deskewed" in text


def test_a_busy_watch_passes_pairs_over(observer_of):
    observer = observer_of()
    observer._watch.add = lambda frame: time.sleep(0.2)
    capture = Capture(CONFIG, SyncConfig(tolerance_s=0.03), observer=observer)
    robot = Robot(capture)
    robot.calibrate()
    for k in range(20):
        robot.step(k)
    assert capture.report().completed == 20
    assert observer.skipped >= 10
    assert observer.status().values["skipped"] == observer.skipped


def test_without_poses_there_is_nothing_to_watch_with():
    config = build(CaptureConfig, {"image_topics": (IMAGE,), "world_frame": ""})
    with pytest.raises(ConfigError, match="needs points_topic and world_frame"):
        CalibrationObserver(CalibrationWatchConfig(every_s=1.0), config)
