"""Interpolation at points against loops and dense grids in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import Sampler, SparseTensor, keys, sample

SIZE = 6


def voxels(n: int, seed: int, stride: int | tuple[int, int, int] = 1) -> SparseTensor:
    """n voxels of two batch elements in [-3, 3)^3, in random row order, with float64 features."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(2 * SIZE**3, generator=generator)[:n]
    b, cells = cells // SIZE**3, cells % SIZE**3
    xyz = torch.stack([cells // SIZE**2, cells // SIZE % SIZE, cells % SIZE], 1) - SIZE // 2
    coords = torch.cat([b[:, None], xyz], 1).int()
    features = torch.randn(n, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    return SparseTensor(features, coords, stride, batch_size=2)


def some_points(n: int, seed: int, scale: float = 5.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    points = (torch.rand(n, 4, dtype=torch.float64, generator=generator) - 0.5) * 2 * scale
    points[:, 0] = torch.randint(0, 2, (n,), generator=generator).double()
    return points


def loop(x: SparseTensor, points: Tensor, normalise: bool) -> Tensor:
    """Point by point, corner by corner."""
    rows = {tuple(row): i for i, row in enumerate(x.coords.tolist())}
    out = []
    for b, *place in points.tolist():
        u = [p / s - 0.5 for p, s in zip(place, x.stride, strict=True)]
        value, total = torch.zeros(x.channels, dtype=torch.float64), 0.0
        for offset in itertools.product((0, 1), repeat=3):
            corner = [math.floor(v) + o for v, o in zip(u, offset, strict=True)]
            weight = math.prod(1 - abs(v - c) for v, c in zip(u, corner, strict=True))
            row = rows.get((int(b), *corner))
            if row is not None:
                value = value + weight * x.features[row]
                total += weight
        out.append(value / total if normalise and total > 0 else value)
    return torch.stack(out)


@given(
    st.integers(0, 1000),
    st.integers(0, 300),
    st.sampled_from([1, 2, (1, 2, 4)]),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_trilinear_equals_a_loop(
    seed: int, n: int, stride: int | tuple[int, int, int], normalise: bool
) -> None:
    x, points = voxels(n, seed, stride), some_points(30, seed)
    got = sample(x, points, normalise=normalise)
    torch.testing.assert_close(got, loop(x, points, normalise), rtol=1e-12, atol=1e-12)


def test_equals_grid_sample_with_its_gradients() -> None:
    x, points = voxels(150, 7), some_points(200, 7, scale=2.9)
    points[:, 0] = 0
    points.requires_grad_()
    c = x.coords.long()
    dense = torch.zeros(2, SIZE, SIZE, SIZE, 3, dtype=torch.float64)
    dense = dense.index_put((c[:, 0], *(c[:, 1:] + SIZE // 2).unbind(1)), x.features)
    grid = points[:, 1:].flip(1) / (SIZE / 2)
    want = F.grid_sample(
        dense[:1].permute(0, 4, 1, 2, 3), grid[None, :, None, None], align_corners=False
    )[0, :, :, 0, 0].t()
    got = sample(x, points)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    g = torch.randn_like(got)
    inputs = (x.features, points)
    for a, b in zip(
        torch.autograd.grad(got, inputs, g), torch.autograd.grad(want, inputs, g), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("normalise", [False, True])
def test_gradients_equal_finite_differences(normalise: bool) -> None:
    x, points = voxels(120, 3), some_points(12, 3, scale=2.5).requires_grad_()

    def value(features: Tensor, places: Tensor) -> Tensor:
        at = torch.cat([points[:, :1].detach(), places], 1)
        return Sampler.at(x, at, normalise=normalise)(features)

    places = points[:, 1:].detach().requires_grad_()
    assert torch.autograd.gradcheck(value, (x.features, places))


def test_linear_functions_are_reproduced_inside() -> None:
    grid = torch.cartesian_prod(*(torch.arange(-4, 4),) * 3)
    coords = torch.cat([torch.zeros(len(grid), 1), grid], 1).int()
    stride = (2, 1, 3)
    centres = (grid.double() + 0.5) * torch.tensor(stride)
    slope = torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)
    x = SparseTensor((centres @ slope + 5)[:, None], coords, stride)
    points = torch.rand(100, 4, dtype=torch.float64) * 6 - 3
    points[:, 0] = 0
    want = points[:, 1:] @ slope + 5
    torch.testing.assert_close(sample(x, points)[:, 0], want)
    # beside the surface a normalised value stays a mean of what is there
    edge = torch.tensor([[0.0, -8.0, 0.0, 0.0]], dtype=torch.float64)
    plain, mean = sample(x, edge), sample(x, edge, normalise=True)
    assert Sampler.at(x, edge).coverage.item() == pytest.approx(0.5)
    torch.testing.assert_close(mean, 2 * plain)


def test_nearest_is_the_voxel_that_holds_the_point() -> None:
    x = SparseTensor(
        torch.tensor([[1.0], [2.0]]), torch.tensor([[0, 0, 0, 0], [0, -1, 0, 0]]).int(), 2
    )
    points = torch.tensor([[0, 0.0, 1.9, 0.5], [0, -0.1, 0, 0], [0, 2.0, 0, 0], [0, 1.99, 0, 0]])
    assert sample(x, points, "nearest").flatten().tolist() == [1.0, 2.0, 0.0, 1.0]
    assert Sampler.at(x, points, "nearest").coverage.tolist() == [1, 1, 0, 1]


def test_a_sampler_serves_other_features_and_keeps_empty_points() -> None:
    x, points = voxels(200, 5), some_points(40, 5, scale=20.0)
    sampler = Sampler.at(x, points)
    assert (sampler.coverage == 0).any()
    other = torch.randn(200, 7, dtype=torch.float64)
    torch.testing.assert_close(sampler(other), sample(x.replace(other), points))
    assert not sampler(other)[sampler.coverage == 0].any()
    with pytest.raises(SparseError, match="200 voxels"):
        sampler(other[:10])
    low = other.bfloat16()
    assert sampler(low).dtype == torch.bfloat16
    torch.testing.assert_close(sampler(low).double(), sampler(other), rtol=0.05, atol=0.05)


def test_points_beyond_the_packing_range_hold_nothing() -> None:
    """Without care their keys would be those of voxels elsewhere."""
    edge = keys.COORDINATE_LIMIT
    coords = torch.tensor([[0, 0, 0, edge], [0, 0, 0, -edge], [0, 1, 0, -edge], [0] * 4]).int()
    x = SparseTensor(torch.ones(4, 1, dtype=torch.float64), coords)
    points = torch.tensor(
        [[0, 0.5, 0.5, edge + 0.5], [0, 0.5, 0.5, edge + (1 << 17)], [0, 0.5, 0.5, 1e15]],
        dtype=torch.float64,
    )
    assert sample(x, points).flatten().tolist() == [1, 0, 0]
    assert sample(x, points, "nearest").flatten().tolist() == [1, 0, 0]


def test_no_voxels_and_no_points() -> None:
    features = torch.zeros(0, 2, requires_grad=True)
    none = SparseTensor(features, torch.zeros(0, 4).int(), batch_size=2)
    out = sample(none, torch.ones(3, 4))
    assert out.tolist() == [[0, 0]] * 3
    out.sum().backward()
    assert sample(voxels(20, 1), torch.zeros(0, 4, dtype=torch.float64)).shape == (0, 3)


def test_typed_errors() -> None:
    x = voxels(20, 1)
    good = torch.zeros(2, 4, dtype=torch.float64)
    with pytest.raises(SparseError, match="mode is 'cubic'"):
        sample(x, good, "cubic")
    with pytest.raises(SparseError, match="give \\(P, 4\\)"):
        sample(x, good[:, :3])
    with pytest.raises(SparseError, match="non-finite"):
        sample(x, good * float("nan"))
    for batch in (-1.0, 2.0, 0.5):
        with pytest.raises(SparseError, match="batch elements"):
            sample(x, good + torch.tensor([batch, 0, 0, 0]))
    with pytest.raises(SparseError, match="points on meta"):
        sample(x, good.to("meta"))
