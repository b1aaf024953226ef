"""Frames refuse arrays that do not fit together."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.errors import FrameError, GeometryError
from condense_ros.frame import CameraImage, Frame, PointCloud, calibration_id
from condense_ros.geometry import CameraModel, rotation_rpy, se3

K = np.array([[100.0, 0, 31.5], [0, 100, 23.5], [0, 0, 1]])


def image(name: str = "front", **changes: object) -> CameraImage:
    values: dict = {
        "stamp_ns": 5,
        "pixels": np.zeros((48, 64, 3), np.uint8),
        "camera": CameraModel(K, 64, 48),
        "T_cam_lidar": se3(rotation_rpy(0.1, 0.2, 0.3), (1, 2, 3)),
        **changes,
    }
    return CameraImage(name, **values)


def test_cloud_columns_are_converted_and_checked() -> None:
    cloud = PointCloud(np.zeros((3, 3)), ring=[1, 2, 3], intensity=[1, 2, 3])
    assert cloud.xyz.dtype == np.float32
    assert cloud.ring is not None
    assert cloud.ring.dtype == np.uint16
    with pytest.raises(FrameError, match="ring"):
        PointCloud(np.zeros((3, 3)), ring=np.zeros(2))
    with pytest.raises(FrameError, match=r"\(3, 4\)"):
        PointCloud(np.zeros((3, 4)))


def test_select_keeps_every_column() -> None:
    xyz = np.arange(12.0).reshape(4, 3)
    xyz[2] = np.nan
    cloud = PointCloud(xyz, intensity=np.arange(4), time_s=np.arange(4) / 10, frame_id="top")
    kept = cloud.select(cloud.finite())
    assert len(kept) == 3
    np.testing.assert_array_equal(kept.intensity, [0, 1, 3])
    np.testing.assert_allclose(kept.time_s, [0, 0.1, 0.3])
    assert kept.ring is None
    assert kept.frame_id == "top"
    np.testing.assert_array_equal(cloud.select(np.array([3, 0])).intensity, [3, 0])


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels": np.zeros((48, 64), np.uint8)},
        {"pixels": np.zeros((48, 64, 3), np.float32)},
        {"pixels": np.zeros((64, 48, 3), np.uint8)},
        {"depth": np.zeros((24, 32), np.float32)},
        {"depth": np.zeros((48, 64), np.uint16)},
    ],
)
def test_images_that_do_not_fit_their_camera_are_refused(changes: dict) -> None:
    with pytest.raises(FrameError, match="front"):
        image(**changes)


def test_extrinsics_must_be_rigid_and_are_named() -> None:
    with pytest.raises(GeometryError, match="T_cam_lidar of 'front'"):
        image(T_cam_lidar=np.zeros((4, 4)))
    with pytest.raises(GeometryError, match="ego_motion of 'front'"):
        image(ego_motion=np.full((4, 4), np.nan))


def test_cloud_to_camera_goes_through_the_ego_motion() -> None:
    motion = se3(rotation_rpy(0, 0, 0.1), (0.5, 0, 0))
    moving = image(ego_motion=motion)
    np.testing.assert_allclose(moving.T_cam_cloud, moving.T_cam_lidar @ motion)
    np.testing.assert_array_equal(image().T_cam_cloud, image().T_cam_lidar)


def test_frames_check_names_labels_and_pose() -> None:
    cloud = PointCloud(np.zeros((3, 3)))
    with pytest.raises(FrameError, match="share a name"):
        Frame(0, cloud, (image(), image()))
    with pytest.raises(FrameError, match="labels"):
        Frame(0, cloud, labels=np.zeros(2, np.uint8))
    with pytest.raises(FrameError, match="labels"):
        Frame(0, cloud, labels=np.full(3, -1, np.int64))
    with pytest.raises(GeometryError, match="T_world_lidar"):
        Frame(0, cloud, T_world_lidar=np.ones((4, 4)))


def test_calibration_id_sees_calibration_and_nothing_else() -> None:
    base = calibration_id((image("a"), image("b")))
    assert len(base) == 12
    assert calibration_id((image("b"), image("a"))) == base
    assert calibration_id((image("a", stamp_ns=9), image("b"))) == base
    T = image().T_cam_lidar
    assert calibration_id((image("a", T_cam_lidar=T + 1e-13), image("b"))) == base
    changed = T.copy()
    changed[0, 3] += 1e-6
    K2 = K.copy()
    K2[0, 0] += 1e-3
    others = [
        (image("a", T_cam_lidar=changed), image("b")),
        (image("a", camera=CameraModel(K2, 64, 48)), image("b")),
        (image("a", camera=CameraModel(K, 64, 48, np.array([0.1, 0, 0, 0]))), image("b")),
        (image("a", camera=CameraModel(K, 64, 48, model="fisheye")), image("b")),
        (image("a"),),
        (image("a"), image("c")),
    ]
    assert len({base, *map(calibration_id, others)}) == len(others) + 1
