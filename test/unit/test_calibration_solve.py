"""The calibration estimator on exact geometry: derivatives, planes, poses, and all seven axes."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.estimate import conditional, judge
from condense_ros.calibration.flow import AXES, residuals, view
from condense_ros.calibration.keyframes import KeyFrame
from condense_ros.calibration.solve import Guess, covariance, solve
from condense_ros.calibration.surfaces import planes_at
from condense_ros.calibration.trajectory import Aligner, Trajectory
from condense_ros.calibration.watch import _mean_drift
from condense_ros.deskew import exp_se3
from condense_ros.frame import CameraImage, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, inverse, se3, transform

MOUNTING = se3(R_OPTICAL_BODY, (0.05, -0.2, -0.3))
CAMERA = CameraModel(np.array([[420.0, 0, 319.5], [0, 420, 239.5], [0, 0, 1]]), 640, 480)
WALLS = (  # a street: ground, two walls, a house ahead; normal . x = offset
    ((0, 0, 1), -1.7),
    ((0, 1, 0.02), 7.0),
    ((0, 1, -0.03), -5.0),
    ((1, 0.3, 0), 90.0),
)


def stepped(step: np.ndarray) -> np.ndarray:
    return Guess(MOUNTING).moved(step).T_cam_lidar


def test_derivatives_against_differences(rng: np.random.Generator) -> None:
    twist = np.array([7, 0.2, 0.1, 0.02, 0.05, 0.5])
    pose_i = exp_se3(rng.normal(size=6) * 0.3)
    pose_j = pose_i @ exp_se3(twist * 0.2)
    rays = np.c_[rng.uniform(-0.6, 0.6, (20, 2)), np.ones(20)]
    seen = rays + np.c_[rng.normal(size=(20, 2)) * 0.01, np.zeros(20)]
    normal = rng.normal(size=(20, 3))
    normal[:, 2] = -abs(normal[:, 2]) - 0.5
    T = view(MOUNTING, pose_i, twist).T_cam_world
    points = transform(inverse(T), rays * rng.uniform(5, 30, 20)[:, None])
    normal = normal @ T[:3, :3]
    offset = (normal * points).sum(1)

    def error(x: np.ndarray, motion: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        i = view(stepped(x), pose_i @ exp_se3(twist * x[6]), twist)
        j = view(stepped(x), pose_j @ exp_se3(twist * 1.1 * x[6]), twist * 1.1)
        if motion is not None:
            D = exp_se3(np.concatenate([np.zeros(3), motion[:3]]))
            D[:3, 3] = motion[3:]
            j = type(j)(D @ j.T_cam_world, j.drift)
        return residuals(i, j, rays, seen, normal, offset, 420.0)

    _, J, M = error(np.zeros(7))
    for k in range(7):
        h = 1e-6 * np.eye(7)[k]
        numeric = (error(h)[0] - error(-h)[0]) / 2e-6
        assert np.abs(J[:, :, k] - numeric).max() < 1e-6 * max(1, np.abs(numeric).max()), AXES[k]
    for k in range(6):
        h = 1e-6 * np.eye(6)[k]
        numeric = (error(np.zeros(7), h)[0] - error(np.zeros(7), -h)[0]) / 2e-6
        assert np.abs(M[:, :, k] - numeric).max() < 1e-6 * max(1, np.abs(numeric).max())


def on_walls(origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(N,) distance to the nearest wall along each direction."""
    distance = np.full(len(directions), np.inf)
    for normal, offset in WALLS:
        n = np.array(normal, float)
        with np.errstate(divide="ignore"):
            t = (offset - n @ origin) / (directions @ n)
        distance = np.where((t > 0) & (t < distance), t, distance)
    return distance


def sweep(pose: np.ndarray) -> np.ndarray:
    azimuth, elevation = np.meshgrid(
        np.radians(np.arange(-60, 60, 0.4)), np.radians(np.arange(-25, 12, 1.2))
    )
    d = (
        np.stack(
            [
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ],
            -1,
        ).reshape(-1, 3)
        @ pose[:3, :3].T
    )
    t = on_walls(pose[:3, 3], d)
    near = t < 60
    return pose[:3, 3] + d[near] * t[near, None]


def drive(seconds: np.ndarray, turning: bool) -> np.ndarray:
    """Lidar poses at some speed along the street; turning sways the heading and the pitch."""
    poses = []
    for s in seconds:
        yaw = 0.25 * np.sin(1.3 * s) if turning else 0.0
        pitch = 0.03 * np.sin(2.1 * s) if turning else 0.0
        x = 6 * s + (0.8 * np.sin(0.9 * s) if turning else 0.0)
        poses.append(
            exp_se3(np.array([0, 0, 0, 0, pitch, yaw]))
            + se3(np.zeros((3, 3)), (x, 0.4 * np.sin(s) * turning, 0))
            - np.diag([0, 0, 0, 1.0])
        )
    return np.array(poses)


def key_frames(
    rng: np.random.Generator, truth: np.ndarray, turning: bool, noise_px: float
) -> tuple[list[KeyFrame], Trajectory]:
    """What exact sensors would deliver; truth (7,) is the error of MOUNTING."""
    rate = 10
    fine = np.arange(0, 9.0, 0.01)
    fine_poses = drive(fine, turning)
    exact = Trajectory((fine * 1e9).round().astype(np.int64), fine_poses)
    coarse = np.arange(0, 8.5, 1 / rate)
    known = Trajectory((coarse * 1e9).round().astype(np.int64), drive(coarse, turning))
    keys = []
    for k in range(5, 75, 3):
        stamps = np.round((k + np.arange(5)) / rate * 1e9).astype(np.int64)
        views = [
            view(stepped(truth), *exact.at(int(s), float(truth[6]))).T_cam_world for s in stamps
        ]
        uv = np.c_[rng.uniform(10, 630, 250), rng.uniform(10, 470, 250)]
        first = CAMERA.rays(uv)
        R, centre = views[0][:3, :3].T, inverse(views[0])[:3, 3]
        t = on_walls(centre, first @ R.T)
        points = centre + first @ R.T * t[:, None]
        rays = np.full((5, len(uv), 3), np.nan)
        for a, T in enumerate(views):
            pixels, _, inside = CAMERA.project(transform(T, points))
            pixels = pixels + noise_px * rng.standard_normal(pixels.shape)
            ok = inside & np.isfinite(t)
            rays[a, ok] = CAMERA.rays(pixels[ok])
        pose, _ = exact.at(int(stamps[0]))
        keys.append(KeyFrame(CAMERA, stamps, rays, sweep(pose)))
    return keys, known


CONFIG = CalibrationConfig(iterations=12)
UNIT = np.array([180 / np.pi] * 3 + [100.0] * 3 + [1000.0])


@pytest.mark.parametrize(
    "truth",
    [
        np.zeros(7),
        np.array([*np.radians([0.8, -0.6, 0.5]), 0.06, -0.05, 0.08, 0.04]),
        np.array([*np.radians([-0.3, 0.9, -1.0]), -0.1, 0.1, -0.03, -0.1]),
    ],
)
def test_all_axes_are_found(rng: np.random.Generator, truth: np.ndarray) -> None:
    keys, trajectory = key_frames(rng, truth, turning=True, noise_px=0.1)
    solution = solve(keys, trajectory, Guess(MOUNTING), CONFIG)
    assert solution is not None
    error = (solution.guess.since(Guess(MOUNTING)) - truth) * UNIT
    assert np.abs(error[:3]).max() < 0.05  # degrees
    assert np.abs(error[3:6]).max() < 2.0  # centimetres
    assert abs(error[6]) < 3.0  # milliseconds
    C, dof = covariance(solution, 12)
    estimate = judge(
        "front", Guess(MOUNTING), solution.guess.since(Guess(MOUNTING)), C, dof, CONFIG, {}
    )
    assert {axis.status for axis in estimate.axes.values()} <= {"good", "off"}
    assert estimate.verdict == ("off" if truth.any() else "good")


def test_straight_and_steady_driving_hides_the_time_offset(rng: np.random.Generator) -> None:
    keys, trajectory = key_frames(rng, np.zeros(7), turning=False, noise_px=0.1)
    solution = solve(keys, trajectory, Guess(MOUNTING), CONFIG)
    assert solution is not None
    C, dof = covariance(solution, 12)
    estimate = judge(
        "front", Guess(MOUNTING), solution.guess.since(Guess(MOUNTING)), C, dof, CONFIG, {}
    )
    # an image taken later looks like a camera mounted further ahead
    assert estimate.axes["time_offset"].status == "unobservable"
    assert estimate.axes["translation_z"].status == "unobservable"
    assert estimate.axes["rotation_x"].status == "good"
    assert estimate.time_offset_s == 0.0


def test_a_plane_is_found_exactly_and_edges_are_left_out(rng: np.random.Generator) -> None:
    n, offset = np.array([0.1, -0.9, -0.3]), -2.0
    xy = rng.uniform(-0.5, 0.5, (4000, 2))
    xy[:, 1] = abs(xy[:, 1]) + 0.05
    rays = np.c_[xy, np.ones(4000)]
    points = rays * (offset / (rays @ n))[:, None]
    points = points[(points[:, 2] > 1) & (points[:, 2] < 40)]
    asked = np.array([[0.1, 0.3, 1], [-0.2, 0.4, 1]])
    T = se3(exp_se3(np.array([0, 0, 0, 0.2, -0.1, 0.3]))[:3, :3], (1, 2, 3))
    found = planes_at(asked, transform(inverse(T), points), T, 420.0, 50.0)
    assert found.rows.tolist() == [0, 1]
    # in the optical frame again
    normal = found.normal @ T[:3, :3].T
    depth = (found.offset + normal @ T[:3, 3]) / (normal * asked).sum(1)
    assert np.allclose(depth, offset / (asked @ n), rtol=1e-9)
    # a second surface one metre behind half of the points
    points[::2] *= 1.3
    assert planes_at(asked, points, np.eye(4), 420.0, 50.0).rows.size == 0


def test_poses_between_samples() -> None:
    twist = np.array([5.0, 0.1, 0, 0, 0.02, 0.4])
    poses = np.array([exp_se3(twist * t) for t in (0.0, 0.1, 0.2)])
    trajectory = Trajectory(np.array([0, 100_000_000, 200_000_000]), poses)
    T, rate = trajectory.at(130_000_000, -0.07)
    assert np.allclose(T, exp_se3(twist * 0.06), atol=1e-12)
    assert np.allclose(rate, twist)
    # beyond the ends it goes on
    assert np.allclose(trajectory.at(250_000_000)[0], exp_se3(twist * 0.25), atol=1e-12)


def test_sweeps_are_aligned_better_than_odometry(rng: np.random.Generator) -> None:
    poses = drive(np.arange(0, 1.5, 0.1), turning=True)
    poses[:, 0, 3] += 55  # near the house: along two walls alone nothing is seen of the way
    aligner, T = Aligner(0.25), poses[0]
    for k, pose in enumerate(poses):
        cloud = transform(inverse(pose), sweep(pose)) + 0.01 * rng.standard_normal((1, 3))
        cloud += 0.01 * rng.standard_normal(cloud.shape)
        step = inverse(poses[max(k - 1, 0)]) @ pose
        step[:3, 3] *= 1.03  # a wheel worn down
        step, aligned = aligner.step(cloud, step)
        assert aligned == (k > 0)
        T = T @ step if k else T
    assert np.linalg.norm(inverse(poses[-1]) @ T - np.eye(4)) < 0.05
    assert not aligner.step(np.zeros((0, 3)), np.eye(4))[1]


def test_status_follows_interval_limit_and_tolerance() -> None:
    sigma = np.array([1e-4, 1e-4, 0.01, 1e-3, 1e-3, 1e-3, 1e-4])
    error = np.array([np.radians(0.5), 0, np.radians(2), 0.02, -0.2, 0, 0.001])
    estimate = judge("c", Guess(MOUNTING), error, np.diag(sigma**2), 20, CalibrationConfig(), {})
    assert [estimate.axes[name].status for name in AXES] == [
        *("off", "good", "unobservable"),  # 2 degrees, but known to a degree only
        *("good", "off", "good"),  # 2 cm are tolerated, 20 are not
        "good",
    ]
    assert estimate.verdict == "off"
    assert estimate.axes["rotation_x"].low < 0.5 < estimate.axes["rotation_x"].high
    shown = error * (np.arange(7) != 2)
    assert np.allclose(estimate.T_cam_lidar_proposed, Guess(MOUNTING).moved(shown).T_cam_lidar)


def test_hidden_axes_are_held_at_the_given_value() -> None:
    C = np.eye(7)
    C[5, 6] = C[6, 5] = 0.8
    error = np.array([0, 0, 0, 0, 0, 1.0, 2.0])
    out = conditional(error, C, np.arange(7) == 6)
    assert out[6] == 0
    assert out[5] == pytest.approx(1.0 - 0.8 * 2.0)


def test_outlines_do_not_tell_a_time_offset_from_a_shift() -> None:
    poses = drive(np.arange(0, 2, 0.1), turning=False)
    trajectory = Trajectory((np.arange(20) * 1e8).astype(np.int64), poses)
    image = CameraImage("c", 10**9, np.zeros((480, 640, 3), np.uint8), CAMERA, MOUNTING)
    found = _mean_drift(Guess(MOUNTING), [(PointCloud(np.zeros((0, 3))), image)], trajectory)
    # at 6 m/s ahead the world comes nearer along the optical axis
    assert np.allclose(found, [0, 0, 0, 0, 0, -6.0], atol=0.05)
    assert not _mean_drift(Guess(MOUNTING), [], None).any()
