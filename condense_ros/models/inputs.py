"""`InputSpec`: what a backbone sees of a point cloud, fixed with its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, FrameError
from condense_ros.frame import PointCloud
from condense_ros.sparse import Grid, Voxels, voxelize
from condense_ros.sparse.grid import COORDINATES
from condense_ros.sparse.keys import COORDINATE_LIMIT

FEATURES = ("one", "height", "intensity", "range", "r", "g", "b")
#: coordinates as features, in metres
POSITIONS = ("x", "y", "z")
Cell = tuple[int, int, int]


@dataclass(frozen=True)
class InputSpec:
    """How a cloud becomes network input.

    Features per point, merged in each voxel (lidar frame, all but x, y, z of order one):

    - one: the constant 1 (occupancy).
    - height: z in metres / 3. Depends on the mounting height of the sensor.
    - range: distance from the sensor / max_range_m.
    - intensity: value / intensity_scale, clipped to 0..1. Sensors differ (KITTI 0..1, nuScenes and
      Velodyne drivers 0..255, raw Ouster signals to thousands), so the scale is declared here,
      never guessed from data.
    - r, g, b: colour of the point / 255 - 0.5.
    - x, y, z: coordinates in metres.

    Cylindrical voxels are those of the released MinkUNet configurations of SLidR and OLIVINE:
    rho and z in voxel_size_m, phi in whole degrees, where voxel_sizes does not say otherwise.

    Raises:
        ConfigError: no features, unknown or repeated ones, or values that make no sense.
    """

    voxel_size_m: float = parameter(0.1, "edge of a voxel in metres", low=1e-3, high=10.0)
    max_range_m: float = parameter(60.0, "points farther away are left out", low=0.1, high=1000.0)
    min_range_m: float = parameter(
        0.5, "points nearer are left out (returns from the vehicle)", low=0.0, high=100.0
    )
    features: tuple[str, ...] = parameter(
        ("one", "height"), "input features, of: " + ", ".join(FEATURES + POSITIONS)
    )
    intensity_scale: float = parameter(
        1.0, "intensity of the brightest return (1 for KITTI, 255 for nuScenes)", low=1e-6
    )

    coordinates: str = parameter("cartesian", "voxel coordinates: " + " or ".join(COORDINATES))
    voxel_sizes: tuple[float, ...] = parameter(
        (),
        "voxel edges per axis where they differ: x, y, z in metres, or rho in metres, phi in "
        "degrees, z in metres; voxel_size_m is then the first",
        low=1e-3,
        high=360.0,
    )
    reduce: str = parameter("mean", "feature of a voxel: mean of its points, or the first point's")
    box_m: tuple[float, ...] = parameter(
        (),
        "low x, y, z and high x, y, z of the box that is seen, metres, rounded inwards to whole "
        "voxels; none: all within max_range_m",
        low=-1000.0,
        high=1000.0,
    )
    max_points_per_voxel: int = parameter(
        0, "the first so many points make a voxel's mean; 0: all", low=0
    )
    max_voxels: int = parameter(
        0, "so many voxels are kept, those met first in the cloud; 0: all", low=0
    )

    def __post_init__(self) -> None:
        for name in ("features", "voxel_sizes", "box_m"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.voxel_sizes:
            object.__setattr__(self, "voxel_size_m", self.voxel_sizes[0])
        self._check_features()
        self._check_space()

    def _check_features(self) -> None:
        known = FEATURES + POSITIONS
        unknown = [name for name in self.features if name not in known]
        if unknown or not self.features or len(set(self.features)) != len(self.features):
            raise ConfigError(
                f"input features are {self.features!r}",
                f"name each at most once, of: {', '.join(known)}",
            )
        if not self.intensity_scale > 0:
            raise ConfigError(
                f"intensity_scale is {self.intensity_scale}", "give a positive number"
            )
        if self.reduce not in ("mean", "first"):
            raise ConfigError(f"reduce is {self.reduce!r}", 'use "mean" or "first"')
        if min(self.max_points_per_voxel, self.max_voxels) < 0:
            raise ConfigError(
                f"limits are {self.max_points_per_voxel} points per voxel, {self.max_voxels} "
                "voxels",
                "give positive limits, or 0 for none",
            )

    def _check_space(self) -> None:
        if not (0 <= self.min_range_m < self.max_range_m):
            raise ConfigError(
                f"range limits are {self.min_range_m}..{self.max_range_m} m",
                "give 0 <= min_range_m < max_range_m",
            )
        if self.coordinates not in COORDINATES:
            raise ConfigError(
                f"coordinates are {self.coordinates!r}", f"use one of: {', '.join(COORDINATES)}"
            )
        if len(self.voxel_sizes) not in (0, 3) or not all(s > 0 for s in self.sizes):
            raise ConfigError(
                f"voxel_size_m is {self.voxel_size_m}, voxel_sizes are {self.voxel_sizes}",
                "give a positive edge, and three or no edges per axis",
            )
        extents = [self.max_range_m] * 3
        if self.coordinates == "cylindrical":
            extents[1] = 180.0
        if any(e / s > COORDINATE_LIMIT for e, s in zip(extents, self.sizes, strict=True)):
            raise ConfigError(
                f"voxels of {self.sizes} within {self.max_range_m} m",
                "use larger voxels or a shorter range",
            )
        if self.box_m:
            if len(self.box_m) != 6 or self.coordinates != "cartesian":
                raise ConfigError(
                    f"box_m is {self.box_m} of {self.coordinates} voxels",
                    "give low x, y, z and high x, y, z in metres, with Cartesian voxels",
                )
            low, high = self._box_cells()
            if any(a >= b for a, b in zip(low, high, strict=True)):
                raise ConfigError(
                    f"box_m {self.box_m} holds no whole voxel", "give low x, y, z, then high ones"
                )

    @property
    def sizes(self) -> tuple[float, float, float]:
        """Voxel edges along the three axes, see `sparse.Grid`."""
        if self.voxel_sizes:
            return self.voxel_sizes[0], self.voxel_sizes[1], self.voxel_sizes[2]
        edge = self.voxel_size_m
        return edge, 1.0 if self.coordinates == "cylindrical" else edge, edge

    @property
    def grid(self) -> Grid:
        """The voxel grid."""
        return Grid(self.sizes, self.coordinates)

    @property
    def box_cells(self) -> tuple[Cell, Cell] | None:
        """First voxel of the box and the one behind its last, or None without a box."""
        return self._box_cells() if self.box_m else None

    def _box_cells(self) -> tuple[Cell, Cell]:
        # a bound that is a whole number of voxels must not lose one to a rounded quotient
        low = [math.ceil(v / s - 1e-6) for v, s in zip(self.box_m[:3], self.sizes, strict=True)]
        high = [math.floor(v / s + 1e-6) for v, s in zip(self.box_m[3:], self.sizes, strict=True)]
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    @property
    def channels(self) -> int:
        return len(self.features)

    def keep(self, cloud: PointCloud) -> npt.NDArray[np.bool_]:
        """(N,) bool: finite points within the range limits and the box."""
        with np.errstate(over="ignore", invalid="ignore"):
            squared = np.einsum("ij,ij->i", cloud.xyz, cloud.xyz, dtype=np.float64)
            # comparisons with NaN are false, so non-finite points drop out here
            keep = (squared <= self.max_range_m**2) & (squared >= self.min_range_m**2)
            if self.box_m:
                low, high = self._box_cells()
                cells = np.floor(cloud.xyz.astype(np.float64) / self.sizes)
                keep &= ((cells >= low) & (cells < high)).all(1)
        return keep

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
            elif name in POSITIONS:
                columns.append(cloud.xyz[:, POSITIONS.index(name)])
            else:
                if colours is None or colours.shape != (len(cloud), 3):
                    raise FrameError(
                        "the backbone takes point colours as input, and the cloud has none",
                        "give (N, 3) uint8 colours, or use a backbone trained without",
                    )
                columns.append(colours[:, "rgb".index(name)] / np.float32(255.0) - np.float32(0.5))
        return np.stack(columns, axis=1).astype(np.float32, copy=False)

    def voxelize(self, cloud: PointCloud, colours: npt.NDArray[np.uint8] | None = None) -> Voxels:
        """The voxels of one cloud; `inverse` is -1 for points left out (non-finite, out of range or
        of the box, in a voxel beyond max_voxels, see `Voxels.overflow`).

        A cloud without any usable point gives zero voxels.

        Raises:
            FrameError: the cloud lacks a feature the spec needs.
        """
        keep = self.keep(cloud)
        if keep.all():
            return self._voxelize(cloud, colours)
        kept_colours = None if colours is None else colours[keep]
        return self._voxelize(cloud.select(keep), kept_colours).scatter_points(keep)

    def _voxelize(self, cloud: PointCloud, colours: npt.NDArray[np.uint8] | None) -> Voxels:
        return voxelize(
            cloud.xyz,
            self.point_features(cloud, colours),
            self.sizes,
            self.reduce,
            coordinates=self.coordinates,
            max_points=self.max_points_per_voxel,
            max_voxels=self.max_voxels,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `config.build(InputSpec, values)` is the inverse.

        What came after the first release is named only where it differs from its default: the
        identity of a checkpoint, and with it the maps made with it, stay valid.
        """
        values: dict[str, Any] = {
            "voxel_size_m": self.voxel_size_m,
            "max_range_m": self.max_range_m,
            "min_range_m": self.min_range_m,
            "features": list(self.features),
            "intensity_scale": self.intensity_scale,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in values and value != field.default:
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return values
