"""Wheel-like odometry: true motion seen through a wrong scale, a gyro that drifts, and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.config import parameter
from condense_ros.geometry import Array, inverse, rotation_rpy, se3


@dataclass(frozen=True)
class OdometryConfig:
    """How odometry departs from the truth."""

    scale_error: float = parameter(0.01, "spread of the scale error, share", low=0, high=0.5)
    yaw_drift_deg_per_m: float = parameter(0.01, "spread of the heading drift", low=0, high=5)
    noise_m: float = parameter(0.02, "noise after 1 m; grows with its root", low=0, high=1)
    noise_deg: float = parameter(0.05, "heading noise after 1 m; grows so too", low=0, high=10)


def odometry_poses(poses: Array, seed: int, config: OdometryConfig | None = None) -> Array:
    """Odometry poses T_odom_base (T, 4, 4) for true poses T_world_base (T, 4, 4).

    The odometry frame starts level at the first pose's position and heading. Each step is the true
    step times a constant scale, turned by a constant heading drift per metre, plus noise whose
    variance grows with the distance driven; roll and pitch are exact (gravity is observed).
    """
    c = config or OdometryConfig()
    rng = np.random.default_rng([seed, 313])
    scale = 1 + c.scale_error * float(np.clip(rng.standard_normal(), -2, 2))
    drift = np.radians(c.yaw_drift_deg_per_m) * float(np.clip(rng.standard_normal(), -2, 2))
    noise = rng.standard_normal((len(poses), 3))
    out = np.empty_like(poses)
    yaw = np.arctan2(poses[:, 1, 0], poses[:, 0, 0])
    T_odom_world = inverse(se3(rotation_rpy(0, 0, float(yaw[0])), poses[0, :3, 3]))
    out[0] = T_odom_world @ poses[0]
    xyz, heading = out[0, :3, 3], 0.0
    for k in range(1, len(poses)):
        step = poses[k, :3, 3] - poses[k - 1, :3, 3]
        distance = float(np.linalg.norm(step))
        root = np.sqrt(distance)
        # error of heading so far turns every further step
        turned = rotation_rpy(0, 0, heading - float(yaw[k - 1]))
        jitter = c.noise_m * root * np.array([noise[k, 0], noise[k, 1], 0.0])
        xyz = xyz + turned @ step * scale + jitter
        heading += float(np.arctan2(np.sin(yaw[k] - yaw[k - 1]), np.cos(yaw[k] - yaw[k - 1])))
        heading += drift * distance + np.radians(c.noise_deg) * root * float(noise[k, 2])
        level = rotation_rpy(0, 0, heading - float(yaw[k])) @ poses[k, :3, :3]
        out[k] = se3(level, xyz)
    return out
