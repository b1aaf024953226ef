"""`InputSpec`: what a backbone sees of a point cloud, fixed with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, FrameError
from condense_ros.frame import PointCloud
from condense_ros.sparse import Voxels, voxelize
from condense_ros.sparse.keys import COORDINATE_LIMIT

FEATURES = ("one", "height", "intensity", "range", "r", "g", "b")


@dataclass(frozen=True)
class InputSpec:
    """How a cloud becomes network input.

    Features per point, averaged over each voxel (lidar frame, all of order one):

    - one: the constant 1 (occupancy).
    - height: z in metres / 3. Depends on the mounting height of the sensor.
    - range: distance from the sensor / max_range_m.
    - intensity: value / intensity_scale, clipped to 0..1. Sensors differ (KITTI 0..1, nuScenes and
      Velodyne drivers 0..255, raw Ouster signals to thousands), so the scale is declared here,
      never guessed from data.
    - r, g, b: colour of the point / 255 - 0.5.

    Raises:
        ConfigError: no features, unknown or repeated ones, or values that make no sense.
    """

    voxel_size_m: float = parameter(0.1, "edge of a voxel in metres", low=1e-3, high=10.0)
    max_range_m: float = parameter(60.0, "points farther away are left out", low=0.1, high=1000.0)
    min_range_m: float = parameter(
        0.5, "points nearer are left out (returns from the vehicle)", low=0.0, high=100.0
    )
    features: tuple[str, ...] = parameter(
        ("one", "height"), "input features, of: " + ", ".join(FEATURES)
    )
    intensity_scale: float = parameter(
        1.0, "intensity of the brightest return (1 for KITTI, 255 for nuScenes)", low=1e-6
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown or not self.features or len(set(self.features)) != len(self.features):
            raise ConfigError(
                f"input features are {self.features!r}",
                f"name each at most once, of: {', '.join(FEATURES)}",
            )
        if not (0 <= self.min_range_m < self.max_range_m):
            raise ConfigError(
                f"range limits are {self.min_range_m}..{self.max_range_m} m",
                "give 0 <= min_range_m < max_range_m",
            )
        if not self.voxel_size_m > 0 or self.max_range_m / self.voxel_size_m > COORDINATE_LIMIT:
            raise ConfigError(
                f"voxels of {self.voxel_size_m} m within {self.max_range_m} m",
                "use larger voxels or a shorter range",
            )
        if not self.intensity_scale > 0:
            raise ConfigError(
                f"intensity_scale is {self.intensity_scale}", "give a positive number"
            )

    @property
    def channels(self) -> int:
        return len(self.features)

    def keep(self, cloud: PointCloud) -> npt.NDArray[np.bool_]:
        """(N,) bool: finite points within the range limits."""
        with np.errstate(over="ignore", invalid="ignore"):
            squared = np.einsum("ij,ij->i", cloud.xyz, cloud.xyz, dtype=np.float64)
        # comparisons with NaN are false, so non-finite points drop out here
        return (squared <= self.max_range_m**2) & (squared >= self.min_range_m**2)

    def point_features(
        self, cloud: PointCloud, colours: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.float32]:
        """(N, channels) float32 features of every point of a cloud.

        Args:
            colours: (N, 3) uint8 RGB per point; needed when the spec names r, g or b.

        Raises:
            FrameError: the cloud has no intensity, or no colours were given, but the spec needs it.
        """
        columns: list[Any] = []
        for name in self.features:
            if name == "one":
                columns.append(np.ones(len(cloud), np.float32))
            elif name == "height":
                columns.append(cloud.xyz[:, 2] / np.float32(3.0))
            elif name == "range":
                columns.append(np.linalg.norm(cloud.xyz, axis=1) / np.float32(self.max_range_m))
            elif name == "intensity":
                if cloud.intensity is None:
                    raise FrameError(
                        "the cloud has no intensity, which the backbone takes as input",
                        "use a sensor that reports it, or a backbone trained without",
                    )
                scaled = cloud.intensity / np.float32(self.intensity_scale)
                # a missing reading counts as no return light
                columns.append(np.clip(np.nan_to_num(scaled, nan=0.0), 0.0, 1.0))
            else:
                if colours is None or colours.shape != (len(cloud), 3):
                    raise FrameError(
                        "the backbone takes point colours as input, and the cloud has none",
                        "give (N, 3) uint8 colours, or use a backbone trained without",
                    )
                columns.append(colours[:, "rgb".index(name)] / np.float32(255.0) - np.float32(0.5))
        return np.stack(columns, axis=1).astype(np.float32, copy=False)

    def voxelize(self, cloud: PointCloud, colours: npt.NDArray[np.uint8] | None = None) -> Voxels:
        """The voxels of one cloud; `inverse` is -1 for points left out (non-finite, out of range).

        A cloud without any usable point gives zero voxels.

        Raises:
            FrameError: the cloud lacks a feature the spec needs.
        """
        keep = self.keep(cloud)
        if keep.all():
            return voxelize(cloud.xyz, self.point_features(cloud, colours), self.voxel_size_m)
        kept = cloud.select(keep)
        kept_colours = None if colours is None else colours[keep]
        voxels = voxelize(kept.xyz, self.point_features(kept, kept_colours), self.voxel_size_m)
        return voxels.scatter_points(keep)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `config.build(InputSpec, values)` is the inverse."""
        return {
            "voxel_size_m": self.voxel_size_m,
            "max_range_m": self.max_range_m,
            "min_range_m": self.min_range_m,
            "features": list(self.features),
            "intensity_scale": self.intensity_scale,
        }
