"""Wheel-like odometry and an inertial unit: true motion seen through errors and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condense_ros.config import parameter
from condense_ros.geometry import Array, inverse, rotation_rpy, se3
from condense_ros.sim.driving.motion import Motion

#: standard gravity, m/s^2
GRAVITY = 9.80665


@dataclass(frozen=True)
class OdometryConfig:
    """How odometry departs from the truth."""

    scale_error: float = parameter(0.01, "spread of the scale error, share", low=0, high=0.5)
    yaw_drift_deg_per_m: float = parameter(0.01, "spread of the heading drift", low=0, high=5)
    noise_m: float = parameter(0.02, "noise after 1 m; grows with its root", low=0, high=1)
    noise_deg: float = parameter(0.05, "heading noise after 1 m; grows so too", low=0, high=10)
    turn_error: float = parameter(
        0.004, "spread of the error of turns, share of the angle", low=0, high=0.5
    )


@dataclass(frozen=True)
class ImuConfig:
    """Errors of the inertial unit, which sits at base_link."""

    gyro_noise_rad_s: float = parameter(0.002, "standard deviation per sample", low=0, high=1)
    gyro_bias_rad_s: float = parameter(0.001, "spread of the constant bias", low=0, high=1)
    accelerometer_noise_m_s2: float = parameter(0.05, "standard deviation per sample", low=0)
    accelerometer_bias_m_s2: float = parameter(0.03, "spread of the constant bias", low=0)


def odometry_poses(poses: Array, seed: int, config: OdometryConfig | None = None) -> Array:
    """Odometry poses T_odom_base (T, 4, 4) for true poses T_world_base (T, 4, 4).

    The odometry frame starts level at the first pose's position and heading. Each step is the true
    step times a constant scale, turned by the error of heading so far: a drift per metre, a share
    of every turn, and noise whose variance grows with the distance driven; roll and pitch are exact
    (gravity is observed).
    """
    c = config or OdometryConfig()
    rng = np.random.default_rng([seed, 313])
    scale = 1 + c.scale_error * float(np.clip(rng.standard_normal(), -2, 2))
    drift = np.radians(c.yaw_drift_deg_per_m) * float(np.clip(rng.standard_normal(), -2, 2))
    noise = rng.standard_normal((len(poses), 3))[1:]
    turning = c.turn_error * float(np.clip(rng.standard_normal(), -2, 2))
    yaw = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    first = inverse(se3(rotation_rpy(0, 0, float(yaw[0])), poses[0, :3, 3])) @ poses[0]
    step = np.diff(poses[:, :3, 3], axis=0)
    distance = np.linalg.norm(step, axis=1)
    root = np.sqrt(distance)
    turned = np.diff(yaw) * (1 + turning)
    turned += drift * distance + np.radians(c.noise_deg) * root * noise[:, 2]
    heading = np.concatenate([[0.0], np.cumsum(turned)])
    # error of heading so far turns every further step
    step = np.einsum("nij,nj->ni", _turns(heading[:-1] - yaw[:-1]), step) * scale
    step[:, :2] += c.noise_m * root[:, None] * noise[:, :2]
    out = np.empty_like(poses)
    out[:, :3, :3] = _turns(heading - yaw) @ poses[:, :3, :3]
    out[:, :3, 3] = first[:3, 3] + np.concatenate([np.zeros((1, 3)), np.cumsum(step, axis=0)])
    out[:, 3] = (0, 0, 0, 1)
    return out


def _turns(angles: Array) -> Array:
    """(N, 3, 3) rotations about z."""
    R = np.zeros((len(angles), 3, 3))
    R[:, 0, 0] = R[:, 1, 1] = np.cos(angles)
    R[:, 1, 0] = np.sin(angles)
    R[:, 0, 1] = -R[:, 1, 0]
    R[:, 2, 2] = 1.0
    return R


def imu_readings(motion: Motion, t_s: Array, seed: int, config: ImuConfig | None = None) -> Array:
    """(N, 6) angular velocity rad/s and specific force m/s^2 in base_link, at times (N,).

    A resting level unit reads +9.80665 along z (REP-145).
    """
    c = config or ImuConfig()
    rng = np.random.default_rng([seed, 717])
    bias = np.clip(rng.standard_normal(6), -2, 2)
    noise = rng.standard_normal((len(t_s), 6))
    force = motion.acceleration(t_s) + np.array([0.0, 0.0, GRAVITY])
    force = np.einsum("nji,nj->ni", motion.at(t_s)[:, :3, :3], force)
    spread = np.repeat([c.gyro_bias_rad_s, c.accelerometer_bias_m_s2], 3)
    random = np.repeat([c.gyro_noise_rad_s, c.accelerometer_noise_m_s2], 3)
    exact = np.concatenate([motion.twist(t_s)[:, 3:], force], axis=1)
    return np.asarray(exact + spread * bias + random * noise)
