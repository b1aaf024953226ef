"""`Motion`: where the robot is at any time, and drives along the ways of a world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from condense_ros.config import parameter
from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.driving.profile import Timeline, timeline
from condense_ros.sim.driving.route import Path, find_route, make_paths
from condense_ros.sim.scenery import Scenery

#: samples of a motion per second; between them splines run
SAMPLE_HZ = 100.0
#: a drive goes on this long after its last frame, so that the last sweep is whole
_MARGIN_S = 1.5


@dataclass(frozen=True)
class DriveConfig:
    """How a robot is driven. Zero stands for what suits the world's ways."""

    speed_m_s: float = parameter(0.0, "cruising speed; 0: what suits the world", low=0, high=40)
    reverse: bool = parameter(
        False, "the way of this seed driven back from its end, in the other lane"
    )
    lateral_m: float = parameter(
        0.0,
        "driven this far left of the lane (right where negative), less where no room is",
        low=-20,
        high=20,
    )
    stops_per_km: float = parameter(0.0, "halts of 2 to 8 s on the way", low=0, high=100)
    acceleration_m_s2: float = parameter(1.5, "largest, forward and backward", low=0.05, high=10)
    lateral_m_s2: float = parameter(3.0, "largest sideways; sets speed in bends", low=0.05, high=10)
    yaw_rate_rad_s: float = parameter(0.9, "largest rate of turning", low=0.05, high=5)


class Motion:
    """T_world_base at any time: C2 in position and attitude (cubic splines through samples).

    Attributes:
        time_s: (K,) times of the samples, seconds since `scenery.EPOCH_NS`, ascending.
        samples: (K, 6) x, y, z, roll, pitch, yaw in metres and radians, angles without jumps.
    """

    def __init__(self, time_s: Array, samples: Array) -> None:
        self.time_s = np.ascontiguousarray(time_s, np.float64)
        self.samples = np.ascontiguousarray(samples, np.float64)
        if len(self.time_s) < 2 or self.samples.shape != (len(self.time_s), 6):
            raise SimulationError(
                f"a motion of {len(self.time_s)} samples {self.samples.shape}",
                "give at least two samples of six values",
            )
        self._spline = CubicSpline(self.time_s, self.samples)

    @property
    def start_s(self) -> float:
        return float(self.time_s[0])

    @property
    def end_s(self) -> float:
        return float(self.time_s[-1])

    def at(self, t_s: npt.ArrayLike) -> Array:
        """(N, 4, 4) T_world_base at times (N,); before and after the motion the robot stands."""
        return poses_from(self._spline(self._clip(t_s)))

    def twist(self, t_s: npt.ArrayLike) -> Array:
        """(N, 6) velocity in the base frame: m/s, then rad/s; zero outside the motion."""
        t = self._clip(t_s)
        values, rate = self._spline(t), self._spline(t, 1)
        rate[(np.atleast_1d(t_s) < self.start_s) | (np.atleast_1d(t_s) > self.end_s)] = 0.0
        R = poses_from(values)[:, :3, :3]
        linear = np.einsum("nji,nj->ni", R, rate[:, :3])
        return np.concatenate([linear, _body_rates(values, rate)], axis=1)

    def acceleration(self, t_s: npt.ArrayLike) -> Array:
        """(N, 3) second derivative of the position, world frame, m/s^2."""
        return np.asarray(self._spline(self._clip(t_s), 2)[:, :3])

    def _clip(self, t_s: npt.ArrayLike) -> Array:
        return np.clip(np.atleast_1d(np.asarray(t_s, np.float64)), self.start_s, self.end_s)


class Stops:
    """A robot that is put down at places in turn: T_world_base is constant between two times.

    Attributes:
        time_s: (K,) when it is put down, ascending.
        poses: (K, 4, 4) T_world_base.
    """

    def __init__(self, time_s: Array, poses: Array) -> None:
        self.time_s, self.poses = np.asarray(time_s, np.float64), np.asarray(poses, np.float64)
        self.start_s, self.end_s = float(self.time_s[0]), float(self.time_s[-1])

    def at(self, t_s: npt.ArrayLike) -> Array:
        """(N, 4, 4) T_world_base at times (N,)."""
        # a microsecond early is on time: stamps are whole nanoseconds, these are floats
        t = np.atleast_1d(np.asarray(t_s, np.float64)) + 1e-6
        row = np.searchsorted(self.time_s, t, side="right") - 1
        return np.asarray(self.poses[np.clip(row, 0, len(self.poses) - 1)])

    def twist(self, t_s: npt.ArrayLike) -> Array:
        """(N, 6) zeros."""
        return np.zeros((np.atleast_1d(t_s).size, 6))


def poses_from(values: Array) -> Array:
    """(N, 4, 4) transforms from (N, 6) x, y, z, roll, pitch, yaw (fixed axes)."""
    cr, cp, cy = np.cos(values[:, 3:]).T
    sr, sp, sy = np.sin(values[:, 3:]).T
    T = np.zeros((len(values), 4, 4))
    T[:, 0, 0], T[:, 0, 1], T[:, 0, 2] = cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr
    T[:, 1, 0], T[:, 1, 1], T[:, 1, 2] = sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr
    T[:, 2, 0], T[:, 2, 1], T[:, 2, 2] = -sp, cp * sr, cp * cr
    T[:, :3, 3] = values[:, :3]
    T[:, 3, 3] = 1.0
    return T


def _body_rates(values: Array, rate: Array) -> Array:
    """(N, 3) angular velocity in the body frame from roll, pitch, yaw and their derivatives."""
    roll, pitch = values[:, 3], values[:, 4]
    droll, dpitch, dyaw = rate[:, 3:].T
    return np.stack(
        [
            droll - dyaw * np.sin(pitch),
            dpitch * np.cos(roll) + dyaw * np.cos(pitch) * np.sin(roll),
            -dpitch * np.sin(roll) + dyaw * np.cos(pitch) * np.cos(roll),
        ],
        axis=1,
    )


def ground_values(world: Scenery, xy: Array, yaw: Array) -> Array:
    """(N, 6) x, y, z, roll, pitch, yaw of a vehicle that stands on the ground.

    Its attitude is that of its four wheels, 1.6 m by 1 m apart.
    """
    xy, yaw = np.asarray(xy, np.float64), np.asarray(yaw, np.float64)
    ahead = np.column_stack([np.cos(yaw), np.sin(yaw)])
    left = np.column_stack([-ahead[:, 1], ahead[:, 0]])
    rise = (world.height(xy + 0.8 * ahead) - world.height(xy - 0.8 * ahead)) / 1.6
    bank = (world.height(xy + 0.5 * left) - world.height(xy - 0.5 * left)) / 1.0
    return np.column_stack([xy, world.height(xy), np.arctan(bank), -np.arctan(rise), yaw])


def ground_poses(world: Scenery, xy: Array, yaw: Array) -> Array:
    """(N, 4, 4) poses of a vehicle standing on the ground at (N, 2) with headings (N,) radians."""
    return poses_from(ground_values(world, xy, yaw))


def drive_motion(
    world: Scenery,
    duration_s: float,
    seed: int = 0,
    config: DriveConfig | None = None,
    *,
    start_s: float = 0.0,
) -> Motion:
    """A drive along the ways of a world, in the right-hand lane, with smooth bends and speed.

    Speed obeys the limits of acceleration and turning; where a way ends the robot halts and turns
    on the spot. Acceleration is continuous.

    Args:
        duration_s: of the drive; the motion itself is a little longer.
        seed: chooses start, turns and the sway within the lane.
        start_s: when it begins, seconds since `scenery.EPOCH_NS`.

    Raises:
        SimulationError: no duration, or a world without ways.
    """
    c = config or DriveConfig()
    if not duration_s > 0:
        raise SimulationError(
            f"a drive of {duration_s} s has no poses", "give a positive duration and rate"
        )
    speed = c.speed_m_s or world.network.speed_m_s
    limits = (c.acceleration_m_s2, c.lateral_m_s2, c.yaw_rate_rad_s)
    rng = np.random.default_rng([world.seed, seed, 11])
    wave, phase = 2 * np.pi / rng.uniform(9, 25, 2), rng.uniform(0, 2 * np.pi, 2)
    length = (duration_s + _MARGIN_S) * speed * 1.2 + 40
    route = find_route(world.network, length, rng)
    count = int(np.ceil((duration_s + _MARGIN_S) * SAMPLE_HZ)) + 1
    halts = np.random.default_rng([world.seed, seed, 12])

    def plan(nodes: list[int], lateral_m: float) -> tuple[list[Path], Timeline]:
        paths = make_paths(world, nodes, lateral_m, phase)
        return paths, timeline(
            paths, count, SAMPLE_HZ, speed, (wave[0], phase[0]), limits, c.stops_per_km, halts
        )

    paths, line = plan(route, 0.0 if c.reverse else c.lateral_m)
    if c.reverse:
        # back from the end of the drive to its start, then on along other ways
        last = paths[line.leg[-1]].node_at(float(line.s[-1]))
        back = route[: last + 1][::-1]
        if len(back) < 2:
            back = route[:2][::-1]
        back = find_route(
            world.network, length, np.random.default_rng([world.seed, seed, 13]), back
        )
        paths, line = plan(back, c.lateral_m)
    xy, yaw = line.along(paths)
    return Motion(start_s + np.arange(count) / SAMPLE_HZ, ground_values(world, xy, yaw))


def drive(
    world: Scenery,
    duration_s: float,
    rate_hz: float = 10.0,
    seed: int = 0,
    speed: float = 0.0,
    *,
    reverse: bool = False,
    lateral_m: float = 0.0,
) -> Array:
    """Poses (T, 4, 4) of base_link along a drive; see `drive_motion`.

    Args:
        duration_s, rate_hz: T = round(duration_s * rate_hz) poses.
        speed: cruising speed in m/s; 0: what suits the world.

    Raises:
        SimulationError: a drive without a single pose, or not moving forward.
    """
    count = round(duration_s * rate_hz) if rate_hz > 0 else 0
    if count < 1 or speed < 0:
        raise SimulationError(
            f"a drive of {duration_s} s at {rate_hz} Hz and {speed} m/s has no poses",
            "give a positive duration, rate and speed",
        )
    config = DriveConfig(speed_m_s=speed, reverse=reverse, lateral_m=lateral_m)
    return drive_motion(world, duration_s, seed, config).at(np.arange(count) / rate_hz)
