"""Small recordings for tests: a lidar, a camera, calibration, tf, odometry and pairs."""

from __future__ import annotations

import numpy as np

from condense_ros.bags import PairRecord
from condense_ros.frame import CameraImage, calibration_id
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, rotation_rpy, se3
from condense_ros.wire import (
    CAMERA_INFO,
    IMAGE,
    ODOMETRY,
    POINT_CLOUD,
    TF,
    Header,
    Odometry,
    StampedTransform,
    cdr,
    encode_camera_info,
    encode_cloud,
    encode_image,
    encode_odometry,
    encode_tf,
)

STRING = "std_msgs/msg/String"
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
IMAGE_DELAY_NS = 20_000_000
CAMERA = CameraModel([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]], 64, 48, [-0.1, 0.01, 0, 0, 0])
T_CAM_LIDAR = se3(R_OPTICAL_BODY @ rotation_rpy(0.01, -0.02, 0.03), [0.05, -0.3, -0.1])
T_BASE_LIDAR = se3(rotation_rpy(0.0, 0.05, 0.1), [0.2, 0.0, 1.4])


def text(value: str) -> bytes:
    """CDR of a std_msgs/String."""
    return cdr.serialize(STRING, cdr.message(STRING, data=value))


def pose(stamp_ns: int) -> np.ndarray:
    """T_odom_base of a robot on a curve."""
    t = (stamp_ns - START_NS) / 1e9
    return se3(rotation_rpy(0, 0, 0.3 * t), [2.0 * t, 0.1 * t, 0.0])


def points(index: int) -> np.ndarray:
    """(50, 3) float32 of frame `index`."""
    return np.random.default_rng(index).uniform(1, 20, (50, 3)).astype(np.float32)


def pixels(index: int) -> np.ndarray:
    """(48, 64, 3) uint8 of frame `index`."""
    return np.random.default_rng(100 + index).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def calibration(camera: CameraModel = CAMERA, T_cam_lidar: np.ndarray = T_CAM_LIDAR) -> str:
    """The id of the rig's calibration."""
    blank = np.zeros((camera.height, camera.width, 3), np.uint8)
    return calibration_id((CameraImage("front", 0, blank, camera, T_cam_lidar),))


def statics(T_cam_lidar: np.ndarray = T_CAM_LIDAR) -> bytes:
    """/tf_static of the rig, written the way drivers do: parents above children."""
    links = [
        StampedTransform(START_NS, "base_link", "lidar", T_BASE_LIDAR),
        StampedTransform(START_NS, "camera", "lidar_copy", np.eye(4)),
        StampedTransform(START_NS, "lidar", "camera", np.linalg.inv(T_cam_lidar)),
    ]
    return encode_tf(links)


def record(writer, frames: int = 5, *, info: bool = True, tf: bool = True, pair: bool = True):
    """Writes `frames` frames; returns {topic: [raw, ...]} of what was written."""
    written: dict[str, list[bytes]] = {}

    def put(topic: str, kind: str, raw: bytes, stamp_ns: int, log_ns: int | None = None) -> None:
        written.setdefault(topic, []).append(raw)
        assert writer.write(topic, kind, raw, stamp_ns, stamp_ns if log_ns is None else log_ns)

    if tf:
        put("/tf_static", TF, statics(), START_NS)
    for step in range(2 * frames + 2):
        stamp = START_NS + step * PERIOD_NS // 2
        odometry = Odometry(Header(stamp, "odom"), "base_link", pose(stamp))
        put("/odom", ODOMETRY, encode_odometry(odometry), stamp)
    for k in range(frames):
        stamp = START_NS + k * PERIOD_NS
        seen = stamp + IMAGE_DELAY_NS
        xyz = dict(zip("xyz", points(k).T, strict=True))
        put("/points", POINT_CLOUD, encode_cloud(Header(stamp, "lidar"), xyz), stamp)
        put("/front/image_raw", IMAGE, encode_image(Header(seen, "camera"), pixels(k)), seen)
        if info:
            raw = encode_camera_info(Header(seen, "camera"), CAMERA)
            put("/front/camera_info", CAMERA_INFO, raw, seen)
        if pair:
            messages = {"points": ("/points", stamp), "image/front": ("/front/image_raw", seen)}
            writer.pair(PairRecord(stamp, messages, calibration(), pose(stamp), "odom", "lidar"))
    return written
