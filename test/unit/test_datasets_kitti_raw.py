"""KITTI's raw layout: calibration files of the day, drives below it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from condense_ros.datasets import open_dataset
from condense_ros.datasets.kitti import read_raw_calibration
from condense_ros.errors import CalibrationMissing, DatasetError
from condense_ros.geometry import project_cloud, rotation_rpy

CAM_TO_CAM = """calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
S_00: 1.392000e+03 5.120000e+02
K_00: 9.0e+02 0 6.0e+02 0 9.0e+02 2.0e+02 0 0 1
R_rect_00: 1 0 0 0 0.6 -0.8 0 0.8 0.6
P_rect_00: 50 0 31.5 0 0 50 23.5 0 0 0 1 0
S_rect_02: 64 48
R_rect_02: 1 0 0 0 1 0 0 0 1
P_rect_02: 50 0 31.5 3 0 50 23.5 -1 0 0 1 0
"""
# x forward, y left, z up into x right, y down, z forward; the camera 0.5 m ahead of the lidar
VELO_TO_CAM = """calib_time: 15-Mar-2012 11:37:16
R: 0 -1 0 0 0 -1 1 0 0
T: 0.01 -0.08 -0.5
delta_f: 0 0
delta_c: 0 0
"""
IMU_TO_VELO = """calib_time: 25-May-2012 16:47:16
R: 1 0 0 0 1 0 0 0 1
T: -0.8 0.3 -0.8
"""


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    day = tmp_path / "2011_09_26"
    folder = day / "2011_09_26_drive_0001_sync"
    for part in ("velodyne_points/data", "image_02/data"):
        (folder / part).mkdir(parents=True)
    for number in range(2):
        points = np.array([[5.0, 0, 0, 0.5], [8, 1, 0.5, 0.25]], "<f4") + number
        points.tofile(folder / "velodyne_points" / "data" / f"{number:010d}.bin")
        cv2.imwrite(
            str(folder / "image_02" / "data" / f"{number:010d}.png"),
            np.full((48, 64, 3), number, np.uint8),
        )
    (day / "calib_cam_to_cam.txt").write_text(CAM_TO_CAM)
    (day / "calib_velo_to_cam.txt").write_text(VELO_TO_CAM)
    return folder


def test_a_point_lands_in_the_pixel_worked_out_by_hand(drive: Path) -> None:
    data = open_dataset(drive)
    assert (data.name, len(data)) == ("2011_09_26_drive_0001_sync", 2)
    frame = data[0]
    image = frame.images[0]
    # (5, 0, 0): R gives (0, 0, 5), T (0.01, -0.08, 4.5)
    unrectified = np.array([0.01, -0.08, 4.5])
    # R_rect_00 turns it: y 0.6 * -0.08 - 0.8 * 4.5 = -3.648, z 0.8 * -0.08 + 0.6 * 4.5 = 2.636
    x, y, z = 0.01, -3.648, 2.636
    # P_rect_02: its last column moves by (3, -1) / z pixels
    expected = (50 * x + 31.5 * z + 3) / z, (50 * y + 23.5 * z - 1) / z
    point = image.T_cam_lidar @ (5, 0, 0, 1)
    uv = image.camera.project(point[None, :3])[0][0]
    np.testing.assert_allclose(uv, expected, atol=1e-9)
    np.testing.assert_allclose(
        [[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]] @ unrectified, (x, y, z), atol=1e-12
    )
    assert len(project_cloud(frame.cloud.xyz, image.T_cam_cloud, image.camera).index) <= 2


def test_the_files_may_lie_in_the_drive_and_the_imu_is_optional(drive: Path) -> None:
    assert open_dataset(drive).T_base_lidar is None
    (drive.parent / "calib_imu_to_velo.txt").write_text(IMU_TO_VELO)
    T_base_lidar = open_dataset(drive).T_base_lidar
    assert T_base_lidar is not None
    np.testing.assert_allclose(T_base_lidar[:3, 3], [0.8, -0.3, 0.8])
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        (drive.parent / name).rename(drive / name)
    np.testing.assert_array_equal(
        open_dataset(drive)[0].images[0].T_cam_lidar, read_raw_calibration(drive).T_cam_lidar
    )


def test_what_is_missing_or_wrong_is_named(drive: Path) -> None:
    day = drive.parent
    (day / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(CalibrationMissing, match=r"calib_velo_to_cam\.txt is missing"):
        open_dataset(drive)
    (day / "calib_velo_to_cam.txt").write_text("R: 1 0 0\nT: 0 0 0\n")
    with pytest.raises(DatasetError, match=r"R in .* has 3 numbers"):
        open_dataset(drive)
    (day / "calib_velo_to_cam.txt").write_text(VELO_TO_CAM.replace("T:", "U:"))
    with pytest.raises(CalibrationMissing, match="has none of T"):
        open_dataset(drive)
    (day / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(CalibrationMissing, match=r"nor calib_cam_to_cam\.txt"):
        open_dataset(drive)


def test_a_rotation_that_is_none_is_refused(drive: Path) -> None:
    from condense_ros.errors import GeometryError

    skewed = " ".join(map(str, (rotation_rpy(0.1, 0, 0) * 1.2).ravel()))
    (drive.parent / "calib_velo_to_cam.txt").write_text(f"R: {skewed}\nT: 0 0 0\n")
    with pytest.raises(GeometryError, match=r"R and T in .*calib_velo_to_cam\.txt"):
        open_dataset(drive)
