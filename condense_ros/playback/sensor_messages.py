"""Samples of sensors as the messages a robot would send."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros import wire
from condense_ros.frame import CameraImage, PointCloud
from condense_ros.geometry import Array, inverse, quaternion_from_rotation
from condense_ros.playback.messages import LATCHED, Outgoing, PlaybackConfig
from condense_ros.wire import Header, cdr

MAP, ODOM, BASE, LIDAR = "map", "odom", "base_link", "lidar"
IMU_TYPE = "sensor_msgs/msg/Imu"


def token(name: str) -> str:
    """A camera's name as it may stand in a topic."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return clean if clean[:1].isalpha() else f"cam_{clean}"


def optical_frame(camera: str) -> str:
    """Name of a camera's optical frame."""
    return f"{token(camera)}_optical_frame"


def camera_messages(
    image: CameraImage, config: PlaybackConfig, send_ns: int | None = None
) -> list[Outgoing]:
    """camera_info, then the image, then its depth.

    Args:
        send_ns: when they are sent, where that is not their stamp.
    """
    base, frame = f"/camera/{token(image.name)}", optical_frame(image.name)
    header, at = Header(image.stamp_ns, frame), image.stamp_ns if send_ns is None else send_ns
    info = wire.encode_camera_info(header, image.camera)
    out = [Outgoing(f"{base}/camera_info", wire.CAMERA_INFO, at, info, LATCHED)]
    if config.compressed:
        raw = wire.encode_compressed_image(header, image.pixels, "jpeg", config.jpeg_quality)
        out.append(Outgoing(f"{base}/image/compressed", wire.COMPRESSED_IMAGE, at, raw))
    else:
        raw = wire.encode_image(header, image.pixels)
        out.append(Outgoing(f"{base}/image", wire.IMAGE, at, raw))
    if image.depth is not None:
        raw = wire.encode_image(header, image.depth, "16UC1")
        out.append(Outgoing(f"{base}/depth", wire.IMAGE, at, raw))
    return out


def cloud_message(
    cloud: PointCloud,
    stamp_ns: int,
    extra: Mapping[str, npt.NDArray[Any]],
    send_ns: int | None = None,
) -> Outgoing:
    """The cloud on /points, with `extra` fields (N,)."""
    raw = wire.encode_cloud(Header(stamp_ns, LIDAR), {**wire.cloud_fields(cloud), **extra})
    at = stamp_ns if send_ns is None else send_ns
    return Outgoing("/points", wire.POINT_CLOUD, at, raw)


def imu_message(stamp_ns: int, reading: Array, send_ns: int) -> Outgoing:
    """An inertial measurement (6,) rad/s and m/s^2 on /imu; it has no orientation (REP-145)."""
    gyro, force = (
        cdr.message("geometry_msgs/msg/Vector3", x=float(v[0]), y=float(v[1]), z=float(v[2]))
        for v in (reading[:3], reading[3:])
    )
    unknown = np.zeros(9)
    unknown[0] = -1.0
    message = cdr.message(
        IMU_TYPE,
        header=wire.header.header_to_message(Header(stamp_ns, BASE)),
        orientation_covariance=unknown,
        angular_velocity=gyro,
        linear_acceleration=force,
    )
    return Outgoing("/imu", IMU_TYPE, send_ns, cdr.serialize(IMU_TYPE, message))


def twist_between(before: Array, after: Array, seconds: float) -> Array:
    """(6,) velocity in the base frame that leads from one pose to the next."""
    step = inverse(before) @ after
    quaternion = quaternion_from_rotation(step[:3, :3])
    sine = float(np.linalg.norm(quaternion[:3]))
    angle = 2 * np.arctan2(sine, quaternion[3])
    turn = quaternion[:3] * (angle / sine if sine > 1e-12 else 2.0)
    return np.asarray(np.concatenate([step[:3, 3], turn]) / max(seconds, 1e-6))
