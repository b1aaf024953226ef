"""Transforms and poses: tf2_msgs/TFMessage, nav_msgs/Odometry, PoseWithCovarianceStamped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.errors import GeometryError, WireError
from condense_ros.geometry import (
    Array,
    check_se3,
    quaternion_from_rotation,
    rotation_from_quaternion,
    se3,
)
from condense_ros.wire import cdr
from condense_ros.wire.header import Header, header_from_message, header_to_message

TF = "tf2_msgs/msg/TFMessage"
ODOMETRY = "nav_msgs/msg/Odometry"
POSE = "geometry_msgs/msg/PoseWithCovarianceStamped"


@dataclass(frozen=True, eq=False)
class StampedTransform:
    """`T`: (4, 4), child-frame points into the parent frame (T_parent_child), at `stamp_ns`."""

    stamp_ns: int
    parent: str
    child: str
    T: Array


@dataclass(frozen=True, eq=False)
class Odometry:
    """Pose and velocity of a base frame.

    Attributes:
        header: stamp and odometry frame.
        child_frame_id: the base frame.
        T_odom_base: (4, 4).
        twist: (6,) linear m/s and angular rad/s, in the base frame.
        covariance: (6, 6) of the pose; all zero = unknown.
    """

    header: Header
    child_frame_id: str
    T_odom_base: Array
    twist: Array = field(default_factory=lambda: np.zeros(6))
    covariance: Array = field(default_factory=lambda: np.zeros((6, 6)))


def _transform(rotation: Any, translation: Any, what: str) -> Array:
    xyz = (translation.x, translation.y, translation.z)
    if not np.isfinite(xyz).all():
        raise WireError(f"{what} has translation {xyz}", "check the node that publishes it")
    try:
        quaternion = (rotation.x, rotation.y, rotation.z, rotation.w)
        return se3(rotation_from_quaternion(quaternion), xyz)
    except GeometryError as error:
        raise WireError(f"{what}: {error.problem}", error.fix) from error


def _vector(type_name: str, xyz: npt.NDArray[np.floating]) -> Any:
    return cdr.message(type_name, x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _quaternion(T: Array) -> Any:
    x, y, z, w = quaternion_from_rotation(T[:3, :3]).tolist()
    return cdr.message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def pose_to_message(T: Array) -> Any:
    """geometry_msgs/Pose of a (4, 4) transform.

    Raises:
        GeometryError: not a rigid motion.
    """
    T = check_se3(T, "pose")
    return cdr.message(
        "geometry_msgs/msg/Pose",
        position=_vector("geometry_msgs/msg/Point", T[:3, 3]),
        orientation=_quaternion(T),
    )


def pose_from_message(pose: Any, what: str = "pose") -> Array:
    """(4, 4) transform of a geometry_msgs/Pose.

    Raises:
        WireError: a quaternion that is not of unit length, or NaN.
    """
    return _transform(pose.orientation, pose.position, what)


def decode_tf(raw: cdr.Bytes) -> list[StampedTransform]:
    """The transforms of a TFMessage.

    Raises:
        WireError: malformed bytes, an empty frame name, a quaternion that is not of unit length.
    """
    transforms = []
    for stamped in cdr.deserialize(TF, raw).transforms:
        header = header_from_message(stamped.header)
        child = stamped.child_frame_id.lstrip("/")
        if not header.frame_id or not child:
            raise WireError(
                f"transform {header.frame_id!r} -> {child!r} lacks a frame name", "name both frames"
            )
        T = _transform(
            stamped.transform.rotation,
            stamped.transform.translation,
            f"transform {header.frame_id} -> {child}",
        )
        transforms.append(StampedTransform(header.stamp_ns, header.frame_id, child, T))
    return transforms


def encode_tf(transforms: Iterable[StampedTransform]) -> bytes:
    """A TFMessage.

    Raises:
        GeometryError: a T that is not a rigid motion.
    """
    messages = []
    for stamped in transforms:
        T = check_se3(stamped.T, f"transform {stamped.parent} -> {stamped.child}")
        messages.append(
            cdr.message(
                "geometry_msgs/msg/TransformStamped",
                header=header_to_message(Header(stamped.stamp_ns, stamped.parent)),
                child_frame_id=stamped.child,
                transform=cdr.message(
                    "geometry_msgs/msg/Transform",
                    translation=_vector("geometry_msgs/msg/Vector3", T[:3, 3]),
                    rotation=_quaternion(T),
                ),
            )
        )
    return cdr.serialize(TF, cdr.message(TF, transforms=messages))


def decode_odometry(raw: cdr.Bytes) -> Odometry:
    """Decodes nav_msgs/Odometry.

    Raises:
        WireError: malformed bytes, or an orientation that is not of unit length.
    """
    message = cdr.deserialize(ODOMETRY, raw)
    twist = message.twist.twist
    return Odometry(
        header_from_message(message.header),
        message.child_frame_id.lstrip("/"),
        pose_from_message(message.pose.pose, "odometry"),
        np.array([getattr(part, axis) for part in (twist.linear, twist.angular) for axis in "xyz"]),
        np.array(message.pose.covariance).reshape(6, 6),
    )


def _covariance(matrix: npt.ArrayLike) -> Array:
    values = np.array(matrix, dtype=np.float64)
    if values.shape != (6, 6):
        raise WireError(f"covariance has shape {values.shape}", "give a 6x6 matrix")
    return values.reshape(36)


def encode_odometry(odometry: Odometry) -> bytes:
    """A nav_msgs/Odometry message.

    Raises:
        GeometryError: a pose that is not a rigid motion.
        WireError: a covariance of another shape.
    """
    twist = cdr.message(
        "geometry_msgs/msg/Twist",
        linear=_vector("geometry_msgs/msg/Vector3", odometry.twist[:3]),
        angular=_vector("geometry_msgs/msg/Vector3", odometry.twist[3:]),
    )
    message = cdr.message(
        ODOMETRY,
        header=header_to_message(odometry.header),
        child_frame_id=odometry.child_frame_id,
        pose=cdr.message(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=pose_to_message(odometry.T_odom_base),
            covariance=_covariance(odometry.covariance),
        ),
    )
    message.twist.twist = twist
    return cdr.serialize(ODOMETRY, message)


def encode_pose(header: Header, T: Array, covariance: npt.ArrayLike) -> bytes:
    """A PoseWithCovarianceStamped; covariance (6, 6) of x y z roll pitch yaw, fixed axes.

    Raises:
        GeometryError: a pose that is not a rigid motion.
        WireError: a covariance of another shape.
    """
    pose = cdr.message(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=pose_to_message(T),
        covariance=_covariance(covariance),
    )
    return cdr.serialize(POSE, cdr.message(POSE, header=header_to_message(header), pose=pose))


def decode_pose(raw: cdr.Bytes) -> tuple[Header, Array, Array]:
    """(header, (4, 4) pose, (6, 6) covariance) of a PoseWithCovarianceStamped.

    Raises:
        WireError: malformed bytes, or an orientation that is not of unit length.
    """
    message = cdr.deserialize(POSE, raw)
    covariance = np.array(message.pose.covariance).reshape(6, 6)
    return header_from_message(message.header), pose_from_message(message.pose.pose), covariance
