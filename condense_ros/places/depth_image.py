"""What a sweep saw and saw through: the nearest and furthest range in every direction.

A point that falls into space another sweep saw through is strong evidence that the two were not
taken in the same place (or that something moved).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array

_COLUMNS, _ROWS = 360, 45
_ELEVATION_DEG = (-45.0, 45.0)


@dataclass(frozen=True, eq=False)
class DepthImage:
    """Ranges by direction, cells of 1 degree of azimuth and 2 degrees of elevation.

    Attributes:
        near, far: (45, 360) float32 metres: least and greatest range measured in a cell and the
            eight around it; NaN where nothing returned.
    """

    near: npt.NDArray[np.float32]
    far: npt.NDArray[np.float32]

    shape: ClassVar[tuple[int, int]] = (_ROWS, _COLUMNS)

    def compare(
        self, xyz: Array, margin_m: float, relative: float
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which points (N, 3) of this sensor's frame agree with it, and which contradict it.

        Returns:
            agree: (N,) bool, at a range measured in that direction.
            through: (N,) bool, clearly nearer than anything measured in that direction.
            Neither is set for hidden points and for directions without a return.
        """
        cell, distance = _cells(xyz)
        inside = cell >= 0
        near = np.where(inside, self.near.ravel()[np.maximum(cell, 0)], np.nan)
        far = np.where(inside, self.far.ravel()[np.maximum(cell, 0)], np.nan)
        margin = margin_m + relative * distance
        with np.errstate(invalid="ignore"):
            agree = (distance > near - margin) & (distance < far + margin)
            through = distance <= near - margin
        return agree, through


def _cells(xyz: Array) -> tuple[npt.NDArray[np.int64], Array]:
    distance = np.linalg.norm(xyz, axis=1)
    azimuth = np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0]))
    elevation = np.degrees(np.arcsin(np.clip(xyz[:, 2] / np.maximum(distance, 1e-6), -1, 1)))
    column = np.floor((azimuth + 180.0) * _COLUMNS / 360.0).astype(np.int64) % _COLUMNS
    low, high = _ELEVATION_DEG
    row = np.floor((elevation - low) * _ROWS / (high - low)).astype(np.int64)
    cell = np.where((row >= 0) & (row < _ROWS) & (distance > 0.5), row * _COLUMNS + column, -1)
    return cell, distance


def depth_image(xyz: npt.NDArray[np.floating]) -> DepthImage:
    """Depth image of a sweep (N, 3) in its own lidar frame; non-finite rows are left out."""
    points = np.asarray(xyz, np.float64)
    cell, distance = _cells(points[np.isfinite(points).all(axis=1)])
    cell, distance = cell[cell >= 0], distance[cell >= 0]
    near = np.full(_ROWS * _COLUMNS, np.inf)
    far = np.full(_ROWS * _COLUMNS, -np.inf)
    np.minimum.at(near, cell, distance)
    np.maximum.at(far, cell, distance)
    near = _spread(near.reshape(_ROWS, _COLUMNS), np.minimum, np.inf)
    far = _spread(far.reshape(_ROWS, _COLUMNS), np.maximum, -np.inf)
    seen = np.isfinite(near)
    return DepthImage(
        np.where(seen, near, np.nan).astype(np.float32),
        np.where(seen, far, np.nan).astype(np.float32),
    )


def _spread(image: Array, pick: np.ufunc, nothing: float) -> Array:
    """3x3 minimum or maximum; azimuth wraps around, elevation does not."""
    image = pick(pick(np.roll(image, 1, axis=1), np.roll(image, -1, axis=1)), image)
    padded = np.pad(image, ((1, 1), (0, 0)), constant_values=nothing)
    return np.asarray(pick(pick(padded[:-2], padded[2:]), image))
