"""Deskew against motions with a closed form, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from condense_ros.deskew import deskew, deskew_points, exp_se3, log_se3
from condense_ros.errors import FrameError, GeometryError
from condense_ros.frame import PointCloud
from condense_ros.geometry import inverse, se3, transform

STAMP = 1_700_000_000_123_456_789


def circle(t: np.ndarray, speed: float = 15.0, yaw_rate: float = 0.8) -> np.ndarray:
    """Poses of a vehicle that drives a circle: x forward, turning left, climbing a little."""
    poses = np.zeros((len(t), 4, 4))
    for k, s in enumerate(t):
        a = yaw_rate * s
        poses[k] = se3(
            Rotation.from_euler("z", a).as_matrix(),
            (speed / yaw_rate * np.sin(a), speed / yaw_rate * (1 - np.cos(a)), 0.3 * s),
        )
    return poses


def swept(world: np.ndarray, time_s: np.ndarray, pose_of) -> np.ndarray:
    """World points as a sensor sees them that reaches each at its own time."""
    poses = pose_of(time_s)
    return np.array([transform(inverse(T), p[None])[0] for T, p in zip(poses, world, strict=True)])


@pytest.mark.parametrize("rate_hz", [10, 50, 200])
def test_a_circle_is_undone_to_a_micrometre(rng: np.random.Generator, rate_hz: int) -> None:
    world = rng.uniform(-60, 60, (500, 3))
    time_s = rng.uniform(0, 0.1, 500)
    seen = swept(world, time_s, circle)
    knots = np.arange(-2, 0.1 * rate_hz + 2) / rate_hz
    stamps = STAMP + np.round(knots * 1e9).astype(np.int64)
    out = deskew_points(seen, STAMP, time_s * 1e9, STAMP, stamps, circle(knots))
    truth = transform(inverse(circle(np.zeros(1))[0]), world)
    assert np.abs(seen - truth).max() > 0.5  # the motion was worth undoing
    assert np.abs(out - truth).max() < 1e-6


def test_points_go_to_another_stamp(rng: np.random.Generator) -> None:
    world, time_s = rng.uniform(-30, 30, (100, 3)), rng.uniform(-0.05, 0.05, 100)
    knots = np.arange(-10, 11) / 100
    stamps = STAMP + np.round(knots * 1e9).astype(np.int64)
    cloud = PointCloud(swept(world, time_s, circle), time_s=time_s)
    out = deskew(cloud, STAMP, stamps, circle(knots), to_stamp_ns=STAMP + 33_000_000)
    truth = transform(inverse(circle(np.array([0.033]))[0]), world)
    # a float32 cloud holds 60 m to 4 micrometres
    assert np.abs(out.xyz - truth).max() < 2e-5
    assert out.time_s is None


def test_straight_drive_and_standing_still(rng: np.random.Generator) -> None:
    xyz, offset = rng.uniform(-30, 30, (64, 3)), rng.uniform(0, 1e8, 64)
    stamps = STAMP + np.array([0, 100_000_000])
    poses = np.stack([np.eye(4), se3(np.eye(3), (2.0, 0, 0))])
    out = deskew_points(xyz, STAMP, offset, STAMP, stamps, poses)
    assert np.allclose(out, xyz + np.outer(offset / 1e8, [2.0, 0, 0]), atol=1e-12)
    still = deskew_points(xyz, STAMP, offset, STAMP, stamps, np.stack([poses[1]] * 2))
    assert np.allclose(still, xyz, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-2, 2), min_size=6, max_size=6),
    st.floats(-9, 0.3),
)
def test_exp_and_log_against_matrix_functions(twist: list[float], magnitude: float) -> None:
    xi = np.array(twist) * 10**magnitude
    if np.linalg.norm(xi[3:]) > 3:
        xi[3:] *= 3 / np.linalg.norm(xi[3:])
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = np.cross(np.eye(3), xi[3:])
    matrix[:3, 3] = xi[:3]
    T = exp_se3(xi)
    assert np.allclose(T, expm(matrix), atol=1e-12 * max(1, np.abs(xi).max()))
    assert np.allclose(log_se3(T), xi, rtol=1e-7, atol=1e-9)


def test_log_agrees_with_scipy(rng: np.random.Generator) -> None:
    T = se3(Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix(), rng.uniform(-2, 2, 3))
    L = np.real(logm(T))
    assert np.allclose(log_se3(T), [*L[:3, 3], L[2, 1], L[0, 2], L[1, 0]], atol=1e-9)


def cloud_of(time_s: np.ndarray | None) -> PointCloud:
    return PointCloud(np.ones((3, 3)), time_s=time_s)


STAMPS = STAMP + np.array([-10_000_000, 110_000_000])
STILL = np.stack([np.eye(4)] * 2)


def test_what_cannot_be_deskewed_is_refused() -> None:
    with pytest.raises(FrameError, match="no time per point"):
        deskew(cloud_of(None), STAMP, STAMPS, STILL)
    with pytest.raises(FrameError, match=r"known from -10\.0 to 110\.0 ms"):
        deskew(cloud_of(np.array([0, 0.05, 0.2])), STAMP, STAMPS, STILL)
    with pytest.raises(FrameError, match="not finite"):
        deskew(cloud_of(np.array([0, np.nan, 0.05])), STAMP, STAMPS, STILL)
    with pytest.raises(FrameError, match="do not increase"):
        deskew(cloud_of(np.zeros(3)), STAMP, STAMPS[::-1], STILL)
    with pytest.raises(FrameError, match="at least two"):
        deskew(cloud_of(np.zeros(3)), STAMP, STAMPS[:1], STILL[:1])
    with pytest.raises(GeometryError, match="not a rigid"):
        deskew(cloud_of(np.zeros(3)), STAMP, STAMPS, STILL * 2)
    half = np.stack([np.eye(4), se3(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))])
    with pytest.raises(GeometryError, match="half a turn"):
        deskew(cloud_of(np.full(3, 0.01)), STAMP, STAMPS, half)


def test_missing_returns_keep_their_rows_and_fields() -> None:
    xyz = np.array([[1, 2, 3], [np.nan] * 3, [4, 5, 6]])
    cloud = PointCloud(
        xyz, intensity=np.arange(3), ring=np.arange(3), time_s=np.array([0, np.nan, 0.1])
    )
    poses = np.stack([np.eye(4), se3(np.eye(3), (1.2, 0, 0))])
    out = deskew(cloud, STAMP, STAMPS, poses)
    assert np.isnan(out.xyz[1]).all()
    assert np.allclose(out.xyz[[0, 2]], [[1, 2, 3], [5, 5, 6]])
    assert out.intensity is not None
    assert out.intensity.tolist() == [0, 1, 2]


def test_an_empty_cloud_stays_empty() -> None:
    cloud = PointCloud(np.zeros((0, 3)), time_s=np.zeros(0))
    assert len(deskew(cloud, STAMP, STAMPS, STILL)) == 0
