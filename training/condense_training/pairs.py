"""Which point of a cloud is seen at which place of an image, a crop of it, or a whole rig."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, Projection, inverse, project_cloud, transform
from condense_training.crops import Crop


def point_pixel_pairs(
    cloud: PointCloud,
    image: CameraImage,
    crop: Crop,
    *,
    depth_test: bool = True,
    margin_px: float = 1.0,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Every point the camera sees inside a crop of its image.

    Args:
        cloud: as measured (before augmentation).
        image: with the calibration and the ego motion between the two stamps.
        crop: of that image.
        depth_test: leave out points hidden from the camera behind nearer ones (Janda et al. remove
            hidden points for sensors beside the camera).
        margin_px: distance kept from the crop's border.

    Returns:
        index: (n,) rows of the cloud.
        uv: (n, 2) pixels of the crop, fractional.
    """
    seen = project_cloud(cloud.xyz, image.T_cam_cloud, image.camera, depth_test=depth_test)
    uv = crop.from_original(seen.uv)
    high = np.array([crop.out_width, crop.out_height]) - 1 - margin_px
    inside = ((uv >= margin_px) & (uv <= high)).all(axis=1)
    return seen.index[inside], uv[inside]


@dataclass(frozen=True, eq=False)
class RigPairs:
    """Point-pixel pairs of all cameras of a frame; a point that several see has several.

    Attributes:
        point: (M,) int64 rows of the cloud.
        image: (M,) int64 numbers of the frame's images, in ascending order.
        uv: (M, 2) float64 pixels, fractional.
    """

    point: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    uv: Array

    def __len__(self) -> int:
        return len(self.point)

    def select(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> RigPairs:
        """Some of them, by mask or indices."""
        return replace(self, point=self.point[rows], image=self.image[rows], uv=self.uv[rows])

    def counts(self, images: int) -> npt.NDArray[np.int64]:
        """(images,) number of pairs of each image."""
        return np.bincount(self.image, minlength=images)


def rig_pairs(
    frame: Frame,
    *,
    depth_test: bool = True,
    min_depth_m: float = 1.0,
    pose_at: Callable[[int], Array] | None = None,
) -> RigPairs:
    """Every point that a camera of the rig sees, in pixels of the whole image.

    Clouds and images have different stamps while the robot moves, so points go lidar ->
    world at the cloud's stamp -> world at the image's stamp -> camera. Readers that know the poses
    have put the two in the middle together in `CameraImage.ego_motion`; for others `pose_at` says
    them.

    Args:
        frame: as measured (before augmentation).
        depth_test: leave out points hidden from a camera behind nearer ones.
        min_depth_m: least depth along the optical axis (distance for a fisheye).
        pose_at: stamp_ns -> T_world_lidar, asked for images without `ego_motion` whose stamp is not
            the cloud's.

    Returns:
        Pairs whose pixel lies within the outermost pixel centres, 0 < u < W - 1, 0 < v < H - 1.
    """
    found = []
    for number, image in enumerate(frame.images):
        if pose_at is not None and image.ego_motion is None and image.stamp_ns != frame.stamp_ns:
            motion = inverse(pose_at(image.stamp_ns)) @ pose_at(frame.stamp_ns)
            image = replace(image, ego_motion=motion)
        camera = image.camera
        seen = project_cloud(frame.cloud.xyz, image.T_cam_cloud, camera, depth_test=depth_test)
        border = np.array([camera.width, camera.height]) - 1
        kept = ((seen.uv > 0) & (seen.uv < border)).all(axis=1)
        kept &= _nearness(frame.cloud, image, seen) > min_depth_m
        index = seen.index[kept]
        found.append(RigPairs(index, np.full(len(index), number), seen.uv[kept]))
    if not found:
        none = np.zeros(0, np.int64)
        return RigPairs(none, none, np.zeros((0, 2)))
    return RigPairs(
        np.concatenate([pairs.point for pairs in found]),
        np.concatenate([pairs.image for pairs in found]),
        np.concatenate([pairs.uv for pairs in found]),
    )


def _nearness(cloud: PointCloud, image: CameraImage, seen: Projection) -> Array:
    if image.camera.model != "fisheye":
        return seen.depth
    xyz = transform(image.T_cam_cloud, cloud.xyz[seen.index])
    return np.asarray(np.linalg.norm(xyz, axis=1))


def within_view(cloud: PointCloud, image: CameraImage, margin_deg: float) -> npt.NDArray[np.bool_]:
    """(N,) bool: points whose bearing from the camera is in its horizontal view, widened on both
    sides. Hidden points and those above or below the image stay: they are context."""
    camera = image.camera
    columns = np.arange(camera.width, dtype=np.float64)
    edges = camera.rays(np.stack([columns, np.full(camera.width, camera.K[1, 2])], axis=1))
    edges = edges[np.isfinite(edges[:, 0])]  # a lens may leave the border of the image empty
    edge = np.arctan2(edges[:, 0], edges[:, 2])[[0, -1]]
    middle, half = edge.mean(), (edge[1] - edge[0]) / 2 + np.radians(margin_deg)
    xyz = transform(image.T_cam_cloud, cloud.xyz)
    off = np.arctan2(xyz[:, 0], xyz[:, 2]) - middle  # NaN stays NaN, and compares false
    return np.asarray(np.abs((off + np.pi) % (2 * np.pi) - np.pi) <= half)


def sample_features(
    maps: Tensor, image_index: Tensor, uv: Tensor, size: tuple[int, int] | None = None
) -> Tensor:
    """Bilinear values of feature maps at fractional pixels.

    A map that is coarser than its image is read where upsampling it to the image's size with
    `align_corners=True` would put its values (PPKT, SLidR, OLIVINE): its outermost cells lie on the
    outermost pixel centres, u in the image at u (w - 1) / (W - 1) in the map.

    Args:
        maps: (B, C, h, w).
        image_index: (n,) int64, which map each row reads.
        uv: (n, 2) pixels (u right, v down; centres at integers), clamped to the image.
        size: (H, W) of the images that `uv` are pixels of; None: the maps'.

    Returns:
        (n, C), float32 of maps in half precision: positions would be off by pixels in it.
    """
    height, width = size or maps.shape[-2:]
    extent = torch.tensor([width, height], device=uv.device, dtype=uv.dtype)
    # grid_sample with align_corners=True: -1 and 1 are the centres of the outermost cells
    grid = uv * 2 / (extent - 1).clamp(min=1) - 1
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    rows = torch.empty(len(uv), maps.shape[1], device=maps.device, dtype=dtype)
    for i in range(len(maps)):
        mine = image_index == i
        if not bool(mine.any()):
            continue
        values = functional.grid_sample(
            maps[i : i + 1].to(dtype),
            grid[mine][None, :, None].to(dtype),
            align_corners=True,
            padding_mode="border",
        )
        rows = rows.index_put((mine.nonzero()[:, 0],), values[0, :, :, 0].T)
    return rows
