"""What the ground's own returns tell of a sensor: its power, and the weakest echo it reports.

Hahner et al., "LiDAR Snowfall Simulation for Robust 3D Object Detection", CVPR 2022, estimate both
from the road in the same sweep, since no data sheet gives them in the unit of intensities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_training.evaluate.corruptions.sweep import Mask

#: a road returns about a fifteenth of what a perfect mirror facing the sensor would
_POWER_FACTOR = 15.0
_BINS, _MIN_PER_BIN = 20, 10
#: share of a bin's returns that may be weaker than what is taken for its weakest
_WEAKEST_PERCENTILE = 2.0
_MIN_COSINE = 1e-2


@dataclass(frozen=True, eq=False)
class GroundReturn:
    """Lines over distance (slope, value at 0) of the ground's brightness divided by the cosine of
    its incidence.

    Attributes:
        mean: of all ground returns.
        weakest: of the weakest ones.
        height_m: of the sensor above the ground.
    """

    mean: Array
    weakest: Array
    height_m: float

    def power(self, distance_m: Array) -> Array:
        """Brightness of a perfectly white target that faces the sensor."""
        return np.asarray(np.maximum(_POWER_FACTOR * np.polyval(self.mean, distance_m), 1e-6))

    def floor(self, distance_m: Array) -> Array:
        """Brightness, over the cosine, of the weakest ground returns."""
        return np.asarray(np.maximum(np.polyval(self.weakest, distance_m), 0.0))

    def floor_anywhere(self, distance_m: Array) -> Array:
        """Brightness of the weakest echo reported at a distance, whatever made it."""
        cosine = np.minimum(self.height_m / np.maximum(distance_m, 1e-3), 1.0)
        return np.asarray(self.floor(distance_m) * cosine)


def incidence_cosine(xyz: Array) -> Array:
    """(N,) cosine between the ray of (N, 3) ground points and the vertical: the earth is flat."""
    ranges = np.maximum(np.linalg.norm(xyz, axis=1), 1e-6)
    return np.asarray(np.clip(-xyz[:, 2] / ranges, _MIN_COSINE, 1.0))


def ground_return(
    points: npt.NDArray[np.floating], share: Array, ground: Mask
) -> GroundReturn | None:
    """Fits both lines; None where the sweep shows too little ground (200 points) to do so.

    Args:
        points: (N, 3) metres, lidar frame.
        share: (N,) brightness 0..1.
        ground: (N,) which points are ground.
    """
    below = ground & (points[:, 2] < 0)
    if int(below.sum()) < _BINS * _MIN_PER_BIN:
        return None
    xyz = points[below].astype(np.float64)
    distance = np.linalg.norm(xyz, axis=1)
    normal = share[below] / incidence_cosine(xyz)
    order = np.argsort(distance, kind="stable")
    middles, weakest = [], []
    for rows in np.array_split(order, _BINS):
        seen = normal[rows][normal[rows] > 0]
        if len(seen) >= _MIN_PER_BIN:
            middles.append(distance[rows].mean())
            weakest.append(np.percentile(seen, _WEAKEST_PERCENTILE))
    if len(middles) < 3 or np.ptp(middles) < 1.0:
        return None
    height = float(np.median(-xyz[:, 2]))
    return GroundReturn(np.polyfit(distance, normal, 1), np.polyfit(middles, weakest, 1), height)
