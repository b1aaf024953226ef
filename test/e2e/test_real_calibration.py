"""Extrinsics on real data, checked against what others measured: annotated boxes and poses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from condense_ros.datasets import open_dataset
from condense_ros.datasets.argoverse import ArgoverseLog
from condense_ros.datasets.kitti_object import KittiObject
from condense_ros.datasets.nuscenes import NuScenesSample
from condense_ros.draw import draw_overlay
from condense_ros.geometry import (
    Array,
    inverse,
    pose_error,
    project_cloud,
    rotation_rpy,
    se3,
    transform,
)

#: points inside the labelled boxes of the three frames, in file order
KITTI_POINTS = [376, 70, 9, 18, 1351, 67]


def _points_in_boxes(dataset: KittiObject, turn: Array) -> list[int]:
    """Boxes go from the camera, where they were drawn, to the lidar frame by the extrinsics."""
    counts = []
    for i in range(len(dataset)):
        frame = dataset[i]
        T_lidar_cam = inverse(turn @ frame.images[0].T_cam_lidar)
        for box in dataset.camera_boxes(i):
            counts.append(int(box.moved(T_lidar_cam).contains(frame.cloud.xyz).sum()))
    return counts


def _agrees(counts: list[int]) -> bool:
    return bool(np.abs(np.subtract(counts, KITTI_POINTS)).max() <= 2)


@pytest.fixture(scope="module")
def kitti(data_dir: Path) -> KittiObject:
    dataset = open_dataset(data_dir / "kitti_object3")
    assert isinstance(dataset, KittiObject)
    return dataset


def test_kitti_boxes_hold_the_points_they_should(kitti: KittiObject) -> None:
    counts = _points_in_boxes(kitti, np.eye(4))
    assert _agrees(counts), counts
    direct = [int(b.contains(kitti[i].cloud.xyz).sum()) for i in range(3) for b in kitti.boxes(i)]
    assert direct == counts


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [2.0, -2.0])
def test_turning_the_extrinsics_by_two_degrees_is_noticed(
    kitti: KittiObject, axis: int, degrees: float
) -> None:
    angles = np.zeros(3)
    angles[axis] = np.radians(degrees)
    assert not _agrees(_points_in_boxes(kitti, se3(rotation_rpy(*angles), np.zeros(3))))


def test_kitti_projection_is_the_product_of_its_own_matrices(
    kitti: KittiObject, data_dir: Path
) -> None:
    for i in range(3):
        text = (data_dir / "kitti_object3" / "calib" / f"{i:06d}.txt").read_text()
        rows = {
            line.split(":")[0]: np.array(line.split(":")[1].split(), float)
            for line in text.splitlines()
            if ":" in line
        }
        R0 = np.eye(4)
        R0[:3, :3] = rows["R0_rect"].reshape(3, 3)
        chain = rows["P2"].reshape(3, 4) @ R0
        chain = chain @ np.vstack([rows["Tr_velo_to_cam"].reshape(3, 4), [0, 0, 0, 1]])
        frame = kitti[i]
        image = frame.images[0]
        seen = project_cloud(frame.cloud.xyz, image.T_cam_lidar, image.camera, depth_test=False)
        points = np.c_[frame.cloud.xyz[seen.index].astype(np.float64), np.ones(len(seen.index))]
        expected = points @ chain.T
        assert len(seen.index) > 15_000
        assert np.abs(expected[:, :2] / expected[:, 2:] - seen.uv).max() < 1e-6


def test_kitti_points_of_a_box_fall_into_its_image_rectangle(
    kitti: KittiObject, data_dir: Path
) -> None:
    for i in range(3):
        frame = kitti[i]
        image = frame.images[0]
        lines = (data_dir / "kitti_object3" / "label_2" / f"{i:06d}.txt").read_text().splitlines()
        rectangles = [
            np.array(x.split()[4:8], float) for x in lines if not x.startswith("DontCare")
        ]
        for box, (left, top, right, bottom) in zip(kitti.boxes(i), rectangles, strict=True):
            xyz = frame.cloud.xyz[box.contains(frame.cloud.xyz)]
            u, v = project_cloud(xyz, image.T_cam_lidar, image.camera, depth_test=False).uv.T
            inside = (u > left - 2) & (u < right + 2) & (v > top - 2) & (v < bottom + 2)
            assert inside.mean() > 0.97, box.name


@pytest.fixture(scope="module")
def nuscenes(data_dir: Path) -> NuScenesSample:
    dataset = open_dataset(data_dir / "nuscenes_frame")
    assert isinstance(dataset, NuScenesSample)
    return dataset


def test_nuscenes_boxes_hold_the_points_the_annotators_counted(nuscenes: NuScenesSample) -> None:
    xyz = nuscenes[0].cloud.xyz
    boxes = nuscenes.boxes(0)
    counted = np.array([box.points for box in boxes])
    found = np.array([box.contains(xyz).sum() for box in boxes])
    assert len(boxes) == 69
    assert (np.abs(found - counted) <= 2).sum() >= 67
    assert (np.abs(found - counted) <= np.maximum(2, 0.11 * counted)).all()
    turn = se3(rotation_rpy(0, 0, np.radians(2)), np.zeros(3))
    turned = np.array([box.moved(turn).contains(xyz).sum() for box in boxes])
    assert (np.abs(turned - counted) <= 2).sum() < 60


def test_nuscenes_cameras_see_box_centres_where_the_file_says(
    nuscenes: NuScenesSample, data_dir: Path
) -> None:
    """The file went through both ego poses, we go through mounting and ego motion."""
    sample = json.loads((data_dir / "nuscenes_frame" / "sample.json").read_text())["data_list"][0]
    centres = np.array([box.T_frame_box[:3, 3] for box in nuscenes.boxes(0)])
    errors, without_motion = [], []
    for image in nuscenes[0].images:
        for instance in sample["cam_instances"][image.name]:
            for T, into in ((image.T_cam_cloud, errors), (image.T_cam_lidar, without_motion)):
                uv = image.camera.project(transform(T, centres))[0]
                into.append(np.linalg.norm(uv - instance["center_2d"], axis=1).min())
    assert len(errors) == 84
    assert max(errors) < 1e-3
    assert np.median(without_motion) > 0.5


def test_nuscenes_ego_motion_is_that_of_a_driving_car(nuscenes: NuScenesSample) -> None:
    frame = nuscenes[0]
    for image in frame.images:
        assert image.ego_motion is not None
        seconds = (frame.stamp_ns - image.stamp_ns) * 1e-9
        # the image was taken earlier, further back: points then lay further ahead
        forward = image.ego_motion[0, 3]
        assert 0 < seconds < 0.05
        assert forward / seconds == pytest.approx(9.0, abs=1.5)
        assert abs(image.ego_motion[1, 3]) < 0.05


def test_nuscenes_rig_looks_in_all_directions(nuscenes: NuScenesSample) -> None:
    frame = nuscenes[0]
    seen_by = np.zeros(len(frame.cloud), int)
    for image in frame.images:
        rows = project_cloud(frame.cloud.xyz, image.T_cam_cloud, image.camera).index
        assert len(rows) > 2500, image.name
        seen_by[rows] += 1
    assert seen_by.max() == 2  # neighbours overlap, never three
    assert 0.02 < (seen_by == 2).sum() / (seen_by > 0).sum() < 0.2
    yaw = {
        i.name: np.degrees(np.arctan2(i.T_cam_lidar[2, 1], i.T_cam_lidar[2, 0]))
        for i in frame.images
    }
    assert yaw["CAM_FRONT"] == pytest.approx(0, abs=2)
    assert yaw["CAM_FRONT_LEFT"] == pytest.approx(55, abs=3)
    assert yaw["CAM_BACK_RIGHT"] == pytest.approx(-110, abs=3)
    assert nuscenes.T_base_lidar is not None
    assert pose_error(nuscenes.T_base_lidar, se3(np.eye(3), (0.94, 0, 1.84)))[0] < 0.01


@pytest.mark.parametrize(("first", "second"), [(0, 10), (50, 60), (100, 120), (200, 210)])
def test_depth_of_one_frame_lands_on_the_depth_of_another(
    first: int, second: int, data_dir: Path
) -> None:
    """Poses, intrinsics, depth scale and axes of 7-Scenes at once; no frame of its own is used."""
    dataset = open_dataset(data_dir / "7scenes_kitchen_dev")
    one, two = dataset[first], dataset[second]
    assert one.T_world_lidar is not None
    assert two.T_world_lidar is not None
    image = two.images[0]
    assert image.depth is not None

    def disagreement(error: Array) -> float:
        T = image.T_cam_lidar @ inverse(two.T_world_lidar) @ one.T_world_lidar @ error
        seen = project_cloud(one.cloud.xyz[::7], T, image.camera, depth_test=False)
        u, v = np.rint(seen.uv).astype(int).T
        measured = image.depth[v, u]
        return float(np.median(np.abs(measured - seen.depth)[measured > 0]))

    right = disagreement(np.eye(4))
    assert right < 0.02
    assert disagreement(se3(rotation_rpy(0, 0, np.radians(2)), np.zeros(3))) > 1.8 * right


def test_argoverse_boxes_hold_the_points_and_classes_they_should(data_dir: Path) -> None:
    dataset = open_dataset(data_dir / "av2_val_log")
    assert isinstance(dataset, ArgoverseLog)
    frame = dataset[0]
    assert frame.labels is not None
    assert dataset.classes is not None
    for box in dataset.boxes(0):
        inside = box.contains(frame.cloud.xyz)
        assert inside.sum() == box.points
        if inside.sum() > 30:
            names = [dataset.classes.names[k] for k in frame.labels[inside]]
            assert max(set(names), key=names.count) == box.name


@pytest.mark.parametrize(
    ("folder", "camera"),
    [
        *(("kitti_object3", "image_2"), ("kitti_jam_camlidar", "image_02")),
        *(("nuscenes_frame", None), ("7scenes_kitchen_dev", "color")),
    ],
)
def test_overlays_of_real_data_are_drawn(
    folder: str, camera: str | None, data_dir: Path, tmp_path: Path
) -> None:
    path = draw_overlay(open_dataset(data_dir / folder)[0], camera, tmp_path / "overlay.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 100_000
    assert list(tmp_path.iterdir()) == [path]
