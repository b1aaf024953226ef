"""Sparse convolutions against dense ones in float64: forward and both gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import (
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    TransposedConv3d,
)

LOW, SIZE = -6, 12


def voxels(n: int, batch: int, seed: int = 0) -> Tensor:
    """n distinct (batch, x, y, z) in [-6, 6)^3, in random order; elements share coordinates."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(SIZE**3, generator=generator)[: n // batch]
    xyz = torch.stack([cells // SIZE**2, cells // SIZE % SIZE, cells % SIZE], 1) + LOW
    rows = [torch.cat([torch.full((len(xyz), 1), b), xyz], 1) for b in range(batch)]
    coords = torch.cat(rows).int()
    return coords[torch.randperm(len(coords), generator=generator)]


def to_dense(features: Tensor, coords: Tensor, batch: int, low: int, size: int) -> Tensor:
    c = coords.long()
    grid = torch.zeros(batch, size, size, size, features.shape[1], dtype=features.dtype)
    grid = grid.index_put((c[:, 0], c[:, 1] - low, c[:, 2] - low, c[:, 3] - low), features)
    return grid.permute(0, 4, 1, 2, 3)


def read_dense(grid: Tensor, coords: Tensor, low: int) -> Tensor:
    c = coords.long()
    return grid.permute(0, 2, 3, 4, 1)[c[:, 0], c[:, 1] - low, c[:, 2] - low, c[:, 3] - low]


def dense_weight(weight: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """(K, C_in, C_out), x slowest, to conv3d's (C_out, C_in, kx, ky, kz)."""
    return weight.reshape(*kernel, *weight.shape[1:]).permute(4, 3, 0, 1, 2)


def assert_same(ours: Tensor, truth: Tensor, inputs: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(ours, truth, rtol=1e-11, atol=1e-11)
    g = torch.randn_like(truth)
    grads = torch.autograd.grad(ours, inputs, g)
    expected = torch.autograd.grad(truth, inputs, g)
    for got, want in zip(grads, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "dilation"),
    [(1, 1), (3, 1), (5, 1), (3, 2), (3, 5), ((1, 3, 5), 1), ((5, 1, 1), 2), ((1, 1, 3), 1)],
)
def test_submanifold_equals_dense(
    kernel: int | tuple[int, int, int], dilation: int, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(1)
        coords = voxels(500, batch=2)
        features = torch.randn(len(coords), 3, dtype=torch.float64, requires_grad=True)
        conv = SubmanifoldConv3d(3, 5, kernel, dilation, bias=True).double()
        torch.nn.init.normal_(conv.bias)
        out = conv(SparseTensor(features, coords))
        dense = F.conv3d(
            to_dense(features, coords, 2, LOW, SIZE),
            dense_weight(conv.weight, conv.kernel),
            conv.bias,
            padding=[dilation * (k // 2) for k in conv.kernel],
            dilation=dilation,
        )
        truth = read_dense(dense, coords, LOW)
        assert_same(out.features, truth, (features, conv.weight, conv.bias))
    finally:
        torch.set_num_threads(before)


STRIDED = [(2, 2, 1), (3, 2, 1), (4, 2, 1), (3, 3, 1), (4, 4, 1), (5, 2, 1), (3, 2, 2), (1, 2, 1)]


def first_input(kernel: int, stride: int, dilation: int) -> int:
    """Where the documented alignment puts kernel element 0, relative to output * stride."""
    return -dilation * (kernel // 2) if kernel % 2 else -((kernel - stride) // 2)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), STRIDED)
def test_strided_equals_dense(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(2)
    coords = voxels(400, batch=2)
    features = torch.randn(len(coords), 3, dtype=torch.float64, requires_grad=True)
    conv = StridedConv3d(3, 4, kernel, stride, dilation).double()
    out = conv(SparseTensor(features, coords))
    expected = {(b, x // stride, y // stride, z // stride) for b, x, y, z in coords.tolist()}
    assert {tuple(row) for row in out.coords.tolist()} == expected
    assert len(out) == len(expected)
    assert out.stride == (stride,) * 3
    # the grid starts at a multiple of the stride, far enough below for every kernel
    low = -24
    grid = to_dense(features, coords, 2, low + first_input(kernel, stride, dilation), 48)
    dense = F.conv3d(grid, dense_weight(conv.weight, conv.kernel), stride=stride, dilation=dilation)
    truth = read_dense(dense, out.coords, low // stride)
    assert_same(out.features, truth, (features, conv.weight))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), STRIDED)
def test_transposed_equals_dense(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(3)
    coords = voxels(400, batch=2)
    fine = SparseTensor(torch.randn(len(coords), 1, dtype=torch.float64), coords)
    coarse = StridedConv3d(1, 1, kernel, stride, dilation).double()(fine)
    features = torch.randn(len(coarse), 3, dtype=torch.float64, requires_grad=True)
    conv = TransposedConv3d(3, 4, kernel, stride, dilation).double()
    out = conv(coarse.replace(features))
    assert out.coords is fine.coords
    assert out.stride == (1, 1, 1)
    low = -6
    grid = to_dense(features, coarse.coords, 2, low, 14)
    weight = dense_weight(conv.weight, conv.kernel).transpose(0, 1)
    dense = F.conv_transpose3d(grid, weight, stride=stride, dilation=dilation)
    # padding gives kernels that end before the last input cell a place to read zeros from
    dense = F.pad(dense, (0, 4) * 3)
    start = low * stride + first_input(kernel, stride, dilation)
    truth = read_dense(dense, coords, start)
    assert_same(out.features, truth, (features, conv.weight))


def test_result_does_not_depend_on_row_order() -> None:
    torch.manual_seed(4)
    coords = voxels(600, batch=3)
    features = torch.randn(len(coords), 4, dtype=torch.float64)
    layers = torch.nn.Sequential(
        SubmanifoldConv3d(4, 6), StridedConv3d(6, 6), TransposedConv3d(6, 3, kernel=2)
    ).double()
    plain = layers(SparseTensor(features, coords)).features
    for seed in range(3):
        p = torch.randperm(len(coords), generator=torch.Generator().manual_seed(seed))
        permuted = layers(SparseTensor(features[p], coords[p])).features
        torch.testing.assert_close(permuted, plain[p], rtol=1e-12, atol=1e-12)


def test_repeated_runs_are_bit_equal_with_two_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(5)
        coords = voxels(1600, batch=2)
        features = torch.randn(len(coords), 32)
        conv = SubmanifoldConv3d(32, 32)
        first = conv(SparseTensor(features, coords)).features
        for _ in range(20):
            assert torch.equal(conv(SparseTensor(features, coords)).features, first)
    finally:
        torch.set_num_threads(before)


def test_weights_are_x_slowest() -> None:
    """Weight row 0 reads the neighbour at (-1, -1, -1), row 1 the one at (-1, -1, 0)."""
    coords = torch.tensor([[0, 5, 5, 5], [0, 4, 4, 4], [0, 4, 4, 5], [0, 6, 5, 5]]).int()
    x = SparseTensor(torch.tensor([[1.0], [10.0], [100.0], [1000.0]]), coords)
    conv = SubmanifoldConv3d(1, 1)
    for k, offset in enumerate(itertools.product((-1, 0, 1), repeat=3)):
        with torch.no_grad():
            conv.weight.zero_()
            conv.weight[k] = 1.0
        wanted = {(-1, -1, -1): 10.0, (-1, -1, 0): 100.0, (0, 0, 0): 1.0, (1, 0, 0): 1000.0}
        assert conv(x).features[0].item() == wanted.get(offset, 0.0)


def test_single_voxel_empty_batch_element_and_no_voxels() -> None:
    conv, down, up = SubmanifoldConv3d(2, 3), StridedConv3d(3, 3), TransposedConv3d(3, 2)
    one = SparseTensor(torch.ones(1, 2), torch.tensor([[2, -1, 0, 7]]).int(), batch_size=4)
    torch.testing.assert_close(conv(one).features[0], conv.weight[13].sum(0))
    out = up(down(conv(one)))
    assert out.batch_size == 4
    assert out.coords.tolist() == [[2, -1, 0, 7]]
    features = torch.zeros(0, 2, requires_grad=True)
    none = SparseTensor(features, torch.zeros(0, 4).int(), batch_size=2)
    empty = up(down(conv(none)))
    assert empty.features.shape == (0, 2)
    empty.features.sum().backward()
    assert not conv.weight.grad.any()


def test_non_contiguous_inputs() -> None:
    torch.manual_seed(6)
    coords = voxels(300, batch=1)
    features = torch.randn(4, len(coords)).t()
    strided_coords = coords.t().contiguous().t()
    assert not features.is_contiguous()
    assert not strided_coords.is_contiguous()
    conv, down = SubmanifoldConv3d(4, 3), StridedConv3d(3, 2)
    got = down(conv(SparseTensor(features, strided_coords))).features
    want = down(conv(SparseTensor(features.contiguous(), coords))).features
    torch.testing.assert_close(got, want)
    # a gradient that is an expanded view
    x = features.contiguous().requires_grad_()
    conv(SparseTensor(x, coords)).features.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_maps_are_shared_by_layers() -> None:
    x = SparseTensor(torch.randn(200, 4), voxels(200, batch=1))
    y = SubmanifoldConv3d(4, 4)(SubmanifoldConv3d(4, 4)(x))
    assert y.maps is x.maps
    z = SubmanifoldConv3d(4, 4)(TransposedConv3d(4, 4)(StridedConv3d(4, 4)(y)))
    assert z.maps.submanifold(1, (3, 3, 3)) is x.maps.submanifold(1, (3, 3, 3))


def test_bfloat16_autocast_is_close_and_trains() -> None:
    torch.manual_seed(7)
    coords = voxels(800, batch=2)
    x = torch.randn(len(coords), 16, requires_grad=True)
    conv = SubmanifoldConv3d(16, 16)
    exact = conv(SparseTensor(x, coords)).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = conv(SparseTensor(x, coords)).features
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).norm() / exact.norm() < 1e-2
    low.float().square().sum().backward()
    assert conv.weight.grad.dtype == torch.float32
    assert torch.isfinite(x.grad).all()


def test_layers_refuse_what_does_not_fit() -> None:
    x = SparseTensor(torch.randn(10, 4), voxels(10, batch=1))
    with pytest.raises(SparseError, match="4 input channels"):
        SubmanifoldConv3d(3, 3)(x)
    with pytest.raises(SparseError, match="odd"):
        SubmanifoldConv3d(3, 3, kernel=2)
    with pytest.raises(SparseError, match="kernel"):
        StridedConv3d(3, 3, kernel=0)
    with pytest.raises(SparseError, match="no finer level"):
        TransposedConv3d(4, 4)(x)
    coarse = SparseTensor(torch.randn(10, 4), voxels(10, batch=1), stride=4)
    with pytest.raises(SparseError, match="no voxels of stride 2"):
        TransposedConv3d(4, 4)(coarse)
    with pytest.raises(SparseError, match="reaches"):
        SubmanifoldConv3d(4, 4, kernel=3, dilation=100)(x)
    with pytest.raises(SparseError, match="weights on meta"):
        SubmanifoldConv3d(4, 4).to("meta")(x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu() -> None:
    torch.manual_seed(8)
    coords = voxels(900, batch=2)
    layers = torch.nn.Sequential(
        SubmanifoldConv3d(8, 8),
        StridedConv3d(8, 8),
        SubmanifoldConv3d(8, 8),
        TransposedConv3d(8, 4),
    ).double()
    results = []
    for device in ("cpu", "cuda"):
        layers.to(device).zero_grad()
        features = torch.linspace(-1, 1, 8 * len(coords), dtype=torch.float64).reshape(-1, 8)
        features = features.to(device).requires_grad_()
        out = layers(SparseTensor(features, coords.to(device))).features
        out.square().sum().backward()
        weights = [p.grad.cpu() for p in layers.parameters()]
        results.append([out.detach().cpu(), features.grad.cpu(), *weights])
    for cpu, cuda in zip(*results, strict=True):
        torch.testing.assert_close(cuda, cpu, rtol=1e-10, atol=1e-10)
