"""3D keypoints with rotation-invariant descriptors (FPFH), the local half of a stored place.

Source: Rusu, Blodow, Beetz, "Fast Point Feature Histograms (FPFH) for 3D registration", ICRA 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import small_gicp
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from condense_ros.config import parameter

Float32 = npt.NDArray[np.float32]

_BINS = 11
#: length of one descriptor: three angles, eleven bins each
DESCRIPTOR_SIZE = 3 * _BINS


@dataclass(frozen=True)
class KeypointConfig:
    """How keypoints are taken from a cloud. A map and its queries must use the same values."""

    voxel_m: float = parameter(0.8, "spacing of the points that may become keypoints", low=0.05)
    radius_m: float = parameter(4.0, "support radius of a descriptor", low=0.1)
    neighbours: int = parameter(40, "most neighbours in the support of a descriptor", low=8)
    max_range_m: float = parameter(60.0, "points further from the sensor are left out", low=1.0)
    max_keypoints: int = parameter(1400, "keypoints kept per cloud, most distinctive first", low=16)


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Keypoints of one cloud.

    Attributes:
        xyz: (K, 3) float32 metres, lidar frame.
        descriptors: (K, 33) float32, unit L2 norm.
    """

    xyz: Float32
    descriptors: Float32

    def __len__(self) -> int:
        return len(self.xyz)


def downsample(xyz: npt.NDArray[np.floating], voxel_m: float) -> npt.NDArray[np.float64]:
    """One averaged point per occupied voxel, (M, 3) float64; non-finite rows are left out."""
    xyz = np.asarray(xyz, dtype=np.float64)
    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    if not len(xyz):
        return np.zeros((0, 3))
    return small_gicp.voxelgrid_sampling(xyz, voxel_m).points()[:, :3]


def normals_of(xyz: npt.NDArray[np.float64], neighbours: int = 12) -> npt.NDArray[np.float64]:
    """Unit surface normals (N, 3), turned towards the origin (the sensor)."""
    cloud = small_gicp.PointCloud(xyz)
    small_gicp.estimate_normals(cloud, num_neighbors=neighbours, num_threads=1)
    normals = cloud.normals()[:, :3]
    return normals * np.where((normals * xyz).sum(axis=1, keepdims=True) > 0, -1.0, 1.0)


def fpfh(
    xyz: npt.NDArray[np.float64],
    normals: npt.NDArray[np.float64],
    radius_m: float,
    neighbours: int,
) -> Float32:
    """Fast point feature histograms (N, 33) float32, each third summing to 1 before weighting.

    Args:
        xyz, normals: (N, 3) points in metres and their unit normals.
        radius_m, neighbours: support of a histogram: the nearest `neighbours` within `radius_m`.
    """
    count = len(xyz)
    k = min(neighbours + 1, count)
    found = cKDTree(xyz).query(xyz, k=k, distance_upper_bound=radius_m)
    distance = np.asarray(found[0]).reshape(count, k)[:, 1:]
    index = np.asarray(found[1]).reshape(count, k)[:, 1:]
    row, column = np.nonzero(np.isfinite(distance) & (distance > 1e-9))
    target, length = index[row, column], distance[row, column]
    # Darboux frame of each pair (ICRA 2009, eq. 1-3): u = n_s, v = d x u, w = u x v
    d = (xyz[target] - xyz[row]) / length[:, None]
    u, n_t = normals[row], normals[target]
    v = np.cross(d, u)
    v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9)
    w = np.cross(u, v)
    alpha = (v * n_t).sum(axis=1)
    phi = (u * d).sum(axis=1)
    theta = np.arctan2((w * n_t).sum(axis=1), (u * n_t).sum(axis=1)) / np.pi
    spfh = np.empty((count, DESCRIPTOR_SIZE), np.float32)
    per_point = np.maximum(np.bincount(row, minlength=count), 1)[:, None]
    for part, angle in enumerate((alpha, phi, theta)):
        bins = np.clip(((angle + 1) * 0.5 * _BINS).astype(np.int64), 0, _BINS - 1)
        histogram = np.bincount(row * _BINS + bins, minlength=count * _BINS)
        spfh[:, part * _BINS : (part + 1) * _BINS] = histogram.reshape(count, _BINS) / per_point
    weight = (1.0 / length) / per_point[row, 0]
    neighbourhood = csr_array((weight.astype(np.float32), (row, target)), shape=(count, count))
    return np.asarray(spfh + neighbourhood @ spfh, dtype=np.float32)


def extract_keypoints(
    xyz: npt.NDArray[np.floating], config: KeypointConfig | None = None
) -> Keypoints:
    """Keypoints of a cloud: voxel-grid points whose FPFH differs most from the cloud's mean.

    Flat ground makes most points of an outdoor cloud look alike; ranking by the distance to the
    mean histogram keeps corners, poles, kerbs and edges.

    Args:
        xyz: (N, 3) metres, lidar frame, sensor at the origin.

    Returns:
        At most `max_keypoints`; none for a cloud with fewer than 16 usable points.
    """
    config = config or KeypointConfig()
    xyz = np.asarray(xyz, dtype=np.float64)
    near = np.isfinite(xyz).all(axis=1)
    near[near] = (xyz[near] ** 2).sum(axis=1) < config.max_range_m**2
    points = downsample(xyz[near], config.voxel_m)
    if len(points) < 16:
        return Keypoints(np.zeros((0, 3), np.float32), np.zeros((0, DESCRIPTOR_SIZE), np.float32))
    raw = fpfh(points, normals_of(points), config.radius_m, config.neighbours)
    # Hellinger map: Euclidean distance of square roots compares histograms far better than plain L2
    descriptors = np.sqrt(raw)
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)
    saliency = np.linalg.norm(descriptors - descriptors.mean(axis=0), axis=1)
    keep = np.sort(np.argsort(-saliency, kind="stable")[: config.max_keypoints])
    return Keypoints(points[keep].astype(np.float32), descriptors[keep])
