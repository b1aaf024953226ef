"""Where and when a LiDAR's pulses go: spinning units by their tables of beams, solid-state ones by
their scanning pattern.

Elevations are those that makers publish in data sheets and manuals (Velodyne VLP-16 63-9243,
VLP-32C 63-9325, HDL-32E 63-9113, HDL-64E S2 63-HDL64ES2; Ouster OS0/OS1/OS2 rev 6; Hesai Pandar64;
Livox Mid-40, Mid-70, Avia), rounded to what they print. Units of one model differ by some tenths
of a degree, which their calibration files hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array

PATTERNS = ("spinning", "rosette", "raster", "depth_camera")


@dataclass(frozen=True, eq=False)
class Shots:
    """One sweep's pulses in firing order.

    Attributes:
        direction: (N, 3) unit vectors, lidar frame.
        time_s: (K,) seconds after the sweep's stamp at which pulses leave.
        block: (N,) int32 row of `time_s`.
        ring: (N,) uint16.
    """

    direction: Array
    time_s: Array
    block: npt.NDArray[np.int32]
    ring: npt.NDArray[np.uint16]


def _even(low: float, high: float, beams: int) -> tuple[float, ...]:
    return tuple(round(float(e), 4) for e in np.linspace(low, high, beams))


def _steps(*parts: tuple[float, float, int]) -> tuple[float, ...]:
    return tuple(sorted(round(e, 4) for part in parts for e in _even(*part)))


# VLP-32C, table 9-1 of its manual
_VLP32C = (
    (-25.0, -15.639, -11.31, -8.843, -7.254, -6.148, -5.333, -4.667, -4.0, -3.667, -3.333, -3.0)
    + (-2.667, -2.333, -2.0, -1.667, -1.333, -1.0, -0.667, -0.333, 0.0, 0.333, 0.667, 1.0, 1.333)
    + (1.667, 2.333, 3.333, 4.667, 7.0, 10.333, 15.0)
)
_PANDAR64 = _steps(
    *((-25.0, -19.0, 2), (-14.0, -7.0, 8), (-6.0, 1.8333, 48)),
    *((2.0, 3.0, 2), (5.0, 8.0, 2), (11.0, 15.0, 2)),
)
#: columns of an Ouster's lasers look in four directions side by side
_STAGGER = (-3.1, -1.0, 1.0, 3.1)

#: model -> parameters of `LidarSpec` at 10 turns per second (hdl32e: 20, as on nuScenes' car)
MODELS: dict[str, dict[str, Any]] = {
    "vlp16": {
        "elevations_deg": _even(-15.0, 15.0, 16),
        "azimuth_steps": 1808,
        "max_range_m": 100.0,
        "range_noise_m": 0.015,
    },
    "vlp32c": {"elevations_deg": _VLP32C, "azimuth_steps": 1808, "max_range_m": 200.0},
    "hdl32e": {
        "elevations_deg": _even(-30.6667, 10.6667, 32),
        "azimuth_steps": 1085,
        "period_s": 0.05,
        "max_range_m": 100.0,
        "range_noise_m": 0.01,
    },
    "hdl64e": {
        "elevations_deg": _steps((-24.33, -8.83, 32), (-8.33, 2.0, 32)),
        "azimuth_steps": 2083,
        "max_range_m": 120.0,
        "range_noise_m": 0.01,
    },
    "pandar64": {"elevations_deg": _PANDAR64, "azimuth_steps": 1800, "max_range_m": 200.0},
    "os0_128": {
        "elevations_deg": _even(-45.0, 45.0, 128),
        "azimuth_offsets_deg": _STAGGER,
        "azimuth_steps": 1024,
        "max_range_m": 50.0,
    },
    "os1_32": {
        "elevations_deg": _even(-22.5, 22.5, 32),
        "azimuth_offsets_deg": _STAGGER,
        "azimuth_steps": 1024,
        "max_range_m": 120.0,
        "range_noise_m": 0.01,
        "range_noise_share": 0.0002,
    },
    "os1_64": {
        "elevations_deg": _even(-22.5, 22.5, 64),
        "azimuth_offsets_deg": _STAGGER,
        "azimuth_steps": 1024,
        "max_range_m": 120.0,
        "range_noise_m": 0.01,
        "range_noise_share": 0.0002,
    },
    "os1_128": {
        "elevations_deg": _even(-22.5, 22.5, 128),
        "azimuth_offsets_deg": _STAGGER,
        "azimuth_steps": 1024,
        "max_range_m": 120.0,
        "range_noise_m": 0.01,
        "range_noise_share": 0.0002,
    },
    "os2_128": {
        "elevations_deg": _even(-11.25, 11.25, 128),
        "azimuth_offsets_deg": (0.0,),
        "azimuth_steps": 1024,
        "max_range_m": 240.0,
    },
    # solid state: lasers behind two turning prisms draw a rosette that never repeats
    "livox_mid40": {
        "pattern": "rosette",
        "beams": 1,
        "points": 10000,
        "field_deg": (38.4, 38.4),
        "max_range_m": 130.0,
        "min_range_m": 0.5,
        "range_noise_m": 0.02,
    },
    "livox_mid70": {
        "pattern": "rosette",
        "beams": 1,
        "points": 10000,
        "field_deg": (70.4, 70.4),
        "max_range_m": 130.0,
        "min_range_m": 0.05,
        "range_noise_m": 0.02,
    },
    "livox_avia": {
        "pattern": "rosette",
        "beams": 6,
        "points": 24000,
        "field_deg": (70.4, 77.2),
        "max_range_m": 190.0,
        "min_range_m": 1.0,
        "range_noise_m": 0.02,
    },
    # a mirror that swings: rows of points, each row swept to and fro
    "mems_120": {
        "pattern": "raster",
        "beams": 125,
        "azimuth_steps": 600,
        "field_deg": (120.0, 25.0),
        "max_range_m": 150.0,
        "min_range_m": 0.5,
        "range_noise_m": 0.03,
    },
}
# turns per second of the two prisms of a Mid-40 (Liu et al., "Low-cost retina-like robotic lidars",
# IEEE Sensors Journal 2022: 7294 and -4664 turns per minute)
_PRISMS_HZ = (7294 / 60, -4664 / 60)


def spinning(
    elevations_deg: tuple[float, ...],
    offsets_deg: tuple[float, ...],
    steps: int,
    period_s: float,
) -> Shots:
    """A turn that starts behind the robot and goes clockwise, as most spinning units do.

    Args:
        elevations_deg: of each ring, lowest first.
        offsets_deg: how far to the left of the firing direction rings look; repeats over rings.
    """
    elevation = np.radians(elevations_deg)
    beams = len(elevation)
    offset = np.radians(np.resize(offsets_deg or (0.0,), beams))
    azimuth = np.pi - (np.arange(steps) + 0.5) * (2 * np.pi / steps)
    a = (azimuth[:, None] + offset).ravel()
    e = np.tile(elevation, steps)
    direction = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
    return Shots(
        direction,
        np.arange(steps, dtype=np.float64) * (period_s / steps),
        np.repeat(np.arange(steps, dtype=np.int32), beams),
        np.tile(np.arange(beams, dtype=np.uint16), steps),
    )


def rosette(
    field_deg: tuple[float, ...], lasers: int, points: int, period_s: float, stamp_ns: int
) -> Shots:
    """Points of two counter-rotating prisms (Risley pair), whose deflections add.

    The prisms turn on from sweep to sweep, so each sweep draws other lines through the same cone.
    With several lasers, their rosettes lie side by side up and down.

    Args:
        field_deg: width and height of the field of view.
        stamp_ns: start of the sweep; the prisms' phases follow from it.
    """
    time_s = np.arange(points, dtype=np.float64) * (period_s / points)
    ring = np.arange(points) % lasers
    phase = []
    for hz in _PRISMS_HZ:
        # whole turns are dropped in integers: a stamp in nanoseconds does not fit a float
        milli_turns = stamp_ns * round(hz * 1000) % 10**12
        phase.append(2 * np.pi * (milli_turns / 10**12 + hz * time_s))
    half = np.radians(np.asarray(field_deg, np.float64)) / 2
    # lasers stand so far apart that together they fill the height
    gap = 0.0 if lasers == 1 else float(half[1]) * 0.5 / lasers
    y = 0.5 * half[0] * (np.cos(phase[0]) + np.cos(phase[1]))
    z = 0.5 * (half[1] - gap * (lasers - 1) / 2) * (np.sin(phase[0]) + np.sin(phase[1]))
    z = z + gap * (ring - (lasers - 1) / 2)
    angle = np.hypot(y, z)
    scale = np.sinc(angle / np.pi)
    direction = np.stack([np.cos(angle), y * scale, z * scale], axis=1)
    return Shots(direction, time_s, np.arange(points, dtype=np.int32), ring.astype(np.uint16))


def raster(field_deg: tuple[float, ...], rows: int, columns: int, period_s: float) -> Shots:
    """Rows from below upwards, swept to the right and back in turn; ring = row."""
    half = np.radians(np.asarray(field_deg, np.float64)) / 2
    azimuth = half[0] * (1 - 2 * (np.arange(columns) + 0.5) / columns)
    elevation = half[1] * (2 * (np.arange(rows) + 0.5) / rows - 1)
    a = np.where(np.arange(rows)[:, None] % 2, azimuth[::-1], azimuth).ravel()
    e = np.repeat(elevation, columns)
    n = rows * columns
    return Shots(
        np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1),
        np.arange(n, dtype=np.float64) * (period_s / n),
        np.arange(n, dtype=np.int32),
        np.repeat(np.arange(rows, dtype=np.uint16), columns),
    )
