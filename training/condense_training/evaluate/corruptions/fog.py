"""Fog: light is lost on the way, and droplets near the sensor answer before the scene does.

Hahner, Sakaridis, Dai and Van Gool, "Fog Simulation on Real LiDAR Point Clouds for 3D Object
Detection in Adverse Weather", ICCV 2021.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from condense_ros.geometry import Array
from condense_training.evaluate.corruptions.sweep import Sensor, Sweep

_LIGHT_M_PER_S = 299_792_458.0
#: half-power width of the emitted pulse, seconds
_PULSE_S = 20e-9
#: the receiver sees nothing of the beam nearer than the first distance, all of it beyond the second
_SEES_M = (0.9, 1.0)
#: differential reflectivity of a solid target, 1/sr
_TARGET_PER_SR = 1e-6 / np.pi
#: attenuation of which Robo3D draws one for each frame, 1/m
_ATTENUATIONS_PER_M = (0.0, 0.005, 0.01, 0.02, 0.03, 0.06)
#: backscattering by severity, 1/(m sr)
_BACKSCATTER = (0.008, 0.05, 0.2)
#: a droplet's distance is spread by a factor of r / (r +- this)
_SPREAD_M = 10.0
_STEP_M, _FARTHEST_M = 0.1, 200.0


def receiver_overlap(range_m: Array) -> Array:
    """xi: share of the beam that the receiver sees."""
    near, far = _SEES_M
    return np.asarray(np.clip((range_m - near) / (far - near), 0.0, 1.0))


@lru_cache(maxsize=len(_ATTENUATIONS_PER_M))
def soft_response(attenuation_per_m: float) -> tuple[Array, Array]:
    """The fog's strongest answer for targets at 0, 0.1, 0.2 ... 200 m (the paper's soft target).

    The answer at range R is the emitted sin^2 pulse convolved with what fog sends back,
    `xi(r) exp(-2 alpha r) / r^2`. Fog answers up to the target only.

    Returns:
        distance: (2001,) where the strongest answer is measured, metres.
        integral: (2001,) its strength, the integral over the pulse in seconds per square metre.
    """
    ranges = np.arange(round(_FARTHEST_M / _STEP_M) + 1) * _STEP_M
    t = np.linspace(0.0, 2 * _PULSE_S, 401)
    r = ranges[:, None] - _LIGHT_M_PER_S * t / 2
    pulse = np.sin(np.pi * t / (2 * _PULSE_S)) ** 2
    answered = np.maximum(r, _SEES_M[0])  # the overlap is zero nearer than that
    answer = pulse * np.exp(-2 * attenuation_per_m * answered) / answered**2 * receiver_overlap(r)
    weights = np.full(len(t), t[1])
    weights[[0, -1]] /= 2
    strength = answer @ weights
    best = np.maximum.accumulate(strength)
    # the row of the running maximum: where the maximum was last raised
    rows = np.maximum.accumulate(np.where(strength >= best, np.arange(len(best)), 0))
    return np.asarray(ranges[rows], np.float64), np.asarray(best, np.float64)


def fog(sweep: Sweep, sensor: Sensor, severity: int, rng: np.random.Generator) -> Sweep:
    """Dims every return by `exp(-2 alpha r)`; where fog answers stronger, the point is fog.

    Attenuation alpha is drawn for the frame and backscatter is the severity, as in Robo3D. A fog
    point lies on the ray of the point it hides, nearer to the sensor.

    Raises:
        FrameError: no intensity.
    """
    attenuation = float(rng.choice(_ATTENUATIONS_PER_M))
    share = sweep.brightness(sensor)
    ranges = sweep.ranges
    spread = rng.uniform(-_SPREAD_M, _SPREAD_M, len(sweep))
    hard = np.round(255 * share * np.exp(-2 * attenuation * ranges)) / 255
    distance, integral = soft_response(attenuation)
    cell = np.clip(np.rint(ranges / _STEP_M).astype(np.int64), 0, len(distance) - 1)
    soft = integral[cell] * share * ranges**2 * _BACKSCATTER[severity] / _TARGET_PER_SR
    hidden = (soft > hard) & (distance[cell] < ranges)
    # droplets are spread over distances, but none answers from behind the target
    factor = ranges / np.maximum(ranges + spread, _STEP_M)
    fogged = np.minimum(distance[cell] * factor, ranges)[hidden]
    xyz = sweep.cloud.xyz[hidden] * (fogged / ranges[hidden])[:, None]
    changed = sweep.with_brightness(np.where(hidden, np.minimum(soft, 1.0), hard), sensor)
    return changed.scatter(hidden, xyz)
