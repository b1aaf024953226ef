"""The adapters to spconv and spconv-triton, on the CPU: weights, pairs and masks as they read them.

Their kernels need a GPU (test_sparse_cuda.py). Here a stand-in computes what their functions are
documented to compute, straight from their own formats.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sparse_problems import CASES, Case, check, problem, results
from torch import Tensor

from condense_ros.sparse import SparseTensor, SubmanifoldConv3d
from condense_ros.sparse.backends import spconv_backend
from condense_ros.sparse.backends.choose import backend
from condense_ros.sparse.backends.spconv_backend import (
    SpconvBackend,
    from_krsc,
    native_pairs,
    offset_masks,
    to_krsc,
)

BY_NAME = {case.name: case for case in CASES}


def scatter(x: Tensor, filters: Tensor, runs: Any, n: int) -> Tensor:
    out = torch.zeros(n, len(filters), dtype=torch.float64)
    for offset, source, target in runs:
        # filters are (C_out, offsets, C_in)
        out.index_add_(0, target, (x[source].double() @ filters[:, offset].double().t()))
    return out


def native_runs(pairs: Tensor, counts: Tensor) -> Any:
    assert pairs.dtype == counts.dtype == torch.int32
    for offset, count in enumerate(counts.tolist()):
        source, target = pairs[0, offset].long(), pairs[1, offset].long()
        assert (source[count:] == -1).all()
        assert (target[count:] == -1).all()
        assert len(torch.unique(target[:count])) == count
        yield offset, source[:count], target[:count]


def indice_conv(x: Tensor, filters: Tensor, pairs: Tensor, counts: Tensor, n: int) -> Tensor:
    return scatter(x, filters, native_runs(pairs, counts), n).to(x.dtype)


def indice_conv_backward(
    x: Tensor, filters: Tensor, grad: Tensor, pairs: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    out = torch.zeros(filters.shape, dtype=torch.float64)
    for offset, source, target in native_runs(pairs, counts):
        out[:, offset] = grad[target].double().t() @ x[source].double()
    return torch.empty(0), out.to(x.dtype)


def implicit_gemm(
    x: Tensor, filters: Tensor, table: Tensor, masks: list[Tensor], orders: list[Tensor], n: int,
    all_offsets: list[np.ndarray], is_train: bool, is_subm: bool,
) -> tuple[Tensor, None, int]:  # fmt: skip
    """As their masked kernel: row order[i] is computed at place i and visits masks[i]'s offsets."""
    (mask,), (order,), (full,) = masks, orders, all_offsets
    assert mask.shape == (n, 1)
    assert full.tolist() == [0xFFFFFFFF]
    assert mask.dtype == order.dtype == table.dtype == torch.int32
    assert sorted(order.tolist()) == list(range(n))
    out = torch.zeros(n, len(filters), dtype=torch.float64)
    for place, row in enumerate(order.tolist()):
        for offset in range(len(table)):
            if int(mask[place, 0]) >> offset & 1:
                source = int(table[offset, row])
                assert source >= 0
                out[row] += filters[:, offset].double() @ x[source].double()
            else:
                assert table[offset, row] < 0
    return out.to(x.dtype), None, -1


@pytest.fixture(params=["spconv", "spconv-triton"])
def adapter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SpconvBackend:
    ops = SimpleNamespace(
        indice_conv=indice_conv,
        indice_conv_backward=indice_conv_backward,
        implicit_gemm=implicit_gemm,
    )
    asked: list[str] = []
    monkeypatch.setattr(
        spconv_backend, "importlib", SimpleNamespace(import_module=lambda n: asked.append(n) or ops)
    )
    made = backend(request.param)
    assert isinstance(made, SpconvBackend)
    yield made
    names = {"spconv": "spconv.pytorch.ops", "spconv-triton": "spconv_triton.pytorch.ops"}
    assert set(asked) <= {names[request.param]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_adapters_equal_reference(case: Case, adapter: SpconvBackend) -> None:
    check(adapter, case, torch.float32)


def test_half_precision_comes_back_rounded(adapter: SpconvBackend) -> None:
    check(adapter, BY_NAME["strided 2"], torch.float16, tolerance=2e-3)


def test_weights_are_what_a_dense_convolution_reads() -> None:
    """conv3d takes (C_out, C_in, x, y, z); spconv's layers store (C_out, x, y, z, C_in)."""
    torch.manual_seed(0)
    ours = torch.randn(27, 2, 5, dtype=torch.float64)
    theirs = to_krsc(ours).reshape(5, 3, 3, 3, 2)
    assert theirs.is_contiguous()
    assert torch.equal(from_krsc(theirs), ours)
    assert torch.equal(from_krsc(to_krsc(ours)), ours)
    cells = torch.cartesian_prod(*[torch.arange(4)] * 3)
    coords = torch.cat([torch.zeros(64, 1, dtype=torch.long), cells], 1).int()
    x = torch.randn(64, 2, dtype=torch.float64)
    conv = SubmanifoldConv3d(2, 5).double()
    with torch.no_grad():
        conv.weight.copy_(from_krsc(theirs))
        got = conv(SparseTensor(x, coords)).features
    grid = x.reshape(1, 4, 4, 4, 2).permute(0, 4, 1, 2, 3)
    dense = F.conv3d(grid, theirs.permute(0, 4, 1, 2, 3), padding=1)
    torch.testing.assert_close(got, dense[0].permute(1, 2, 3, 0).reshape(64, 5))


def test_masks_of_32_offsets_use_every_bit() -> None:
    table = torch.full((32, 3), -1, dtype=torch.int32)
    table[31, 0] = table[0, 1] = table[5, 1] = 7
    masks = offset_masks(table)
    assert masks.dtype == torch.int32
    assert masks.tolist() == [-(2**31), 33, 0]


def test_pairs_hold_the_row_that_meets_itself() -> None:
    kernel_map = BY_NAME["submanifold 3"].map("cpu")
    pairs, counts = native_pairs(kernel_map)
    assert counts[13] == kernel_map.n_target
    assert int(counts.sum()) == kernel_map.n_pairs
    table = torch.full_like(kernel_map.table, -1)
    for offset, source, target in native_runs(pairs, counts):
        table[offset, target] = source.int()
    assert torch.equal(table, kernel_map.table)


def test_forms_are_made_once_for_each_state_of_a_parameter(adapter: SpconvBackend) -> None:
    p = problem(BY_NAME["strided 2"], torch.float32)
    results(adapter, p)
    kept = dict(p.kernel_map.kept)
    assert kept
    results(adapter, p)
    assert p.kernel_map.kept == kept
    weight = torch.nn.Parameter(p.weight.clone())
    first = adapter.forward(p.x, weight, p.kernel_map)
    with torch.no_grad():
        weight.mul_(2)
    torch.testing.assert_close(adapter.forward(p.x, weight, p.kernel_map), 2 * first)


@pytest.mark.parametrize("name", ["spconv", "spconv-triton"])
def test_reasons_not_to_use_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backend(name)
    on_cpu = made.problem(torch.device("cpu"), torch.float32)
    assert "CUDA" in on_cpu
    assert ("two threads" in on_cpu) == (name == "spconv")
    cuda = torch.device("cuda", 0)
    assert "bfloat16" in made.problem(cuda, torch.bfloat16)
    spconv_backend._import_problem.cache_clear()
    monkeypatch.setattr(spconv_backend.importlib.util, "find_spec", lambda n: None)
    assert made.problem(cuda, torch.float16) == f"{name} is not installed"
    spconv_backend._import_problem.cache_clear()

    def broken(module: str) -> None:
        raise OSError("libcuda.so.1 is not there")

    monkeypatch.setattr(spconv_backend.importlib.util, "find_spec", lambda n: n)
    monkeypatch.setattr(spconv_backend.importlib, "import_module", broken)
    assert "libcuda.so.1" in made.problem(cuda, torch.float16)
    spconv_backend._import_problem.cache_clear()
