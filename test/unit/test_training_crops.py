"""Crops and their correspondences (spec of Janda et al., tests 2 and 5)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from condense_training.crops import Crop, centre_crop, match_crops, random_crop, whole_image
from condense_training.pairs import sample_features


def test_identity_maps_every_pixel_to_itself(rng) -> None:
    crop = Crop(0, 0, 224, 224, 224, 224)
    matches = match_crops(crop, crop, rng, max_matches=10**9)
    assert len(matches) == 224 * 224
    assert (matches[:, 0] == matches[:, 1]).all()


def test_flip_maps_columns_to_mirrored_columns(rng) -> None:
    plain = Crop(0, 0, 224, 224, 224, 224)
    mirrored = Crop(0, 0, 224, 224, 224, 224, flip=True)
    matches = match_crops(plain, mirrored, rng, max_matches=10**9)
    assert len(matches) == 224 * 224
    row, column = np.divmod(matches[:, 0], 224)
    assert (matches[:, 1] == row * 224 + (223 - column)).all()


def test_crops_without_overlap_do_not_match(rng) -> None:
    matches = match_crops(
        Crop(0, 0, 50, 50, 64, 64), Crop(60, 0, 50, 50, 64, 64), rng, max_matches=100
    )
    assert matches.shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(40, 1300), height=st.integers(40, 500))
def test_matches_are_the_nearest_pixels_within_the_bound(seed, width, height) -> None:
    rng = np.random.default_rng(seed)
    first, second = (random_crop(rng, width, height, 64) for _ in range(2))
    matches = match_crops(first, second, rng, max_matches=10**9)
    a, b = first.coordinates().reshape(-1, 2), second.coordinates().reshape(-1, 2)
    distance, _ = cKDTree(b).query(a)
    found = np.linalg.norm(a[matches[:, 0]] - b[matches[:, 1]], axis=1)
    assert (found <= 1.5).all()
    np.testing.assert_allclose(found, distance[matches[:, 0]], atol=1e-9)
    assert set(matches[:, 0]) >= set(np.nonzero(distance < 1.5 - 1e-9)[0])
    assert len(set(matches[:, 0])) == len(matches)


def test_number_of_matches_is_bounded_and_seeded() -> None:
    crop = Crop(0, 0, 64, 64, 64, 64)
    a, b = (match_crops(crop, crop, np.random.default_rng(3), max_matches=100) for _ in range(2))
    assert a.shape == (100, 2)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("flip", [False, True])
def test_pixels_go_where_the_coordinates_say(flip: bool) -> None:
    """A smooth image of coordinates, cut and resized, holds the coordinates of each crop pixel."""
    v, u = np.mgrid[0:200, 0:300].astype(np.float32)
    crop = Crop(40, 20, 150, 100, 60, 50, flip)
    image = np.stack([u, v, np.zeros_like(u)], axis=2)
    box = image[20:120, 40:190]
    resized = cv2.resize(box, (60, 50), interpolation=cv2.INTER_AREA)
    expected = resized[:, ::-1] if flip else resized
    np.testing.assert_allclose(crop.coordinates(), expected[..., :2], atol=0.06)
    pixels = np.clip(image / 2, 0, 255).astype(np.uint8)
    got = crop.cut(pixels)[..., :2].astype(float)
    np.testing.assert_allclose(got, np.floor(expected[..., :2] / 2), atol=1.0)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_crop_pixels_survive_the_round_trip(seed) -> None:
    rng = np.random.default_rng(seed)
    crop = random_crop(rng, 640, 480, 96)
    uv = rng.uniform(0, 95, size=(20, 2))
    np.testing.assert_allclose(crop.from_original(crop.to_original(uv)), uv, atol=1e-9)


def test_sampling_the_coordinate_image_returns_the_coordinates(rng) -> None:
    maps, all_uv, images = [], [], []
    for i, crop in enumerate([centre_crop(640, 480, 224), Crop(30, 10, 90, 70, 224, 224, True)]):
        maps.append(torch.from_numpy(crop.coordinates()).permute(2, 0, 1))
        all_uv.append(rng.uniform(0, 223, size=(50, 2)))
        images.append(np.full(50, i))
    crops = [centre_crop(640, 480, 224), Crop(30, 10, 90, 70, 224, 224, True)]
    expected = np.concatenate([c.to_original(uv) for c, uv in zip(crops, all_uv, strict=True)])
    got = sample_features(
        torch.stack(maps),
        torch.from_numpy(np.concatenate(images)),
        torch.from_numpy(np.concatenate(all_uv)),
    )
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-9)


def test_centre_crop_is_the_central_square_of_the_resized_image() -> None:
    crop = centre_crop(640, 480, 224)
    assert (crop.width, crop.height) == (420, 420)  # 480 * 224 / 256
    assert (crop.left, crop.top) == (110, 30)


@pytest.mark.parametrize(("size", "out"), [((640, 480), (128, 96)), ((1242, 375), (320, 96))])
def test_whole_image_has_sides_of_multiples_of_32(size, out) -> None:
    crop = whole_image(*size, 96)
    assert (crop.out_width, crop.out_height) == out
    assert (crop.width, crop.height) == size
