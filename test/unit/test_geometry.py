"""SE(3), cameras and the depth test, against SciPy, OpenCV and scenes worked out by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from condense_ros import geometry as g
from condense_ros.errors import GeometryError

angles = st.floats(-np.pi, np.pi)
metres = st.floats(-1e4, 1e4)


@st.composite
def rotations(draw: st.DrawFn) -> Rotation:
    axis = np.array([draw(st.floats(-1, 1)) for _ in range(3)])
    norm = np.linalg.norm(axis)
    # half turns are where conversions lose their sign; they are drawn often
    angle = draw(st.one_of(angles, st.sampled_from([0.0, np.pi, -np.pi, 1e-9, np.pi - 1e-9])))
    return Rotation.from_rotvec(angle * (axis / norm if norm > 1e-3 else np.array([0, 0, 1.0])))


@st.composite
def transforms(draw: st.DrawFn) -> g.Array:
    return g.se3(draw(rotations()).as_matrix(), [draw(metres) for _ in range(3)])


@given(transforms(), transforms())
def test_inverse_undoes_and_reverses_products(A: g.Array, B: g.Array) -> None:
    np.testing.assert_allclose(A @ g.inverse(A), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(g.inverse(A @ B), g.inverse(B) @ g.inverse(A), atol=1e-8)
    np.testing.assert_array_equal(g.inverse(np.stack([A, B]))[1], g.inverse(B))


def test_transform_is_the_homogeneous_product(rng: np.random.Generator) -> None:
    T = g.se3(g.rotation_rpy(0.3, -0.2, 1.0), (1, 2, 3))
    xyz = rng.normal(size=(50, 3)).astype(np.float32)
    homogeneous = np.c_[xyz.astype(np.float64), np.ones(50)]
    np.testing.assert_allclose(g.transform(T, xyz), (homogeneous @ T.T)[:, :3], atol=1e-12)
    assert g.transform(T, xyz).dtype == np.float64


@given(rotations())
def test_quaternions_agree_with_scipy_both_ways(rotation: Rotation) -> None:
    R = rotation.as_matrix()
    q = g.quaternion_from_rotation(R)
    assert q[3] >= 0
    assert np.linalg.norm(q) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(g.rotation_from_quaternion(q), R, atol=1e-9)
    expected = rotation.as_quat()
    assert abs(q @ expected) == pytest.approx(1, abs=1e-9)


@given(angles, angles, angles)
def test_roll_pitch_yaw_are_fixed_axis_angles(roll: float, pitch: float, yaw: float) -> None:
    expected = Rotation.from_euler("xyz", [roll, pitch, yaw]).as_matrix()
    np.testing.assert_allclose(g.rotation_rpy(roll, pitch, yaw), expected, atol=1e-12)


@given(st.floats(-3.1, 3.1))
def test_yaw_of_reads_the_heading_back(yaw: float) -> None:
    assert g.yaw_of(g.se3(g.rotation_rpy(0, 0, yaw), (1, 2, 3))) == pytest.approx(yaw)


@given(transforms(), transforms(), st.floats(0, 1))
def test_interpolation_agrees_with_slerp(A: g.Array, B: g.Array, fraction: float) -> None:
    between = g.interpolate_pose(A, B, fraction)
    angle = g.pose_error(A, B)[1]
    np.testing.assert_allclose(
        between[:3, 3], (1 - fraction) * A[:3, 3] + fraction * B[:3, 3], atol=1e-9
    )
    if angle < 179.9:  # at a half turn both directions are shortest
        slerp = Slerp([0, 1], Rotation.from_matrix(np.stack([A, B])[:, :3, :3]))
        np.testing.assert_allclose(between[:3, :3], slerp(fraction).as_matrix(), atol=1e-6)
    np.testing.assert_allclose(g.interpolate_pose(A, B, 0.0), A, atol=1e-7)


@pytest.mark.parametrize("degrees", [1e-7, 1e-3, 2.0, 90.0, 179.999, 180.0])
def test_pose_error_is_exact_for_small_and_large_angles(degrees: float) -> None:
    truth = g.se3(g.rotation_rpy(0.4, 0.5, 0.6), (10, 20, 30))
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0, 0.8])).as_matrix()
    error = g.pose_error(truth @ g.se3(turn, (3, 0, 4)), truth)
    assert error[0] == pytest.approx(5)
    assert error[1] == pytest.approx(degrees, rel=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        np.full((4, 4), np.nan),
        np.diag([1.0, 1, -1, 1]),  # a mirror
        np.diag([2.0, 2, 2, 1]),
        np.zeros((4, 4)),
        np.diag([1.0, 1, 1, 2]),
    ],
)
def test_what_is_no_rigid_motion_is_refused(matrix: g.Array) -> None:
    with pytest.raises(GeometryError, match="T_test"):
        g.check_se3(matrix, "T_test")


@pytest.mark.parametrize("q", [(0, 0, 0, 0), (0, 0, 0, np.nan), (1, 1, 0, 0), (0, 0, 1)])
def test_quaternions_that_were_never_filled_in_are_refused(q: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError):
        g.rotation_from_quaternion(q)


K = np.array([[520.0, 0, 318.5], [0, 515.0, 243.2], [0, 0, 1]])
DISTORTIONS = {
    "none": [],
    "four": [-0.28, 0.07, 1e-3, -5e-4],
    "plumb_bob": [-0.3, 0.11, 2e-3, -1e-3, -0.02],
    "rational": [0.5, 0.1, 1e-3, 5e-4, 0.005, 0.85, 0.25, 0.02],
    "pincushion": [0.15, 0.02, 0, 0, 0],
}


@pytest.mark.parametrize("D", DISTORTIONS.values(), ids=DISTORTIONS.keys())
def test_projection_agrees_with_opencv(D: list[float], rng: np.random.Generator) -> None:
    camera = g.CameraModel(K, 640, 480, np.array(D))
    xyz = np.c_[rng.uniform(-0.7, 0.7, (2000, 2)), np.ones(2000)] * rng.uniform(0.5, 80, (2000, 1))
    uv, depth, inside = camera.project(xyz)
    expected, _ = cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), K, np.array(D) if D else None)
    assert 500 < inside.sum() < 2000
    assert np.abs(uv - expected[:, 0])[inside].max() < 1e-6
    np.testing.assert_array_equal(depth, xyz[:, 2])


@pytest.mark.parametrize("D", DISTORTIONS.values(), ids=DISTORTIONS.keys())
def test_rays_invert_projection_and_agree_with_opencv(D: list[float]) -> None:
    camera = g.CameraModel(K, 640, 480, np.array(D))
    rays = camera.rays()
    v, u = np.divmod(np.arange(640 * 480), 640)
    back, _, inside = camera.project(rays * 7.5)
    assert inside.all()
    assert np.abs(back - np.c_[u, v]).max() < 1e-6
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-14)
    some = np.c_[u, v][::997].astype(np.float64)
    args = (some[:, None], K, np.array(D) if D else np.zeros(5))
    expected = cv2.undistortPoints(*args, criteria=criteria)[:, 0]
    assert np.abs(rays[::997, :2] - expected).max() * K[0, 0] < 1e-6


@settings(max_examples=50)
@given(st.floats(-0.35, 0.3), st.floats(-0.1, 0.15), st.floats(-3e-3, 3e-3), st.floats(-3e-3, 3e-3))
def test_unproject_inverts_projection(k1: float, k2: float, p1: float, p2: float) -> None:
    camera = g.CameraModel(K, 640, 480, np.array([k1, k2, p1, p2]))
    uv = np.array([[0.0, 0], [639, 0], [0, 479], [639, 479], [320.25, 111.75]])
    depth = np.array([0.5, 3, 10, 80, 2])
    points = camera.unproject(uv, depth)
    back, z, inside = camera.project(points)
    # corners that the lens leaves empty have no ray; every other one comes back
    assert np.isfinite(points[-1]).all()
    reachable = np.isfinite(points).all(axis=1)
    np.testing.assert_array_equal(z[reachable], depth[reachable])
    assert inside[reachable].all() or np.abs(back - uv)[reachable].max() < 1e-6
    np.testing.assert_allclose(back[reachable], uv[reachable], atol=1e-6)


def test_points_outside_a_wide_lens_are_not_folded_into_the_image() -> None:
    camera = g.CameraModel(K, 640, 480, np.array([-0.35, 0.0, 0, 0]))
    # r (1 - 0.35 r^2) turns at r = 0.976 and is back at zero at r = 1.69
    _, _, inside = camera.project(np.array([[1.65, 0.0, 1.0], [0.2, 0.0, 1.0]]))
    assert inside.tolist() == [False, True]


def test_pixel_borders_lie_half_a_pixel_out_and_nothing_behind_is_seen() -> None:
    camera = g.CameraModel(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), 4, 3)
    xyz = np.array([[-0.5, -0.5, 1], [-0.51, 0, 1], [3.49, 2.49, 1], [3.5, 0, 1], [0, 0, -1.0]])
    assert camera.project(xyz)[2].tolist() == [True, False, True, False, False]


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_scaled_camera_keeps_every_point_at_its_place_in_the_image(w: int, h: int) -> None:
    camera = g.CameraModel(K, 640, 480)
    small = camera.scaled(w, h)
    point = np.array([[0.31, -0.22, 2.0]])
    uv, uv_small = camera.project(point)[0][0], small.project(point)[0][0]
    expected = (uv + 0.5) * (w / 640, h / 480) - 0.5
    np.testing.assert_allclose(uv_small, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("matrix", "size", "D"),
    [
        (np.zeros((3, 3)), (640, 480), []),
        (np.full((3, 3), np.nan), (640, 480), []),
        (K, (0, 480), []),
        (K, (640, 480), [0.1, 0.2]),
        (K, (640, 480), [np.inf] * 5),
    ],
)
def test_unusable_cameras_are_refused(
    matrix: g.Array, size: tuple[int, int], D: list[float]
) -> None:
    with pytest.raises(GeometryError):
        g.CameraModel(matrix, *size, np.array(D))


def _plate(depth: float, half: float, step: float) -> g.Array:
    side = np.arange(-half, half + step / 2, step)
    return np.array([(depth, y, z) for y in side for z in side])


T_CAM_BODY = g.se3(g.R_OPTICAL_BODY, np.zeros(3))


def test_near_plate_hides_far_plate_but_not_what_lies_beside_it() -> None:
    camera = g.CameraModel(np.array([[100.0, 0, 99.5], [0, 100, 99.5], [0, 0, 1]]), 200, 200)
    near = _plate(2.0, 0.5, 0.05)  # covers pixels 75..125
    far = _plate(8.0, 7.0, 0.25)
    xyz = np.concatenate([near, far])
    seen = g.project_cloud(xyz, T_CAM_BODY, camera)
    visible = np.zeros(len(xyz), bool)
    visible[seen.index] = True
    assert visible[: len(near)].all()
    reach = np.abs(far[:, 1:]).max(axis=1) * 100 / 8  # pixels from the centre
    hidden = ~visible[len(near) :]
    assert hidden[reach < 24].all()
    assert not hidden[reach > 34].any()
    everything = g.project_cloud(xyz, T_CAM_BODY, camera, depth_test=False)
    assert len(everything.index) == len(xyz)


@pytest.mark.parametrize("side", ["ground", "wall"])
def test_a_surface_at_a_grazing_angle_does_not_hide_itself(side: str) -> None:
    camera = g.CameraModel(K, 640, 480)
    # rings 0.5 degrees apart on a plane 1.7 m off, as a LiDAR leaves them, out to 60 m
    ahead = 1.7 / np.tan(np.radians(np.arange(1.6, 30, 0.5)))
    x, across = np.meshgrid(ahead, np.linspace(-0.15, 0.15, 60))
    columns = (x, across * x, np.full(x.shape, -1.7))
    xyz = np.stack(columns if side == "ground" else (columns[0], columns[2], columns[1]), -1)
    seen = g.project_cloud(xyz.reshape(-1, 3), T_CAM_BODY, camera)
    everything = g.project_cloud(xyz.reshape(-1, 3), T_CAM_BODY, camera, depth_test=False)
    assert everything.depth.max() > 55
    assert len(seen.index) > 0.97 * len(everything.index)


def test_each_camera_of_a_rig_sees_its_own_half(rng: np.random.Generator) -> None:
    xyz = rng.normal(size=(4000, 3)) * (20, 20, 1)
    xyz[::7] = np.nan
    wide = g.CameraModel(np.array([[200.0, 0, 319.5], [0, 200, 239.5], [0, 0, 1]]), 640, 480)
    seen = {}
    for name, yaw in (("front", 0.0), ("left", np.pi / 2), ("back", np.pi), ("right", -np.pi / 2)):
        T_body_mount = g.se3(g.rotation_rpy(0, 0, yaw), np.zeros(3))
        projection = g.project_cloud(xyz, T_CAM_BODY @ g.inverse(T_body_mount), wide)
        seen[name] = set(projection.index.tolist())
        assert np.isfinite(projection.uv).all()
        forward = xyz[projection.index] @ [np.cos(yaw), np.sin(yaw), 0]
        np.testing.assert_allclose(projection.depth, forward, atol=1e-9)
    assert not seen["front"] & seen["back"]
    assert not seen["left"] & seen["right"]
    assert all(len(rows) > 100 for rows in seen.values())


def test_project_cloud_takes_empty_clouds_and_refuses_bad_extrinsics() -> None:
    camera = g.CameraModel(K, 640, 480)
    assert len(g.project_cloud(np.zeros((0, 3)), np.eye(4), camera).index) == 0
    with pytest.raises(GeometryError, match="T_cam_lidar"):
        g.project_cloud(np.zeros((1, 3)), np.zeros((4, 4)), camera)
