"""Outlines against edges: derivatives, and a rotation found in a drawn scene."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.calibration.edges import BLURS, align_edges, edge_frame, outlines, score
from condense_ros.calibration.solve import Guess
from condense_ros.frame import CameraImage, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, se3

MOUNTING = se3(R_OPTICAL_BODY, (0.05, -0.2, -0.3))
CAMERA = CameraModel(np.array([[420.0, 0, 319.5], [0, 420, 239.5], [0, 0, 1]]), 640, 480)


def scene(rng: np.random.Generator) -> list[tuple[float, float, float, float, float]]:
    """Boards that face the vehicle: distance, y, z, half width, half height; nearest first."""
    boards = [
        (d, rng.uniform(-0.5, 0.5) * d, rng.uniform(-0.3, 0.3) * d, 0.05 * d, 0.07 * d)
        for d in rng.uniform(6, 25, 14)
    ]
    return sorted(boards)


def hit(origin: np.ndarray, rays: np.ndarray, boards: list) -> tuple[np.ndarray, np.ndarray]:
    """(N,) board that each ray meets first, -1 the wall behind, and (N,) distances."""
    which, distance = np.full(len(rays), -1), (40.0 - origin[0]) / rays[:, 0]
    for number in range(len(boards) - 1, -1, -1):
        d, y, z, half_y, half_z = boards[number]
        t = (d - origin[0]) / rays[:, 0]
        p = origin + rays * t[:, None]
        on = (np.abs(p[:, 1] - y) < half_y) & (np.abs(p[:, 2] - z) < half_z) & (t > 0)
        which, distance = np.where(on, number, which), np.where(on, t, distance)
    return which, distance


def frame(rng: np.random.Generator, T_true: np.ndarray) -> tuple[PointCloud, CameraImage]:
    boards = scene(rng)
    a, e = np.meshgrid(np.radians(np.arange(-45, 45, 0.3)), np.radians(np.arange(-25, 25, 0.5)))
    d = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1).reshape(-1, 3)
    _, t = hit(np.zeros(3), d, boards)
    R, centre = T_true[:3, :3].T, -T_true[:3, :3].T @ T_true[:3, 3]
    rays = CAMERA.rays() @ R.T
    which, _ = hit(centre, rays, boards)
    shade = rng.integers(30, 226, len(boards) + 1)
    pixels = shade[which].reshape(480, 640, 1) + rng.normal(0, 2, (480, 640, 3))
    return PointCloud(d * t[:, None]), CameraImage(
        "front", 1, np.clip(pixels, 0, 255).astype(np.uint8), CAMERA, MOUNTING
    )


def test_an_outline_runs_between_the_last_ray_and_the_first_beside_it() -> None:
    angle = np.radians(np.arange(-10, 10, 0.5))
    far = np.where(np.abs(angle) < np.radians(3.1), 5.0, 20.0)
    xyz = np.stack([np.cos(angle) * far, np.sin(angle) * far, 0 * far], axis=1)
    points, across = outlines(xyz)
    assert np.allclose(np.linalg.norm(points, axis=1), 5.0)
    found = np.sort(np.degrees(np.arctan2(points[:, 1], points[:, 0])))
    assert found[[0, -1]] == pytest.approx([-3.25, 3.25], abs=0.3)
    assert (np.sign(across[:, 1]) == np.sign(points[:, 1])).all()
    # a wall seen at a grazing angle has no outline
    ground = np.stack([np.linspace(3, 30, 300), np.zeros(300), np.full(300, -1.7)], axis=1)
    assert len(outlines(ground)[0]) == 0


def test_slope_of_the_score_against_differences(rng: np.random.Generator) -> None:
    found = edge_frame(*frame(rng, MOUNTING), max_depth_m=50)
    assert found is not None
    start = Guess(MOUNTING)
    value, slope, inside = score(found, start, 0)
    assert (inside & (value > 0)).sum() > 100
    for k in range(6):
        h = np.zeros(7)
        h[k] = 1e-6
        up, down = score(found, start.moved(h), 0)[0], score(found, start.moved(-h), 0)[0]
        # where a point crosses from pixel to pixel the bilinear slope jumps; the share of u and v
        # is held fixed in the derivative
        numeric = (up - down) / 2e-6
        close = np.isclose(slope[:, k], numeric, rtol=0.05, atol=0.05 * np.abs(slope[:, k]).max())
        assert close[inside].mean() > 0.9


@pytest.mark.parametrize("degrees", [(0, 0, 0), (0.8, -0.7, 0.5)])
def test_a_rotation_is_found_without_motion(rng: np.random.Generator, degrees: tuple) -> None:
    truth = np.array([*np.radians(degrees), 0, 0, 0, 0])
    T_true = Guess(MOUNTING).moved(truth).T_cam_lidar
    frames = [edge_frame(*frame(rng, T_true), max_depth_m=50) for _ in range(3)]
    error, information, dof = align_edges([f for f in frames if f is not None], Guess(MOUNTING))
    assert np.abs(np.degrees(error[:3]) - degrees).max() < 0.15
    sigma = np.degrees(
        np.sqrt(np.diag(np.linalg.inv(information + np.diag([400.0] * 3 + [4.0] * 3))))[:3]
    )
    assert (sigma < 0.3).all()
    assert dof == 7
    assert len(BLURS) == len(frames[0].maps)
