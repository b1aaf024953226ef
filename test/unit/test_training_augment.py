"""Augmentation of colours and clouds."""

from __future__ import annotations

import numpy as np

from condense_ros.frame import PointCloud
from condense_training.augment import (
    CloudAugmentation,
    ColourAugmentation,
    augment_cloud,
    augment_colours,
    random_cloud_transform,
)


def test_colours_change_but_not_shape(rng) -> None:
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    changed = augment_colours(pixels, np.random.default_rng(1))
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    assert (changed != pixels).mean() > 0.5
    np.testing.assert_array_equal(changed, augment_colours(pixels, np.random.default_rng(1)))


def test_probability_zero_changes_nothing(rng) -> None:
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    off = ColourAugmentation(jitter_probability=0, gray_probability=0, blur_probability=0)
    np.testing.assert_array_equal(augment_colours(pixels, rng, off), pixels)


def test_gray_images_have_equal_channels(rng) -> None:
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    gray = augment_colours(
        pixels,
        rng,
        ColourAugmentation(jitter_probability=0, gray_probability=1, blur_probability=0),
    )
    assert (gray == gray[..., :1]).all()
    expected = pixels @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(gray[..., 0], expected, atol=0.51)


def test_hue_alone_keeps_brightest_channel_value() -> None:
    pixels = np.full((4, 4, 3), (200, 50, 50), np.uint8)
    only_hue = ColourAugmentation(0, 0, 0, 0.5, 1.0, 0.0, 0.0)
    seen = {
        tuple(augment_colours(pixels, np.random.default_rng(s), only_hue)[0, 0]) for s in range(20)
    }
    assert len(seen) > 10
    assert all(abs(int(max(c)) - 200) <= 1 and abs(int(min(c)) - 50) <= 1 for c in seen)


def test_clouds_are_moved_by_a_similarity(rng) -> None:
    how = CloudAugmentation(scale=(0.9, 1.1))
    determinants = []
    for seed in range(40):
        T = random_cloud_transform(np.random.default_rng(seed), how)
        scale = np.cbrt(abs(np.linalg.det(T[:3, :3])))
        assert 0.9 <= scale <= 1.1
        np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, scale**2 * np.eye(3), atol=1e-12)
        # up stays up: two tilts of at most pi/32 each
        assert T[2, 2] / scale > np.cos(np.pi / 32) ** 2 - 1e-9
        determinants.append(np.sign(np.linalg.det(T[:3, :3])))
    assert {-1.0, 1.0} == set(determinants)


def test_rows_keep_their_order_and_nan_stays(rng) -> None:
    xyz = rng.normal(size=(30, 3)).astype(np.float32)
    xyz[4] = np.nan
    cloud = PointCloud(xyz, intensity=np.arange(30, dtype=np.float32))
    moved = augment_cloud(cloud, rng, CloudAugmentation(centre=True))
    assert np.isnan(moved.xyz[4]).all()
    np.testing.assert_array_equal(moved.intensity, cloud.intensity)
    kept = cloud.finite()
    np.testing.assert_allclose(moved.xyz[kept].mean(axis=0), 0, atol=1e-5)
    before = np.linalg.norm(xyz[0] - xyz[1:4], axis=1)
    after = np.linalg.norm(moved.xyz[0] - moved.xyz[1:4], axis=1)
    np.testing.assert_allclose(after / before, (after / before)[0], rtol=1e-4)
