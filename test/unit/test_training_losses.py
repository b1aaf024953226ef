"""InfoNCE against hand-computed values (spec of Janda et al., test 1)."""

from __future__ import annotations

import math

import pytest
import torch

from condense_ros.errors import TrainingError
from condense_training.losses import info_nce


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("pairs", "expected"), [(2, 0.078890), (4, 0.220143)])
def test_orthonormal_pairs(pairs: int, expected: float, dtype: torch.dtype) -> None:
    features = torch.eye(pairs, dtype=dtype)
    assert float(info_nce(features, features, temperature=0.4)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("pairs", [1, 2, 7, 100])
def test_equal_features_give_log_n(pairs: int) -> None:
    features = torch.ones(pairs, 5, dtype=torch.float64)
    loss = info_nce(features, 3 * features, temperature=0.4)
    assert float(loss) == pytest.approx(math.log(pairs), abs=1e-12)


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


def test_chunks_change_neither_loss_nor_gradient(rng) -> None:
    q = torch.from_numpy(rng.normal(size=(50, 8))).requires_grad_()
    k = torch.from_numpy(rng.normal(size=(50, 8))).requires_grad_()
    whole = info_nce(q, k, temperature=0.1)
    expected = torch.autograd.grad(whole, (q, k))
    chunked = info_nce(q, k, temperature=0.1, chunk_rows=7)
    got = torch.autograd.grad(chunked, (q, k))
    assert float(whole.detach()) == pytest.approx(float(chunked.detach()), abs=1e-12)
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(a, b)


def test_unpaired_features_are_refused() -> None:
    with pytest.raises(TrainingError, match="same order"):
        info_nce(torch.ones(3, 2), torch.ones(4, 2), temperature=0.4)
    with pytest.raises(TrainingError, match="n >= 1"):
        info_nce(torch.ones(0, 2), torch.ones(0, 2), temperature=0.4)
