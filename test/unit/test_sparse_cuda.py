"""Every backend on a GPU against the float64 reference; nothing waits, nothing varies.

The same cases run without a GPU in Triton's interpreter (test_sparse_triton.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sparse_problems import CASES, TOLERANCE, Case, check, problem, results, submanifold
from torch.profiler import ProfilerActivity, profile

from condense_ros.models import BackboneConfig, InputSpec, SparseUNet
from condense_ros.sparse import MapCache, SparseTensor, search, sparse_convolution, use_backend
from condense_ros.sparse.backends.choose import backend
from condense_ros.sparse.backends.switch import triton_for

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

DEVICE = torch.device("cuda", 0)
BACKENDS = ("torch", "triton", "spconv", "spconv-triton")
LARGE = Case("large", submanifold(3), voxels=20_000, batch=3, side=40, c_in=64, c_out=96)


@pytest.fixture(autouse=True)
def exact_and_untuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """float32 is float32 in every backend, and tiles are the defaults."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CONDENSE_TRITON_FLOAT32", raising=False)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def usable(name: str, dtype: torch.dtype) -> None:
    reason = backend(name).problem(DEVICE, dtype)
    if reason:
        pytest.skip(f"{name}: {reason}")


@pytest.mark.parametrize("dtype", [*TOLERANCE, torch.float64], ids=str)
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("case", [*CASES, LARGE], ids=lambda case: case.name)
def test_equals_reference(name: str, dtype: torch.dtype, case: Case) -> None:
    if dtype == torch.float64:
        if name != "torch":
            pytest.skip("float64 is the reference's")
        p = problem(case, dtype, DEVICE)
        for what, got in results(backend(name), p).items():
            torch.testing.assert_close(got.cpu(), p.truth[what], rtol=1e-11, atol=1e-11)
        return
    usable(name, dtype)
    # others keep the gradient of weights in half precision, and torch adds rounded products
    loose = None if name == "triton" or dtype == torch.float32 else 4 * TOLERANCE[dtype]
    check(backend(name), case, dtype, DEVICE, tolerance=loose)


def test_nan_stays_nan_through_the_rectifier() -> None:
    """The interpreter's maximum keeps NaN, a GPU's does not: only here a mistake would show."""
    usable("triton", torch.float32)
    p = problem(LARGE, torch.float32, DEVICE)
    p.x[5, 3] = torch.nan
    got = backend("triton").forward(p.x, p.weight, p.kernel_map, p.epilogue)
    want = backend("torch").forward(p.x, p.weight, p.kernel_map, p.epilogue)
    assert want.isnan().any()
    assert torch.equal(got.isnan(), want.isnan())


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_tensor_core_float32(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usable("triton", torch.float32)
    monkeypatch.setenv("CONDENSE_TRITON_FLOAT32", precision)
    limit = {"tf32": 2e-3, "tf32x3": 1e-5}[precision]
    check(backend("triton"), LARGE, torch.float32, DEVICE, tolerance=limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_twenty_runs_give_the_same_bits(dtype: torch.dtype) -> None:
    usable("triton", dtype)
    p = problem(LARGE, dtype, DEVICE)
    first = results(backend("triton"), p)
    for _ in range(20):
        for what, again in results(backend("triton"), p).items():
            assert torch.equal(again, first[what]), what


def layer_inputs(dtype: torch.dtype) -> tuple[MapCache, torch.Tensor, torch.Tensor]:
    maps = MapCache(LARGE.coords().to(DEVICE), LARGE.batch)
    n = len(maps.level(1))
    x = torch.randn(n, 64, device=DEVICE, dtype=dtype, requires_grad=True)
    return maps, x, torch.randn(27, 64, 96, device=DEVICE, requires_grad=True)


def test_nothing_waits_for_the_device() -> None:
    """Tables, order, tiles, products and gradients, in torch's own watch for synchronisation."""
    usable("triton", torch.float16)
    with use_backend("triton"):
        for watch in ("default", "error"):  # the first time compiles
            maps, x, weight = layer_inputs(torch.float16)
            maps.coarsen(1, 2)  # its number of voxels is what has to be asked for
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode(watch)
            try:
                sparse_convolution(x, weight, maps.submanifold(1, 3)).sum().backward()
                down = maps.strided(1, 2, 2)
                small = torch.randn(8, 64, 96, device=DEVICE)
                y = sparse_convolution(x.detach(), small, down)
                sparse_convolution(y, small.transpose(1, 2), down.transposed)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_tables_by_triton_equal_those_of_torch() -> None:
    usable("triton", torch.float32)
    maps = MapCache(LARGE.coords().to(DEVICE), LARGE.batch)
    keys = maps.level(1).keys
    kernels = triton_for(keys)
    assert kernels is not None
    for first, kernel, dilation in (
        ((-1, -1, -1), (3, 3, 3), (1, 1, 1)),
        ((-2, -2, -4), (5, 3, 5), (1, 2, 2)),
    ):
        got = kernels.lookup_table(keys, keys, first, kernel, dilation)
        shifts = search.key_shifts(first, kernel, dilation)
        assert torch.equal(got, search.lookup_table(keys, keys, shifts))
    coarse = maps.coarsen(1, 2)
    parents = maps._parents[(1, 1, 1), (2, 2, 2)]
    got = kernels.tiled_table(keys, parents, (2, 2, 2), len(coarse))
    assert torch.equal(got, search.tiled_table(keys, parents, (2, 2, 2), len(coarse)))


def test_one_launch_per_layer() -> None:
    usable("triton", torch.float16)
    config = BackboneConfig(InputSpec())
    net = SparseUNet(4, config.widths, (1,) * 8).to(DEVICE).eval().half()
    coords = LARGE.coords().to(DEVICE)
    x = SparseTensor(torch.randn(len(coords), 4, device=DEVICE, dtype=torch.float16), coords)
    with use_backend("triton"), torch.no_grad():
        net(x)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            net(x)
            torch.cuda.synchronize()
    names = [event.name for event in seen.events() if event.device_type.name == "CUDA"]
    kernels = [name for name in names if not name.startswith("Mem")]
    own = [name for name in kernels if name in ("convolve", "finish")]
    assert own.count("convolve") == 25 + 7
    assert own.count("finish") <= own.count("convolve")
    # joining channels at four levels is all that is left
    assert len(kernels) <= len(own) + 8, kernels


def test_graphs_can_be_captured() -> None:
    """No waiting and fixed addresses: a layer replays inside a CUDA graph."""
    usable("triton", torch.float16)
    maps, x, weight = layer_inputs(torch.float16)
    kernel_map = maps.submanifold(1, 3)
    with use_backend("triton"), torch.no_grad():
        want = sparse_convolution(x, weight, kernel_map)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            got = sparse_convolution(x, weight, kernel_map)
        got.zero_()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(got, want)
