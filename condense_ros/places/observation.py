"""What relocalisation needs of one sweep, whether it is stored as a place or asks where it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from condense_ros.places.depth_image import DepthImage, depth_image
from condense_ros.places.keypoints import Float32, KeypointConfig, Keypoints, extract_keypoints
from condense_ros.places.registration import Aligned, RegistrationConfig


@dataclass(frozen=True, eq=False)
class Observation:
    """One sweep as relocalisation sees it.

    Attributes:
        descriptor: (D,) float32 global descriptor, unit L2 norm.
        keypoints: local features.
        cloud: (M, 3) float32 metres, lidar frame, downsampled.
        depth: what the sweep saw and saw through.
    """

    descriptor: Float32
    keypoints: Keypoints
    cloud: Float32
    depth: DepthImage

    @cached_property
    def aligned(self) -> Aligned:
        """The cloud with covariances and search tree (built on first use, about 30 ms)."""
        return Aligned(self.cloud, None)

    @cached_property
    def coarse(self) -> Aligned:
        """A sparser copy for judging many poses quickly."""
        return Aligned(self.cloud, RegistrationConfig().coarse_voxel_m)


def observe(
    xyz: npt.NDArray[np.floating],
    descriptor: npt.NDArray[np.floating],
    keypoint_config: KeypointConfig | None = None,
    registration_config: RegistrationConfig | None = None,
) -> Observation:
    """Makes an observation of a sweep.

    Args:
        xyz: (N, 3) metres, lidar frame; non-finite rows are left out.
        descriptor: (D,) global descriptor of the same sweep.
    """
    registration_config = registration_config or RegistrationConfig()
    keypoint_config = keypoint_config or KeypointConfig()
    points = np.asarray(xyz, np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[(points**2).sum(axis=1) < keypoint_config.max_range_m**2]
    cloud = Aligned(points, registration_config.voxel_m)
    observation = Observation(
        np.asarray(descriptor, np.float32),
        extract_keypoints(points, keypoint_config),
        cloud.xyz.astype(np.float32),
        depth_image(points),
    )
    observation.__dict__["aligned"] = cloud
    return observation
