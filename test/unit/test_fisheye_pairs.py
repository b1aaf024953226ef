"""Training pairs of a fisheye camera: points beside and behind it keep their pixels."""

from __future__ import annotations

import numpy as np

from condense_ros.frame import CameraImage, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, se3
from condense_training.pairs import within_view

AROUND = np.radians(np.arange(-175.0, 180.0, 10.0))


def ring(camera: CameraModel, margin_deg: float = 0.0) -> np.ndarray:
    """Bearings in degrees, left positive, of the points of a circle that are in the view."""
    xyz = np.stack([10 * np.cos(AROUND), 10 * np.sin(AROUND), 0 * AROUND], axis=1)
    pixels = np.zeros((camera.height, camera.width, 3), np.uint8)
    image = CameraImage("a", 0, pixels, camera, se3(R_OPTICAL_BODY, np.zeros(3)))
    seen = within_view(PointCloud(xyz.astype(np.float32)), image, margin_deg)
    return np.round(np.degrees(AROUND[seen]))


def camera(width: int, model: str) -> CameraModel:
    K = np.array([[60.0, 0, (width - 1) / 2], [0, 60, 19.5], [0, 0, 1]])
    return CameraModel(K, width, 40, model=model)


def test_a_fisheye_keeps_what_lies_behind_its_plane() -> None:
    # 60 px per radian: 251 columns see 119 degrees to each side
    assert set(ring(camera(251, "fisheye"))) == set(np.arange(-115.0, 116.0, 10.0))
    # the whole turn, and a margin that leads past it
    assert len(ring(camera(377, "fisheye"), 10.0)) == len(AROUND)


def test_a_pinhole_is_as_before() -> None:
    # 120 px = 2 f: the border is arctan(59.5 / 60) = 44.8 degrees off
    assert set(ring(camera(120, "pinhole"))) == {-35.0, -25, -15, -5, 5, 15, 25, 35}
    assert set(ring(camera(120, "pinhole"), 1.0)) == set(np.arange(-45.0, 46, 10))
