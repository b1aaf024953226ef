"""Motion blur: the robot shakes while the sensor turns (Robo3D, Kong et al., ICCV 2023)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from condense_training.evaluate.corruptions.sweep import Sensor, Sweep

#: standard deviation of the sensor's displacement by severity, metres
_SHAKE_M = (0.20, 0.25, 0.30)
#: deviation of single points along x, y and z, in shares of it
_JITTER = np.array([0.1, 0.1, 0.05])
#: largest displacement of a single point, in shares of it
_LARGEST = 3.0


def motion_blur(sweep: Sweep, sensor: Sensor, severity: int, rng: np.random.Generator) -> Sweep:
    """Displaces the whole sweep by one normal draw and every point by another, smaller one.

    The published scripts name 0.20 for nuScenes; the other two are those of SemanticKITTI, which
    begin alike.
    """
    shake = _SHAKE_M[severity]
    whole = rng.standard_normal(3)
    single = np.clip(rng.standard_normal((len(sweep), 3)) * _JITTER, -_LARGEST, _LARGEST)
    xyz = sweep.cloud.xyz + shake * (whole + single)
    return replace(sweep, cloud=replace(sweep.cloud, xyz=xyz.astype(np.float32)))
