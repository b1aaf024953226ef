"""Real sensor data through real DDS: replayed, matched, recorded, read again."""

from __future__ import annotations

import time

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from condense_ros.bags import bag_info
from condense_ros.datasets import open_dataset

from .conftest import closes, ready

pytestmark = pytest.mark.ros


def replay_and_capture(session, path, play=(), capture=()):
    """Plays a data set into a recorder; checks the account between both; returns both reports."""
    bag = session.folder / "bag"
    with session.running("capture_node", bag=str(bag), **dict(capture)) as recorder:
        with session.running(
            "replay_node", path=str(path), wait_for=["/points"], start_delay_s=0.5, **dict(play)
        ) as player:
            assert player.wait(60)
        recorder.stop()
        recorder.check()
    sent, report = session.report("replay_node")["sent"], session.report("capture_node")
    closes(report)
    for topic, count in report["topics"].items():
        lost = sent[topic] - count["received"]
        assert lost == 0, f"{topic}: {lost} of {sent[topic]} lost"
        assert count["waiting"] == 0
    return sent, report


def test_kitti_pairs(session, data_dir):
    """Camera and lidar of KITTI: what is recorded is what was on disk, byte for byte."""
    path = data_dir / "kitti_jam_camlidar"
    sent, report = replay_and_capture(session, path, {"rate": 2.0, "duration_s": 4.0})
    assert set(report["topics"]) == {"/points", "/camera/image_02/image"}
    assert report["pairs"] == sent["/points"] == 10
    assert report["pairs_without_pose"] == 0
    assert len(report["calibration_ids"]) == 1
    bag = session.folder / "bag"
    info = bag_info(bag)
    assert info.pairs == 10
    with AnyReader([bag]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        for connection, _, raw in reader.messages():
            reader.deserialize(raw, connection.msgtype)
    for topic in ("/points", "/camera/image_02/image", "/tf", "/odom"):
        assert counts[topic] == sent[topic]
    truth, recorded = open_dataset(path), open_dataset(bag)
    assert len(recorded) == 10
    for i in (0, 9):
        one, two = truth[i], recorded[i]
        np.testing.assert_array_equal(two.cloud.xyz, one.cloud.xyz)
        np.testing.assert_array_equal(two.cloud.intensity, one.cloud.intensity)
        np.testing.assert_array_equal(two.images[0].pixels, one.images[0].pixels)
        np.testing.assert_array_equal(two.images[0].camera.K, one.images[0].camera.K)
        # KITTI prints rotations with too few digits to be orthonormal; tf holds unit quaternions
        np.testing.assert_allclose(two.images[0].T_cam_lidar, one.images[0].T_cam_lidar, atol=1e-7)
        np.testing.assert_allclose(two.T_world_lidar, one.T_world_lidar, atol=1e-6)

    # the bag itself is played again, and gives the same pairs
    again = type(session)(session.folder / "again", session.domain)
    again.folder.mkdir()
    _, second = replay_and_capture(again, bag, {"rate": 2.0})
    assert second["pairs"] == 10
    assert second["calibration_ids"] == report["calibration_ids"]


def test_six_cameras_with_motion_between_them(session, data_dir):
    path = data_dir / "nuscenes_frame"
    _, report = replay_and_capture(
        session,
        path,
        {"compressed": True, "restamp": True},
        {"sync.tolerance_s": 0.1, "transform_wait_s": 3.0},
    )
    assert len(report["topics"]) == 7
    assert (report["pairs"], report["pairs_without_pose"]) == (1, 0)
    assert 30 < report["skew_ms"] < 60
    truth, frame = open_dataset(path)[0], open_dataset(session.folder / "bag")[0]
    expected = {image.name: image for image in truth.images}
    assert {image.name for image in frame.images} == set(expected)
    for image in frame.images:
        one = expected[image.name]
        np.testing.assert_allclose(image.T_cam_lidar, one.T_cam_lidar, atol=1e-7)
        np.testing.assert_allclose(image.ego_motion, one.ego_motion, atol=2e-3)


def test_depth_camera(session, data_dir):
    path = data_dir / "7scenes_kitchen_dev"
    capture = {
        "points_topic": "",
        "depth_topic": "/camera/color/depth",
        "image_topics": ["/camera/color/image"],
    }
    bag = session.folder / "bag"
    with session.running("capture_node", bag=str(bag), **capture) as recorder:
        ready(recorder, "matching")
        with session.running(
            "replay_node",
            path=str(path),
            wait_for=["/camera/color/depth"],
            duration_s=1.5,
            rate=0.5,
        ) as player:
            assert player.wait(60)
        recorder.stop()
        recorder.check()
    report = session.report("capture_node")
    closes(report)
    sent = session.report("replay_node")["sent"]["/camera/color/depth"]
    assert report["topics"]["/camera/color/depth"]["received"] == report["pairs"] == sent
    one, two = open_dataset(path)[3], open_dataset(bag)[3]
    np.testing.assert_allclose(two.images[0].depth, one.images[0].depth, atol=1e-6)
    np.testing.assert_allclose(two.cloud.xyz, one.cloud.xyz, atol=1e-5)
    np.testing.assert_allclose(two.T_world_lidar, one.T_world_lidar, atol=1e-4)


def test_pause_and_seek(session, robot, data_dir):
    from condense_msgs.srv import Seek
    from std_srvs.srv import SetBool

    path = data_dir / "7scenes_kitchen_dev"
    with session.running("replay_node", path=str(path), start_paused=True) as player:
        ready(player, "steps on")
        ahead = robot.call(Seek, "/replay_node/seek", Seek.Request(offset_s=1e6))
        assert not ahead.success
        assert "nothing to play" in ahead.message
        last = open_dataset(path).period_s * 247 - 0.01
        assert robot.call(Seek, "/replay_node/seek", Seek.Request(offset_s=last)).success
        assert not player.wait(1.5)  # paused: does not end
        assert robot.call(SetBool, "/replay_node/pause", SetBool.Request(data=False)).success
        assert player.wait(20)
    assert session.report("replay_node")["sent"]["/points"] == 3


def test_services_of_the_recorder(session, robot):
    from std_srvs.srv import Trigger

    from .conftest import SECOND

    parameters = {"image_topics": ["/camera/front/image/compressed"], "transform_wait_s": 0.2}
    bag = session.folder / "bag"
    with session.running("capture_node", bag=str(bag), **parameters) as recorder:
        ready(recorder, "matching")

        def call(name):
            return robot.call(Trigger, f"/capture_node/{name}", Trigger.Request())

        assert "already recording" in call("start").message
        assert "ring buffer" in call("snapshot").message
        robot.statics()
        robot.camera_info()
        for k in range(5):
            robot.frame(SECOND + k * SECOND // 10)
        assert call("split").success
        for k in range(5, 10):
            robot.frame(SECOND + k * SECOND // 10)
        time.sleep(1.0)
        stopped = call("stop")
        assert stopped.success
        assert not call("stop").success
        assert call("start").success
        for k in range(10, 15):
            robot.frame(SECOND + k * SECOND // 10)
        time.sleep(1.0)
        recorder.stop()
        recorder.check()
    closes(session.report("capture_node"))
    assert len(bag_info(bag).files) == 2
    assert len(open_dataset(bag)) + len(open_dataset(f"{bag}_1")) >= 13
