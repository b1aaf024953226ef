# ruff: noqa: RUF009 - `parameter` makes a dataclass field
"""`Faults`: what goes wrong with clocks, transport and calibration, on purpose and known exactly.

Stamps and calibration are wrong in what a robot gets to see; the truth stays beside it. Losses,
delays and duplicates belong to the transport: they are applied when messages are sent.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.config import build, parameter
from condense_ros.errors import ConfigError
from condense_ros.geometry import Array
from condense_ros.sim.sensors.rig import Rig

#: sensors that every rig has beside its cameras
LIDAR, ODOMETRY, IMU = "lidar", "odometry", "imu"
#: stands for all sensors
ALL = "*"
#: jitter is cut off at this many standard deviations
_CUT = 4.0


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Each is zero or a value per sensor, by its name: `lidar`, `odometry`, `imu`,
    a camera's name, or `*` for all that are not named.
    """

    seed: int = parameter(0, "of everything that is drawn", low=0)
    offset_s: dict[str, float] = parameter({}, "stamps are this much late", low=-10, high=10)
    drift_ppm: dict[str, float] = parameter(
        {}, "the clock is this much fast, parts per million", low=-1e5, high=1e5
    )
    jitter_s: dict[str, float] = parameter(
        {}, "standard deviation of stamps, cut at four", low=0, high=1
    )
    drop: dict[str, float] = parameter({}, "share of messages that are lost", low=0, high=1)
    bursts_per_min: dict[str, float] = parameter(
        {}, "times per minute that all messages are lost for `burst_s`", low=0, high=600
    )
    burst_s: float = parameter(1.0, "length of such a gap", low=0, high=600)
    delay_s: dict[str, float] = parameter({}, "constant transport delay", low=0, high=60)
    delay_spread_s: dict[str, float] = parameter(
        {}, "mean of a further, exponentially distributed delay", low=0, high=60
    )
    reorder: dict[str, float] = parameter(
        {}, "share of messages that arrive after the next one", low=0, high=1
    )
    duplicate: dict[str, float] = parameter(
        {}, "share of messages that are sent twice", low=0, high=1
    )
    extrinsic_deg: dict[str, float] = parameter(
        {}, "published mounting is turned by this about some axis", low=0, high=180
    )
    extrinsic_m: dict[str, float] = parameter(
        {}, "published mounting is moved by this in some direction", low=0, high=10
    )
    intrinsic: dict[str, float] = parameter(
        {}, "published focal lengths are wrong by this share", low=0, high=0.5
    )
    intrinsic_px: dict[str, float] = parameter(
        {}, "published principal point is moved by this many pixels", low=0, high=500
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `build_faults` takes them back."""
        return dataclasses.asdict(self)

    @property
    def any(self) -> bool:
        """Whether anything goes wrong at all."""
        values = [getattr(self, f.name) for f in dataclasses.fields(self)]
        return any(v for value in values if isinstance(value, dict) for v in value.values())

    def of(self, name: str, sensor: str) -> float:
        """The value of fault `name` for a sensor."""
        values: Mapping[str, float] = getattr(self, name)
        return float(values.get(sensor, values.get(ALL, 0.0)))

    def check(self, sensors: Iterable[str]) -> None:
        """Refuses names of sensors that are not there.

        Raises:
            ConfigError: names them, and those that are there.
        """
        known = {*sensors, ALL}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            unknown = sorted(set(value) - known) if isinstance(value, dict) else []
            if unknown:
                raise ConfigError(
                    f"faults.{field.name} names {', '.join(map(repr, unknown))}",
                    f"use names of sensors: {', '.join(sorted(known))}",
                )

    def stamps(self, sensor: str, true_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N,) int64 stamps that a sensor writes at true times (N,) int64 nanoseconds.

        stamp = true + offset + drift * (true - first) + jitter
        """
        if not len(true_ns):
            return true_ns.copy()
        wrong = np.full(len(true_ns), self.of("offset_s", sensor) * 1e9)
        wrong += self.of("drift_ppm", sensor) * 1e-6 * (true_ns - true_ns[0])
        jitter = self.of("jitter_s", sensor) * 1e9
        if jitter:
            draws = self._rng(sensor, 0).standard_normal(len(true_ns))
            wrong += jitter * np.clip(draws, -_CUT, _CUT)
        return np.asarray(true_ns + np.round(wrong).astype(np.int64))

    def delivery(self, sensor: str, true_ns: npt.NDArray[np.int64]) -> Delivery:
        """What the transport does with a sensor's messages, made at true times (N,)."""
        n = len(true_ns)
        draws = self._rng(sensor, 1).random((n, 3))
        lost = draws[:, 0] < self.of("drop", sensor)
        lost |= self._in_burst(sensor, true_ns)
        delay = np.full(n, self.of("delay_s", sensor))
        spread = self.of("delay_spread_s", sensor)
        if spread:
            delay += spread * self._rng(sensor, 2).standard_exponential(n)
        late = draws[:, 1] < self.of("reorder", sensor)
        if n > 1 and late.any():
            # held back until the next message, or the next but one, is through
            step = np.diff(true_ns, append=2 * true_ns[-1] - true_ns[-2]) * 1e-9
            delay[late] += 1.25 * step[late]
        twice = draws[:, 2] < self.of("duplicate", sensor)
        return Delivery(lost, delay, np.where(twice, 2, 1).astype(np.uint8))

    def published(self, rig: Rig) -> Rig:
        """The rig as its calibration files describe it: off by exactly the given amounts."""
        lidar = self._mounted(rig.lidar, LIDAR)
        cameras = []
        for camera in rig.cameras:
            spec, rng = self._mounted(camera, camera.name), self._rng(camera.name, 4)
            sign, angle = float(rng.choice([-1, 1])), float(rng.uniform(0, 2 * np.pi))
            share, shift = self.of("intrinsic", camera.name), self.of("intrinsic_px", camera.name)
            if share or shift:
                spec = dataclasses.replace(
                    spec,
                    fx=spec.fx * (1 + sign * share),
                    fy=spec.fy * (1 + sign * share),
                    cx=spec.cx + shift * float(np.cos(angle)),
                    cy=spec.cy + shift * float(np.sin(angle)),
                )
            cameras.append(spec)
        return dataclasses.replace(rig, cameras=tuple(cameras), lidar=lidar)

    def _mounted(self, spec: Any, sensor: str) -> Any:
        turn, move = self.of("extrinsic_deg", sensor), self.of("extrinsic_m", sensor)
        if not turn and not move:
            return spec
        rng = self._rng(sensor, 3)
        axis, way = (_direction(rng) for _ in range(2))
        R = _rotation(axis * np.radians(turn)) @ _rpy(np.radians(spec.rpy_deg))
        xyz = np.asarray(spec.xyz_m) + move * way
        return dataclasses.replace(
            spec, xyz_m=tuple(xyz.tolist()), rpy_deg=tuple(np.degrees(_angles(R)).tolist())
        )

    def _in_burst(self, sensor: str, true_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        rate = self.of("bursts_per_min", sensor) / 60
        if not rate or not len(true_ns):
            return np.zeros(len(true_ns), bool)
        t = (true_ns - true_ns[0]) * 1e-9
        rng, begun = self._rng(sensor, 5), 0.0
        inside = np.zeros(len(t), bool)
        while True:
            begun += rng.exponential(1 / rate)
            if begun > t[-1]:
                return inside
            inside |= (t >= begun) & (t < begun + self.burst_s)
            begun += self.burst_s

    def _rng(self, sensor: str, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(sensor.encode()), purpose, 606])


@dataclass(frozen=True, eq=False)
class Delivery:
    """The fate of a sensor's messages.

    Attributes:
        lost: (N,) bool: never arrives.
        delay_s: (N,) seconds from its true time to its arrival.
        copies: (N,) uint8: how often it arrives.
    """

    lost: npt.NDArray[np.bool_]
    delay_s: Array
    copies: npt.NDArray[np.uint8]


def build_faults(values: Mapping[str, Any]) -> Faults:
    """`Faults` from plain values; a number stands for all sensors (`drop: 0.1`).

    Raises:
        ConfigError: unknown names, wrong types, values out of range.
    """
    plain = {"seed", "burst_s"}
    return build(
        Faults,
        {
            name: value if name in plain or isinstance(value, Mapping) else {ALL: value}
            for name, value in values.items()
        },
    )


def _direction(rng: np.random.Generator) -> Array:
    v = rng.standard_normal(3)
    return np.asarray(v / np.linalg.norm(v))


def _rotation(rotvec: Array) -> Array:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(rotvec).as_matrix())


def _rpy(angles: Array) -> Array:
    from condense_ros.geometry import rotation_rpy

    return rotation_rpy(*angles)


def _angles(R: Array) -> Array:
    """(3,) fixed-axis roll, pitch, yaw of a rotation."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(R).as_euler("xyz"))
