"""Pairs by motion and by service; the ring buffer and what a snapshot of it holds."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from capture_robot import (
    CAMERA,
    IMAGE,
    INFO,
    POINTS,
    SECOND,
    T_LIDAR_CAM,
    Robot,
    closes,
    image,
    info,
    points,
)

from condense_ros import wire
from condense_ros.bags import BagReader
from condense_ros.capture import Capture, CaptureConfig, RingConfig, TriggerConfig
from condense_ros.config import build
from condense_ros.datasets import open_dataset
from condense_ros.errors import BagError, ConfigError
from condense_ros.geometry import CameraModel, rotation_rpy, se3
from condense_ros.sync import SyncConfig
from condense_ros.wire import Header, Odometry, StampedTransform


def capture_of(trigger=None, ring=None, **values):
    settings = {"image_topics": (IMAGE,), "transform_wait_s": 0.0, **values}
    return Capture(
        build(CaptureConfig, settings),
        SyncConfig(tolerance_s=0.03),
        trigger=TriggerConfig(**(trigger or {})),
        ring=RingConfig(**(ring or {})),
    )


def drive(capture, x, yaw_deg=None, start=0, by="tf"):
    """One frame per pose, 0.1 s apart."""
    robot = Robot(capture)
    for k, way in enumerate(x):
        stamp = SECOND + (start + k) * SECOND // 10
        T = se3(
            rotation_rpy(0, 0, np.radians(yaw_deg[k] if yaw_deg is not None else 0)), [way, 0, 0]
        )
        if by == "tf":
            raw = wire.encode_tf([StampedTransform(stamp, "odom", "base_link", T)])
            capture.add_tf("/tf", raw, stamp, False)
        else:
            odometry = Odometry(Header(stamp, "odom"), "base_link", T)
            capture.add_odometry("/odom", wire.encode_odometry(odometry), stamp)
        robot.step(start + k, odom=False)


@pytest.mark.parametrize("by", ["tf", "odometry"])
def test_by_distance(tmp_path, by):
    """0.3 m a frame and a pair every metre: frames 0, 4, 8, ... and nothing between in the bag."""
    capture = capture_of({"mode": "motion", "pose": by}, world_frame="odom" if by == "tf" else "")
    Robot(capture).calibrate()
    capture.start(tmp_path / "bag")
    drive(capture, 0.3 * np.arange(20), by=by)
    capture.stop()
    report = closes(capture)
    assert (report.completed, report.pairs, report.untriggered) == (20, 5, 15)
    assert report.recorder[POINTS].written == report.recorder[IMAGE].written == 5
    pairs = BagReader(tmp_path / "bag").pairs()
    assert [pair.stamp_ns for pair in pairs] == [
        SECOND + k * SECOND // 10 for k in (0, 4, 8, 12, 16)
    ]
    data = open_dataset(tmp_path / "bag")
    assert (len(data), data.incomplete) == (5, 0)
    np.testing.assert_array_equal(data[3].cloud.xyz, data[0].cloud.xyz)
    # the context is whole: motion between the pairs is known
    context = "/tf" if by == "tf" else "/odom"
    assert report.recorder[context].written == 20


def test_by_angle(tmp_path):
    capture = capture_of({"mode": "motion", "distance_m": 0.0, "angle_deg": 30.0})
    Robot(capture).calibrate()
    capture.start(tmp_path / "bag")
    drive(capture, 50.0 * np.arange(9), yaw_deg=12.5 * np.arange(9))
    capture.stop()
    stamps = [pair.stamp_ns for pair in BagReader(tmp_path / "bag").pairs()]
    assert stamps == [SECOND + k * SECOND // 10 for k in (0, 3, 6)]
    closes(capture)


def test_without_a_pose_every_pair_is_recorded_and_that_is_said(tmp_path):
    capture = capture_of({"mode": "motion"})
    Robot(capture).calibrate()
    capture.start(tmp_path / "bag")
    robot = Robot(capture)
    for k in range(4):
        robot.step(k, odom=False)
    assert any(
        "the motion is unknown (tf gives no pose)" in text for text in capture.report().warnings
    )
    drive(capture, [0.0, 0.1, 0.2], start=4)
    capture.stop()
    report = closes(capture)
    assert (report.pairs, report.untriggered) == (5, 2)
    assert not any("the motion is unknown" in text for text in report.warnings)


def test_by_service(tmp_path):
    always = capture_of()
    always.start(tmp_path / "all")
    with pytest.raises(BagError, match="every pair is recorded"):
        always.trigger()
    always.stop()
    capture = capture_of({"mode": "service"})
    with pytest.raises(BagError, match="nothing is being recorded"):
        capture.trigger()
    Robot(capture).calibrate()
    capture.start(tmp_path / "bag")
    drive(capture, np.arange(3.0))
    capture.trigger()
    capture.trigger()
    drive(capture, np.arange(3.0), start=3)
    capture.stop()
    report = closes(capture)
    assert (report.completed, report.pairs, report.untriggered) == (6, 2, 4)
    stamps = [pair.stamp_ns for pair in BagReader(tmp_path / "bag").pairs()]
    assert stamps == [SECOND + k * SECOND // 10 for k in (3, 4)]


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError, match="choose one of: always, motion, service"):
        TriggerConfig(mode="sometimes")
    with pytest.raises(ConfigError, match="neither distance_m nor angle_deg"):
        TriggerConfig(mode="motion", distance_m=0.0, angle_deg=0.0)
    with pytest.raises(ConfigError, match="needs world_frame"):
        capture_of({"mode": "motion"}, world_frame="")
    with pytest.raises(ConfigError, match="needs odometry_topic"):
        capture_of({"mode": "motion", "pose": "odometry"}, odometry_topic="")


# the ring buffer


def test_a_snapshot_holds_the_last_seconds_with_their_calibration(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("condense_ros.capture.ring.time", SimpleNamespace(monotonic=lambda: now[0]))
    capture = capture_of(ring={"seconds": 1.05})
    robot = Robot(capture)
    robot.calibrate()  # leaves the ring long before the snapshot
    for k in range(50):
        now[0] += 0.1
        robot.step(k)
    state = capture.report().ring
    assert state.seconds == pytest.approx(1.0, abs=0.11)
    assert not state.full
    shot = capture.snapshot(tmp_path / "shot")
    data = open_dataset(tmp_path / "shot")
    assert shot.pairs == len(data) == 11
    assert data.incomplete == 0
    frame = data[0]
    assert frame.stamp_ns == SECOND + 39 * SECOND // 10
    assert frame.T_world_lidar is not None
    messages = list(BagReader(tmp_path / "shot").messages())
    assert {"/tf_static", INFO, "/tf", IMAGE, POINTS} <= {message.topic for message in messages}
    # it begins with the seconds asked for, not when the calibration was heard
    assert shot.seconds == pytest.approx(1.0, abs=0.11)
    assert min(m.log_ns for m in messages) == SECOND + 39 * SECOND // 10
    assert capture.snapshot(tmp_path / "again").pairs == 11
    closes(capture)


def test_the_calibration_of_the_ring_is_the_one_in_force_there(tmp_path, monkeypatch):
    """The camera is calibrated anew between two frames that are both in the ring."""
    now = [0.0]
    monkeypatch.setattr("condense_ros.capture.ring.time", SimpleNamespace(monotonic=lambda: now[0]))
    capture = capture_of(ring={"seconds": 10.0})
    robot = Robot(capture)
    robot.calibrate()
    for k in range(3):
        now[0] += 20.0 if k == 0 else 0.1  # the first calibration leaves the ring
        robot.step(k)
    K = CAMERA.K.copy()
    K[0, 0] += 3
    capture.add_camera_info(INFO, info(SECOND * 2, CameraModel(K, 32, 24)), SECOND * 2)
    for k in range(11, 14):
        robot.step(k)
    capture.snapshot(tmp_path / "shot")
    data = open_dataset(tmp_path / "shot")
    focal = [data[i].images[0].camera.K[0, 0] for i in range(len(data))]
    assert focal == [20.0] * 3 + [23.0] * 3


def test_the_ring_is_bounded_in_memory(tmp_path):
    capture = capture_of(ring={"seconds": 1000.0, "memory_mib": 1.0})
    robot = Robot(capture)
    robot.calibrate()
    for k in range(600):
        robot.step(k)  # about 2.5 kB each
    state = capture.report().ring
    assert state.full
    assert state.bytes <= 1024**2
    shot = capture.snapshot(tmp_path / "shot")
    data = open_dataset(tmp_path / "shot")
    assert 100 < shot.pairs == len(data) < 600
    assert data.incomplete == 0


def test_no_ring_and_an_empty_one_are_said(tmp_path):
    with pytest.raises(BagError, match=r"no ring buffer.*Fix: set ring.seconds"):
        capture_of().snapshot(tmp_path / "a")
    with pytest.raises(BagError, match="the ring buffer is empty"):
        capture_of(ring={"seconds": 1.0}).snapshot(tmp_path / "b")


# several threads


def test_a_recording_that_starts_while_messages_come_has_no_torn_pairs(tmp_path):
    """Every pair of every bag has its messages, whenever start and stop are called."""
    capture = capture_of(transform_wait_s=5.0)
    Robot(capture).calibrate()
    step = threading.Barrier(2)  # the topics run side by side, in any order within a step

    def feed(topic, kind, make):
        for k in range(1_000_000):
            stamp = SECOND + k * SECOND // 10
            capture.add_sensor(topic, kind, make(stamp), stamp)
            if topic == POINTS:
                pose = StampedTransform(stamp, "odom", "base_link", np.eye(4))
                capture.add_tf("/tf", wire.encode_tf([pose]), stamp, False)
            try:
                step.wait()
            except threading.BrokenBarrierError:
                return

    threads = [
        threading.Thread(target=feed, args=(POINTS, wire.POINT_CLOUD, points)),
        threading.Thread(target=feed, args=(IMAGE, wire.IMAGE, image)),
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(8):
            capture.start(tmp_path / f"bag{number}")
            deadline = time.monotonic() + 30
            while capture.report().pairs < 5 and time.monotonic() < deadline:
                time.sleep(0.01)
            capture.stop()
    finally:
        step.abort()
        for thread in threads:
            thread.join()
    closes(capture)
    pairs = 0
    for number in range(8):
        reader = BagReader(tmp_path / f"bag{number}")
        held = {(m.topic, m.stamp_ns) for m in reader.messages([POINTS, IMAGE])}
        for pair in reader.pairs():
            assert set(pair.messages.values()) <= held
            pairs += 1
    assert pairs >= 40


def test_an_observer_sees_every_pair_and_may_raise(caplog):
    seen = []

    class Observer:
        def pair(self, pair):
            seen.append(pair)
            if len(seen) == 2:
                raise RuntimeError("user code")

        def diagnose(self):
            return ["the camera has moved"]

    config = build(CaptureConfig, {"image_topics": (IMAGE,), "transform_wait_s": 0.0})
    capture = Capture(config, SyncConfig(tolerance_s=0.03), observer=Observer())
    robot = Robot(capture)
    robot.calibrate()
    for k in range(4):
        robot.step(k)
    assert [pair.record.stamp_ns for pair in seen] == [SECOND + k * SECOND // 10 for k in range(4)]
    pair = seen[3]
    assert set(pair.messages) == {"points", "image/front"}
    assert wire.read_header(pair.messages["points"].raw).stamp_ns == pair.record.stamp_ns
    camera, T_cam_points = pair.views["front"]
    assert camera.K[0, 0] == 20.0
    np.testing.assert_allclose(T_cam_points, np.linalg.inv(T_LIDAR_CAM), atol=1e-12)
    # the robot drives 1 m/s along x; tf reaches 0.15 s back, and not beyond the stamp yet
    stamps = np.array(pair.motion.stamps_ns) - pair.record.stamp_ns
    np.testing.assert_array_equal(stamps, np.arange(-6, 1) * 25_000_000)
    x = [T[0, 3] for T in pair.motion.T_world_points]
    np.testing.assert_allclose(x, np.array(pair.motion.stamps_ns) / SECOND, atol=1e-9)
    np.testing.assert_array_equal(pair.motion.at(pair.record.stamp_ns), pair.record.T_world_base)
    assert "the camera has moved" in capture.report().warnings
    assert "capture goes on" in caplog.text
