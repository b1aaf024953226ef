"""von Mises-Fisher distributions of classes (spec of OLIVINE, tests 3 to 6 and 11)."""

from __future__ import annotations

import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch import multiprocessing as processes

from condense_ros.errors import TrainingError
from condense_training.losses import (
    ClassDistributions,
    VmfStatistics,
    concentration,
    log_vmf_normaliser,
    mean_resultant,
    prototype_distance,
    vmf_nll,
)

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
KAPPAS = np.geomspace(1e-8, 1e5, 27)


def log_normaliser_of(kappa: float, dim: int) -> float:
    """log K_C by 40-digit arithmetic, from the definition."""
    with mpmath.workdps(40):
        nu, k = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(kappa)
        value = nu * mpmath.log(k) - mpmath.log(mpmath.besseli(nu, k))
        return float(value - mpmath.mpf(dim) / 2 * mpmath.log(2 * mpmath.pi))


def mean_resultant_of(kappa: float, dim: int) -> float:
    with mpmath.workdps(40):
        nu = mpmath.mpf(dim) / 2 - 1
        return float(mpmath.besseli(nu + 1, kappa) / mpmath.besseli(nu, kappa))


def vmf_samples(rng: np.random.Generator, mu: np.ndarray, kappa: float, n: int) -> np.ndarray:
    """Ulrich's rejection sampler with Wood's correction, 1994."""
    dim = len(mu)
    b = (dim - 1) / (2 * kappa + math.sqrt(4 * kappa**2 + (dim - 1) ** 2))
    x = (1 - b) / (1 + b)
    c = kappa * x + (dim - 1) * math.log(1 - x * x)
    cosines = np.empty(0)
    while len(cosines) < n:
        beta = rng.beta((dim - 1) / 2, (dim - 1) / 2, n)
        w = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
        accepted = kappa * w + (dim - 1) * np.log(1 - x * w) - c >= np.log(rng.random(n))
        cosines = np.concatenate([cosines, w[accepted]])
    w = cosines[:n, None]
    tangent = rng.normal(size=(n, dim))
    tangent -= (tangent @ mu)[:, None] * mu
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return w * mu + np.sqrt(1 - w * w) * tangent


# normaliser and mean resultant length


@DTYPES
@pytest.mark.parametrize(
    ("dim", "kappa", "expected"),
    [
        (3, 0, -2.531024),
        (64, 0, 40.767720),
        (128, 0, 127.053457),
        (3, 1, -2.692464),
        (3, 10, -9.535292),
        (64, 1, 40.759908),
        (64, 10, 39.995446),
        (64, 64, 16.533572),
        (64, 100, -8.040765),
        (64, 500, -361.171569),
        (128, 1, 127.049550),
        (128, 10, 126.663996),
        (128, 100, 95.061469),
        (128, 1000, -676.078023),
    ],
)
def test_10_3_log_normaliser(dim, kappa, expected, dtype) -> None:
    value = log_vmf_normaliser(torch.tensor(float(kappa), dtype=dtype), dim)
    assert value.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float64 else 1e-4
    assert float(value) == pytest.approx(expected, abs=tolerance)


@DTYPES
def test_10_3_three_dimensions_have_a_closed_form(dtype) -> None:
    kappa = torch.tensor([1e-3, 0.1, 1, 10, 80], dtype=dtype)
    expected = [math.log(k / (4 * math.pi * math.sinh(k))) for k in kappa.tolist()]
    tolerance = 2e-9 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(log_vmf_normaliser(kappa, 3).numpy(), expected, atol=tolerance)


@DTYPES
@pytest.mark.parametrize("dim", [2, 3, 16, 64, 128, 768])
def test_10_3_log_normaliser_from_1e_8_to_1e5(dim: int, dtype) -> None:
    kappa = torch.tensor(KAPPAS, dtype=dtype)
    value = log_vmf_normaliser(kappa, dim).double().numpy()
    expected = np.array([log_normaliser_of(k, dim) for k in kappa.tolist()])
    assert np.isfinite(value).all()
    if dtype == torch.float64:
        np.testing.assert_allclose(value, expected, atol=5e-9, rtol=1e-13)
    else:
        np.testing.assert_allclose(value, expected, atol=1.5e-4, rtol=3e-7)


@DTYPES
def test_10_4_mean_resultant(dtype) -> None:
    def at(dim: int, kappa: float) -> float:
        return float(mean_resultant(torch.tensor(kappa, dtype=dtype), dim))

    assert at(64, 64.0) == pytest.approx(0.620430, abs=1e-6)
    assert at(128, 100.0) == pytest.approx(0.548329, abs=1e-6)
    for kappa in (0.5, 3.0, 40.0):
        expected = 1 / math.tanh(kappa) - 1 / kappa
        assert at(3, kappa) == pytest.approx(expected, rel=1e-6)
    assert at(64, 0.0) == 0.0


@DTYPES
@pytest.mark.parametrize("dim", [2, 3, 16, 64, 128])
def test_10_4_mean_resultant_from_1e_8_to_1e5(dim: int, dtype) -> None:
    kappa = torch.tensor(KAPPAS, dtype=dtype)
    expected = [mean_resultant_of(k, dim) for k in kappa.tolist()]
    value = mean_resultant(kappa, dim).double().numpy()
    np.testing.assert_allclose(value, expected, rtol=1e-7 if dtype == torch.float64 else 1e-6)


@DTYPES
def test_10_4_derivative_of_the_normaliser(dtype) -> None:
    kappa = torch.tensor([0.0, 1e-4, 0.5, 7.0, 64.0, 900.0], dtype=dtype, requires_grad=True)
    for dim in (3, 64):
        (gradient,) = torch.autograd.grad(log_vmf_normaliser(kappa, dim).sum(), kappa)
        assert torch.equal(gradient, -mean_resultant(kappa, dim))


def test_10_4_finite_differences_agree() -> None:
    kappa = torch.tensor([0.3, 2.0, 30.0, 500.0], dtype=torch.float64, requires_grad=True)
    for dim in (2, 3, 64, 128):
        assert torch.autograd.gradcheck(lambda k, d=dim: log_vmf_normaliser(k, d), (kappa,))
        assert torch.autograd.gradgradcheck(lambda k, d=dim: log_vmf_normaliser(k, d), (kappa,))


def test_a_sphere_has_two_dimensions_or_more() -> None:
    with pytest.raises(TrainingError, match="2 or more"):
        log_vmf_normaliser(torch.ones(1), 1)


# concentration


@DTYPES
@pytest.mark.parametrize(
    ("dim", "resultant", "sra", "exact"),
    [
        (64, 0.5, 42.5, 42.402442),
        (64, 0.9, 299.321053, 298.919112),
        (128, 0.7, 175.013725, 174.784646),
    ],
)
def test_10_5_concentration(dim, resultant, sra, exact, dtype) -> None:
    length = torch.tensor(resultant, dtype=dtype)
    relative = 1e-7 if dtype == torch.float64 else 2e-6
    assert float(concentration(length, dim)) == pytest.approx(sra, rel=relative)
    assert float(concentration(length, dim, 2)) == pytest.approx(exact, rel=relative)


def test_10_5_samples_give_their_concentration_back(rng) -> None:
    mu = rng.normal(size=64)
    mu /= np.linalg.norm(mu)
    features = torch.from_numpy(vmf_samples(rng, mu, 100.0, 100_000))
    statistics = VmfStatistics(1, 64, kappa_max=1e6, newton_steps=2, dtype=torch.float64)
    labels = torch.zeros(len(features), dtype=torch.int64)
    for _ in range(2):
        statistics.update(features, labels)
    found = statistics.distributions()
    assert float(found.resultant) == pytest.approx(0.7323, abs=2e-3)
    assert float(found.kappa) == pytest.approx(100, rel=0.01)
    assert float(found.direction[0] @ torch.from_numpy(mu)) > 0.9999
    # and their likelihood is highest at about that concentration
    losses = [
        float(vmf_nll(features, labels, known(found.direction, torch.tensor([kappa]).double())))
        for kappa in (80.0, 100.0, 120.0)
    ]
    assert losses[1] < losses[0]
    assert losses[1] < losses[2]


# likelihood


def known(direction: Tensor, kappa: Tensor) -> ClassDistributions:
    everyone = torch.ones(len(kappa), dtype=torch.bool)
    return ClassDistributions(direction, kappa, torch.zeros_like(kappa), everyone)


def three_classes(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, ClassDistributions]:
    """20 features of 3 classes with 3, 6 and 11 points."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 8, generator=generator, dtype=dtype)
    direction = torch.nn.functional.normalize(
        torch.randn(3, 8, generator=generator, dtype=dtype), dim=1
    )
    labels = torch.tensor([0] * 3 + [1] * 6 + [2] * 11)
    return features, labels, known(direction, torch.tensor([5.0, 20.0, 60.0], dtype=dtype))


@DTYPES
def test_10_6_gradient_is_minus_kappa_mu(dtype) -> None:
    features, labels, classes = three_classes(dtype)
    unit = torch.nn.functional.normalize(features, dim=1).requires_grad_()
    loss = vmf_nll(unit, labels, classes, reduction="point")
    (gradient,) = torch.autograd.grad(loss, unit)
    expected = -(classes.kappa[:, None] * classes.direction)[labels] / len(labels)
    torch.testing.assert_close(gradient, expected)
    rows = [
        -log_normaliser_of(float(classes.kappa[y]), 8)
        - float(classes.kappa[y] * (classes.direction[y] @ g))
        for y, g in zip(labels, unit.detach(), strict=True)
    ]
    assert float(loss.detach()) == pytest.approx(np.mean(rows), rel=1e-5)


def test_10_6_gradient_is_tangential_after_normalisation() -> None:
    features, labels, classes = three_classes()
    features.requires_grad_()
    unit = torch.nn.functional.normalize(features, dim=1)
    (gradient,) = torch.autograd.grad(vmf_nll(unit, labels, classes), features)
    assert float(gradient.norm()) > 0.1
    torch.testing.assert_close(
        (gradient * features.detach()).sum(1), torch.zeros(20).double(), atol=1e-12, rtol=0
    )


def test_10_6_distributions_get_no_gradient() -> None:
    features, labels, classes = three_classes()
    features.requires_grad_()
    classes.direction.requires_grad_()
    classes.kappa.requires_grad_()
    vmf_nll(features, labels, classes).backward()
    assert classes.direction.grad is None
    assert classes.kappa.grad is None
    vmf_nll(features, labels, classes, learn_distributions=True).backward()
    unit_pull = torch.stack(
        [(features[labels == y] @ classes.direction[y]).mean() for y in range(3)]
    )
    expected = (mean_resultant(classes.kappa, 8) - unit_pull) / 3
    torch.testing.assert_close(classes.kappa.grad, expected.detach())


@DTYPES
def test_10_6_no_concentration_gives_the_area_of_the_sphere(dtype) -> None:
    features, labels, classes = three_classes(dtype)
    features.requires_grad_()
    flat = known(classes.direction, torch.zeros_like(classes.kappa))
    loss = vmf_nll(features, labels, flat)
    area = math.log(2 * math.pi**4 / math.gamma(4))
    assert float(loss.detach()) == pytest.approx(area, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, features)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_class_reduction_weighs_classes_alike() -> None:
    features, labels, classes = three_classes()
    parts = [
        float(vmf_nll(features[labels == y], labels[labels == y], classes, reduction="point"))
        for y in range(3)
    ]
    assert float(vmf_nll(features, labels, classes)) == pytest.approx(np.mean(parts))
    share = np.array([3, 6, 11]) / 20
    by_point = float(vmf_nll(features, labels, classes, reduction="point"))
    assert by_point == pytest.approx(share @ parts)
    with pytest.raises(TrainingError, match="class or point"):
        vmf_nll(features, labels, classes, reduction="mean")


def test_points_without_a_known_class_do_not_count() -> None:
    features, labels, classes = three_classes()
    seen = ClassDistributions(
        classes.direction, classes.kappa, classes.resultant, torch.tensor([True, False, True])
    )
    mixed = labels.clone()
    mixed[0] = 255
    mixed[3] = -1
    kept = torch.tensor([1, 2, *range(9, 20)])
    for loss in (vmf_nll, prototype_distance):
        expected = loss(features[kept], labels[kept], classes)
        assert float(loss(features, mixed, seen)) == pytest.approx(float(expected))
    features.requires_grad_()
    nothing = vmf_nll(features, torch.full_like(labels, 255), seen)
    (gradient,) = torch.autograd.grad(nothing, features)
    assert float(nothing.detach()) == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_prototypes_pull_alike_whatever_their_spread() -> None:
    features, labels, classes = three_classes()
    unit = torch.nn.functional.normalize(features, dim=1).requires_grad_()
    loss = prototype_distance(unit, labels, classes, reduction="point")
    half_squared = 0.5 * ((unit - classes.direction[labels]) ** 2).sum(1).mean()
    torch.testing.assert_close(loss, half_squared)
    (gradient,) = torch.autograd.grad(loss, unit)
    torch.testing.assert_close(gradient, -classes.direction[labels] / 20)


# running statistics


def constant_batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    feature = torch.tensor([[0.6, 0.8, 0.0]], dtype=dtype)
    return feature.repeat(5, 1), torch.tensor([1, 1, 1, 1, 1])


@DTYPES
def test_11_constant_input_without_correction(dtype) -> None:
    features, labels = constant_batch(dtype)
    statistics = VmfStatistics(2, 3, decay=1 - 1e-4, bias_correction=False, dtype=dtype)
    for t in range(1, 501):
        statistics.update(features, labels)
        if t in (1, 10, 500):
            expected = (1 - (1 - 1e-4) ** t) * features[0]
            torch.testing.assert_close(statistics.mean[1], expected, rtol=2e-5, atol=0)
    assert torch.equal(statistics.mean[0], torch.zeros(3, dtype=dtype))


@DTYPES
def test_11_constant_input_with_correction_is_exact_at_once(dtype) -> None:
    features, labels = constant_batch(dtype)
    statistics = VmfStatistics(2, 3, decay=0.9999, dtype=dtype)
    for _ in range(200):
        statistics.update(features, labels)
        torch.testing.assert_close(statistics.mean[1], features[0], rtol=1e-6, atol=0)


def test_11_correction_is_division_by_one_minus_a_to_the_t(rng) -> None:
    corrected = VmfStatistics(2, 3, decay=0.9, dtype=torch.float64)
    plain = VmfStatistics(2, 3, decay=0.9, bias_correction=False, dtype=torch.float64)
    for step in range(30):
        features = torch.from_numpy(rng.normal(size=(7, 3)))
        labels = torch.from_numpy(rng.integers(0, 2, 7))
        if step % 3:
            labels[:] = 1  # class 0 is absent most of the time, and its average then waits
        for statistics in (corrected, plain):
            statistics.update(features, labels)
    assert corrected.updates.tolist() == plain.updates.tolist()
    assert 5 <= int(plain.updates[0]) <= 10
    factor = 1 - 0.9 ** plain.updates.double()
    torch.testing.assert_close(corrected.mean, plain.mean / factor[:, None])


def test_means_are_over_the_points_of_a_class(rng) -> None:
    statistics = VmfStatistics(3, 4, decay=0.75, bias_correction=False, dtype=torch.float64)
    features = torch.from_numpy(rng.normal(size=(9, 4))).requires_grad_()
    labels = torch.tensor([0, 2, 2, 255, 2, -1, 0, 3, 2])
    statistics.update(features, labels)
    torch.testing.assert_close(statistics.mean[0], features[[0, 6]].detach().mean(0) / 4)
    torch.testing.assert_close(statistics.mean[2], features[[1, 2, 4, 8]].detach().mean(0) / 4)
    assert statistics.updates.tolist() == [1, 0, 1]
    assert not statistics.mean.requires_grad


def test_collection_phase_ends_and_freezes() -> None:
    features, labels = constant_batch()
    frozen = VmfStatistics(2, 3, collection_steps=3)
    going_on = VmfStatistics(2, 3, collection_steps=3, update_after_collection=True)
    phases = []
    for _ in range(5):
        phases.append(frozen.collecting)
        for statistics in (frozen, going_on):
            statistics.update(features, labels)
    assert phases == [True, True, True, False, False]
    assert frozen.updates.tolist() == [0, 3]
    assert going_on.updates.tolist() == [0, 5]


def test_classes_seldom_seen_are_unknown_and_harmless() -> None:
    features, labels = constant_batch()
    statistics = VmfStatistics(3, 3, min_updates=2)
    statistics.update(features, labels)
    assert statistics.distributions().known.tolist() == [False, False, False]
    statistics.update(features, labels)
    found = statistics.distributions()
    assert found.known.tolist() == [False, True, False]
    assert found.kappa.tolist() == [0.0, 100.0, 0.0]  # a resultant of 1 would be infinite
    assert torch.equal(found.direction[[0, 2]], torch.zeros(2, 3))
    torch.testing.assert_close(found.direction[1], features[0])
    # features that cancel have no direction
    opposed = VmfStatistics(1, 3, min_updates=1)
    opposed.update(torch.tensor([[1.0, 0, 0], [-1, 0, 0]]), torch.zeros(2, dtype=torch.int64))
    assert not opposed.distributions().known.any()


def test_a_restored_state_goes_on_bit_equally(rng) -> None:
    def batches(count: int) -> list[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(3)
        return [
            (
                torch.nn.functional.normalize(torch.randn(40, 6, generator=generator), dim=1),
                torch.randint(0, 5, (40,), generator=generator),
            )
            for _ in range(count)
        ]

    whole = VmfStatistics(5, 6, collection_steps=8)
    stopped = VmfStatistics(5, 6, collection_steps=8)
    data = batches(12)
    for features, labels in data:
        whole.update(features, labels)
    for features, labels in data[:5]:
        stopped.update(features, labels)
    resumed = VmfStatistics(5, 6, collection_steps=8)
    resumed.load_state_dict(stopped.state_dict())
    for features, labels in data[5:]:
        resumed.update(features, labels)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert int(whole.steps) == 8


def test_shapes_that_do_not_fit_are_refused() -> None:
    statistics = VmfStatistics(3, 3)
    with pytest.raises(TrainingError, match=r"\(M, 3\)"):
        statistics.update(torch.ones(2, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TrainingError, match="one int64 label"):
        statistics.update(torch.ones(2, 3), torch.zeros(3, dtype=torch.int64))


def _rank(rank: int, folder: str, uneven: bool) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    statistics = VmfStatistics(3, 4, decay=0.9, dtype=torch.float64)
    for features, labels in _rank_data(rank, uneven):
        statistics.update(features, labels)
    torch.save(statistics.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _rank_data(rank: int, uneven: bool) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(rank if uneven else 0)
    data = []
    for _ in range(4):
        features = torch.randn(12, 4, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 2 + rank if uneven else 3, (12,), generator=generator)
        count = 12 - 8 * rank if uneven else 12
        data.append((features[:count], labels[:count]))
    return data


@pytest.mark.parametrize("uneven", [False, True])
def test_11_two_ranks_give_the_result_of_one(tmp_path: Path, uneven: bool) -> None:
    """Equal data: as one rank. Different data: as one rank that sees the points of both."""
    processes.spawn(_rank, (str(tmp_path), uneven), nprocs=2)
    one = VmfStatistics(3, 4, decay=0.9, dtype=torch.float64)
    for ours, theirs in zip(_rank_data(0, uneven), _rank_data(1, uneven), strict=True):
        joined = [torch.cat(parts) for parts in zip(ours, theirs, strict=True)]
        one.update(*(joined if uneven else ours))
    for rank in (0, 1):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(state[name], value)
