"""Playback without ROS: what is sent, when, and with which stamps and frames."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pytest

from condense_ros import wire
from condense_ros.bags import BagWriter
from condense_ros.config import build
from condense_ros.datasets import open_dataset
from condense_ros.errors import BagError, DatasetError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, inverse, rotation_rpy, se3
from condense_ros.playback import (
    FramePlayback,
    Outgoing,
    PlaybackConfig,
    Player,
    open_playback,
    restamped,
)

SECOND = 10**9
CAMERA = CameraModel(np.array([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]]), 32, 24)
T_CAM_LIDAR = se3(R_OPTICAL_BODY, [0.0, -0.3, 0.1])
T_BASE_LIDAR = se3(rotation_rpy(0, 0.05, 0), [0.4, 0, 1.1])


class Drive:
    """A drive of 1 m per frame at 10 Hz with odometry that is 10 % short."""

    name, period_s, classes = "drive", 0.1, None

    def __init__(self, frames=6, odometry=True, mounting=True, poses=True):
        self.T_base_lidar = T_BASE_LIDAR if mounting else None
        self.stamps_ns = SECOND + np.arange(frames) * SECOND // 10
        self.poses = None
        self._poses = poses
        if odometry:
            self.T_odom_base = np.array([se3(np.eye(3), [0.9 * i, 0, 0]) for i in range(frames)])

    def __len__(self):
        return len(self.stamps_ns)

    def __getitem__(self, i):
        stamp = int(self.stamps_ns[i])
        picture = np.full((24, 32, 3), i, np.uint8)
        depth = np.full((24, 32), 2.0, np.float32)
        image = CameraImage("front", stamp, picture, CAMERA, T_CAM_LIDAR, depth=depth)
        world = se3(rotation_rpy(0, 0, 1.0), [3.0, 0, 0]) @ se3(np.eye(3), [1.0 * i, 0, 0])
        return Frame(
            stamp,
            PointCloud(np.full((5, 3), i, np.float32)),
            (image,),
            world @ T_BASE_LIDAR if self._poses else None,
            np.full(5, 7, np.uint8),
        )


def sent_by(dataset, **values):
    playback = FramePlayback(dataset, build(PlaybackConfig, values))
    return playback, [
        *playback.latched(),
        *(m for i in range(len(playback)) for m in playback.step(i)),
    ]


def buffer_of(messages):
    buffer = wire.TfBuffer(1000)
    for message in messages:
        if message.type_name == wire.TF:
            for transform in wire.decode_tf(message.raw):
                buffer.add(transform, static=message.topic == "/tf_static")
    return buffer


def test_frames_of_a_simulated_drive():
    """odom -> base_link drifts, map -> odom corrects it to the truth."""
    drive = Drive()
    playback, messages = sent_by(drive)
    buffer = buffer_of(messages)
    for i in (0, 3, 5):
        stamp = int(drive.stamps_ns[i])
        np.testing.assert_allclose(
            buffer.lookup("odom", "base_link", stamp), drive.T_odom_base[i], atol=1e-9
        )
        truth = drive[i].T_world_lidar
        np.testing.assert_allclose(buffer.lookup("map", "lidar", stamp), truth, atol=1e-9)
    np.testing.assert_allclose(
        buffer.lookup("front_optical_frame", "lidar", SECOND), T_CAM_LIDAR, atol=1e-9
    )
    odometry = [wire.decode_odometry(m.raw) for m in messages if m.topic == "/odom"]
    np.testing.assert_allclose(odometry[3].twist, [9, 0, 0, 0, 0, 0], atol=1e-6)
    assert set(playback.topics) == {
        "/tf_static",
        "/tf",
        "/odom",
        "/points",
        "/camera/front/image",
        "/camera/front/depth",
        "/camera/front/camera_info",
    }


def test_one_pose_only_is_odometry_and_said():
    drive = Drive(odometry=False)
    playback, messages = sent_by(drive)
    buffer = buffer_of(messages)
    assert "map" not in buffer.frames
    stamp = int(drive.stamps_ns[2])
    np.testing.assert_allclose(
        buffer.lookup("odom", "lidar", stamp), drive[2].T_world_lidar, atol=1e-9
    )
    assert any("map -> odom is not sent" in note for note in playback.notes)


def test_without_poses_or_mounting():
    playback, messages = sent_by(Drive(odometry=False, poses=False, mounting=False))
    assert not {"/odom", "/tf"} & {message.topic for message in messages}
    assert any("base_link is defined as its frame" in note for note in playback.notes)
    assert any("no poses" in note for note in playback.notes)


def test_payload():
    _, messages = sent_by(Drive(), compressed=True, labels=True)
    cloud = wire.decode_cloud(next(m for m in messages if m.topic == "/points").raw)
    assert cloud.points["label"].tolist() == [7] * 5
    image = next(m for m in messages if m.topic == "/camera/front/image/compressed")
    assert wire.decode_compressed_image(image.raw).header.frame_id == "front_optical_frame"
    # what data needs comes before it
    order = [m.topic for m in messages if m.stamp_ns == SECOND]
    assert order.index("/camera/front/camera_info") < order.index("/camera/front/image/compressed")
    assert order.index("/tf") < order.index("/points")


class Steps:
    """A playback of bare messages."""

    name, notes, topics = "steps", (), {}

    def __init__(self, stamps, delay_s=0.0):
        self._stamps, self._delay_s = stamps, delay_s
        self.start_ns = stamps[0]

    def __len__(self):
        return len(self._stamps)

    def step_at(self, offset_s):
        return int(np.searchsorted(self._stamps, self.start_ns + round(offset_s * SECOND)))

    def step(self, i, late=False):
        time.sleep(self._delay_s)
        return [Outgoing("/t", wire.CLOCK, self._stamps[i], b"12345")]

    def latched(self):
        return []


def play(steps, clock=None, **values):
    """(wall time, stamp) of each message sent, and the report."""
    sent = []

    def publish(message):
        sent.append((time.monotonic(), message.stamp_ns))
        return True

    player = Player(steps, build(PlaybackConfig, values), publish, clock)
    return sent, player


STAMPS = [SECOND + k * SECOND // 20 for k in range(9)]  # 0.4 s at 20 Hz


def test_true_rate_and_clock():
    ticks = []
    sent, player = play(Steps(STAMPS), ticks.append)
    report = player.run()
    assert [stamp for _, stamp in sent] == STAMPS
    took = np.diff([at for at, _ in sent])
    assert took.mean() == pytest.approx(0.05, rel=0.1)
    assert report.sent == {"/t": 9}
    assert report.bytes == {"/t": 45}
    assert ticks == sorted(ticks)
    assert max(np.diff(ticks)) < 0.03 * SECOND
    assert ticks[-1] == STAMPS[-1]


def test_rate_part_and_loop():
    sent, player = play(Steps(STAMPS), rate=4.0, start_s=0.1, duration_s=0.2, loop=True)
    thread = threading.Thread(target=player.run)
    thread.start()
    time.sleep(0.4)
    player.stop()
    thread.join(5)
    stamps = [stamp for _, stamp in sent]
    assert stamps[:4] == STAMPS[2:6]
    assert stamps[4:8] == STAMPS[2:6]
    assert player.report().loops >= 3


def test_pause_and_seek():
    sent, player = play(Steps(STAMPS), start_paused=True)
    thread = threading.Thread(target=player.run)
    thread.start()
    time.sleep(0.2)
    assert sent == []
    assert not player.seek(-1.0)
    assert not player.seek(99.0)
    assert player.seek(0.3)
    time.sleep(0.1)
    player.pause(False)
    time.sleep(0.07)
    player.pause(True)
    count = len(sent)
    time.sleep(0.3)
    assert len(sent) == count  # paused: nothing, whatever time goes by
    player.pause(False)
    thread.join(5)
    assert [stamp for _, stamp in sent] == STAMPS[6:]


def test_a_pause_adds_nothing_to_the_time_after_it():
    """The next message is due as long after the resume as it would have been after the pause."""
    sent, player = play(Steps(STAMPS))
    thread = threading.Thread(target=player.run)
    thread.start()
    time.sleep(0.12)
    player.pause(True)
    time.sleep(0.08)  # the player is in the middle of a wait
    resumed_s = time.monotonic()
    player.pause(False)
    thread.join(5)
    assert [stamp for _, stamp in sent] == STAMPS
    # the anchor of time is the last resume, unless the machine was late
    assert player._anchor_s <= resumed_s + 0.03 + player.report().behind_s


def test_slow_disk_stretches_time_and_is_reported():
    sent, player = play(Steps(STAMPS, delay_s=0.2), prefetch=1)
    report = player.run()
    assert len(sent) == 9
    assert report.behind_s == pytest.approx(9 * 0.2 - 0.4, abs=0.5)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DatasetError("image 4 is damaged", "restore it"), "image 4 is damaged"),
        (OSError(5, "Input/output error"), "OSError: .*Input/output error"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_step_that_fails_ends_the_playback_with_its_reason(error, words):
    class Damaged(Steps):
        def step(self, i, late=False):
            if i == 4:
                raise error
            return super().step(i)

    sent, player = play(Damaged(STAMPS), rate=10.0)
    report = player.run()
    assert len(sent) == 4
    assert re.match(words, report.error)
    assert player.report().error == report.error


def test_restamp_moves_all_stamps_of_a_moment_together():
    _, messages = sent_by(Drive(frames=2))
    out = []

    def publish(message):
        out.append(message)
        return True

    config = build(PlaybackConfig, {"restamp": True})
    before = time.time_ns()
    Player(FramePlayback(Drive(frames=2), config), config, publish).run()
    after = time.time_ns()
    assert len(out) == len(messages)
    moved: dict[int, set[int]] = {}
    for message in out:
        if message.topic == "/tf":
            stamps = {t.stamp_ns for t in wire.decode_tf(message.raw)}
        elif message.topic != "/tf_static":
            stamps = {wire.read_header(message.raw).stamp_ns}
        else:
            continue
        moved.setdefault(message.stamp_ns, set()).update(stamps)
        assert all(before - SECOND // 10 <= stamp <= after for stamp in stamps)
    assert len(moved) == 2
    assert all(len(stamps) == 1 for stamps in moved.values())


def test_restamp_of_a_message_without_stamp_goes_on_at_a_low_rate():
    class Unstamped(Steps):
        def step(self, i, late=False):
            return [Outgoing("/i", wire.CAMERA_INFO, self._stamps[i], raw)]

    raw = wire.encode_camera_info(wire.Header(0, "cam"), CAMERA)
    stamps = [stamp + 1_700_000_000 * SECOND for stamp in STAMPS[:3]]
    sent, player = play(Unstamped(stamps), rate=0.5, restamp=True)
    assert player.run().error == ""
    assert len(sent) == 3


def test_restamped_keeps_everything_else():
    raw = wire.encode_image(wire.Header(SECOND, "cam"), np.zeros((2, 2, 3), np.uint8))
    message = restamped(Outgoing("/i", wire.IMAGE, SECOND, raw), lambda ns: ns + 5)
    assert wire.decode_image(message.raw).header == wire.Header(SECOND + 5, "cam")
    assert message.raw[12:] == raw[12:]
    unknown = Outgoing("/x", "acme_msgs/msg/Thing", 1, b"\0\1\0\0abcd")
    assert restamped(unknown, lambda ns: ns + 5) is unknown


def test_bag(tmp_path):
    """Original bytes, in the order of stamps, static transforms first."""
    drive, folder = Drive(), tmp_path / "bag"
    _, messages = sent_by(drive)
    with BagWriter(folder) as writer:
        for message in reversed(messages):
            writer.write(
                message.topic, message.type_name, message.raw, message.stamp_ns, message.stamp_ns
            )
    playback = open_playback(build(PlaybackConfig, {"path": str(folder)}))
    played = [m for i in range(len(playback)) for m in playback.step(i)]
    assert [m.stamp_ns for m in played] == sorted(m.stamp_ns for m in played)
    original = {(m.topic, m.stamp_ns, m.raw) for m in messages}
    everything = {(m.topic, m.stamp_ns, m.raw) for m in [*playback.latched(), *played]}
    assert everything == original
    assert playback.topics["/tf_static"] == (wire.TF, "latched")
    assert playback.step_at(0.25) > playback.step_at(0.15) > 0


@pytest.mark.parametrize("rate", [0.5, 1.0], ids=["slow simulation", "real time"])
@pytest.mark.parametrize("began", [SECOND, 1_700_000_000 * SECOND], ids=["simulated", "wall"])
def test_a_message_with_a_stray_stamp_is_sent_when_it_was_logged(tmp_path, began, rate):
    logged = 1_700_000_000 * SECOND
    with BagWriter(tmp_path / "bag") as writer:
        for k in range(400):
            stamp, log = began + k * SECOND, logged + round(k * SECOND / rate)
            cloud = wire.encode_cloud(wire.Header(stamp, "lidar"), {"x": np.zeros(1, np.float32)})
            writer.write("/points", wire.POINT_CLOUD, cloud, stamp, log)
            if k in (0, 200, 399):  # never stamped, and stamped a year late
                info = wire.encode_camera_info(wire.Header(0, "cam"), CAMERA)
                writer.write("/camera/front/camera_info", wire.CAMERA_INFO, info, 0, log)
                late = stamp + 365 * 86400 * SECOND
                tf = wire.encode_tf([wire.StampedTransform(late, "odom", "base_link", np.eye(4))])
                writer.write("/tf", wire.TF, tf, late, log)
    playback = open_playback(build(PlaybackConfig, {"path": str(tmp_path / "bag")}))
    sent = [message for i in range(len(playback)) for message in playback.step(i)]
    assert len(sent) == 406
    assert sum("6 messages" in note for note in playback.notes) == 1
    clouds = [m.stamp_ns - began for m in sent if m.topic == "/points"]
    assert clouds == [k * SECOND for k in range(400)]
    for topic in ("/tf", "/camera/front/camera_info"):
        times = [(m.stamp_ns - began) / SECOND for m in sent if m.topic == topic]
        np.testing.assert_allclose(times, [0, 200, 399], atol=60 if rate < 1 else 1e-3)
    assert abs(playback.start_ns - began) <= 60 * SECOND


def test_nothing_to_play(tmp_path):
    with pytest.raises(DatasetError, match="no path to play"):
        open_playback(PlaybackConfig())
    with pytest.raises(DatasetError, match="does not exist"):
        open_playback(build(PlaybackConfig, {"path": str(tmp_path / "none")}))
    with BagWriter(tmp_path / "bag"):
        pass
    with pytest.raises(BagError, match="no messages to play"):
        open_playback(build(PlaybackConfig, {"path": str(tmp_path / "bag")}))


def test_kitti_extrinsics_survive(data_dir):
    config = build(PlaybackConfig, {"path": str(data_dir / "kitti_object3")})
    playback = open_playback(config)
    for i in range(3):
        buffer = buffer_of([*playback.latched(), *playback.step(i)])
        T = buffer.lookup("image_2_optical_frame", "lidar", None)
        message = next(m for m in playback.step(i) if m.topic == "/points")
        assert len(wire.decode_cloud(message.raw).points) > 100_000
        expected = open_dataset(data_dir / "kitti_object3")[i].images[0].T_cam_lidar
        np.testing.assert_allclose(T, expected, atol=1e-7)
    np.testing.assert_allclose(inverse(T) @ T, np.eye(4), atol=1e-12)
