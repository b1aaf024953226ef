"""Scan Context against its definition, written out column by column."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros.errors import GeometryError
from condense_ros.places.scan_context import distances, retrieve, ring_key, scan_context


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def reference(query: np.ndarray, stored: np.ndarray) -> tuple[float, int]:
    best = (2.0, 0)
    for shift in range(60):
        turned = np.roll(query, -shift, axis=1)
        values = [
            turned[:, j]
            @ stored[:, j]
            / np.linalg.norm(turned[:, j])
            / np.linalg.norm(stored[:, j])
            for j in range(60)
            if turned[:, j].any() and stored[:, j].any()
        ]
        value = 1 - float(np.mean(values)) if values else 1.0
        best = min(best, (value, shift))
    return best


def test_heights_land_in_their_cells() -> None:
    # 10 m ahead and a little to the left: ring 2 of 4 m rings, sector 0; 1.5 m above the sensor
    context = scan_context(
        np.array([[10.0, 0.1, 1.5], [10.0, 0.1, 1.0], [0.0, -79.9, -1.0], [81.0, 0.0, 5.0]])
    )
    assert context[2, 0] == pytest.approx(3.5)
    assert context[19, 45] == pytest.approx(1.0)
    assert np.count_nonzero(context) == 2


def test_distances_are_those_of_the_definition(rng: np.random.Generator) -> None:
    stored = rng.uniform(0, 4, (6, 20, 60)) * (rng.random((6, 20, 60)) < 0.4)
    stored[:, :, 5:9] = 0.0
    query = rng.uniform(0, 4, (20, 60)) * (rng.random((20, 60)) < 0.4)
    query[:, 30:40] = 0.0
    found, shift = distances(query, stored)
    for row in range(6):
        value, turn = reference(query, stored[row])
        assert found[row] == pytest.approx(value, abs=1e-9)
        assert shift[row] == turn


def test_a_turned_sweep_is_the_same_place(rng: np.random.Generator) -> None:
    xyz = rng.normal(0, 20, (4000, 3)) * [1, 1, 0.1]
    angle = 17 * 2 * np.pi / 60
    c, s = np.cos(angle), np.sin(angle)
    # seen by a sensor turned to the right, everything moves to the left
    turned = xyz @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    a, b = scan_context(xyz), scan_context(turned)
    distance, shift = distances(b, a[None])
    assert distance[0] < 1e-9
    assert shift[0] == 17
    assert np.allclose(ring_key(a), ring_key(b))


def test_the_nearest_comes_first_with_and_without_the_ring_key(rng: np.random.Generator) -> None:
    stored = np.stack([scan_context(rng.normal(0, 20, (500, 3))) for _ in range(30)])
    for row in (0, 13, 29):
        query = np.roll(stored[row], 11, axis=1)
        assert retrieve(query, stored, 3)[0] == row
        assert retrieve(query, stored, 3, candidates=5)[0] == row


def test_an_empty_sweep_is_far_from_everything() -> None:
    context = scan_context(np.zeros((0, 3)))
    distance, _ = distances(context, np.ones((2, 20, 60)))
    assert distance.tolist() == [1.0, 1.0]


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(GeometryError, match="shape"):
        scan_context(np.zeros((4, 4)))
