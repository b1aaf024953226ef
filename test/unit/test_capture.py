"""Capture without ROS: pairs, calibration, drops with their reasons, and the account."""

from __future__ import annotations

import json

import numpy as np
import pytest
from capture_robot import (
    CAMERA,
    IMAGE,
    INFO,
    POINTS,
    SECOND,
    T_LIDAR_CAM,
    XYZ,
    Robot,
    closes,
    image,
    info,
    moving,
    points,
    statics,
)

from condense_ros import wire
from condense_ros.bags import BagReader
from condense_ros.capture import Capture, CaptureConfig
from condense_ros.capture.calibration import CalibrationState, ImageFacts
from condense_ros.config import build
from condense_ros.datasets import open_dataset
from condense_ros.errors import BagError, ConfigError
from condense_ros.files import write_json
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, se3
from condense_ros.sync import SyncConfig
from condense_ros.wire import Header, StampedTransform
from condense_ros.wire.topics import camera_info_topic, camera_name


@pytest.fixture
def capture():
    config = build(CaptureConfig, {"image_topics": (IMAGE,), "transform_wait_s": 0.0})
    return Capture(config, SyncConfig(tolerance_s=0.03))


def test_records_pairs_that_the_reader_agrees_with(capture, tmp_path):
    robot = Robot(capture)
    robot.calibrate()  # before the recording: the bag must hold it all the same
    capture.start(tmp_path / "bag")
    for k in range(8):
        robot.step(k)
    capture.stop()
    report = closes(capture)
    assert (report.pairs, report.pairs_without_pose) == (8, 0)
    assert report.topics[POINTS].matched == report.topics[IMAGE].matched == 8
    assert report.recorder[POINTS].written == 8
    pairs = BagReader(tmp_path / "bag").pairs()
    assert [pair.T_world_base[0, 3] for pair in pairs] == pytest.approx(np.arange(1, 1.8, 0.1))
    assert pairs[0].messages == {"points": (POINTS, SECOND), "image/front": (IMAGE, SECOND)}
    dataset = open_dataset(tmp_path / "bag")  # compares the calibration ids itself
    frame = dataset[3]
    np.testing.assert_array_equal(frame.cloud.xyz, XYZ)
    np.testing.assert_allclose(frame.images[0].T_cam_lidar, np.linalg.inv(T_LIDAR_CAM), atol=1e-12)
    assert frame.images[0].name == "front"
    write_json(tmp_path / "deep" / "report.json", report.as_dict())
    assert json.loads((tmp_path / "deep" / "report.json").read_text())["pairs"] == 8


def test_without_camera_info_everything_is_dropped_and_said(capture):
    capture.add_tf("/tf_static", statics(), SECOND, True)
    robot = Robot(capture)
    for k in range(5):
        robot.step(k)
    capture.resolve(final=True)
    report = closes(capture)
    assert report.pairs == 0
    assert report.topics[POINTS].dropped["no_camera_info"] >= 4
    assert any(f"no camera_info on {INFO}" in text for text in report.warnings)
    robot.calibrate()  # recovery
    for k in range(5, 10):
        robot.step(k)
    capture.stop()
    assert closes(capture).pairs >= 5
    assert not any("camera_info" in text for text in closes(capture).warnings)


def test_missing_transform_is_never_identity(capture):
    capture.add_camera_info(INFO, info(SECOND), SECOND)
    robot = Robot(capture)
    for k in range(5):
        robot.step(k)
    capture.stop()
    report = closes(capture)
    assert report.pairs == 0
    assert report.topics[IMAGE].dropped["no_transform"] == 5
    assert any("frame 'cam' and 'lidar' appears in no transform" in t for t in report.warnings)


def test_waits_for_late_transforms():
    config = build(CaptureConfig, {"image_topics": (IMAGE,), "transform_wait_s": 60.0})
    capture = Capture(config, SyncConfig(tolerance_s=0.03))
    robot = Robot(capture)
    for k in range(4):
        robot.step(k)
    waiting = closes(capture)
    assert (waiting.pairs, waiting.topics[POINTS].matched) == (0, 0)
    assert waiting.topics[POINTS].waiting == 4
    robot.calibrate()
    robot.step(4)
    capture.stop()
    assert closes(capture).pairs == 5


def test_pose_that_never_comes_leaves_the_pair_without_one(capture, tmp_path):
    capture.start(tmp_path / "bag")
    robot = Robot(capture)
    robot.calibrate()
    for k in range(3):
        robot.step(k, odom=False)
    capture.stop()
    report = closes(capture)
    assert (report.pairs, report.pairs_without_pose) == (3, 3)
    assert BagReader(tmp_path / "bag").pairs()[0].T_world_base is None
    assert any("pairs have no pose" in text for text in report.warnings)


@pytest.mark.parametrize(
    ("topic", "raw", "reason", "words"),
    [
        ("points", points(SECOND, fields="xyi"), "malformed", "no field z"),
        ("points", points(SECOND, count=0), "empty_cloud", "it is empty"),
        ("points", points(SECOND)[:-5], "malformed", "are no sensor_msgs/msg/PointCloud2"),
        ("image", image(SECOND)[:-5], "malformed", "are no sensor_msgs/msg/Image"),
        ("image", b"\0", "malformed", "1 bytes"),
    ],
)
def test_unusable_messages(capture, tmp_path, topic, raw, reason, words):
    capture.start(tmp_path / "bag")
    robot = Robot(capture)
    robot.calibrate()
    robot.step(0, **{f"{topic}_raw": raw})
    for k in range(1, 4):
        robot.step(k)
    capture.stop()
    report = closes(capture)
    name = POINTS if topic == "points" else IMAGE
    assert report.topics[name].dropped[reason] == 1
    assert report.recorder[name].accepted == 3
    assert report.pairs == 3
    assert any(name in text and words in text for text in report.warnings)


def test_camera_info_of_another_size_or_uncalibrated(capture):
    robot = Robot(capture)
    robot.calibrate()
    capture.add_camera_info(INFO, info(SECOND, CAMERA.scaled(64, 48)), SECOND)
    robot.step(0)
    capture.resolve(final=True)
    report = closes(capture)
    assert report.topics[IMAGE].dropped["no_camera_info"] == 1
    assert any("is for 64x48, the image is 32x24" in text for text in report.warnings)
    message = wire.cdr.message(wire.CAMERA_INFO, width=32, height=24)
    capture.add_camera_info(INFO, wire.cdr.serialize(wire.CAMERA_INFO, message), SECOND)
    report = closes(capture)
    assert report.context[INFO].dropped == {"malformed": 1}
    assert any("K = 0" in text for text in report.warnings)


def test_changed_calibration_has_another_id(capture):
    robot = Robot(capture)
    robot.calibrate()
    robot.step(0)
    robot.step(1)
    capture.resolve(final=True)
    capture.add_camera_info(INFO, info(SECOND), SECOND)
    robot.step(2)
    capture.add_tf("/tf_static", statics(se3(R_OPTICAL_BODY.T, [0.1, 0, -0.21])), SECOND, True)
    for k in range(3, 6):
        robot.step(k)
    capture.stop()
    assert len(closes(capture).calibration_ids) == 2


def test_clock_jumps_back(capture, tmp_path):
    capture.start(tmp_path / "bag")
    robot = Robot(capture)
    robot.calibrate()
    for k in range(100, 110):
        robot.step(k)
    for k in range(10):
        robot.step(k)
    capture.stop()
    report = closes(capture)
    assert report.pairs >= 18
    assert [pair.T_world_base[0, 3] for pair in BagReader(tmp_path / "bag").pairs()[-9:]] == (
        pytest.approx(np.arange(1.1, 1.95, 0.1))
    )


def test_start_stop_start(capture, tmp_path):
    robot = Robot(capture)
    robot.calibrate()
    with pytest.raises(BagError, match="nothing is being recorded"):
        capture.split()
    capture.start(tmp_path / "a")
    with pytest.raises(BagError, match="already recording"):
        capture.start(tmp_path / "b")
    robot.step(0)
    robot.step(1)
    capture.stop()
    capture.stop()
    robot.step(2)  # not recorded
    capture.start(tmp_path / "b")
    robot.step(3)
    robot.step(4)
    capture.stop()
    closes(capture)
    assert len(open_dataset(tmp_path / "a")) == 2
    assert len(open_dataset(tmp_path / "b")) == 2
    assert open_dataset(tmp_path / "b").incomplete == 0


def test_the_account_of_pairs_is_that_of_the_recording(capture, tmp_path):
    robot = Robot(capture)
    robot.calibrate()
    for k, bag in enumerate(("", "a", "", "b")):
        if bag:
            capture.start(tmp_path / bag)
            assert (capture.report().pairs, capture.report().calibration_ids) == (0, ())
        for j in range(k + 1):
            robot.step(10 * k + j, odom=bag != "")
        capture.stop()
        report = closes(capture)
        if bag:
            assert report.pairs == len(BagReader(tmp_path / bag).pairs()) == k + 1
            assert report.pairs_without_pose == 0
            assert len(report.calibration_ids) == 1
    assert report.completed == report.topics[POINTS].matched == 10
    robot.step(50)
    capture.stop()
    assert (closes(capture).pairs, capture.report().completed) == (4, 11)


def test_depth_camera(tmp_path):
    depth_topic, colour = "/camera/color/depth", "/camera/color/image"
    config = build(
        CaptureConfig,
        {"points_topic": "", "depth_topic": depth_topic, "image_topics": [colour]},
    )
    capture = Capture(config, SyncConfig(tolerance_s=0.03))
    capture.start(tmp_path / "bag")
    capture.add_camera_info("/camera/color/camera_info", info(SECOND), SECOND)
    depth = np.full((24, 32), 2.5, np.float32)
    for k in range(3):
        stamp = SECOND + k * SECOND // 10
        raw = wire.encode_image(Header(stamp, "cam"), depth, "16UC1")
        capture.add_sensor(depth_topic, wire.IMAGE, raw, stamp)
        capture.add_sensor(colour, wire.IMAGE, image(stamp), stamp)
    capture.stop()
    assert closes(capture).pairs == 3
    frame = open_dataset(tmp_path / "bag")[0]
    np.testing.assert_allclose(frame.cloud.xyz[:, 0], 2.5)
    np.testing.assert_array_equal(frame.images[0].depth, depth)


def test_names_and_parameters():
    assert camera_name("/camera/front/image/compressed") == "front"
    assert camera_name("/cam_front/image_raw") == "cam_front"
    assert camera_name("/image") == "image"
    assert camera_info_topic("/a/image/compressed") == "/a/camera_info"
    with pytest.raises(ConfigError, match="neither points_topic nor depth_topic"):
        build(CaptureConfig, {"points_topic": ""})
    with pytest.raises(ConfigError, match="named twice"):
        build(CaptureConfig, {"image_topics": ["/a", "/a"]})
    with pytest.raises(ConfigError, match="same camera"):
        Capture(build(CaptureConfig, {"image_topics": ["/a/x", "/b/a/x"]}))
    with pytest.raises(ConfigError, match="no image topic"):
        Capture(CaptureConfig())


@pytest.mark.parametrize("heard", ["before", "while"])
def test_static_transforms_heard_before_time_began_do_not_stretch_the_bag(capture, tmp_path, heard):
    """Under use_sim_time the clock reads 0 until /clock comes; players would wait 50 years."""
    if heard == "while":
        capture.start(tmp_path / "bag")
    capture.add_tf("/tf_static", statics(), 0, True)
    capture.add_camera_info(INFO, info(SECOND), 0)
    if heard == "before":
        capture.start(tmp_path / "bag")
    robot = Robot(capture)
    for k in range(1, 4):
        robot.step(k)
    capture.stop()
    messages = list(BagReader(tmp_path / "bag").messages())
    assert {"/tf_static", INFO, IMAGE, POINTS} <= {message.topic for message in messages}
    assert messages[0].topic in ("/tf_static", INFO)
    assert min(message.log_ns for message in messages) == SECOND + SECOND // 10
    closes(capture)


def test_intrinsics_are_those_sent_with_the_image():
    """A match is found when later camera_info has come; the image keeps the one of its time."""
    watch = CalibrationState()
    K = CAMERA.K.copy()
    K[0, 0] += 5
    changed = CameraModel(K, CAMERA.width, CAMERA.height)
    watch.add_camera_info(INFO, info(10, CAMERA))
    watch.add_camera_info(INFO, info(20, changed))

    def focal_length(stamp_ns: int) -> float:
        image = ImageFacts("cam", stamp_ns, CAMERA.width, CAMERA.height)
        return float(watch.camera(INFO, image).K[0, 0])

    first, second = CAMERA.K[0, 0], K[0, 0]
    assert [focal_length(stamp) for stamp in (10, 19, 20, 99)] == [first, first, second, second]
    # stamps of another clock: what came last counts
    assert focal_length(5) == second


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("policy", ["approximate", "slop", "exact", "nearest"])
def test_one_to_eight_cameras_with_lidar_and_odometry(tmp_path, count, policy):
    """Every camera with its own camera_info and mounting; all of one moment in one pair."""
    names = [f"cam{i}" for i in range(count)]
    topics = [f"/camera/{name}/image" for name in names]
    config = build(CaptureConfig, {"image_topics": topics, "transform_wait_s": 0.0})
    capture = Capture(config, SyncConfig(policy=policy, tolerance_s=0.03))
    mounts = [
        StampedTransform(1, "lidar", name, se3(R_OPTICAL_BODY.T, [0.1 * i, 0, 0]))
        for i, name in enumerate(names)
    ]
    base = StampedTransform(1, "base_link", "lidar", np.eye(4))
    capture.add_tf("/tf_static", wire.encode_tf([base, *mounts]), SECOND, True)
    capture.start(tmp_path / "bag")
    rng = np.random.default_rng(count)
    for k in range(6):
        stamp = SECOND + k * SECOND // 10
        capture.add_tf("/tf", moving(stamp), stamp, False)
        odometry = wire.Odometry(Header(stamp, "odom"), "base_link", np.eye(4))
        capture.add_odometry("/odom", wire.encode_odometry(odometry), stamp)
        sent = [(POINTS, wire.POINT_CLOUD, points(stamp))]
        for name, topic in zip(names, topics, strict=True):
            capture.add_camera_info(
                camera_info_topic(topic),
                wire.encode_camera_info(Header(stamp, name), CAMERA),
                stamp,
            )
            sent.append((topic, wire.IMAGE, image(stamp, frame=name)))
        for at in rng.permutation(len(sent)):
            capture.add_sensor(*sent[at], stamp)
    capture.stop()
    report = closes(capture)
    assert (report.pairs, report.pairs_without_pose) == (6, 0)
    assert report.recorder["/odom"].written == 6
    frame = open_dataset(tmp_path / "bag")[5]
    assert sorted(camera.name for camera in frame.images) == names
    for camera in frame.images:
        expected = np.linalg.inv(mounts[names.index(camera.name)].T)
        np.testing.assert_allclose(camera.T_cam_lidar, expected, atol=1e-12)
