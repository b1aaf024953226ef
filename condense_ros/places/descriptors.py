"""Global descriptors: one vector per sweep by which similar places are found.

Two kinds, named in each map's header:

- `ring_height`: how surfaces are spread over distance and height. Purely geometric, the same from
  every heading, and of no backbone: any checkpoint may query such a map.
- `backbone_gem`: generalised-mean pooling of the backbone's voxel features (Radenovic, Tolias,
  Chum, TPAMI 2019; for clouds Komorowski, "MinkLoc3D", WACV 2021). It needs a backbone trained for
  places: features of the present recipes find places clearly less often than `ring_height`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.errors import ConfigError
from condense_ros.places.keypoints import Float32, downsample

RING_HEIGHT, BACKBONE_GEM = "ring_height", "backbone_gem"
KINDS = (RING_HEIGHT, BACKBONE_GEM)
#: stands for the backbone of descriptors that need none
NO_BACKBONE = "none"

_RINGS, _LAYERS = 24, 12
_RANGE_M, _LOW_M, _HIGH_M = 48.0, -1.3, 10.0
_VOXEL_M = 0.4
RING_HEIGHT_SIZE = _RINGS * _LAYERS


def check_kind(kind: str) -> str:
    """Returns a descriptor kind this software knows.

    Raises:
        ConfigError: another one.
    """
    if kind not in KINDS:
        raise ConfigError(f"no descriptor kind {kind!r}", f"use one of: {', '.join(KINDS)}")
    return kind


def ring_height(xyz: npt.NDArray[np.floating]) -> Float32:
    """(288,) float32 unit vector: occupied voxels by horizontal distance and height.

    Turning the sensor about its vertical axis changes nothing; moving it by a metre changes little,
    because a voxel is shared between the two nearest rings.

    Args:
        xyz: (N, 3) metres, lidar frame (z up, REP-103); non-finite rows are left out. Zeros are
            returned where nothing lies in range.
    """
    points = downsample(xyz, _VOXEL_M)
    radius = np.hypot(points[:, 0], points[:, 1])
    height = points[:, 2]
    inside = (radius < _RANGE_M) & (height > _LOW_M) & (height < _HIGH_M)
    ring = np.maximum(radius[inside] * (_RINGS / _RANGE_M) - 0.5, 0.0)
    layer = ((height[inside] - _LOW_M) * (_LAYERS / (_HIGH_M - _LOW_M))).astype(np.int64)
    inner = ring.astype(np.int64)
    share = ring - inner
    histogram = np.zeros((_RINGS + 1, _LAYERS))
    np.add.at(histogram, (inner, layer), 1 - share)
    np.add.at(histogram, (inner + 1, layer), share)
    # square roots: a wall nearby must not outweigh everything else
    return unit(np.sqrt(histogram[:_RINGS]).ravel())


def generalised_mean(features: npt.NDArray[np.floating], power: float = 3.0) -> Float32:
    """(C,) float32 unit vector: GeM pooling of non-negative voxel features (M, C)."""
    if not len(features):
        return np.zeros(features.shape[1], np.float32)
    clipped = np.maximum(np.asarray(features, np.float64), 1e-6)
    return unit((clipped**power).mean(axis=0) ** (1 / power))


def unit(vector: npt.NDArray[np.floating]) -> Float32:
    """The vector scaled to norm 1 (zeros stay zeros), float32."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
