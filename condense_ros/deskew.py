"""Deskew: the points of a sweep taken while driving, moved to where they lie at one stamp.

A spinning LiDAR measures each point from another place. With the time of every point and poses
around the sweep, each is carried to the sensor's pose at the stamp. Between two poses the sensor is
taken to move with a constant twist, that is along T_k Exp(f Log(T_k^-1 T_k+1)), f in 0..1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from condense_ros.errors import FrameError, GeometryError
from condense_ros.frame import PointCloud
from condense_ros.geometry import Array, check_se3, inverse

#: a pose so near a queried time counts as covering it: stamps pass through float seconds
SLACK_NS = 1_000


def deskew(
    cloud: PointCloud,
    stamp_ns: int,
    pose_stamps_ns: npt.ArrayLike,
    T_odom_lidar: npt.ArrayLike,
    *,
    to_stamp_ns: int | None = None,
) -> PointCloud:
    """A cloud as the sensor would have measured it all at once.

    Args:
        cloud: points in the lidar frame at their own times, `time_s` after the stamp.
        stamp_ns: the cloud's stamp.
        pose_stamps_ns: (T,) increasing, nanoseconds, at least two.
        T_odom_lidar: (T, 4, 4) lidar poses in a frame that is fixed during the sweep. Poses of a
            vehicle become these by multiplying `T_base_lidar` from the right.
        to_stamp_ns: carry the points to this time instead of the cloud's stamp.

    Returns:
        The cloud at that stamp: other fields kept, `time_s` None, as all points now share one time.
        Rows that are not finite stay so.

    Raises:
        FrameError: no per-point times, times that are not finite, or poses that do not cover the
            sweep and the stamp.
        GeometryError: poses that are not rigid.
    """
    if cloud.time_s is None:
        raise FrameError(
            f"cloud of {cloud.frame_id!r} has no time per point and cannot be deskewed",
            "let the driver publish a time field (t, time, timestamp), or leave deskew off",
        )
    seconds = cloud.time_s.astype(np.float64)
    finite = cloud.finite()
    if not np.isfinite(seconds[finite]).all():
        raise FrameError(
            f"cloud of {cloud.frame_id!r} has point times that are not finite",
            "check the driver's time field",
        )
    offset_ns = np.where(finite, np.nan_to_num(seconds), 0.0) * 1e9
    target = stamp_ns if to_stamp_ns is None else to_stamp_ns
    xyz = deskew_points(
        cloud.xyz, stamp_ns, offset_ns, target, pose_stamps_ns, T_odom_lidar, cloud.frame_id
    )
    return replace(cloud, xyz=xyz.astype(np.float32), time_s=None)


def deskew_points(
    xyz: npt.NDArray[np.floating],
    stamp_ns: int,
    offset_ns: npt.NDArray[np.floating],
    to_stamp_ns: int,
    pose_stamps_ns: npt.ArrayLike,
    T_odom_lidar: npt.ArrayLike,
    name: str = "lidar",
) -> Array:
    """The same for bare arrays, in float64.

    Args:
        xyz: (N, 3) metres, each in the lidar frame at its own time.
        stamp_ns: the time from which `offset_ns` counts.
        offset_ns: (N,) nanoseconds of each point after the stamp.
        to_stamp_ns: the time at which the points are returned.
        pose_stamps_ns, T_odom_lidar: as in `deskew`.
        name: of the sensor, for messages.

    Returns:
        (N, 3) float64 metres, lidar frame at `to_stamp_ns`.

    Raises:
        FrameError, GeometryError: as `deskew`.
    """
    stamps, poses = check_trajectory(pose_stamps_ns, T_odom_lidar, name)
    # differences of integers stay exact where nanoseconds since 1970 would not fit a float
    knots = (stamps - stamp_ns).astype(np.float64)
    target = float(to_stamp_ns - stamp_ns)
    if len(offset_ns) == 0:
        return np.zeros((0, 3))
    first, last = min(float(offset_ns.min()), target), max(float(offset_ns.max()), target)
    if first < knots[0] - SLACK_NS or last > knots[-1] + SLACK_NS:
        raise FrameError(
            f"the sweep of {name!r} lasts from {first / 1e6:.1f} to {last / 1e6:.1f} ms around its "
            f"stamp, poses are known from {knots[0] / 1e6:.1f} to {knots[-1] / 1e6:.1f} ms",
            "wait for the odometry that ends the sweep, or publish it at a higher rate",
        )
    T_target_odom = inverse(_pose_at(poses, knots, target))
    segment = np.clip(np.searchsorted(knots, offset_ns, side="right") - 1, 0, len(knots) - 2)
    out = np.empty((len(xyz), 3))
    for k in np.unique(segment):
        rows = np.nonzero(segment == k)[0]
        fraction = (offset_ns[rows] - knots[k]) / (knots[k + 1] - knots[k])
        twist = log_se3(inverse(poses[k]) @ poses[k + 1])
        moved = _carry(xyz[rows].astype(np.float64), twist, fraction)
        start = T_target_odom @ poses[k]
        out[rows] = moved @ start[:3, :3].T + start[:3, 3]
    return out


def check_trajectory(
    stamps_ns: npt.ArrayLike, poses: npt.ArrayLike, name: str = "lidar"
) -> tuple[npt.NDArray[np.int64], Array]:
    """Stamps (T,) and poses (T, 4, 4) after checking that they are a trajectory.

    Raises:
        FrameError: fewer than two poses, lengths that differ, stamps that do not increase.
        GeometryError: a pose that is not rigid.
    """
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    matrices = np.asarray(poses, dtype=np.float64)
    if stamps.ndim != 1 or matrices.shape != (len(stamps), 4, 4) or len(stamps) < 2:
        raise FrameError(
            f"poses of {name!r} have shape {matrices.shape} for stamps {stamps.shape}",
            "give one 4x4 pose per stamp, at least two",
        )
    if (np.diff(stamps) <= 0).any():
        raise FrameError(f"pose stamps of {name!r} do not increase", "sort them, drop duplicates")
    if not np.isfinite(matrices).all():
        raise GeometryError(f"poses of {name!r} contain NaN", "check the odometry")
    return stamps, np.stack([check_se3(T, f"pose of {name!r}") for T in matrices])


def log_se3(T: Array) -> Array:
    """(6,) twist (v, w) whose exponential is the rigid transform (4, 4); |w| below pi.

    Blanco, "A tutorial on SE(3) transformation parameterizations", 2010, eq. 9.22.
    """
    R = T[:3, :3]
    skew = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2
    sine = float(np.linalg.norm(skew))
    angle = float(np.arctan2(sine, (np.trace(R) - 1) / 2))
    if angle > np.pi - 1e-6:
        raise GeometryError(
            f"two poses are turned by {np.degrees(angle):.1f} degrees against each other",
            "give poses at a higher rate: half a turn between two has no direction",
        )
    w = skew * (angle / sine) if sine > 1e-12 else skew
    W = _hat(w)
    # the coefficient of W^2 in the inverse of V; its limit is 1/12
    c = 1 / 12 + angle**2 / 720
    if angle > 1e-3:
        c = (1 - angle * np.sin(angle) / (2 * (1 - np.cos(angle)))) / angle**2
    v = (np.eye(3) - W / 2 + c * W @ W) @ T[:3, 3]
    return np.concatenate([v, w])


def exp_se3(twist: Array) -> Array:
    """(4, 4) rigid transform of a twist (v, w), metres and radians."""
    T = np.eye(4)
    one = np.ones(1)
    T[:3, 3] = _carry(np.zeros((1, 3)), twist, one)[0]
    for axis in range(3):
        unit = np.eye(3)[axis : axis + 1]
        T[:3, axis] = _carry(unit, np.concatenate([np.zeros(3), twist[3:]]), one)[0]
    return T


def _hat(w: Array) -> Array:
    return np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])


def _pose_at(poses: Array, knots: Array, time: float) -> Array:
    k = int(np.clip(np.searchsorted(knots, time, side="right") - 1, 0, len(knots) - 2))
    fraction = (time - knots[k]) / (knots[k + 1] - knots[k])
    if fraction == 0.0:
        return np.asarray(poses[k])
    return np.asarray(poses[k] @ exp_se3(fraction * log_se3(inverse(poses[k]) @ poses[k + 1])))


def _carry(xyz: Array, twist: Array, fraction: Array) -> Array:
    """Exp(fraction * twist) applied to points, each with its own fraction (Rodrigues' formula)."""
    v, w = twist[:3], twist[3:]
    rate = float(np.linalg.norm(w))
    if rate < 1e-9:
        # the first order of both series; the next terms are below 1e-15 of the coordinates
        return np.asarray(xyz + fraction[:, None] * (xyz @ _hat(w).T + v))
    A = _hat(w / rate)
    angle = fraction * rate
    sine, versine = np.sin(angle), 2 * np.sin(angle / 2) ** 2
    Ap = xyz @ A.T
    # angle - sin(angle) loses all digits of small angles; below 1e-2 its series has them
    cubic = np.where(
        np.abs(angle) < 1e-2, angle**3 / 6 * (1 - angle**2 / 20), angle - np.sin(angle)
    )
    slide = np.column_stack([angle, versine, cubic]) @ np.stack([v, A @ v, A @ A @ v]) / rate
    return np.asarray(xyz + sine[:, None] * Ap + versine[:, None] * (Ap @ A.T) + slide)
