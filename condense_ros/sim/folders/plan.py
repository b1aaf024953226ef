"""`Plan`: everything about a simulated drive but its pixels and points, which are rendered later.

A plan follows from its configuration alone. The writer stores its samples, the live playback sends
them; both render the same samples at the same times.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, SimulationError
from condense_ros.geometry import Array
from condense_ros.ontology import Ontology
from condense_ros.sim.driving.motion import DriveConfig, Motion, Stops, drive_motion
from condense_ros.sim.driving.odometry import (
    ImuConfig,
    OdometryConfig,
    imu_readings,
    odometry_poses,
)
from condense_ros.sim.driving.traffic import clear_way
from condense_ros.sim.folders.faults import IMU, LIDAR, ODOMETRY, Delivery, Faults
from condense_ros.sim.mesh import Mesh
from condense_ros.sim.scenery import EPOCH_NS, Light, Mover, world_time_s
from condense_ros.sim.sensors.rig import Rig
from condense_ros.sim.town.world import WorldConfig, shared_world
from condense_ros.sim.worlds import build_world

SECOND_NS = 10**9


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate. The same values give the same bytes."""

    kind: str = parameter("town", "kind of world: town, building or terrain")
    world_seed: int = parameter(0, "seed of what stays from session to session", low=0)
    session: int = parameter(
        0, "another day: other light, parked cars, people, building sites", low=0
    )
    split: str = parameter("train", "train or test; the two share no assets")
    drive_seed: int = parameter(0, "seed of the drive and of its odometry", low=0)
    duration_s: float = parameter(60.0, "length of the drive", low=0.01)
    rate_hz: float = parameter(10.0, "LiDAR sweeps per second", low=0.01, high=100)
    camera_hz: float = parameter(
        0.0, "images per second and camera; 0: one per sweep", low=0, high=240
    )
    odometry_hz: float = parameter(50.0, "odometry messages per second", low=0.1, high=1000)
    imu_hz: float = parameter(0.0, "inertial measurements per second; 0: none", low=0, high=2000)
    start_s: int = parameter(EPOCH_NS // SECOND_NS, "stamp of the first sweep, seconds", low=1)
    images: bool = parameter(True, "render the cameras, not the LiDAR alone")
    pixel_truth: bool = parameter(
        False, "also write class, instance and exact depth of every pixel"
    )
    image_format: str = parameter("jpg", "jpg (quality 95) or png")
    workers: int = parameter(2, "processes; has no influence on the result", low=1, high=256)
    layout: object = parameter(None, "size and density; None: as the kind has it")
    rig: Rig = parameter(Rig(), "sensors")  # noqa: RUF009
    drive: DriveConfig = parameter(DriveConfig(), "how the robot is driven")  # noqa: RUF009
    odometry: OdometryConfig = parameter(OdometryConfig(), "errors of the odometry")  # noqa: RUF009
    imu: ImuConfig = parameter(ImuConfig(), "errors of the inertial unit")  # noqa: RUF009
    faults: Faults = parameter(Faults(), "what goes wrong on purpose")  # noqa: RUF009

    def to_dict(self) -> dict[str, Any]:
        """All that determines the result, as plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["workers"]
        for name, value in values.items():
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                values[name] = dataclasses.asdict(value)
        values["rig"] = self.rig.to_dict()
        return values


@dataclass(frozen=True, eq=False)
class Series:
    """The samples of one sensor.

    Attributes:
        true_ns: (N,) int64 when they were taken.
        stamp_ns: (N,) int64 when the sensor says so.
        delivery: what the transport does with their messages.
    """

    true_ns: npt.NDArray[np.int64]
    stamp_ns: npt.NDArray[np.int64]
    delivery: Delivery

    def __len__(self) -> int:
        return len(self.true_ns)


@dataclass(frozen=True, eq=False)
class Plan:
    """A drive through a world, ready to be rendered.

    Attributes:
        config: what it was made from.
        name: of the drive.
        world: without the movers that would have met the robot.
        removed: instance numbers of those movers.
        motion: T_world_base at any time (seconds since `scenery.EPOCH_NS`).
        rig: the true sensors; `published`: as their calibration describes them.
        series: samples of "lidar", "odometry", "imu" and of every camera by its name.
        T_odom_base: (K, 4, 4), one per sample of the odometry.
        imu: (K, 6) rad/s and m/s^2, one per sample of the inertial unit.
    """

    config: SimulationConfig
    name: str
    world: Any
    removed: tuple[int, ...]
    motion: Motion | Stops
    published: Rig
    series: dict[str, Series]
    T_odom_base: Array
    imu: Array

    @property
    def rig(self) -> Rig:
        return self.config.rig

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that are rendered."""
        return tuple(name for name in self.series if name not in (LIDAR, ODOMETRY, IMU))

    def delay_ns(self, camera: str) -> int:
        """Time from the trigger of a camera to the stamp of its image."""
        return next(
            round(spec.delay_s * SECOND_NS) for spec in self.rig.cameras if spec.name == camera
        )

    def poses(self, sensor: str) -> Array:
        """(N, 4, 4) T_world_base at the true times of a sensor's samples."""
        return self.motion.at(world_times(self.series[sensor].true_ns))

    def for_workers(self) -> Plan:
        """The plan with no more of its world than is seen, to be sent to another process."""
        return dataclasses.replace(self, world=SeenWorld.of(self.world))


@dataclass(frozen=True, eq=False)
class SeenWorld:
    """What sensors need of a world; see `Scenery`."""

    kind: str
    seed: int
    session: int
    split: str
    mesh: Mesh
    movers: tuple[Mover, ...]
    light: Light
    ontology: Ontology

    @classmethod
    def of(cls, world: Any) -> SeenWorld:
        """The part of a world that sensors need."""
        return cls(*(getattr(world, field.name) for field in dataclasses.fields(cls)))


def world_times(stamps_ns: npt.NDArray[np.int64]) -> Array:
    """(N,) seconds since `scenery.EPOCH_NS`."""
    return np.asarray((np.asarray(stamps_ns, np.int64) - EPOCH_NS) * 1e-9)


def make_plan(config: SimulationConfig, *, poses: Array | None = None, world: Any = None) -> Plan:
    """Plans a drive, or a robot that is put down at `poses` in turn.

    Args:
        poses: (T, 4, 4) base_link poses, one per sweep, instead of a drive.
        world: that of the configuration where it is at hand already.

    Raises:
        SimulationError: the configuration cannot be simulated.
        ConfigError: faults of sensors that the rig does not have.
    """
    _check(config)
    if world is None:
        world = _world(config)
    start_ns = config.start_s * SECOND_NS
    step_ns = round(SECOND_NS / config.rate_hz)
    count = round(config.duration_s * config.rate_hz) if poses is None else len(poses)
    if count < 1:
        raise SimulationError(
            f"{config.duration_s} s at {config.rate_hz} Hz are no frame", "simulate longer"
        )
    times = {LIDAR: start_ns + step_ns * np.arange(count)}
    length_s = count / config.rate_hz
    if config.images:
        for camera in config.rig.cameras:
            triggers = times[LIDAR]
            if config.camera_hz:
                triggers = _ticks(start_ns, config.camera_hz, length_s)
            times[camera.name] = triggers + round(camera.delay_s * SECOND_NS)
    times[ODOMETRY] = _ticks(start_ns, config.odometry_hz, length_s)
    if config.imu_hz:
        times[IMU] = _ticks(start_ns, config.imu_hz, length_s)
    config.faults.check(times)
    motion: Motion | Stops
    name = f"{config.kind}_{config.world_seed}_"
    name += f"session_{config.session}_" if config.session else ""
    if poses is None:
        name += f"drive_{config.drive_seed}" + ("_reverse" if config.drive.reverse else "")
        begin_s = world_time_s(start_ns)
        motion = drive_motion(world, length_s, config.drive_seed, config.drive, start_s=begin_s)
        world, removed = clear_way(world, motion, begin_s, begin_s + length_s)
        imu = imu_readings(
            motion,
            world_times(times.get(IMU, np.zeros(0, np.int64))),
            config.drive_seed,
            config.imu,
        )
    else:
        name += "places"
        motion, removed = Stops(world_times(times[LIDAR]), poses), ()
        imu = np.zeros((0, 6))
        times.pop(IMU, None)
    series = {
        sensor: Series(
            true_ns, config.faults.stamps(sensor, true_ns), config.faults.delivery(sensor, true_ns)
        )
        for sensor, true_ns in times.items()
    }
    T_odom_base = odometry_poses(
        motion.at(world_times(times[ODOMETRY])), config.drive_seed, config.odometry
    )
    published = config.faults.published(config.rig)
    return Plan(config, name, world, removed, motion, published, series, T_odom_base, imu)


def _ticks(start_ns: int, rate_hz: float, length_s: float) -> npt.NDArray[np.int64]:
    """(N,) stamps from `start_ns` on, before the end."""
    count = max(1, int(np.ceil(length_s * rate_hz - 1e-6)))
    offset = np.arange(count) * (SECOND_NS / rate_hz)
    return np.asarray(start_ns + np.round(offset).astype(np.int64))


def _check(config: SimulationConfig) -> None:
    if config.image_format not in ("jpg", "png"):
        raise SimulationError(f"image_format is {config.image_format!r}", "choose jpg or png")
    if config.split not in ("train", "test"):
        raise ConfigError(f"split is {config.split!r}", "choose train or test")
    taken = {LIDAR, ODOMETRY, IMU} & {camera.name for camera in config.rig.cameras}
    if taken:
        raise ConfigError(
            f"a camera is named {', '.join(taken)}", "name cameras otherwise than other sensors"
        )
    if len(config.rig.cameras) > 8:
        raise SimulationError(
            f"{len(config.rig.cameras)} cameras", "a folder holds visibility for up to 8"
        )
    period_s = config.rig.lidar.period_s
    if period_s * config.rate_hz > 1 + 1e-6:
        raise SimulationError(
            f"a sweep of {period_s} s cannot be taken {config.rate_hz:g} times per second",
            f"set rig.lidar.period_s to {1 / config.rate_hz:g} or lower rate_hz",
        )


def _world(config: SimulationConfig) -> Any:
    if config.kind == "town" and config.session == 0 and config.split == "train":
        # shared with others of this process that look at the town
        return shared_world(config.world_seed, config.layout or WorldConfig())  # type: ignore[arg-type]
    return _built(config.kind, config.world_seed, config.session, config.split, config.layout)


@lru_cache(maxsize=2)
def _built(kind: str, seed: int, session: int, split: str, layout: object) -> Any:
    return build_world(kind, seed, session, split, layout)
