"""Sampling of pairs (spec of OLIVINE, test 7)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros.errors import TrainingError
from condense_training.sampling import (
    STRATEGIES,
    draw,
    pair_probabilities,
    radial_density,
    sample_pairs,
)

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
def test_10_7_density_by_hand(dtype) -> None:
    density = radial_density(torch.tensor([1.0, 2, 2, 5], dtype=dtype), resolution_m=1.0)
    assert density.tolist() == pytest.approx([0.183559, 0.205738, 0.205738, 0.086857], abs=1e-6)


@DTYPES
def test_10_7_probabilities_by_hand(dtype) -> None:
    distance = torch.tensor([1.0, 2, 2, 5], dtype=dtype)
    labels = torch.tensor([0, 0, 0, 1])
    chances = pair_probabilities("density_category", distance, labels, resolution_m=1.0)
    expected = [0.109596, 0.097781, 0.097781, 0.694842]
    assert chances.tolist() == pytest.approx(expected, abs=1e-6)
    density = np.array([0.183559, 0.205738, 0.205738, 0.086857])
    only = pair_probabilities("density", distance, labels, resolution_m=1.0)
    np.testing.assert_allclose(only, 1 / density / (1 / density).sum(), atol=1e-6)
    only = pair_probabilities("category", distance, labels)
    assert only.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert pair_probabilities("uniform", distance, labels).tolist() == [0.25] * 4


def test_10_7_even_data_are_drawn_evenly() -> None:
    distance = torch.linspace(0, 50, 5001)
    labels = torch.arange(5001) % 8
    chances = pair_probabilities("density_category", distance, labels) * 5001
    inner = (distance > 10) & (distance < 40)  # the kernel loses mass beyond both ends
    assert float(chances[inner].max() / chances[inner].min()) < 1.05


def test_10_7_twice_the_class_half_the_chance() -> None:
    distance = torch.full((30,), 7.0)
    single = pair_probabilities("category", distance, torch.tensor([0] * 10 + [1] * 20))
    assert float(single[0] / single[-1]) == pytest.approx(2.0)
    # and so every class is drawn as often as any other
    assert float(single[:10].sum()) == pytest.approx(0.5)


def slow_density(distance: np.ndarray, resolution: float) -> np.ndarray:
    """Eq. 12 as written, one point after the other."""
    d = np.rint(distance / resolution) * resolution
    spread = d.std(ddof=1) if len(d) > 1 else 0.0
    h = max(resolution, 1.06 * spread * len(d) ** -0.2)
    kernels = [np.exp(-0.5 * ((x - d) / h) ** 2).sum() for x in d]
    return np.array(kernels) / (len(d) * h * math.sqrt(2 * math.pi))


@settings(max_examples=60, deadline=None)
@given(
    distance=st.lists(st.floats(0, 120, width=32), min_size=1, max_size=80),
    resolution=st.sampled_from([0.1, 0.25, 1.0]),
)
def test_density_is_the_sum_over_points(distance, resolution) -> None:
    got = radial_density(torch.tensor(distance), resolution_m=resolution).numpy()
    expected = slow_density(np.array(distance, np.float32).astype(float), resolution)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_rounding_the_distances_costs_little(rng) -> None:
    distance = rng.gamma(2.0, 8.0, 2000)
    fine = slow_density(distance, 1e-9)
    got = radial_density(torch.from_numpy(distance), resolution_m=0.1).numpy()
    np.testing.assert_allclose(got, fine, rtol=0.02)


def test_density_in_chunks_is_the_same(rng, monkeypatch) -> None:
    from condense_training.sampling import density

    distance = torch.from_numpy(rng.uniform(0, 60, 3000))
    whole = radial_density(distance)
    monkeypatch.setattr(density, "_CHUNK_ELEMENTS", 1000)
    torch.testing.assert_close(radial_density(distance), whole, rtol=1e-12, atol=0)


def test_distances_must_be_finite() -> None:
    for bad in (math.nan, math.inf, -1.0):
        with pytest.raises(TrainingError, match="leave such points out"):
            radial_density(torch.tensor([1.0, bad]))
    assert len(radial_density(torch.zeros(0))) == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_draws_are_distinct_bounded_and_repeatable(strategy, rng) -> None:
    distance = torch.from_numpy(rng.uniform(1, 60, 500))
    labels = torch.from_numpy(rng.integers(0, 6, 500))
    draws = [
        sample_pairs(strategy, 200, distance, labels, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert draws[0].shape == (200,)
    assert len(set(draws[0].tolist())) == 200
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    everything = sample_pairs(strategy, 10_000, distance, labels)
    assert sorted(everything.tolist()) == list(range(500))


def test_ignored_labels_are_never_drawn_and_do_not_count() -> None:
    distance = torch.tensor([1.0, 2, 2, 5, 3, 3])
    labels = torch.tensor([0, 0, 0, 1, 255, 255])
    rows = sample_pairs("density_category", 6, distance, labels, ignored=255)
    assert sorted(rows.tolist()) == [0, 1, 2, 3]
    kept = sample_pairs("density_category", 6, distance, labels)
    assert sorted(kept.tolist()) == [0, 1, 2, 3, 4, 5]
    assert len(sample_pairs("density_category", 6, distance, labels * 0, ignored=0)) == 0


def test_first_draw_follows_the_probabilities() -> None:
    chances = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    first, second = np.zeros(5), np.zeros((5, 5))
    n = 20_000
    for _ in range(n):
        a, b = draw(chances, 2, generator=generator).tolist()
        first[a] += 1
        second[a, b] += 1
    spread = 4 * np.sqrt(n * 0.25)
    np.testing.assert_allclose(first, n * chances.numpy(), atol=spread)
    assert first[2] == second[:, 2].sum() == 0
    # what is left is drawn in proportion
    for a in (0, 1, 3, 4):
        left = chances.numpy().copy()
        left[a] = 0
        expected = first[a] * left / left.sum()
        np.testing.assert_allclose(second[a], expected, atol=4 * np.sqrt(first[a] * 0.25))
    assert sorted(draw(chances, 9).tolist()) == [0, 1, 3, 4]


def test_rare_and_far_pairs_come_up_more_often(rng) -> None:
    """The point of it all: in a street's worth of pairs, distances and classes even out."""
    n = 20_000
    distance = torch.from_numpy(rng.gamma(1.5, 6.0, n) + 1)
    labels = torch.from_numpy(rng.choice(4, n, p=[0.7, 0.2, 0.08, 0.02]))
    uniform = sample_pairs("uniform", 1000, distance, labels)
    even = sample_pairs("density_category", 1000, distance, labels)
    assert int((labels[uniform] == 3).sum()) < 60
    assert int((labels[even] == 3).sum()) > 150
    assert float(distance[even].mean()) > 1.5 * float(distance[uniform].mean())


def test_unknown_strategies_and_labels_are_refused() -> None:
    with pytest.raises(TrainingError, match="uniform, density"):
        pair_probabilities("random", torch.ones(2), torch.zeros(2).long())
    with pytest.raises(TrainingError, match="number classes from 0"):
        pair_probabilities("category", torch.ones(2), torch.tensor([0, -1]))
