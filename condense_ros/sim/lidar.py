"""What a LiDAR makes of its hits: intensity, range noise, and returns that never come."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.rig import LidarSpec


def measure(
    spec: LidarSpec,
    range_m: Array,
    cosine: Array,
    reflectance: npt.NDArray[np.float32],
    glass: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """One return per hit.

    Args:
        range_m, cosine: (N,) true range and cosine of the angle of incidence.
        reflectance, glass: (N,) of the surfaces.

    Returns:
        range_m (N,) with noise, intensity (N,) 0..1, kept (N,) bool. A return is lost where too
        little light comes back (far, dark, grazing) and where glass lets the pulse through.
    """
    n = len(range_m)
    draws = rng.random((2, n))
    speckle, jitter = rng.standard_normal((2, n))
    # Lambert's law, softened: rough surfaces send more light back at grazing incidence
    returned = reflectance * (0.15 + 0.85 * cosine) * (1 - 0.8 * glass)
    # units compensate for range only in part, so intensity still falls with distance
    intensity = returned / (1 + (range_m / 60.0) ** 2)
    # units deliver it as one byte
    intensity = np.clip(intensity * (1 + spec.intensity_noise * speckle), 0, 1)
    intensity = np.round(intensity * 255) / 255
    # share of the energy at which half of the returns are found
    energy = reflectance * cosine * (30.0 / np.maximum(range_m, 1.0)) ** 2
    lost = 1 / (1 + (energy / 0.012) ** 2)
    missing = 1 - (1 - np.clip(spec.dropout * lost, 0, 1)) * (
        1 - np.clip(spec.dropout * glass, 0, 1)
    )
    missing = np.maximum(missing, np.clip(0.01 * spec.dropout, 0, 1))
    kept = (draws[0] >= missing) & (range_m >= spec.min_range_m)
    return range_m + spec.range_noise_m * jitter, intensity, kept
