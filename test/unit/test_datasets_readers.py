"""Readers: layouts, poses, stamps and what they refuse, on small folders and on real data."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense_ros.datasets import Box3D, Dataset, open_dataset
from condense_ros.datasets.base import leave_out_damaged_images
from condense_ros.datasets.clouds import CloudFolder
from condense_ros.datasets.kitti import KittiSequence
from condense_ros.datasets.kitti_object import KittiObject
from condense_ros.datasets.rgbd import RgbdSequence
from condense_ros.errors import CalibrationMissing, CondenseError, DatasetError, GeometryError
from condense_ros.geometry import (
    R_OPTICAL_BODY,
    inverse,
    project_cloud,
    rotation_rpy,
    se3,
    transform,
)

K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
T_CAM0_LIDAR = se3(R_OPTICAL_BODY @ rotation_rpy(0.01, -0.02, 0.03), (0.1, -0.2, -0.3))
BASELINE = np.array([0.06, -0.001, 0.005])


def numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(v)) for v in np.ravel(values))


@pytest.fixture
def drive(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A KITTI drive of scans 0, 2, 4 with images, odometry style calibration and camera poses."""
    folder = tmp_path / "drive"
    for name in ("velodyne", "image_2"):
        (folder / name).mkdir(parents=True)
    for number in (0, 2, 4):
        rng.normal(size=(20, 4)).astype("<f4").tofile(folder / "velodyne" / f"{number:06d}.bin")
        pixels = np.full((48, 64, 3), number, np.uint8)
        Image.fromarray(pixels).save(folder / "image_2" / f"{number:06d}.png")
    P2 = np.c_[K, K @ BASELINE]
    (folder / "calib.txt").write_text(f"P2: {numbers(P2)}\nTr: {numbers(T_CAM0_LIDAR[:3])}\n")
    poses = [se3(np.eye(3), (0, 0, 1.5 * i)) for i in range(5)]  # camera 0 drives along its z
    (folder / "poses.txt").write_text("\n".join(numbers(T[:3]) for T in poses))
    return folder


def test_kitti_odometry_layout(drive: Path) -> None:
    dataset = open_dataset(drive)
    assert isinstance(dataset, KittiSequence)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 3
    assert dataset.period_s == pytest.approx(0.2)
    frames = list(dataset)  # type: ignore[call-overload]
    assert [f.stamp_ns - frames[0].stamp_ns for f in frames] == [0, 200_000_000, 400_000_000]
    assert [f.images[0].pixels[0, 0, 0] for f in frames] == [0, 2, 4]
    assert [f.index for f in frames] == [0, 1, 2]
    np.testing.assert_allclose(
        frames[0].images[0].T_cam_lidar, se3(np.eye(3), BASELINE) @ T_CAM0_LIDAR, atol=1e-9
    )
    # rows 0, 2, 4 of the poses; of the lidar, which moves forward as the camera does
    step = inverse(frames[0].T_world_lidar) @ frames[1].T_world_lidar
    np.testing.assert_allclose(
        step, inverse(T_CAM0_LIDAR) @ se3(np.eye(3), (0, 0, 3)) @ T_CAM0_LIDAR, atol=1e-9
    )
    assert step[0, 3] > 2.9
    np.testing.assert_array_equal(dataset.poses[2], frames[2].T_world_lidar)
    assert dataset[-1].index == 2
    with pytest.raises(IndexError):
        dataset[3]


def test_kitti_without_camera_has_clouds_and_lidar_poses(drive: Path) -> None:
    shutil.rmtree(drive / "image_2")
    (drive / "calib.txt").unlink()
    with pytest.raises(CalibrationMissing, match=r"poses\.txt"):
        open_dataset(drive)
    (drive / "poses.txt").rename(drive / "poses_lidar.txt")
    frame = open_dataset(drive)[2]
    assert frame.images == ()
    np.testing.assert_allclose(frame.T_world_lidar[:3, 3], (0, 0, 6))


def break_calibration(drive: Path, text: str) -> None:
    (drive / "calib.txt").write_text(text)


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", CalibrationMissing, "P2"),
        ("P2: 1 2 3\n", DatasetError, "P2 .*3 numbers"),
        (f"P2: {numbers(np.c_[K, BASELINE])}\n", CalibrationMissing, "Tr_velo_to_cam"),
        (
            f"P2: {numbers(np.c_[K, BASELINE])}\nTr: {numbers(np.ones((3, 4)))}\n",
            GeometryError,
            "not a rigid motion",
        ),
        (
            f"P2: {numbers(np.c_[K, BASELINE])}\nTr_velo_to_cam: {numbers(T_CAM0_LIDAR[:3])}\n",
            CalibrationMissing,
            "R0_rect",
        ),
        (
            f"P2: {numbers(np.zeros((3, 4)))}\nTr: {numbers(T_CAM0_LIDAR[:3])}\n",
            GeometryError,
            "singular",
        ),
        ("P2: x y z\n", CalibrationMissing, "P2"),
    ],
)
def test_kitti_calibration_is_never_guessed(
    drive: Path, text: str, error: type[CondenseError], match: str
) -> None:
    break_calibration(drive, text)
    with pytest.raises(error, match=match):
        open_dataset(drive)


def test_kitti_damage_is_named(drive: Path) -> None:
    dataset = open_dataset(drive)
    scan = drive / "velodyne" / "000002.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r"000002\.bin"):
        dataset[1]
    image = drive / "image_2" / "000004.png"
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"000004\.png"):
        dataset[2]
    (drive / "poses.txt").write_text(numbers(np.eye(4)[:3]))
    with pytest.raises(DatasetError, match="1 poses for 3 scans"):
        open_dataset(drive)
    (drive / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(DatasetError, match="12 numbers"):
        open_dataset(drive)
    (drive / "calib.txt").unlink()
    with pytest.raises(CalibrationMissing, match=r"calib\.txt"):
        open_dataset(drive)


def test_pairs_without_image_are_left_out(drive: Path) -> None:
    (drive / "image_2" / "000002.png").unlink()
    dataset = open_dataset(drive)
    assert len(dataset) == 2
    assert dataset.period_s == pytest.approx(0.4)


def test_box_contains_its_corners_and_moves() -> None:
    pose = se3(rotation_rpy(0, 0, np.pi / 2), (10, 5, 1))
    box = Box3D("car", pose, np.array([4.0, 2.0, 1.5]))
    # turned by a quarter: 4 m along y, 2 m along x
    inside = box.contains(np.array([[10.9, 6.9, 1.7], [11.1, 5, 1], [10, 7.1, 1], [10, 5, 1.76]]))
    assert inside.tolist() == [True, False, False, False]
    assert np.ptp(box.corners(), axis=0) == pytest.approx([2, 4, 1.5])
    T = se3(rotation_rpy(0.1, 0.2, 0.3), (1, 2, 3))
    np.testing.assert_allclose(box.moved(T).corners(), transform(T, box.corners()), atol=1e-12)
    with pytest.raises(GeometryError, match="car"):
        box.moved(np.zeros((4, 4)))


def test_kitti_object_reads_a_label_by_hand(tmp_path: Path, drive: Path) -> None:
    folder = tmp_path / "object"
    shutil.copytree(drive / "velodyne", folder / "velodyne")
    shutil.copytree(drive / "image_2", folder / "image_2")
    for name in ("calib", "label_2"):
        (folder / name).mkdir()
    rows = {"P2": np.c_[K, K @ BASELINE], "R0_rect": np.eye(3), "Tr_velo_to_cam": T_CAM0_LIDAR[:3]}
    text = "".join(f"{name}: {numbers(values)}\n" for name, values in rows.items())
    for stem in ("000000", "000002", "000004"):
        (folder / "calib" / f"{stem}.txt").write_text(text)
    (folder / "label_2" / "000000.txt").write_text(
        "DontCare -1 -1 -10 0 0 1 1 -1 -1 -1 -1000 -1000 -1000 -10\n"
        "Car 0.00 0 1.5 0 0 10 10 1.5 1.8 4.0 2.0 1.6 20.0 0.0\n"
    )
    dataset = open_dataset(folder)
    assert isinstance(dataset, KittiObject)
    (box,) = dataset.camera_boxes(0)
    # camera 0: 4 m along x, 1.5 m up from y = 1.6, 1.8 m along z; then the baseline to camera 2
    low, high = box.corners().min(axis=0) - BASELINE, box.corners().max(axis=0) - BASELINE
    np.testing.assert_allclose(low, (0, 0.1, 19.1), atol=1e-9)
    np.testing.assert_allclose(high, (4, 1.6, 20.9), atol=1e-9)
    centre = dataset.boxes(0)[0].T_frame_box[:3, 3]
    expected = transform(inverse(T_CAM0_LIDAR), np.array([[2, 0.85, 20.0]]))[0]
    np.testing.assert_allclose(centre, expected, atol=1e-9)
    with pytest.raises(DatasetError, match="label_2"):
        dataset.boxes(1)
    (folder / "label_2" / "000002.txt").write_text("Car 0 0 0\n")
    with pytest.raises(DatasetError, match="line 1"):
        dataset.boxes(1)
    (folder / "calib" / "000004.txt").unlink()
    with pytest.raises(DatasetError, match=r"000004\.txt"):
        open_dataset(folder)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "scene"
    folder.mkdir()
    np.savetxt(folder / "camera-intrinsics.txt", K)
    for number in (0, 3):
        stem = folder / f"frame-{number:06d}"
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(f"{stem}.color.png")
        depth = np.full((48, 64), 2000, np.uint16)
        depth[0, 0], depth[0, 1] = 0, 65535
        Image.fromarray(depth).save(f"{stem}.depth.png")
        np.savetxt(f"{stem}.pose.txt", se3(np.eye(3), (0.5 * number, 0, 1)))
    return folder


def test_rgbd_axes_depth_and_poses(scene: Path) -> None:
    dataset = open_dataset(scene)
    assert isinstance(dataset, RgbdSequence)
    assert dataset.period_s == pytest.approx(0.1)
    frame = dataset[1]
    assert len(frame.cloud) == 48 * 64 - 2  # neither 0 nor 65535 is a measurement
    np.testing.assert_allclose(frame.cloud.xyz[:, 0], 2.0)  # a wall ahead, along x
    assert frame.images[0].depth is not None
    assert frame.images[0].depth[0, :3].tolist() == [0, 0, 2]
    # the top left of the image is left and up
    assert (frame.cloud.xyz[0, 1:] > 0).all()
    # 1.5 m to the camera's right and 1 m ahead
    np.testing.assert_allclose(frame.T_world_lidar, se3(np.eye(3), (1, -1.5, 0)), atol=1e-12)
    image = frame.images[0]
    seen = project_cloud(frame.cloud.xyz, image.T_cam_cloud, image.camera)
    assert len(seen.index) == len(frame.cloud)
    assert any("registered" in note for note in frame.notes)


def test_rgbd_damage_is_named(scene: Path) -> None:
    dataset = open_dataset(scene)
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(scene / "frame-000000.depth.png")
    with pytest.raises(DatasetError, match="16-bit"):
        dataset[0]
    Image.fromarray(np.zeros((24, 32), np.uint16)).save(scene / "frame-000000.depth.png")
    with pytest.raises(DatasetError, match="frame 0"):
        dataset[0]
    (scene / "frame-000003.pose.txt").unlink()
    with pytest.raises(DatasetError, match=r"frame-000003\.pose\.txt"):
        open_dataset(scene)
    (scene / "camera-intrinsics.txt").unlink()
    with pytest.raises(CalibrationMissing, match="intrinsics"):
        open_dataset(scene)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"metainfo": {}, "data_list": [{}]}'])
def test_damaged_nuscenes_samples_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sample.json").write_text(text)
    with pytest.raises(DatasetError, match=r"sample\.json"):
        open_dataset(tmp_path)


def test_nuscenes_sample_with_a_missing_camera_entry(tmp_path: Path, data_dir: Path) -> None:
    source = data_dir / "nuscenes_frame"
    content = json.loads((source / "sample.json").read_text())
    for path in source.glob("n015*"):
        (tmp_path / path.name).symlink_to(path)
    del content["data_list"][0]["images"]["CAM_BACK"]["cam2ego"]
    (tmp_path / "sample.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="cam2ego"):
        open_dataset(tmp_path)[0]


def test_a_damaged_nuscenes_image_can_be_left_out(tmp_path: Path, data_dir: Path) -> None:
    for path in (data_dir / "nuscenes_frame").iterdir():
        (tmp_path / path.name).symlink_to(path)
    dataset = open_dataset(tmp_path)
    whole = dataset[0]
    (cut,) = tmp_path.glob("*CAM_BACK__*.jpg")
    content = cut.read_bytes()
    cut.unlink()
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match="CAM_BACK"):
        dataset[0]
    told = []
    with leave_out_damaged_images(lambda camera, error: told.append(camera)):
        frame = dataset[0]
    assert told == ["CAM_BACK"]
    names = [image.name for image in whole.images if image.name != "CAM_BACK"]
    assert [image.name for image in frame.images] == names


REAL = {
    "kitti_object3": ("KittiObject", 3, 1, False),
    "kitti_jam_camlidar": ("KittiSequence", 20, 1, True),
    "kitti_city_seq": ("KittiSequence", 26, 0, True),
    "nuscenes_frame": ("NuScenesSample", 1, 6, True),
    "7scenes_kitchen_dev": ("RgbdSequence", 250, 1, True),
    "av2_val_log": ("ArgoverseLog", 2, 0, True),
    "nebula_ros2bags/40p": ("CloudFolder", 1, 0, False),
}


@pytest.mark.parametrize("folder", REAL)
def test_real_folders_are_recognised_and_read(folder: str, data_dir: Path) -> None:
    kind, length, images, has_poses = REAL[folder]
    dataset = open_dataset(data_dir / folder)
    assert isinstance(dataset, Dataset)
    assert type(dataset).__name__ == kind
    assert len(dataset) == length
    assert (dataset.poses is not None) == has_poses
    for index in (0, length - 1):
        frame = dataset[index]
        assert (frame.sequence, frame.index) == (dataset.name, index)
        assert len(frame.images) == images
        assert len(frame.cloud) > 10_000
        assert frame.stamp_ns > 0
        assert (frame.T_world_lidar is not None) == has_poses
        assert frame.notes


def test_city_sequence_drives_forward_by_its_poses(data_dir: Path) -> None:
    poses = open_dataset(data_dir / "kitti_city_seq").poses
    assert poses is not None
    steps = [inverse(a) @ b for a, b in itertools.pairwise(poses)]
    assert sum(np.linalg.norm(T[:3, 3]) for T in steps) == pytest.approx(69.4, abs=0.1)
    assert all(T[0, 3] > -0.1 for T in steps)


def test_one_cloud_file_is_a_data_set(drive: Path) -> None:
    dataset = open_dataset(drive / "velodyne" / "000002.bin")
    assert isinstance(dataset, CloudFolder)
    assert len(dataset[0].cloud) == 20
