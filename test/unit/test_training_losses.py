"""Contrastive losses against hand-computed values (spec of Janda et al., test 1; of OLIVINE, tests
1 and 2) and against the formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from condense_ros.errors import TrainingError
from condense_training.losses import (
    class_contrast,
    feature_regression,
    info_nce,
    superpixel_contrast,
)

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def paired(n: int, channels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    q, k = (torch.from_numpy(rng.normal(size=(n, channels))) for _ in range(2))
    return q.requires_grad_(), k.requires_grad_()


def written_out(q: Tensor, k: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """(n,) losses by the formula of eq. 2, every logarithm and exponential as it stands there."""
    unit_q, unit_k = (x / x.norm(dim=1, keepdim=True) for x in (q, k))
    weight = torch.exp(unit_q @ unit_k.T / temperature)
    probability = weight / weight.sum(1, keepdim=True)
    return -torch.log((probability * positive).sum(1) / positive.sum(1))


# InfoNCE


@DTYPES
@pytest.mark.parametrize(
    ("pairs", "temperature", "expected"),
    [(2, 1.0, 0.313262), (2, 0.4, 0.078890), (4, 0.4, 0.220143)],
)
def test_10_1_orthonormal_pairs(pairs, temperature, expected, dtype) -> None:
    features = torch.eye(pairs, dtype=dtype)
    loss = info_nce(features, features, temperature=temperature)
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@DTYPES
@pytest.mark.parametrize("pairs", [1, 2, 7, 100, 4096])
def test_10_1_equal_features_give_log_n(pairs: int, dtype) -> None:
    features = torch.ones(pairs, 5, dtype=dtype)
    loss = info_nce(features, 3 * features, temperature=0.07)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    assert float(loss) == pytest.approx(math.log(pairs), abs=tolerance)


def test_10_1_order_of_pairs_does_not_matter(rng) -> None:
    q, k = paired(60, 8)
    order = torch.from_numpy(rng.permutation(60))
    q, k = q.detach(), k.detach()
    loss = info_nce(q, k, temperature=0.07)
    moved = info_nce(q[order], k[order], temperature=0.07)
    assert float(moved) == pytest.approx(float(loss), abs=1e-12)
    # but it does matter that both sides move together
    assert float(info_nce(q[order], k, temperature=0.07)) != pytest.approx(float(loss), abs=1e-3)


def test_one_way_formula_and_reductions(rng) -> None:
    q = torch.from_numpy(rng.normal(size=(6, 4)))
    k = torch.from_numpy(rng.normal(size=(6, 4)))
    unit_q, unit_k = (x / x.norm(dim=1, keepdim=True) for x in (q, k))
    expected = []
    for i in range(6):
        similarities = [float(unit_q[i] @ unit_k[j]) / 0.4 for j in range(6)]
        expected.append(math.log(sum(map(math.exp, similarities))) - similarities[i])
    rows = info_nce(q, k, temperature=0.4, reduction="none")
    assert rows.tolist() == pytest.approx(expected, abs=1e-12)
    assert float(info_nce(q, k, temperature=0.4, reduction="sum")) == pytest.approx(sum(expected))
    assert float(info_nce(k, q, temperature=0.4)) != pytest.approx(sum(expected) / 6)
    weights = torch.arange(6, dtype=torch.float64)
    weighted = info_nce(q, k, temperature=0.4, weights=weights)
    assert float(weighted) == pytest.approx(sum(i * loss for i, loss in enumerate(expected)))


@pytest.mark.parametrize("chunk_rows", [1, 7, 49, 50, 64, None])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_chunks_change_neither_loss_nor_gradient(chunk_rows, reduction) -> None:
    q, k = paired(50, 8)
    rows = written_out(q, k, torch.eye(50), 0.1)
    whole = rows.sum() if reduction == "sum" else rows.mean()
    expected = torch.autograd.grad(whole, (q, k))
    loss = info_nce(q, k, temperature=0.1, reduction=reduction, chunk_rows=chunk_rows).mean()
    torch.testing.assert_close(loss, whole)
    for a, b in zip(expected, torch.autograd.grad(loss, (q, k)), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_agree_with_finite_differences() -> None:
    q, k = paired(9, 4)
    labels = torch.tensor([3, 0, 0, 7, 3, 3, 1, 0, 7])
    weights = torch.linspace(0.1, 1, 9, dtype=torch.float64)
    for chunk_rows in (2, 9):
        assert torch.autograd.gradcheck(
            lambda a, b, c=chunk_rows: info_nce(a, b, temperature=0.3, chunk_rows=c), (q, k)
        )
        assert torch.autograd.gradcheck(
            lambda a, b, c=chunk_rows: class_contrast(
                a, b, labels, temperature=0.3, weights=weights, chunk_rows=c
            ),
            (q, k),
        )


def test_a_frozen_side_gets_no_gradient() -> None:
    q, k = paired(20, 4)
    (whole,) = torch.autograd.grad(info_nce(q, k, temperature=0.1), q)
    (alone,) = torch.autograd.grad(info_nce(q, k.detach(), temperature=0.1), q)
    torch.testing.assert_close(whole, alone)
    assert not info_nce(q.detach(), k.detach(), temperature=0.1).requires_grad
    with torch.no_grad():
        assert not info_nce(q, k, temperature=0.1).requires_grad


def test_autocast_does_not_round_the_logits() -> None:
    q, k = paired(40, 16)
    q, k = q.float(), k.float()
    expected = info_nce(q, k, temperature=0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(q, k, temperature=0.07)
    assert torch.equal(loss, expected)


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_logits_are_never_all_in_memory() -> None:
    n = 4096
    q, k = (torch.randn(n, 8).requires_grad_() for _ in range(2))
    with LargestTensor() as largest:
        loss = info_nce(q, k, temperature=0.07)
        (loss + class_contrast(q, k, torch.arange(n) % 7, temperature=0.07)).backward()
    assert largest.elements <= n * n // 16
    with LargestTensor() as largest:
        info_nce(q, k, temperature=0.07, reduction="none")
    assert largest.elements == n * n


def test_unpaired_features_are_refused() -> None:
    with pytest.raises(TrainingError, match="same order"):
        info_nce(torch.ones(3, 2), torch.ones(4, 2), temperature=0.4)
    with pytest.raises(TrainingError, match="n >= 1"):
        info_nce(torch.ones(0, 2), torch.ones(0, 2), temperature=0.4)
    with pytest.raises(TrainingError, match="mean, sum"):
        info_nce(torch.ones(3, 2), torch.ones(3, 2), temperature=0.4, reduction="median")
    with pytest.raises(TrainingError, match="one per row"):
        info_nce(torch.ones(3, 2), torch.ones(3, 2), temperature=0.4, weights=torch.ones(4))
    with pytest.raises(TrainingError, match="int64 label per row"):
        class_contrast(torch.ones(3, 2), torch.ones(3, 2), torch.ones(3), temperature=0.4)


# class contrast


def spec_example(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors whose similarities are [[1, .5, 0], [.5, 1, 0], [0, 0, 1]]."""
    features = torch.tensor([[1, 0, 0], [0.5, math.sqrt(0.75), 0], [0, 0, 1]], dtype=dtype)
    return features, features.clone(), torch.tensor([0, 0, 1])


@DTYPES
@pytest.mark.parametrize(
    ("temperature", "mean", "expected"),
    [(1.0, True, 0.783375), (0.5, True, 0.604843), (1.0, False, 0.321277), (0.5, False, 0.142744)],
)
def test_10_2_three_pairs_of_two_classes(temperature, mean, expected, dtype) -> None:
    q, k, labels = spec_example(dtype)
    loss = class_contrast(q, k, labels, temperature=temperature, mean_of_positives=mean)
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@DTYPES
def test_10_2_distinct_labels_give_info_nce(rng, dtype) -> None:
    q, k = (x.detach().to(dtype) for x in paired(70, 8))
    labels = torch.from_numpy(rng.permutation(70))
    for chunk_rows in (16, None):
        a = class_contrast(q, k, labels, temperature=0.07, chunk_rows=chunk_rows)
        torch.testing.assert_close(a, info_nce(q, k, temperature=0.07))


@DTYPES
def test_10_2_equal_labels_give_log_n_and_no_gradient(dtype) -> None:
    q, k = (x.detach().to(dtype).requires_grad_() for x in paired(64, 8))
    loss = class_contrast(q, k, torch.full((64,), 5), temperature=0.07)
    assert float(loss.detach()) == pytest.approx(
        math.log(64), abs=1e-14 if dtype == torch.float64 else 1e-6
    )
    for gradient in torch.autograd.grad(loss, (q, k)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_10_2_gradient_is_the_same_without_log_a() -> None:
    labels = torch.arange(30) % 4
    gradients = []
    for mean in (True, False):
        q, k = paired(30, 6)
        loss = class_contrast(q, k, labels, temperature=0.07, mean_of_positives=mean)
        gradients.append(torch.autograd.grad(loss, (q, k)))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
        assert float(a.abs().max()) > 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    classes=st.integers(1, 6),
    chunk_rows=st.sampled_from([1, 3, 8, None]),
    temperature=st.sampled_from([0.07, 0.5, 1.0]),
)
def test_class_contrast_is_the_formula(seed, n, classes, chunk_rows, temperature) -> None:
    q, k = paired(n, 5, seed)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(-3, classes - 3, n))
    same = (labels[:, None] == labels[None]).double()
    weights = torch.linspace(0.2, 1, n, dtype=torch.float64)
    expected = (weights * written_out(q, k, same, temperature)).sum()
    wanted = torch.autograd.grad(expected, (q, k))
    loss = class_contrast(
        q, k, labels, temperature=temperature, weights=weights, chunk_rows=chunk_rows
    )
    torch.testing.assert_close(loss, expected)
    for a, b in zip(wanted, torch.autograd.grad(loss, (q, k)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


def test_low_temperatures_do_not_overflow() -> None:
    """exp(1 / 0.002) is beyond float32, and exp(-1000) below it."""
    q = torch.tensor([[1.0, 0], [-1, 0], [0, 1]], requires_grad=True)
    k = torch.tensor([[-1.0, 0], [1, 0], [0, 1]], requires_grad=True)
    loss = class_contrast(q, k, torch.tensor([0, 1, 2]), temperature=0.002)
    assert float(loss.detach()) == pytest.approx(2000 / 3, rel=1e-5)
    for gradient in torch.autograd.grad(loss, (q, k)):
        assert torch.isfinite(gradient).all()


# superpixels


def test_superpixel_contrast_compares_means_of_segments(rng) -> None:
    points, pixels = (torch.from_numpy(rng.normal(size=(n, 4))) for n in (6, 9))
    of_points = torch.tensor([0, 0, 2, 2, -1, 3])
    of_pixels = torch.tensor([2, 2, 2, 0, 0, -1, 1, 1, 5])
    # only segments 0 and 2 have both
    q = torch.stack([points[:2].mean(0), points[2:4].mean(0)])
    k = torch.stack([pixels[3:5].mean(0), pixels[:3].mean(0)])
    expected = info_nce(q, k, temperature=0.07)
    loss = superpixel_contrast(points, of_points, pixels, of_pixels, temperature=0.07)
    torch.testing.assert_close(loss, expected)


def test_superpixel_gradients_agree_with_finite_differences(rng) -> None:
    points, pixels = (torch.from_numpy(rng.normal(size=(8, 3))).requires_grad_() for _ in range(2))
    segments = torch.tensor([0, 0, 1, 1, 2, 2, 2, -1])

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return superpixel_contrast(a, segments, b, segments.flip(0), temperature=0.5)

    assert torch.autograd.gradcheck(loss, (points, pixels))


def test_superpixels_without_points_are_refused() -> None:
    with pytest.raises(TrainingError, match="numbered alike"):
        superpixel_contrast(
            torch.ones(2, 3),
            torch.zeros(2).long(),
            torch.ones(2, 3),
            torch.ones(2).long(),
            temperature=0.07,
        )
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(TrainingError, match="numbered alike"):
        superpixel_contrast(torch.ones(0, 3), nothing, torch.ones(0, 3), nothing, temperature=1.0)


# regression


def test_regression_by_hand() -> None:
    predicted = torch.tensor([[2.0, 0], [0, 3]], dtype=torch.float64)
    target = torch.tensor([[1.0, 0], [4, 0]], dtype=torch.float64)
    assert float(feature_regression(predicted, target, kind="l2")) == pytest.approx(
        math.sqrt(2) / 2
    )
    assert float(feature_regression(predicted, target, kind="cosine")) == pytest.approx(0.5)
    assert float(feature_regression(predicted, target, kind="mse")) == pytest.approx(
        (0.5 + 12.5) / 2
    )
    weights = torch.tensor([5.0, 0.25])
    weighted = feature_regression(predicted, target, kind="cosine", weights=weights)
    assert float(weighted) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["l2", "cosine", "mse"])
def test_regression_gradients(kind: str) -> None:
    predicted, target = paired(7, 5)
    assert torch.autograd.gradcheck(
        lambda p: feature_regression(p, target, kind=kind), (predicted,)
    )
    loss = feature_regression(predicted, target, kind=kind)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(loss, target)


@pytest.mark.parametrize("kind", ["l2", "cosine", "mse"])
def test_a_perfect_copy_has_no_loss_and_a_finite_gradient(kind: str) -> None:
    target = torch.randn(5, 4)
    predicted = target.clone().requires_grad_()
    loss = feature_regression(predicted, target, kind=kind)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(gradient).all()


def test_unknown_regressions_are_refused() -> None:
    with pytest.raises(TrainingError, match="l2, cosine, mse"):
        feature_regression(torch.ones(3, 2), torch.ones(3, 2), kind="l1")
