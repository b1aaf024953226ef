"""Refines a pose by generalised ICP and says how sure it is.

GICP comes from small_gicp (Koide, "small_gicp: efficient and parallel algorithms for point cloud
registration", JOSS 2024; Segal, Haehnel, Thrun, "Generalized-ICP", RSS 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import small_gicp

from condense_ros.config import parameter
from condense_ros.geometry import Array
from condense_ros.places.keypoints import downsample


@dataclass(frozen=True)
class RegistrationConfig:
    """How two clouds are aligned."""

    voxel_m: float = parameter(0.35, "spacing of the points that are aligned", low=0.02)
    coarse_voxel_m: float = parameter(
        0.9, "spacing of the points of the first pass, which judges many poses", low=0.02
    )
    coarse_distance_m: float = parameter(2.0, "correspondence distance of the first pass", low=0.05)
    fine_distance_m: float = parameter(0.7, "correspondence distance of the second pass", low=0.05)
    iterations: int = parameter(20, "most iterations of a pass", low=1)
    covariance_scale: float = parameter(
        21.0, "how far errors of neighbouring points are correlated; sets the covariance", low=1.0
    )


#: fewer points have no surface
LEAST_POINTS = 20


class Aligned:
    """A cloud made ready for alignment: downsampled, with covariances and a search tree.

    Attributes:
        xyz: (M, 3) float64 metres, lidar frame.
        normals: (M, 3) unit normals.
    """

    def __init__(self, xyz: npt.NDArray[np.floating], voxel_m: float | None) -> None:
        points = np.asarray(xyz, np.float64) if voxel_m is None else downsample(xyz, voxel_m)
        self.xyz: Array = points
        self.normals: Array = np.zeros_like(points)
        self.cloud = self.tree = None
        if len(points) >= LEAST_POINTS:
            self.cloud = small_gicp.PointCloud(points)
            self.tree = small_gicp.KdTree(self.cloud, num_threads=1)
            small_gicp.estimate_normals_covariances(
                self.cloud, self.tree, num_neighbors=12, num_threads=1
            )
            self.normals = self.cloud.normals()[:, :3]

    @property
    def usable(self) -> bool:
        """Whether there are points enough to align anything with."""
        return self.cloud is not None

    def __len__(self) -> int:
        return len(self.xyz)

    def distance(self, xyz: Array) -> Array:
        """Distance in metres of points (N, 3) to their nearest point of this usable cloud."""
        assert self.tree is not None
        _, squared = self.tree.batch_nearest_neighbor_search(xyz, num_threads=1)
        return np.sqrt(np.asarray(squared, np.float64))


@dataclass(frozen=True, eq=False)
class Registration:
    """Result of `register`.

    Attributes:
        T_target_source: (4, 4).
        covariance: (6, 6) of (x, y, z, rotation about x, y, z): the error in the target frame's
            axes, in m^2 and rad^2, as geometry_msgs/PoseWithCovariance orders it.
        residual_m: root mean square of the whitened residuals, in units of the surface noise.
        inliers: points of the source with a correspondence.
        converged: whether the last pass met its step criterion.
    """

    T_target_source: Array
    covariance: Array
    residual: float
    inliers: int
    converged: bool


def register_coarsely(
    target: Aligned, source: Aligned, T_init: Array, config: RegistrationConfig
) -> Array:
    """First pass: pulls a pose from keypoint matches into place.

    Args:
        source: made with `coarse_voxel_m`.
        T_init: (4, 4) T_target_source, good to about `coarse_distance_m`.

    Returns:
        (4, 4) T_target_source.
    """
    return _align(target, source, T_init, config.coarse_distance_m, config).T_target_source


def register(
    target: Aligned, source: Aligned, T_init: Array, config: RegistrationConfig | None = None
) -> Registration:
    """Second pass: aligns all points from a pose good to about `fine_distance_m`."""
    config = config or RegistrationConfig()
    result = _align(target, source, T_init, config.fine_distance_m, config)
    T: Array = np.asarray(result.T_target_source)
    inliers = int(result.num_inliers)
    # small_gicp's error is half the sum of squared whitened residuals
    variance = 2.0 * float(result.error) / max(3 * inliers - 6, 1)
    covariance = _covariance(np.asarray(result.H), T[:3, :3], variance * config.covariance_scale)
    return Registration(T, covariance, float(np.sqrt(variance)), inliers, bool(result.converged))


def _align(
    target: Aligned, source: Aligned, T_init: Array, reach_m: float, config: RegistrationConfig
) -> small_gicp.RegistrationResult:
    return small_gicp.align(
        target.cloud,
        source.cloud,
        target.tree,
        init_T_target_source=T_init,
        registration_type="GICP",
        max_correspondence_distance=reach_m,
        num_threads=1,
        max_iterations=config.iterations,
    )


def _covariance(H: Array, R: Array, variance: float) -> Array:
    """Inverse of the Hessian, turned from source-frame twists (rotation first) to ROS order."""
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    # a direction the clouds do not constrain gets a large, finite variance
    body = (vectors / np.maximum(values, 1e-3)) @ vectors.T * variance
    order = [3, 4, 5, 0, 1, 2]
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = R
    return np.asarray(turn @ body[np.ix_(order, order)] @ turn.T)


def covariance_at(covariance: Array, T_map_lidar: Array, T_lidar_base: Array) -> Array:
    """Covariance of the base's pose in the map from that of the lidar's, both in ROS order.

    A rotation error turns the lever from lidar to base: the base moves by omega x r.
    """
    x, y, z = T_map_lidar[:3, :3] @ T_lidar_base[:3, 3]
    J = np.eye(6)
    J[:3, 3:] = -np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(J @ covariance @ J.T)
