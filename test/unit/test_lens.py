"""Fisheye and strongly distorted lenses: projection, its inverse, and where both end."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import geometry as g
from condense_ros.errors import GeometryError

K = np.array([[285.0, 0, 424.5], [0, 286.0, 399.2], [0, 0, 1]])
#: k1..k4 of real lenses (a 163 degree tracking camera, a 190 degree vehicle camera) and extremes
FISHEYES = {
    "pure": [],
    "tracking": [-0.0065, 0.0456, -0.0422, 0.0075],
    "vehicle": [0.3395, -0.0124, -0.0089, 0.0021],
    "folding": [-0.11, 0.0, 0.0, 0.0],
}


def fisheye(D: list[float], K: g.Array = K) -> g.CameraModel:
    return g.CameraModel(K, 848, 800, np.array(D), "fisheye")


@pytest.mark.parametrize("D", FISHEYES.values(), ids=FISHEYES.keys())
def test_fisheye_projection_agrees_with_opencv(D: list[float], rng: np.random.Generator) -> None:
    camera = fisheye(D)
    xyz = rng.normal(size=(3000, 3)) * (4, 4, 2) + (0, 0, 3)
    xyz = xyz[xyz[:, 2] > 0.02]  # OpenCV's fisheye divides by z
    uv, depth, inside = camera.project(xyz)
    expected, _ = cv2.fisheye.projectPoints(
        xyz[:, None], np.zeros(3), np.zeros(3), K, np.array(D or [0.0] * 4)
    )
    assert inside.sum() > 800
    assert np.abs(uv - expected[:, 0])[inside].max() < 1e-9
    np.testing.assert_array_equal(depth, xyz[:, 2])


def test_fisheye_rays_agree_with_opencv(rng: np.random.Generator) -> None:
    camera = fisheye(FISHEYES["tracking"])
    uv = rng.uniform((100, 100), (748, 700), (500, 2))
    rays = camera.rays(uv)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-15)
    expected = cv2.fisheye.undistortPoints(uv[:, None], K, camera.D, criteria=criteria)[:, 0]
    assert np.abs(rays[:, :2] / rays[:, 2:] - expected).max() < 1e-8
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, atol=1e-12)


def test_pure_equidistant_lens_is_linear_in_the_angle_beyond_90_degrees() -> None:
    # f = 100 px / rad: 45, 90, 135, 170 degrees off the axis, to the right and down
    camera = g.CameraModel(
        np.array([[100.0, 0, 300], [0, 100, 300], [0, 0, 1]]), 601, 601, [], "fisheye"
    )
    angle = np.radians([45.0, 90.0, 135.0, 170.0])
    right = np.stack([np.sin(angle), np.zeros(4), np.cos(angle)], axis=1) * 5
    down = right[:, [1, 0, 2]]
    uv, depth, inside = camera.project(np.concatenate([right, down]))
    expected = 300 + 100 * angle
    assert inside.all()
    np.testing.assert_allclose(uv[:4], np.c_[expected, np.full(4, 300.0)], atol=1e-9)
    np.testing.assert_allclose(uv[4:], np.c_[np.full(4, 300.0), expected], atol=1e-9)
    assert depth[2] == pytest.approx(-5 / np.sqrt(2))
    np.testing.assert_allclose(camera.rays(uv)[:4] * 5, right, atol=1e-9)
    # straight behind there is no direction in the image, and at the camera itself neither
    assert camera.project(np.array([[0, 0, -1.0], [0, 0, 0], [0, 0, 0.005], [0, 0, 0.5]]))[
        2
    ].tolist() == [False, False, False, True]


@pytest.mark.parametrize("D", FISHEYES.values(), ids=FISHEYES.keys())
def test_fisheye_pixels_come_back_or_lie_beyond_the_fold(D: list[float]) -> None:
    camera = fisheye(D)
    rays = camera.rays()
    v, u = np.divmod(np.arange(848 * 800), 848)
    radius = np.hypot((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    theta = np.linspace(0, np.pi, 200_001)
    image_radius = theta * (1 + sum(k * theta ** (2 * i + 2) for i, k in enumerate(D)))
    fold = np.argmax(np.diff(image_radius) <= 0) if (np.diff(image_radius) <= 0).any() else -1
    reach = image_radius[fold]
    seen = np.isfinite(rays).all(axis=1)
    assert seen[radius < reach - 1e-6].all()
    assert not seen[radius > reach + 1e-6].any()
    back, _, inside = camera.project(rays[seen & (radius < reach - 1e-4)] * 3.0)
    assert inside.all()
    assert np.abs(back - np.c_[u, v][seen & (radius < reach - 1e-4)]).max() < 1e-6


def test_fisheye_depth_reaches_only_what_lies_ahead() -> None:
    camera = g.CameraModel(
        np.array([[100.0, 0, 300], [0, 100, 300], [0, 0, 1]]), 601, 601, [], "fisheye"
    )
    uv = np.array([[300.0, 300], [300 + 100 * np.pi / 4, 300], [300 + 100 * np.pi * 0.75, 300]])
    points = camera.unproject(uv, np.array([2.0, 3.0, 4.0]))
    np.testing.assert_allclose(points[:2], [[0, 0, 2], [3, 0, 3]], atol=1e-9)
    assert np.isnan(points[2]).all()


def test_a_fisheye_cloud_is_seen_all_around_and_near_points_hide_far_ones() -> None:
    camera = g.CameraModel(
        np.array([[100.0, 0, 300], [0, 100, 300], [0, 0, 1]]), 601, 601, [], "fisheye"
    )
    side = np.arange(-1.0, 1.01, 0.05)
    # a plate 120 degrees to the right (behind the image plane) at 3 m, and one behind it at 9 m
    axis = np.array([np.sin(np.radians(120)), 0, np.cos(np.radians(120))])
    across = np.array([axis[2], 0, -axis[0]])
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    near = 3 * axis + grid[:, :1] * across + grid[:, 1:] * (0, 1, 0)
    far = 9 * axis + grid[:, :1] * across + grid[:, 1:] * (0, 1, 0)
    seen = g.project_cloud(np.concatenate([near, far]), np.eye(4), camera)
    assert (seen.depth < 0).all()
    assert set(seen.index) == set(range(len(near)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-0.6, 0.4), min_size=3, max_size=3),
    st.floats(-0.02, 0.02),
    st.floats(-0.02, 0.02),
    st.floats(0, 2 * np.pi),
    st.booleans(),
)
def test_every_point_a_lens_sees_is_found_again_from_its_pixel(
    k: list[float], p1: float, p2: float, azimuth: float, rational: bool
) -> None:
    D = [k[0], k[1] / 4, p1, p2, k[2] / 16] + ([0.3, 0.05, 0.0] if rational else [])
    camera = g.CameraModel(np.eye(3), 4, 4, D)
    r = np.linspace(0, 3, 500)
    xyz = np.stack([r * np.cos(azimuth), r * np.sin(azimuth), np.ones_like(r)], axis=1)
    # the domain by its definition: from the axis outwards until the map first turns
    step = 1e-6
    x, y = xyz[:, 0], xyz[:, 1]

    def image(x: g.Array, y: g.Array) -> g.Array:
        s = x * x + y * y
        R = (1 + s * (D[0] + s * (D[1] + s * D[4]))) / (
            1 + (s * (0.3 + s * 0.05) if rational else 0)
        )
        return np.stack(
            [
                x * R + 2 * p1 * x * y + p2 * (s + 2 * x * x),
                y * R + p1 * (s + 2 * y * y) + 2 * p2 * x * y,
            ]
        )

    dx = (image(x + step, y) - image(x - step, y)) / (2 * step)
    dy = (image(x, y + step) - image(x, y - step)) / (2 * step)
    det = dx[0] * dy[1] - dx[1] * dy[0]
    turned = np.nonzero(det <= 1e-3)[0]
    end = turned[0] if turned.size else len(r)
    uv = image(x, y).T[:end]
    rays = camera.rays(uv)
    assert np.isfinite(rays).all(), f"{np.isnan(rays[:, 0]).sum()} of {end} lost"
    again = image(rays[:, 0], rays[:, 1]).T
    np.testing.assert_allclose(again, uv, atol=1e-8)
    np.testing.assert_allclose(rays[:, :2], xyz[:end, :2], atol=2e-5)


def test_strong_barrel_lens_inverts_up_to_its_fold_and_not_beyond() -> None:
    # r (1 - 0.25 r^2) turns at r = 2 / sqrt(3), where it is 0.7698
    camera = g.CameraModel(np.eye(3), 4, 4, [-0.25, 0, 0, 0])
    fold = 4 / (3 * np.sqrt(3))
    uv = np.array([[fold * (1 - 1e-9), 0], [fold * (1 + 1e-9), 0], [0.5, 0.5]])
    rays = camera.rays(uv)
    assert rays[0, 0] == pytest.approx(2 / np.sqrt(3), abs=1e-4)
    assert np.isnan(rays[1]).all()
    assert np.isfinite(rays[2]).all()


def test_points_far_off_the_axis_of_a_wide_rational_lens_are_seen() -> None:
    # tan(80 deg) = 5.7: a rational model of a 160 degree lens stays one-to-one there
    camera = g.CameraModel(
        np.eye(3) * [[200], [200], [1]] + [[0, 0, 500], [0, 0, 500], [0, 0, 0]],
        1001,
        1001,
        [5.0, 0.6, 0, 0, 0.003, 5.3, 1.4, 0.03],
    )
    r = np.tan(np.radians([10.0, 40, 70, 80]))
    uv, _, inside = camera.project(np.stack([r, 0 * r, 1 + 0 * r], axis=1))
    assert inside.all()
    np.testing.assert_allclose(camera.rays(uv)[:, 0], r, rtol=1e-9)


@pytest.mark.parametrize(
    ("D", "model", "match"),
    [
        ([0.1] * 5, "fisheye", "none or 4"),
        ([0.1] * 4, "double_sphere", "pinhole or fisheye"),
        ([np.nan] * 4, "fisheye", "finite"),
    ],
)
def test_unknown_lenses_are_refused(D: list[float], model: str, match: str) -> None:
    with pytest.raises(GeometryError, match=match):
        g.CameraModel(K, 848, 800, D, model)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_scaled_fisheye_keeps_every_point_at_its_place(w: int, h: int) -> None:
    camera = fisheye(FISHEYES["vehicle"])
    small = camera.scaled(w, h)
    assert small.model == "fisheye"
    point = np.array([[0.31, -0.22, -0.1]])
    uv, uv_small = camera.project(point)[0][0], small.project(point)[0][0]
    np.testing.assert_allclose(uv_small, (uv + 0.5) * (w / 848, h / 800) - 0.5, atol=1e-9)
