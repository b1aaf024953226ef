"""Pairs over a rig and views of a frame (spec of OLIVINE, test 8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_scenes import small_drive

from condense_ros.datasets import open_dataset
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, rotation_rpy, se3, transform
from condense_training.augment import CloudAugmentation, augment_cloud
from condense_training.crops import Crop
from condense_training.pairs import point_pixel_pairs, rig_pairs
from condense_training.views import ViewAugmentation, random_views, whole_views

WIDTH, HEIGHT = 320, 180
#: small enough images and few enough pairs for a test, otherwise as published
HOW = ViewAugmentation(out_width_px=104, out_height_px=56, min_pairs=40)


def camera(model: str = "pinhole") -> CameraModel:
    K = np.array([[200.0, 0, 157.0], [0, 190, 91.5], [0, 0, 1]])
    return CameraModel(K, WIDTH, HEIGHT, model=model)


def rig_frame(rng: np.random.Generator, points: int = 3000, cameras: int = 3) -> Frame:
    """Random points around a rig of cameras that look ahead, left and right, some of them moving
    between the stamps; pixels tell their own place."""
    xyz = rng.uniform((-40, -40, -3), (40, 40, 6), size=(points, 3)).astype(np.float32)
    xyz[::97] = np.nan
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    images = []
    for i, yaw in enumerate((0.0, 1.2, -1.2)[:cameras]):
        pixels = np.stack([u % 256, v % 256, np.full_like(u, i)], axis=2).astype(np.uint8)
        mounting = se3(R_OPTICAL_BODY @ rotation_rpy(0, 0, -yaw), (0.1, 0.2, -0.1 * i))
        motion = se3(rotation_rpy(0, 0, 0.02), (-0.4, 0, 0)) if i else None
        images.append(CameraImage(f"cam{i}", 10 * i, pixels, camera(), mounting, motion))
    return Frame(0, PointCloud(xyz), tuple(images))


# pairs


def ahead(*xyz: tuple[float, float, float], model: str = "pinhole") -> Frame:
    """Points of the optical frame of one camera, seen by it."""
    points = np.array(xyz, np.float32) @ R_OPTICAL_BODY  # optical to body
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image = CameraImage("a", 0, pixels, camera(model), se3(R_OPTICAL_BODY, np.zeros(3)))
    return Frame(0, PointCloud(points), (image,))


def test_10_8_the_optical_axis_is_the_principal_point() -> None:
    pairs = rig_pairs(ahead((0, 0, 7)))
    np.testing.assert_allclose(pairs.uv, [[157.0, 91.5]], atol=1e-5)


@pytest.mark.parametrize("model", ["pinhole", "fisheye"])
def test_10_8_nearer_than_a_metre_is_dropped(model: str) -> None:
    frame = ahead((0, 0, 0.9), (0, 0, 1.1), (0, 0, -5), model=model)
    assert rig_pairs(frame, depth_test=False).point.tolist() == [1]
    assert rig_pairs(frame, depth_test=False, min_depth_m=0.5).point.tolist() == [0, 1]


def test_pairs_lie_within_the_outermost_centres() -> None:
    # at 10 m a pixel is 5 cm wide: just inside and just outside of column 0
    left = (0.0 - 157.0) / 200 * 10
    frame = ahead((left + 0.01, 0, 10), (left - 0.01, 0, 10))
    assert rig_pairs(frame).point.tolist() == [0]


def test_hidden_points_are_left_out_when_asked() -> None:
    wall = [(x, y, 5.0) for x in np.arange(-1, 1, 0.05) for y in np.arange(-1, 1, 0.05)]
    frame = ahead(*wall, (0, 0, 20))
    assert len(wall) in rig_pairs(frame, depth_test=False).point
    assert len(wall) not in rig_pairs(frame).point


def test_pairs_of_a_rig_are_those_of_its_cameras(rng) -> None:
    frame = rig_frame(rng)
    pairs = rig_pairs(frame, min_depth_m=0.0)
    for number, image in enumerate(frame.images):
        whole = Crop(0, 0, WIDTH, HEIGHT, WIDTH, HEIGHT)
        index, uv = point_pixel_pairs(frame.cloud, image, whole, margin_px=0.0)
        mine = pairs.image == number
        np.testing.assert_array_equal(pairs.point[mine], index)
        np.testing.assert_allclose(pairs.uv[mine], uv, atol=1e-9)
    assert pairs.counts(4).tolist()[3] == 0
    assert len(set(pairs.point)) < len(pairs)  # some are seen twice
    assert len(rig_pairs(replace(frame, images=()))) == 0


def test_poses_lead_from_the_cloud_to_the_image(rng) -> None:
    """Written out: lidar -> world at the cloud's stamp -> world at the image's stamp -> camera."""
    frame = rig_frame(rng, cameras=1)
    poses = {
        stamp: se3(rotation_rpy(0.01, -0.02, 0.3 + 0.1 * stamp), (3 + stamp, 1, 0.2))
        for stamp in (0, 5)
    }
    image = replace(frame.images[0], stamp_ns=5)
    moving = replace(frame, images=(image,))
    pairs = rig_pairs(moving, pose_at=poses.__getitem__)
    world = transform(poses[0], frame.cloud.xyz[pairs.point])
    later = (world - poses[5][:3, 3]) @ poses[5][:3, :3]
    uv, depth, inside = image.camera.project(transform(image.T_cam_lidar, later))
    assert inside.all()
    assert (depth > 1).all()
    np.testing.assert_allclose(pairs.uv, uv, atol=1e-9)
    assert not np.array_equal(rig_pairs(moving).point, pairs.point)  # it does matter
    # nobody is asked where nothing moved, or where the reader knows
    rig_pairs(frame, pose_at={}.__getitem__)
    known = replace(image, ego_motion=np.eye(4))
    still = rig_pairs(replace(frame, images=(known,)), pose_at={}.__getitem__)
    np.testing.assert_array_equal(still.point, rig_pairs(frame).point)


def test_exact_poses_say_what_the_simulated_reader_says(tmp_path) -> None:
    folder = SimulatedFolder(small_drive(tmp_path / "drive", frames=3))
    frame = folder[1]
    stripped = replace(
        frame,
        images=tuple(
            replace(image, ego_motion=None, stamp_ns=image.stamp_ns + 200_000_000)
            for image in frame.images
        ),
    )

    def pose_at(stamp_ns: int) -> np.ndarray:
        return folder.truth.base_poses([stamp_ns])[0] @ folder.T_base_lidar

    late = rig_pairs(stripped, pose_at=pose_at)
    for image in stripped.images:
        motion = np.linalg.inv(pose_at(image.stamp_ns)) @ pose_at(frame.stamp_ns)
        assert np.linalg.norm(motion[:3, 3]) > 0.05  # the robot drives
    known = replace(
        stripped,
        images=tuple(
            replace(
                image, ego_motion=np.linalg.inv(pose_at(image.stamp_ns)) @ pose_at(frame.stamp_ns)
            )
            for image in stripped.images
        ),
    )
    np.testing.assert_allclose(late.uv, rig_pairs(known).uv, atol=1e-6)


def test_six_cameras_of_a_real_frame(data_dir) -> None:
    frame = open_dataset(data_dir / "nuscenes_frame")[0]
    pairs = rig_pairs(frame)
    counts = pairs.counts(len(frame.images))
    assert len(counts) == 6
    assert (counts > 1000).all()
    assert all(image.ego_motion is not None for image in frame.images)


# views


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_10_8_views_keep_every_pair_true(seed: int) -> None:
    """Whatever is drawn: a pair is the same point at the same place of the image, and its label is
    the one it had. The inverse map returns the pixel."""
    rng = np.random.default_rng(seed)
    frame = rig_frame(rng, points=int(rng.integers(200, 3000)), cameras=int(rng.integers(1, 4)))
    pairs = rig_pairs(frame, depth_test=bool(rng.random() < 0.5))
    maps = rng.integers(0, 17, (len(frame.images), HEIGHT, WIDTH))
    column, row = np.rint(pairs.uv).astype(int).T
    labels = maps[pairs.image, row, column]
    views = random_views(frame, pairs, rng, HOW)
    moved = views.pairs
    assert views.kept[moved.point].all()
    assert len(set(views.source)) == len(views.source) == len(moved)
    np.testing.assert_array_equal(moved.point, pairs.point[views.source])
    numbers = np.array(views.images, int)
    np.testing.assert_array_equal(numbers[moved.image], pairs.image[views.source])
    drawn = views.pixels(frame) if len(moved) else None
    for view, crop in enumerate(views.crops):
        mine = moved.image == view
        back = crop.to_original(moved.uv[mine])
        np.testing.assert_allclose(back, pairs.uv[views.source[mine]], atol=1e-9)
        column, row = np.rint(np.round(back, 9)).astype(int).T
        there = maps[views.images[view], row, column]
        np.testing.assert_array_equal(labels[views.source[mine]], there)
        assert (moved.uv[mine] >= 0).all()
        assert (moved.uv[mine] <= [HOW.out_width_px - 1, HOW.out_height_px - 1]).all()
        # a label map cut like the image says the same within a pixel of the crop
        row, column = np.rint(moved.uv[mine][:, ::-1]).astype(int).T
        nearest = crop.to_original(np.stack([column, row], 1).astype(float))
        step = np.array([crop.width / crop.out_width, crop.height / crop.out_height])
        off = np.abs(nearest - pairs.uv[views.source[mine]]) / np.maximum(step, 1)
        assert (off <= 1).all()
        if drawn is not None:
            assert (drawn[view][..., 2] == views.images[view]).all()
    # the cloud turns and mirrors afterwards; rows stay what they are
    cloud = augment_cloud(frame.cloud, rng, CloudAugmentation(scale=(1, 1), tilt_rad=0.0))
    finite = frame.cloud.finite()
    before, after = (np.hypot(*c.xyz[finite, :2].T) for c in (frame.cloud, cloud))
    np.testing.assert_allclose(before, after, atol=1e-4)
    np.testing.assert_allclose(
        np.abs(cloud.xyz[finite, 2]), np.abs(frame.cloud.xyz[finite, 2]), atol=1e-5
    )


def test_10_8_pixels_go_where_pairs_go(rng) -> None:
    """Pixels hold their own coordinates, so the pixel of a view at a pair tells where it was."""
    frame = rig_frame(rng)
    pairs = rig_pairs(frame)
    flipped = 0
    for seed in range(8):
        views = random_views(frame, pairs, np.random.default_rng(seed), HOW)
        drawn = views.pixels(frame).astype(float)
        moved = views.pairs
        column, row = np.rint(moved.uv).astype(int).T
        inner = ((moved.uv > 1) & (moved.uv < [HOW.out_width_px - 2, HOW.out_height_px - 2])).all(1)
        was = pairs.uv[views.source]
        # columns wrap at 256, where averaging mixes both ends
        inner &= np.abs(was[:, 0] - 256) > 8
        told = drawn[moved.image, row, column]
        assert np.abs(told[inner, 1] - was[inner, 1]).max() < 4  # a view's pixel is 1.7 to 3.2 wide
        assert np.abs(told[inner, 0] - was[inner, 0] % 256).max() < 4
        flipped += sum(crop.flip for crop in views.crops)
    assert 4 < flipped < 20


def test_views_are_repeatable_and_varied(rng) -> None:
    frame = rig_frame(rng)
    pairs = rig_pairs(frame)
    a, b, c = (random_views(frame, pairs, np.random.default_rng(s), HOW) for s in (1, 1, 2))
    assert a.images == b.images
    assert a.crops == b.crops
    np.testing.assert_array_equal(a.pairs.uv, b.pairs.uv)
    assert a.crops != c.crops
    orders = {random_views(frame, pairs, np.random.default_rng(s), HOW).images for s in range(20)}
    assert len(orders) == 6
    lost = [
        int((~random_views(frame, pairs, np.random.default_rng(s), HOW).kept).sum())
        for s in range(20)
    ]
    assert max(lost) > 0


def test_no_image_loses_too_many_pairs(rng) -> None:
    frame = rig_frame(rng)
    pairs = rig_pairs(frame)
    before = pairs.counts(3)
    greedy = replace(HOW, min_area=0.02, cuboid=1.0, min_pairs=10**9)
    for seed in range(20):
        views = random_views(frame, pairs, np.random.default_rng(seed), greedy)
        left = pairs.select(views.kept[pairs.point]).counts(3)
        assert (left > 0.75 * before).all()
        after = np.zeros(3)
        after[list(views.images)] = views.pairs.counts(3)
        # 75 % of what the box left; a whole image loses only the border
        assert (after > 0.7 * left).all()


def test_whole_views_change_nothing_but_the_size(rng) -> None:
    frame = rig_frame(rng)
    pairs = rig_pairs(frame)
    views = whole_views(frame, pairs, HOW)
    assert views.images == (0, 1, 2)
    assert views.kept.all()
    assert not any(crop.flip for crop in views.crops)
    assert len(views.pairs) > 0.95 * len(pairs)
    assert views.pixels(frame).shape == (3, 56, 104, 3)


def test_cameras_without_pairs_give_no_view(rng) -> None:
    frame = rig_frame(rng)
    front = frame.cloud.select(frame.cloud.xyz[:, 0] > 20)
    narrow = replace(frame, cloud=front.select(np.abs(front.xyz[:, 1]) < 5))
    pairs = rig_pairs(narrow)
    assert set(pairs.image) == {0}
    assert random_views(narrow, pairs, rng, HOW).images == (0,)
    nothing = replace(frame, cloud=frame.cloud.select(np.zeros(0, np.int64)))
    assert random_views(nothing, rig_pairs(nothing), rng, HOW).images == ()
