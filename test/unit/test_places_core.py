"""Keypoints, matching, registration, depth images and descriptors, against known motions."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.geometry import inverse, pose_error, rotation_rpy, se3, transform
from condense_ros.places.depth_image import depth_image
from condense_ros.places.descriptors import RING_HEIGHT_SIZE, generalised_mean, ring_height
from condense_ros.places.keypoints import (
    DESCRIPTOR_SIZE,
    Keypoints,
    extract_keypoints,
    fpfh,
    normals_of,
)
from condense_ros.places.matching import find_poses, kabsch, mutual_matches
from condense_ros.places.registration import Aligned, covariance_at, register

T = se3(rotation_rpy(0.02, -0.03, 2.4), (3.0, -1.5, 0.2))


def near(T_a: np.ndarray, T_b: np.ndarray, metres: float, degrees: float) -> bool:
    error = pose_error(T_a, T_b)
    return error[0] < metres and error[1] < degrees


def block_town(rng: np.random.Generator, boxes: int = 40) -> np.ndarray:
    """Points of a ground plane and upright boxes around the origin, about 20,000."""
    ground = np.column_stack([rng.uniform(-30, 30, (6000, 2)), rng.normal(-1.7, 0.01, 6000)])
    parts = [ground]
    for _ in range(boxes):
        x, y = rng.uniform(5, 28, 2) * rng.choice([-1, 1], 2)
        half_x, half_y, top = rng.uniform(0.3, 4), rng.uniform(0.3, 4), rng.uniform(0.5, 6)
        side = rng.integers(0, 4, 350)
        along = rng.uniform(-1, 1, 350)
        px = np.where(side == 0, half_x, np.where(side == 1, -half_x, along * half_x))
        py = np.where(side == 2, half_y, np.where(side == 3, -half_y, along * half_y))
        parts.append(np.column_stack([x + px, y + py, rng.uniform(-1.7, top, 350)]))
    return np.concatenate(parts)


def test_kabsch_recovers_a_known_motion_and_ignores_weightless_pairs(
    rng: np.random.Generator,
) -> None:
    source = rng.normal(0, 5, (30, 3))
    target = transform(T, source)
    assert near(kabsch(target, source), T, 1e-9, 1e-6)
    weights = np.ones(30)
    target[:5] += 20.0
    weights[:5] = 0.0
    batch = kabsch(np.stack([target] * 2), np.stack([source] * 2), np.stack([weights] * 2))
    assert batch.shape == (2, 4, 4)
    assert near(batch[1], T, 1e-6, 1e-6)
    assert pose_error(kabsch(target, source), T)[0] > 0.5


def test_kabsch_never_mirrors(rng: np.random.Generator) -> None:
    flat = rng.normal(0, 1, (10, 3)) * (1, 1, 0)
    mirrored = flat * (1, -1, 1)
    assert np.linalg.det(kabsch(mirrored, flat)[:3, :3]) == pytest.approx(1.0)


def test_fpfh_of_a_plane_by_hand() -> None:
    # on a plane all normals agree: alpha, phi and theta are 0, the middle of 11 bins, in every
    # histogram, and the weighted sum over neighbours keeps it there
    x, y = np.meshgrid(np.arange(8.0), np.arange(8.0))
    plane = np.column_stack([x.ravel(), y.ravel(), np.zeros(64)])
    histogram = fpfh(plane, np.tile([0.0, 0.0, 1.0], (64, 1)), 2.5, 12)
    middle = np.array([5, 16, 27])
    others = np.setdiff1d(np.arange(DESCRIPTOR_SIZE), middle)
    assert (histogram[:, middle] > 1.0).all()
    assert not histogram[:, others].any()


def test_descriptors_do_not_depend_on_the_pose(rng: np.random.Generator) -> None:
    xyz = block_town(rng)[::8]
    normals = normals_of(xyz)
    moved, turned = transform(T, xyz), normals @ T[:3, :3].T
    before, after = fpfh(xyz, normals, 4.0, 20), fpfh(moved, turned, 4.0, 20)
    assert np.abs(before - after).max() < 0.05
    assert np.abs(before - after[::-1]).max() > 0.5


def test_keypoints_are_few_finite_and_prefer_structure(rng: np.random.Generator) -> None:
    xyz = block_town(rng)
    xyz[::50] = np.nan
    points = extract_keypoints(xyz)
    assert 100 < len(points) <= 1400
    assert np.isfinite(points.xyz).all()
    assert np.isfinite(points.descriptors).all()
    assert np.linalg.norm(points.descriptors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert len(extract_keypoints(np.zeros((3, 3)))) == 0
    assert len(extract_keypoints(np.full((100, 3), np.nan))) == 0


def test_mutual_matches_by_hand() -> None:
    def points(rows: list[list[float]]) -> Keypoints:
        padded = np.zeros((len(rows), DESCRIPTOR_SIZE), np.float32)
        padded[:, :2] = rows
        return Keypoints(np.zeros((len(rows), 3), np.float32), padded)

    # source 0 <-> target 1; source 1 prefers target 1 too, which prefers source 0
    target = points([[0.0, 1.0], [1.0, 0.0]])
    source = points([[1.0, 0.0], [0.9, 0.1]])
    rows_t, rows_s = mutual_matches(target, source, 10)
    assert rows_t.tolist() == [1]
    assert rows_s.tolist() == [0]


def test_pose_is_found_among_mostly_wrong_matches(rng: np.random.Generator) -> None:
    descriptors = rng.random((600, DESCRIPTOR_SIZE)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    xyz = rng.uniform(-30, 30, (600, 3))
    moved = transform(T, xyz)
    wrong = rng.random(600) < 0.85
    moved[wrong] = rng.uniform(-30, 30, (int(wrong.sum()), 3))
    source = Keypoints(xyz.astype(np.float32), descriptors)
    target = Keypoints(moved.astype(np.float32), descriptors)
    best = find_poses(target, source)[0]
    assert best.inliers >= (~wrong).sum()
    assert near(best.T_target_source, T, 0.05, 0.2)


def test_no_pose_from_unrelated_keypoints(rng: np.random.Generator) -> None:
    def unrelated() -> Keypoints:
        descriptors = rng.random((300, DESCRIPTOR_SIZE)).astype(np.float32)
        return Keypoints(rng.uniform(-30, 30, (300, 3)).astype(np.float32), descriptors)

    assert all(pose.inliers < 12 for pose in find_poses(unrelated(), unrelated()))
    assert find_poses(unrelated(), Keypoints(np.zeros((0, 3), np.float32), np.zeros((0, 33)))) == []


def test_registration_pulls_a_rough_pose_in_and_says_how_sure_it_is(
    rng: np.random.Generator,
) -> None:
    xyz = block_town(rng)
    noisy = transform(inverse(T), xyz + rng.normal(0, 0.01, xyz.shape))[::2]
    rough = T @ se3(rotation_rpy(0.01, 0.0, 0.02), (0.2, -0.15, 0.05))
    found = register(Aligned(xyz, 0.3), Aligned(noisy, 0.3), rough)
    assert near(found.T_target_source, T, 0.02, 0.1)
    sigma = np.sqrt(np.diag(found.covariance))
    assert (sigma > 0).all()
    assert (sigma[:3] < 0.1).all()
    assert np.linalg.eigvalsh(found.covariance).min() > 0


def test_an_unconstrained_direction_has_a_large_variance(rng: np.random.Generator) -> None:
    # an endless corridor along x: nothing tells how far along one is
    def grid(*axes: np.ndarray) -> np.ndarray:
        return np.stack([part.ravel() for part in np.meshgrid(*axes)], axis=1)

    x = np.arange(-40, 40, 0.25)
    walls = grid(x, np.array([-3.0, 3.0]), np.arange(-1.5, 1.6, 0.3))
    floor = grid(x, np.arange(-3, 3.1, 0.5), np.array([-1.6]))
    xyz = np.concatenate([walls, floor])
    seen = xyz[np.abs(xyz[:, 0]) < 25]
    noisy = seen + rng.normal(0, 0.01, seen.shape)
    found = register(Aligned(xyz, None), Aligned(noisy, None), np.eye(4))
    sigma = np.sqrt(np.diag(found.covariance))
    assert sigma[0] > 5 * sigma[1]


def test_covariance_moves_with_the_lever_arm() -> None:
    covariance = np.diag([0.0, 0.0, 0.0, 0.0, 0.0, 0.01])
    # yaw error 0.1 rad at a lever of 2 m along x moves the base sideways by 0.2 m
    moved = covariance_at(covariance, np.eye(4), se3(np.eye(3), (2.0, 0.0, 0.0)))
    assert np.sqrt(moved[1, 1]) == pytest.approx(0.2)
    assert moved[0, 0] == pytest.approx(0.0)
    # turned by 90 degrees in the map, the lever points along y and the base moves along x
    turned = covariance_at(
        covariance, se3(rotation_rpy(0, 0, np.pi / 2), np.zeros(3)), se3(np.eye(3), (2.0, 0, 0))
    )
    assert np.sqrt(turned[0, 0]) == pytest.approx(0.2)


def test_depth_image_tells_agreement_from_free_space() -> None:
    angle = np.radians(np.arange(0, 360, 0.5))
    wall = np.concatenate(
        [np.column_stack([10 * np.cos(angle), 10 * np.sin(angle), np.full(angle.shape, z)])
         for z in (-0.5, 0.0, 0.5)]
    )  # fmt: skip
    image = depth_image(wall)
    points = np.array([[10.1, 0, 0], [5, 0, 0], [14, 0, 0], [0, 0, 30.0], [-9.8, 0.1, 0.2]])
    agree, through = image.compare(points, 0.5, 0.0)
    assert agree.tolist() == [True, False, False, False, True]
    assert through.tolist() == [False, True, False, False, False]


def test_depth_image_wraps_around_behind() -> None:
    image = depth_image(np.array([[-10.0, 0.05, 0.0]]))
    agree, _ = image.compare(np.array([[-10.0, -0.1, 0.0]]), 0.5, 0.0)
    assert agree.all()


def test_ring_descriptor_ignores_heading_and_changes_slowly(rng: np.random.Generator) -> None:
    xyz = block_town(rng)
    here = ring_height(xyz)
    assert here.shape == (RING_HEIGHT_SIZE,)
    assert np.linalg.norm(here) == pytest.approx(1.0)
    turned = ring_height(xyz @ rotation_rpy(0, 0, 1.2).T)
    shifted = ring_height(xyz - (1.0, 0.5, 0.0))
    other = ring_height(block_town(np.random.default_rng(5)))
    assert here @ turned > 0.99
    assert here @ shifted > here @ other
    assert not ring_height(np.full((4, 3), np.nan)).any()


def test_generalised_mean_by_hand() -> None:
    pooled = generalised_mean(np.array([[1.0, 0.0], [3.0, 0.0]]), power=3.0)
    # cube root of (1 + 27) / 2, and 1e-6, scaled to norm 1
    assert pooled == pytest.approx([1.0, 1e-6 / 14 ** (1 / 3)], abs=1e-6)
    assert not generalised_mean(np.zeros((0, 2))).any()
