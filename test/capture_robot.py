"""A small robot in numbers, for tests of capture without ROS."""

from __future__ import annotations

import numpy as np

from condense_ros import wire
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, se3
from condense_ros.wire import Header, StampedTransform

SECOND = 10**9
POINTS, IMAGE, INFO = "/points", "/camera/front/image", "/camera/front/camera_info"
CAMERA = CameraModel(np.array([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]]), 32, 24)
T_LIDAR_CAM = se3(R_OPTICAL_BODY.T, [0.1, 0.0, -0.2])
XYZ = np.arange(30, dtype=np.float32).reshape(10, 3)


def points(stamp_ns, fields="xyz", count=10, frame="lidar"):
    columns = {name: XYZ[:count, i % 3] for i, name in enumerate(fields)}
    return wire.encode_cloud(Header(stamp_ns, frame), columns)


def image(stamp_ns, frame="cam", width=32):
    return wire.encode_image(Header(stamp_ns, frame), np.zeros((24, width, 3), np.uint8))


def info(stamp_ns, camera=CAMERA):
    return wire.encode_camera_info(Header(stamp_ns, "cam"), camera)


def statics(T=T_LIDAR_CAM):
    return wire.encode_tf(
        [
            StampedTransform(1, "base_link", "lidar", np.eye(4)),
            StampedTransform(1, "lidar", "cam", T),
        ]
    )


def moving(stamp_ns):
    pose = se3(np.eye(3), [stamp_ns / SECOND, 0, 0])
    return wire.encode_tf([StampedTransform(stamp_ns, "odom", "base_link", pose)])


class Robot:
    """Sends what a small robot sends, but for what a test leaves out."""

    def __init__(self, capture):
        self.capture = capture

    def step(self, k, *, image_raw=None, points_raw=None, odom=True):
        stamp = SECOND + k * SECOND // 10
        if odom:
            self.capture.add_tf("/tf", moving(stamp), stamp, False)
        self.capture.add_sensor(IMAGE, wire.IMAGE, image_raw or image(stamp), stamp)
        self.capture.add_sensor(POINTS, wire.POINT_CLOUD, points_raw or points(stamp), stamp)

    def calibrate(self):
        self.capture.add_tf("/tf_static", statics(), SECOND, True)
        self.capture.add_camera_info(INFO, info(SECOND), SECOND)


def closes(capture):
    """The account, after checking that every identity holds."""
    report = capture.report()
    for count in report.topics.values():
        assert count.received == count.matched + sum(count.dropped.values()) + count.waiting
    for context in report.context.values():
        assert context.received == context.kept + sum(context.dropped.values())
    for record in report.recorder.values():
        assert record.accepted == record.written + sum(record.dropped.values()) + record.queued
    return report
