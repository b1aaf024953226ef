"""Where a followed corner should go, given the calibration, and how that changes with it.

A corner of the key image i lies on the LiDAR's plane along its ray; the LiDAR's motion carries that
point to the image j. What is left between there and where the corner was seen depends on all seven
parameters: depth is looked up at another place when the camera is turned or shifted, the point of
expansion moves, and a time offset takes both images at other poses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.geometry import Array, inverse, transform

#: order of parameters: rotation about and translation along the camera's axes, time offset
AXES = (
    *("rotation_x", "rotation_y", "rotation_z"),
    *("translation_x", "translation_y", "translation_z"),
    "time_offset",
)


@dataclass(frozen=True, eq=False)
class View:
    """One camera image at one time.

    Attributes:
        T_cam_world: (4, 4) odometry frame to optical frame.
        drift: (6,) its motion per second of time offset, (w, v): dX = w x X + v for points X of the
            optical frame.
    """

    T_cam_world: Array
    drift: Array


def view(T_cam_lidar: Array, T_world_lidar: Array, twist: Array) -> View:
    """A camera carried by the lidar.

    Args:
        twist: (6,) (v, w) of the lidar in its own frame.
    """
    R, t = T_cam_lidar[:3, :3], T_cam_lidar[:3, 3]
    w = R @ twist[3:]
    return View(
        T_cam_lidar @ inverse(T_world_lidar),
        -np.concatenate([w, R @ twist[:3] + np.cross(t, w)]),
    )


def residuals(
    i: View, j: View, rays_i: Array, rays_j: Array, normal: Array, offset: Array, focal_px: float
) -> tuple[Array, Array, Array]:
    """Corners seen in two images against what the planes say.

    Args:
        rays_i, rays_j: (M, 3) with z = 1: where the corners are seen.
        normal, offset: planes normal . x = offset in the odometry frame.
        focal_px: turns normalised coordinates into pixels.

    Returns:
        (M, 2) residuals, pixels: expected minus seen.
        (M, 2, 7) their derivatives by a small rotation (rad) and translation (m) of the camera from
        the left, T_cam_lidar <- [Exp(rotation) | translation] T_cam_lidar, and the offset (s).
        (M, 2, 6) their derivatives by an error (rotation, translation) of the motion from i to j,
            in the camera's frame at j.
        Rows that would lie behind the camera are NaN.
    """
    R_i, t_i = i.T_cam_world[:3, :3], i.T_cam_world[:3, 3]
    n = normal @ R_i.T
    towards = (n * rays_i).sum(1)
    depth = (offset + n @ t_i) / towards
    X = rays_i * depth[:, None]
    T_ji = j.T_cam_world @ inverse(i.T_cam_world)
    R_ji = T_ji[:3, :3]
    Y = transform(T_ji, X)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where((Y[:, 2] > 0.1) & (depth > 0.1), Y[:, 2], np.nan)
        seen = Y[:, :2] / z[:, None]
    error = focal_px * (seen - rays_j[:, :2])
    # turning and shifting the camera at time i moves the plane: how the depth along the ray changes
    slope = np.concatenate([np.cross(X, n), n], axis=1) / towards[:, None]
    along = rays_i @ R_ji.T
    D = np.empty((len(X), 3, 7))
    D[:, :, :3] = -_hats(Y) + np.einsum("ij,njk->nik", R_ji, _hats(X))
    D[:, :, 3:6] = np.eye(3) - R_ji
    D[:, :, :6] += along[:, :, None] * slope[:, None, :]
    carried = np.cross(i.drift[:3], X) + i.drift[3:]
    D[:, :, 6] = np.cross(j.drift[:3], Y) + j.drift[3:] - carried @ R_ji.T
    D[:, :, 6] += along * (slope @ i.drift)[:, None]
    P = np.zeros((len(X), 2, 3))
    P[:, 0, 0] = P[:, 1, 1] = focal_px / z
    P[:, :, 2] = -focal_px * seen / z[:, None]
    by_motion = np.concatenate([-_hats(Y), np.broadcast_to(np.eye(3), (len(Y), 3, 3))], axis=2)
    return error, P @ D, P @ by_motion


def _hats(x: Array) -> Array:
    """(N, 3, 3) matrices of x cross, so that -hat(x) d = d cross x."""
    out = np.zeros((len(x), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -x[:, 2], x[:, 1], -x[:, 0]
    return out - np.swapaxes(out, 1, 2)
