"""Depth as another camera sees it: by hand, against brute force, and on a real RGB-D sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from condense_ros.bags import BagWriter, PairRecord
from condense_ros.datasets import open_dataset
from condense_ros.datasets.bag import BagDataset
from condense_ros.errors import CalibrationMissing, GeometryError
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, inverse, rotation_rpy, se3
from condense_ros.registration import DepthRegistration, organised_cloud
from condense_ros.wire import (
    CAMERA_INFO,
    IMAGE,
    POINT_CLOUD,
    TF,
    Header,
    StampedTransform,
    encode_camera_info,
    encode_cloud,
    encode_image,
    encode_tf,
)


def camera(width: int, height: int, f: float, **more: object) -> CameraModel:
    K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
    return CameraModel(K, width, height, **more)  # type: ignore[arg-type]


def test_a_plane_and_a_box_before_a_sideways_camera_by_hand() -> None:
    # f = 100 px, camera 0.1 m to the right: what lies at z moves left by 100 * 0.1 / z pixels
    one = camera(40, 20, 100.0)
    depth = np.full((20, 40), 5.0)  # the wall moves by 2 px
    depth[5:10, 20:25] = 1.0  # the box by 10 px
    depth[0, 0] = 0.0
    seen = DepthRegistration(one, one)(depth, se3(np.eye(3), [-0.1, 0, 0]))
    expected = np.zeros((20, 40))
    expected[:, :38] = 5.0  # nothing was measured of the last two columns
    expected[5:10, 18:23] = 0.0  # the wall behind the box, hidden from the depth camera
    expected[5:10, 10:15] = 1.0  # the box, before the wall
    np.testing.assert_array_equal(seen, expected)
    assert seen.dtype == np.float32


def test_depth_is_along_the_axis_of_the_colour_camera() -> None:
    # two metres nearer and turned by half a turn about the axis
    one = camera(21, 21, 100.0)
    depth = np.zeros((21, 21))
    depth[8, 13] = 4.0
    T = se3(np.diag([-1.0, -1.0, 1.0]), [0, 0, -2.0])
    seen = DepthRegistration(one, one)(depth, T)
    # 3 px right and 2 up at 4 m become 6 left and 4 down at 2 m; its footprint doubles
    v, u = np.nonzero(seen)
    assert (v.min(), v.max(), u.min(), u.max()) == (13, 15, 3, 5)
    assert set(seen[seen > 0].tolist()) == {2.0}


@pytest.mark.parametrize("size", [(160, 120), (320, 240), (640, 480), (1100, 700)])
def test_a_slanted_floor_has_no_holes_at_any_size(size: tuple[int, int]) -> None:
    """Both finer and coarser colour images, against the floor's own equation."""
    depth_camera, colour = camera(320, 240, 260.0), camera(*size, 0.85 * size[0])
    T = se3(rotation_rpy(0.02, -0.03, 0.01), [0.05, -0.02, 0.01])  # colour <- depth
    normal, offset = np.array([0.0, 0.8, 0.6]), 2.0  # normal . p = offset, depth camera

    def plane_depth(camera: CameraModel, T_depth_cam: np.ndarray) -> np.ndarray:
        rays = camera.rays() @ T_depth_cam[:3, :3].T
        z = (offset - normal @ T_depth_cam[:3, 3]) / (rays @ normal)
        return np.where(z > 0, z, 0).reshape(camera.height, camera.width)

    depth = plane_depth(depth_camera, np.eye(4))
    depth[depth > 8] = 0
    seen = DepthRegistration(depth_camera, colour)(depth, T)
    truth = plane_depth(colour, inverse(T))
    points = colour.unproject(None, truth.ravel())
    _, _, back = depth_camera.project((points - T[:3, 3]) @ T[:3, :3])
    covered = back.reshape(truth.shape) & (truth > 0) & (truth < 7)
    inner = covered[4:-4, 4:-4] & covered[:-8, 4:-4] & covered[8:, 4:-4]
    inner &= covered[4:-4, :-8] & covered[4:-4, 8:]
    assert inner.sum() > 0.5 * inner.size
    error = np.abs(seen - truth)[4:-4, 4:-4][inner]
    assert (seen[4:-4, 4:-4][inner] > 0).all(), "holes"
    # a depth pixel's own size along the slanted floor
    assert np.median(error / truth[4:-4, 4:-4][inner]) < 0.005
    assert (error / truth[4:-4, 4:-4][inner]).max() < 0.05


def test_registered_to_itself_nothing_changes(rng: np.random.Generator) -> None:
    lens = camera(64, 48, 40.0, D=np.array([-0.25, 0.05, 1e-3, -1e-3]))
    depth = rng.uniform(0.5, 6, (48, 64)).astype(np.float32)
    depth[rng.random((48, 64)) < 0.2] = 0
    np.testing.assert_allclose(DepthRegistration(lens, lens)(depth, np.eye(4)), depth, rtol=1e-6)


def test_depth_into_a_fisheye_by_its_closed_form() -> None:
    depth_camera = camera(81, 61, 60.0)
    fisheye = camera(201, 201, 60.0, model="fisheye")
    depth = np.zeros((61, 81))
    depth[30, 40 + 24] = 2.0  # 0.8 m to the right
    T = se3(rotation_rpy(0, np.pi / 2, 0), np.zeros(3))  # x -> -z, z -> x: turned aside
    seen = DepthRegistration(depth_camera, fisheye)(depth, T)
    assert not seen.any()  # the point is behind the fisheye: it has no depth along its axis
    T = se3(rotation_rpy(0, np.radians(30), 0), np.zeros(3))
    seen = DepthRegistration(depth_camera, fisheye)(depth, T)
    p = T[:3, :3] @ (0.8, 0, 2.0)
    u = 100 + 60 * np.arctan2(p[0], p[2])
    assert seen[100, round(u)] == pytest.approx(p[2])
    assert (seen > 0).sum() <= 4


def test_an_organised_cloud_keeps_pixels_at_their_place() -> None:
    lens = camera(5, 4, 10.0)
    depth = np.zeros((4, 5), np.float32)
    depth[1, 3], depth[2, 0] = 2.0, np.nan
    cloud = organised_cloud(depth, lens)
    assert cloud.shape == (4, 5, 3)
    np.testing.assert_allclose(cloud[1, 3], [2 * 1 / 10, 2 * -0.5 / 10, 2])
    assert np.isfinite(cloud).all(axis=2).sum() == 1
    with pytest.raises(GeometryError, match="depth image is \\(5, 4\\)"):
        organised_cloud(depth.T, lens)
    with pytest.raises(GeometryError, match="T_colour_depth"):
        DepthRegistration(lens, lens)(depth, np.zeros((4, 4)))


def test_real_depth_agrees_from_another_place(data_dir: Path) -> None:
    """One view of a kitchen registered into another's camera, against the depth measured there."""
    data = open_dataset(data_dir / "7scenes_kitchen_dev")
    assert data.poses is not None
    for first, second in ((0, 2), (40, 43), (100, 104)):
        one, other = data[first].images[0], data[second].images[0]
        C = one.T_cam_lidar
        T = C @ inverse(data.poses[second]) @ data.poses[first] @ inverse(C)
        for size in ((640, 480), (320, 240), (1280, 960)):
            target = other.camera.scaled(*size)
            seen = DepthRegistration(one.camera, target)(one.depth, T)
            v, u = np.mgrid[0 : size[1], 0 : size[0]]
            nearest = np.stack([(v + 0.5) * 480 / size[1], (u + 0.5) * 640 / size[0]])
            measured = other.depth[tuple(nearest.astype(int))]
            both = (seen > 0) & (measured > 0)
            moved = np.abs(T[:3, 3]).max()
            assert both.mean() > 0.6, (first, size, both.mean(), moved)
            assert np.median(np.abs(seen - measured)[both] / measured[both]) < 0.02


def record(
    folder: Path,
    depth: np.ndarray,
    *,
    colour: CameraModel,
    lens: CameraModel,
    T: np.ndarray,
    lidar: bool = False,
    joined: bool = True,
) -> None:
    stamp = 1_700_000_000_000_000_000
    with BagWriter(folder) as writer:
        frames = {"depth": Header(stamp, "depth_frame"), "color": Header(stamp, "color_frame")}
        static = encode_tf([StampedTransform(stamp, "color_frame", "depth_frame", T)])
        if joined:
            writer.write("/tf_static", TF, static, stamp, stamp)
        writer.write(
            "/depth/image", IMAGE, encode_image(frames["depth"], depth, "16UC1"), stamp, stamp
        )
        pixels = np.zeros((colour.height, colour.width, 3), np.uint8)
        writer.write("/color/image", IMAGE, encode_image(frames["color"], pixels), stamp, stamp)
        for name, one in (("depth", lens), ("color", colour)):
            info = encode_camera_info(frames[name], one)
            writer.write(f"/{name}/camera_info", CAMERA_INFO, info, stamp, stamp)
        messages = {"depth": ("/depth/image", stamp), "image/color": ("/color/image", stamp)}
        if lidar:
            mount = StampedTransform(
                stamp, "lidar", "color_frame", se3(R_OPTICAL_BODY.T, [0, 0, 0])
            )
            writer.write("/tf_static", TF, encode_tf([mount]), stamp, stamp)
            points = encode_cloud(Header(stamp, "lidar"), dict.fromkeys("xyz", np.ones(3)))
            writer.write("/points", POINT_CLOUD, points, stamp, stamp)
            messages["points"] = ("/points", stamp)
        writer.pair(PairRecord(stamp, messages))


def test_a_bag_with_a_depth_camera_beside_the_colour_camera(tmp_path: Path) -> None:
    lens, colour = camera(40, 20, 100.0), camera(80, 40, 200.0)
    depth = np.full((20, 40), 5.0)
    depth[5:10, 20:25] = 1.0
    T = se3(np.eye(3), [-0.1, 0, 0])
    record(tmp_path / "bag", depth, colour=colour, lens=lens, T=T)
    frame = BagDataset(tmp_path / "bag")[0]
    image = frame.images[0]
    assert image.depth is not None
    assert image.depth.shape == (40, 80)
    # twice the pixels: the box spans 10 columns, 20 px left of where the depth camera has it
    assert set(image.depth[12:18, 21:29].ravel().tolist()) == {1.0}
    assert image.depth[12, 33] == 5.0
    # and the cloud looked up in the colour image meets its own depth
    uv, z, inside = image.camera.project(
        frame.cloud.xyz @ image.T_cam_lidar[:3, :3].T + image.T_cam_lidar[:3, 3]
    )
    at = np.rint(uv[inside]).astype(int)
    there = image.depth[at[:, 1], at[:, 0]]
    assert (there > 0).all()
    assert (there <= z[inside] + 1e-3).all()


def test_a_bag_with_lidar_and_depth_has_both(tmp_path: Path) -> None:
    """The cloud is the LiDAR's; depth goes to the images all the same."""
    lens, colour = camera(40, 20, 100.0), camera(40, 20, 100.0)
    depth = np.full((20, 40), 5.0)
    T = se3(np.eye(3), [-0.1, 0, 0])
    record(tmp_path / "bag", depth, colour=colour, lens=lens, T=T, lidar=True)
    frame = BagDataset(tmp_path / "bag")[0]
    np.testing.assert_array_equal(frame.cloud.xyz, np.ones((3, 3)))
    seen = frame.images[0].depth
    assert seen is not None
    np.testing.assert_array_equal(seen[:, :38], np.full((20, 38), 5.0, np.float32))
    assert not seen[:, 38:].any()


def test_depth_that_tf_does_not_place_is_left_out_and_noted(tmp_path: Path) -> None:
    lens = camera(40, 20, 100.0)
    depth = np.full((20, 40), 5.0)
    for lidar in (True, False):
        folder = tmp_path / str(lidar)
        record(folder, depth, colour=lens, lens=lens, T=np.eye(4), lidar=lidar, joined=False)
    frame = BagDataset(tmp_path / "True")[0]
    assert frame.images[0].depth is None
    assert any("/depth/image reaches no image" in note for note in frame.notes)
    with pytest.raises(CalibrationMissing):  # the cloud itself would come from the depth image
        BagDataset(tmp_path / "False")[0]
