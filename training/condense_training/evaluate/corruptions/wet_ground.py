"""Wet ground: a film of water mirrors the pulse away from the sensor, the more so at flat angles.

The ground model of Hahner et al., "LiDAR Snowfall Simulation for Robust 3D Object Detection", CVPR
2022, with the water heights of Robo3D.
"""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array
from condense_training.evaluate.corruptions.ground_return import ground_return, incidence_cosine
from condense_training.evaluate.corruptions.sweep import Sensor, Sweep, has_class

_AIR, _WATER = 1.0003, 1.33
#: depth of the road's texture: water of that height covers it
_TEXTURE_M = 0.0012
#: by severity
_WATER_M = (0.0002, 0.0010, 0.0012)
_NOISE_FLOOR = (0.2, 0.3, 0.7)


def fresnel_reflectance(cosine: Array) -> tuple[Array, Array]:
    """Share of power that the surface of water mirrors, (s, p) polarised.

    The same from below, at the refracted angle.

    Args:
        cosine: (N,) of the angle of incidence in air.
    """
    sine = np.sqrt(1 - cosine**2) * _AIR / _WATER
    below = np.sqrt(1 - sine**2)
    s = (_AIR * cosine - _WATER * below) / (_AIR * cosine + _WATER * below)
    p = (_WATER * cosine - _AIR * below) / (_WATER * cosine + _AIR * below)
    return np.asarray(s**2), np.asarray(p**2)


def reflectivity_under_water(reflectivity: Array, cosine: Array) -> Array:
    """(N,) reflectivity of ground below a film of water: in, any number of times between ground
    and surface, and out again. The better polarisation counts."""
    seen = [
        (1 - mirrored) ** 2 * reflectivity / (1 - reflectivity * mirrored)
        for mirrored in fresnel_reflectance(cosine)
    ]
    return np.asarray(np.maximum(*seen))


def wet_ground(sweep: Sweep, sensor: Sensor, severity: int, rng: np.random.Generator) -> Sweep:
    """Dims the ground's returns; those that fall below the sensor's noise are lost.

    A sweep with too little ground to estimate the sensor's power stays as it is.

    Raises:
        FrameError: no intensity.
    """
    share = sweep.brightness(sensor)
    ground = has_class(sweep.labels, sensor.ground)
    known = ground_return(sweep.cloud.xyz, share, ground)
    if known is None:
        return sweep
    ground &= sweep.cloud.xyz[:, 2] < 0
    xyz = sweep.cloud.xyz[ground].astype(np.float64)
    distance, cosine = np.linalg.norm(xyz, axis=1), incidence_cosine(xyz)
    power = known.power(distance)
    dry = np.clip(share[ground] / cosine / power, 0.0, 1.0)
    covered = min(_WATER_M[severity] / _TEXTURE_M, 1.0)
    wet = (1 - covered) * dry + covered * reflectivity_under_water(dry, cosine)
    returned = np.minimum(power * cosine * wet, share[ground])
    lost = returned <= _NOISE_FLOOR[severity] * known.floor(distance) * cosine
    dimmed = share.copy()
    dimmed[ground] = returned
    kept = np.ones(len(sweep), bool)
    kept[ground] = ~lost
    return sweep.with_brightness(dimmed, sensor).keep(kept)
