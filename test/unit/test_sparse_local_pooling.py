"""Pooling over windows of active voxels against loops, with gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import (
    AveragePool3d,
    MaxPool3d,
    SparseTensor,
    StridedConv3d,
    SumPool3d,
    TransposedConv3d,
    Unpool3d,
    global_sum,
)

Triple = tuple[int, int, int]
KINDS = {"max": MaxPool3d, "average": AveragePool3d, "sum": SumPool3d}
SHAPES: list[tuple[int | Triple, int | Triple, int, int | None]] = [
    (2, 2, 1, None),
    (3, 3, 1, None),
    (3, 2, 1, None),
    (3, 1, 1, None),
    (1, 2, 1, None),
    (3, 2, 2, None),
    (4, 2, 1, 1),
    ((1, 2, 3), (1, 2, 3), 1, None),
    ((3, 1, 1), (2, 1, 1), 1, 0),
]


def voxels(n: int, seed: int) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(2 * 8**3, generator=generator)[:n]
    xyz = torch.stack([cells % 512 // 64, cells // 8 % 8, cells % 8], 1) - 4
    coords = torch.cat([(cells // 512)[:, None], xyz], 1).int()
    features = torch.randn(n, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    return SparseTensor(features, coords, batch_size=2)


def three(value: int | Triple) -> Triple:
    return (value,) * 3 if isinstance(value, int) else value


def starts(kernel: Triple, stride: Triple, dilation: int, padding: int | None) -> Triple:
    """The documented alignment: tiles where kernel = stride, else as strided convolutions."""
    if padding is not None:
        return (-padding,) * 3
    if kernel == stride and dilation == 1:
        return (0, 0, 0)
    first = [
        -dilation * (k // 2) if k % 2 else -((k - s) // 2)
        for k, s in zip(kernel, stride, strict=True)
    ]
    return first[0], first[1], first[2]


def loop(
    x: SparseTensor, kind: str, kernel: Triple, stride: Triple, dilation: int, first: Triple
) -> tuple[list[tuple[int, ...]], Tensor]:
    rows = {tuple(row): i for i, row in enumerate(x.coords.tolist())}
    outputs = sorted({(r[0], *(r[i + 1] // stride[i] for i in range(3))) for r in rows})
    values = []
    for b, *o in outputs:
        window = []
        for k in itertools.product(*(range(n) for n in kernel)):
            place = (b, *(o[i] * stride[i] + first[i] + k[i] * dilation for i in range(3)))
            if place in rows:
                window.append(x.features[rows[place]])
        if not window:
            values.append(torch.zeros(x.channels, dtype=torch.float64))
        elif kind == "max":
            values.append(torch.stack(window).amax(0))
        else:
            total = torch.stack(window).sum(0)
            values.append(total / len(window) if kind == "average" else total)
    return outputs, torch.stack(values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("kernel", "stride", "dilation", "padding"), SHAPES)
def test_equals_a_loop_with_gradients(
    kind: str, kernel: int | Triple, stride: int | Triple, dilation: int, padding: int | None
) -> None:
    x = voxels(150, seed=1)
    out = KINDS[kind](kernel, stride, dilation, padding)(x)
    first = starts(three(kernel), three(stride), dilation, padding)
    outputs, want = loop(x, kind, three(kernel), three(stride), dilation, first)
    order = sorted(range(len(out)), key=lambda i: out.coords[i].tolist())
    assert [tuple(out.coords[i].tolist()) for i in order] == outputs
    assert out.stride == three(stride)
    got = out.features[order]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(want)
    torch.testing.assert_close(
        torch.autograd.grad(got, x.features, g)[0],
        torch.autograd.grad(want, x.features, g)[0],
        rtol=1e-12,
        atol=1e-12,
    )


@given(st.integers(0, 10**6), st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_sum_average_and_max_agree_on_tiles(seed: int, n: int) -> None:
    """Without overlap: sums are averages times counts, and of ones they count."""
    x = voxels(n, seed)
    total, mean, high = (layer(2, 2)(x).features for layer in (SumPool3d, AveragePool3d, MaxPool3d))
    count = SumPool3d()(x.replace(torch.ones(n, 1, dtype=torch.float64))).features
    torch.testing.assert_close(total, mean * count)
    assert count.sum() == n
    assert (high >= mean - 1e-12).all()
    torch.testing.assert_close(global_sum(SumPool3d()(x)), global_sum(x))


def test_ties_go_to_the_first_in_kernel_order() -> None:
    # rows are given in reverse: the order of the kernel decides, not that of rows
    coords = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).int()
    features = torch.tensor([[5.0], [5.0], [1.0], [5.0]], requires_grad=True)
    MaxPool3d()(SparseTensor(features, coords)).features.sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]


def test_extreme_values() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 2, 0, 0]]).int()
    inf, nan = float("inf"), float("nan")
    features = torch.tensor([[-inf, 1.0, nan], [-inf, nan, 2.0], [-3.0, -4.0, -5.0]])
    features.requires_grad_()
    out = MaxPool3d()(SparseTensor(features, coords)).features
    assert out[0, 0].item() == -inf
    assert out[0, 1:].isnan().all()
    assert out[1].tolist() == [-3, -4, -5]
    out.nan_to_num(0, 0, 0).sum().backward()
    assert features.grad is not None
    assert features.grad[2].tolist() == [1, 1, 1]


def test_unpooling_copies_to_the_finer_voxels() -> None:
    x = voxels(100, seed=3)
    for stride in (2, 3, (1, 2, 4)):
        pooled = AveragePool3d(stride, stride)(x)
        values = torch.randn(len(pooled), 2, dtype=torch.float64, requires_grad=True)
        fine = Unpool3d(stride)(pooled.replace(values))
        assert fine.coords is x.coords
        assert fine.stride == (1, 1, 1)
        rows = {tuple(row): i for i, row in enumerate(pooled.coords.tolist())}
        s = three(stride)
        parents = [
            rows[(b, px // s[0], py // s[1], pz // s[2])] for b, px, py, pz in x.coords.tolist()
        ]
        assert torch.equal(fine.features, values[parents])
        fine.features.sum().backward()
        assert values.grad is not None
        counts = torch.bincount(torch.tensor(parents), minlength=len(pooled)).double()
        assert torch.equal(values.grad[:, 0], counts)


def test_pooling_shares_levels_with_convolutions() -> None:
    x = voxels(80, seed=4)
    pooled = MaxPool3d()(x)
    conv = StridedConv3d(3, 3).double()(x)
    assert pooled.coords is conv.coords
    assert TransposedConv3d(3, 2).double()(pooled).coords is x.coords
    twice = Unpool3d()(Unpool3d()(MaxPool3d()(pooled)))
    assert twice.coords is x.coords


def test_half_precision_sums_in_float32() -> None:
    n = 512
    grid = torch.cartesian_prod(*(torch.arange(8),) * 3)
    coords = torch.cat([torch.zeros(n, 1), grid], 1).int()
    x = SparseTensor(torch.full((n, 1), 1.0 + 2**-7, dtype=torch.bfloat16), coords)
    # in bfloat16 a running sum of ones would stop at 256
    assert SumPool3d(8, 8)(x).features.item() == 516
    assert global_sum(x).item() == 516
    assert AveragePool3d(8, 8)(x).features.item() == 1.0078125


def test_no_voxels_and_typed_errors() -> None:
    features = torch.zeros(0, 2, requires_grad=True)
    none = SparseTensor(features, torch.zeros(0, 4).int(), batch_size=2)
    for layer in KINDS.values():
        out = layer()(none)
        assert out.features.shape == (0, 2)
        out.features.sum().backward()
    assert global_sum(none).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(SparseError, match="no finer level"):
        Unpool3d()(voxels(5, 1))
    with pytest.raises(SparseError, match="kernel is 0"):
        MaxPool3d(0)
    with pytest.raises(SparseError, match="no voxels of stride 2"):
        Unpool3d()(SparseTensor(torch.ones(1, 1), torch.zeros(1, 4).int(), stride=4))
