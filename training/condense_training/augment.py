"""Random changes of images and clouds that leave geometry alone or report what they did."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.frame import PointCloud
from condense_ros.geometry import Array, rotation_rpy

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ColourAugmentation:
    """Strengths and probabilities of SimCLR's photometric augmentation."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    gray_probability: float = 0.2
    blur_probability: float = 0.5
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)


def _gray(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


def _shift_hue(image: npt.NDArray[np.float32], turn: float) -> npt.NDArray[np.float32]:
    hsv = cv2.cvtColor(image / 255, cv2.COLOR_RGB2HSV)  # hue in degrees for float images
    hsv[..., 0] = (hsv[..., 0] + 360 * turn) % 360
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255)


def augment_colours(
    pixels: Pixels, rng: np.random.Generator, how: ColourAugmentation | None = None
) -> Pixels:
    """(H, W, 3) uint8 RGB -> the same shape: jitter in random order, grayscale, Gaussian blur."""
    how = how or ColourAugmentation()
    image = pixels.astype(np.float32)
    if rng.random() < how.jitter_probability:
        brightness, contrast, saturation = (
            np.float32(rng.uniform(1 - strength, 1 + strength))
            for strength in (how.brightness, how.contrast, how.saturation)
        )
        hue = rng.uniform(-how.hue, how.hue)
        for change in rng.permutation(4):
            if change == 0:
                image = image * brightness
            elif change == 1:
                mean = _gray(image).mean()
                image = mean + (image - mean) * contrast
            elif change == 2:
                gray = _gray(image)
                image = gray + (image - gray) * saturation
            else:
                image = _shift_hue(image, hue)
            image = np.clip(image, 0, 255)
    if rng.random() < how.gray_probability:
        image = np.repeat(_gray(image), 3, axis=2)
    if rng.random() < how.blur_probability:
        blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(*how.blur_sigma_px))
        image = np.asarray(blurred, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class CloudAugmentation:
    """Ranges of the rigid motion, scale and mirroring of a cloud.

    Attributes:
        scale: smallest and largest uniform scale.
        tilt_rad: largest rotation about x and y (pi/32 in the released code).
        centre: move the cloud's mean to the origin first (single RGB-D scans; a LiDAR's origin is
            part of its geometry and stays).
        flip_probability: of mirroring left to right, and again of mirroring front to back.
    """

    scale: tuple[float, float] = (0.9, 1.1)
    tilt_rad: float = float(np.pi / 32)
    centre: bool = False
    flip_probability: float = 0.5


def random_cloud_transform(rng: np.random.Generator, how: CloudAugmentation) -> Array:
    """(4, 4) similarity: tilt, any yaw, mirroring, scale. Not rigid: never a sensor transform."""
    linear = rotation_rpy(
        rng.uniform(-how.tilt_rad, how.tilt_rad),
        rng.uniform(-how.tilt_rad, how.tilt_rad),
        rng.uniform(-np.pi, np.pi),
    )
    for axis in (0, 1):
        if rng.random() < how.flip_probability:
            linear[:, axis] *= -1
    T = np.eye(4)
    T[:3, :3] = linear * rng.uniform(*how.scale)
    return T


def augment_cloud(
    cloud: PointCloud, rng: np.random.Generator, how: CloudAugmentation | None = None
) -> PointCloud:
    """The cloud moved, mirrored and scaled; rows keep their order, so point indices stay valid."""
    how = how or CloudAugmentation()
    T = random_cloud_transform(rng, how)
    finite = cloud.finite()
    if how.centre and finite.any():
        T[:3, 3] = -T[:3, :3] @ cloud.xyz[finite].mean(axis=0, dtype=np.float64)
    xyz = cloud.xyz.astype(np.float64) @ T[:3, :3].T + T[:3, 3]
    return replace(cloud, xyz=xyz.astype(np.float32))
