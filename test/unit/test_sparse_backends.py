"""Every backend of the sparse engine against dense convolutions in float64 and against others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sparse_cases import CASES, Case, errors_against_dense, random_voxels, relative_error
from torch import Tensor

from condense_ros.errors import ConfigError, EnvironmentProblem, SparseError
from condense_ros.frame import PointCloud
from condense_ros.models import Backbone, InputSpec, SparseUNet, preset
from condense_ros.sparse import (
    BatchNorm,
    KernelMap,
    Linear,
    MapCache,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    TransposedConv3d,
    Voxels,
    conv_norm,
    fused_convolution,
    native_library,
    sparse_convolution,
    use_backend,
)
from condense_ros.sparse.backends import choose, switch
from condense_ros.sparse.backends.choose import backend_for
from condense_ros.sparse.kernel_map import identity_map
from condense_ros.sparse.keys import COORDINATE_LIMIT

NATIVE = native_library.library()
needs_native = pytest.mark.skipif(
    NATIVE is None, reason=f"no compiled library: {native_library.problem()}"
)
INSTRUCTION_SETS = ("base", "avx2", "avx512", "avx512bf16", "amx", "amx-emulated")
#: largest relative error that one layer may have
LIMIT = {torch.float32: 1e-6, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    if NATIVE is not None:
        NATIVE.choose_instruction_set()


def choose_instruction_set(name: str) -> None:
    assert NATIVE is not None
    try:
        NATIVE.choose_instruction_set(name)
    except EnvironmentProblem as error:
        pytest.skip(str(error))


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", ["torch", "cpu"])
def test_backends_equal_dense(name: str, case: Case, threads: int) -> None:
    torch.set_num_threads(threads)
    coords = random_voxels(700, 3, seed=1)
    with use_backend(name):
        for dtype, limit in LIMIT.items():
            assert max(errors_against_dense(case, 9, 20, dtype, coords, 3)) < limit


@needs_native
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("c_in", "c_out"), [(1, 1), (3, 5), (16, 16), (33, 48), (64, 97), (96, 128), (40, 230)]
)
def test_every_instruction_set_equals_dense(instruction_set: str, c_in: int, c_out: int) -> None:
    """Widths below, at and beyond whole vectors and blocks; rows beyond whole groups."""
    choose_instruction_set(instruction_set)
    coords = random_voxels(301, 1, seed=c_in)
    with use_backend("cpu"):
        for case in (Case("submanifold", 3), Case("strided", 2, 2), Case("transposed", 2, 2)):
            for dtype, limit in LIMIT.items():
                errors = errors_against_dense(case, c_in, c_out, dtype, coords, 1)
                assert max(errors) < limit, (case, dtype, errors)


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_threads_or_on_luck(dtype: torch.dtype) -> None:
    """Forward and both gradients, 1, 2 and 4 threads, 20 runs each."""
    coords = random_voxels(2000, 2, seed=2)
    kernel_map = MapCache(coords, 2).submanifold(1, 3)
    torch.manual_seed(0)
    x = torch.randn(len(coords), 48).to(dtype).requires_grad_()
    weight = torch.randn(27, 48, 80, requires_grad=True)
    first: list[Tensor] | None = None
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        for _ in range(20):
            out = sparse_convolution(x, weight, kernel_map)
            results = [out, *torch.autograd.grad(out.float().square().sum(), (x, weight))]
            first = first or results
            assert all(map(torch.equal, results, first))


voxel_sets = st.lists(
    st.tuples(st.integers(0, 2), *(st.integers(-4, 4) for _ in range(3))), max_size=60, unique=True
)
shifts = st.sampled_from([0, 5, -COORDINATE_LIMIT + 4, COORDINATE_LIMIT - 4])
kernels = st.tuples(*(st.sampled_from([1, 3, 5]) for _ in range(3)))
small = st.tuples(*(st.integers(1, 3) for _ in range(3)))


@needs_native
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(voxel_sets, st.tuples(shifts, shifts, shifts), kernels, small, small, small)
def test_native_maps_equal_those_of_torch(
    voxels: list[tuple[int, ...]],
    shift: tuple[int, int, int],
    kernel: tuple[int, int, int],
    dilation: tuple[int, int, int],
    stride: tuple[int, int, int],
    window: tuple[int, int, int],
) -> None:
    """The same pairs in the same runs: any shape, empty sets, the edges of the packing range."""
    coords = torch.tensor(voxels, dtype=torch.int32).reshape(-1, 4)
    coords[:, 1:] += torch.tensor(shift, dtype=torch.int32)
    found = []
    for name in ("torch", "cpu"):
        with use_backend(name):
            cache = MapCache(coords, 3)
            maps = [
                cache.submanifold(1, kernel, dilation),
                cache.strided(1, stride, stride),
                cache.strided(1, window, stride, dilation),
                cache.transposed(1, window, stride, dilation),
            ]
            levels = [cache.level(stride)]
            if max(map(abs, shift)) < 10:  # outputs beyond the packing range are refused
                beyond, reached = cache.reached(1, window, stride, dilation)
                maps.append(reached)
                levels.append(beyond.level(stride))
            found.append([(*_sorted_pairs(m), m.n_source, m.n_target) for m in maps])
            found[-1] += [level.coords.tolist() for level in levels]
    assert found[0] == found[1]


def _sorted_pairs(m: KernelMap) -> tuple[list[int], list[tuple[int, int, int]]]:
    counts, source, target = m.counts, m.source.tolist(), m.target.tolist()
    offsets = np.repeat(np.arange(len(counts)), counts).tolist()
    return list(counts), sorted(zip(offsets, target, source, strict=True))


@needs_native
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(voxel_sets, st.sampled_from(CASES), st.integers(1, 40), st.integers(1, 40))
def test_cpu_equals_torch_on_any_voxels(
    voxels: list[tuple[int, ...]], case: Case, c_in: int, c_out: int
) -> None:
    coords = torch.tensor(voxels, dtype=torch.int32).reshape(-1, 4)
    inputs, outputs, kernel_map = case.map(coords, 3)
    torch.manual_seed(0)
    x = torch.randn(len(inputs), c_in, requires_grad=True)
    weight = torch.randn(kernel_map.kernel_size, c_in, c_out, requires_grad=True)
    grad = torch.randn(len(outputs), c_out)
    results = []
    for name, dtype in (("torch", torch.float64), ("cpu", torch.float32)):
        with use_backend(name):
            out = sparse_convolution(x.to(dtype), weight.to(dtype), kernel_map)
            results.append([out, *torch.autograd.grad(out, (x, weight), grad.to(dtype))])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), want.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["torch", "cpu"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (3, 2, 0), ((3, 1, 1), (2, 1, 1), 0), (2, 1, 0)]
)
def test_reached_outputs_are_those_of_a_dense_convolution(
    name: str, kernel: int | tuple[int, int, int], stride: int | tuple[int, int, int], padding: int
) -> None:
    """Where a dense convolution of ones over a bounded grid is not zero, and its values."""
    if name == "cpu" and NATIVE is None:
        pytest.skip("no compiled library")
    size = 11
    coords = random_voxels(80, 2, seed=3, low=0, size=size)
    torch.manual_seed(0)
    x = torch.rand(len(coords), 2) + 0.1
    grid = torch.zeros(2, 2, size, size, size)
    b, i, j, k = coords.long().unbind(1)
    grid[b, :, i, j, k] = x
    conv = StridedConv3d(2, 3, kernel, stride, padding=padding, outputs="reached")
    with torch.no_grad():
        conv.weight.uniform_(0.1, 1.0)
    shape = conv.weight.reshape(*conv.kernel, 2, 3).permute(4, 3, 0, 1, 2)
    dense = torch.nn.functional.conv3d(grid, shape, stride=conv.stride, padding=padding)
    conv.bounds = ((0, 0, 0), tuple(n - 1 for n in dense.shape[2:]))  # type: ignore[assignment]
    with use_backend(name):
        out = conv(SparseTensor(x, coords))
    reached = (dense.sum(1) > 0).nonzero().int()
    assert out.coords.tolist() == reached.tolist()
    b, i, j, k = out.coords.long().unbind(1)
    torch.testing.assert_close(out.features, dense[b, :, i, j, k])
    assert out.stride == conv.stride
    assert out.maps is not SparseTensor(x, coords).maps


@pytest.mark.parametrize("name", ["torch", "cpu"])
def test_translation_by_whole_strides_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    net = SparseUNet(2, (8,) * 9, (1,) * 8).eval()
    coords = random_voxels(600, 2, seed=4)
    features = torch.randn(len(coords), 2)
    with use_backend(name), torch.no_grad():
        here = net(SparseTensor(features, coords)).features
        moved = coords + torch.tensor([0, 16, -32, 160], dtype=torch.int32)
        there = net(SparseTensor(features, moved)).features
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_network_equals_layer_by_layer(dtype: torch.dtype) -> None:
    """In eval mode without gradients everything after a product happens in the same pass."""
    torch.manual_seed(0)
    net = SparseUNet(3, (16, 16, 24, 32, 40, 32, 24, 16, 16), (1, 2, 1, 1, 1, 1, 1, 2))
    coords = random_voxels(900, 2, seed=5)
    x = SparseTensor(torch.randn(len(coords), 3), coords)
    for _ in range(3):  # running statistics and affine parameters away from their defaults
        net(x).features.square().mean().backward()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, BatchNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    net.eval()
    with use_backend("torch"):
        want = net(x).features.detach()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        got = net(x).features
    assert got.dtype == dtype
    assert relative_error(got, want) < (2e-6 if dtype == torch.float32 else 3e-2)


def test_fused_parts_and_what_was_kept_is_renewed() -> None:
    torch.manual_seed(0)
    coords = random_voxels(200, 1, seed=6)
    x = SparseTensor(torch.randn(len(coords), 4), coords)
    conv, norm = SubmanifoldConv3d(4, 6, bias=True), BatchNorm(6)
    linear = Linear(4, 6)
    torch.nn.init.normal_(conv.bias)
    residual = x.replace(torch.randn(len(coords), 6))

    def check() -> None:
        norm.eval()
        for layer in (conv, linear):
            want = torch.relu(norm(layer(x)).features + residual.features).detach()
            with torch.no_grad():
                got = conv_norm(layer, norm, x, residual=residual, relu=True)
            torch.testing.assert_close(got.features, want, rtol=1e-4, atol=1e-5)

    check()
    norm.train()
    norm(conv(x))  # running statistics move
    check()
    with torch.no_grad():
        conv.weight.mul_(-2.0)
        norm.bias.add_(1.0)
    check()
    conv.weight.data = torch.randn_like(conv.weight)
    check()


def test_fused_convolution_refuses_a_residual_of_another_shape() -> None:
    x = torch.randn(5, 3)
    with pytest.raises(SparseError, match="residual"):
        fused_convolution(x, torch.randn(1, 3, 4), identity_map(5), residual=torch.randn(5, 3))


def test_nan_stays_visible() -> None:
    """A rectifier that hides NaN would hide a broken sensor or network."""
    x = torch.tensor([[float("nan")], [1.0]])
    for name in ("torch", "cpu"):
        with use_backend(name):
            for dtype in (torch.float32, torch.bfloat16):
                out = fused_convolution(
                    x.to(dtype), torch.ones(1, 1, 4), identity_map(2), relu=True
                )
                assert torch.isnan(out[0]).all()
                assert (out[1] == 1).all()


def test_golden_logits_of_one_frame(golden_frame: dict[str, np.ndarray]) -> None:
    """Whatever changes in here, the same weights give the same answers to the same cloud."""
    want = torch.from_numpy(golden_frame["features"])
    net, voxels = golden_network(golden_frame["xyz"])
    for name in ("torch", "cpu"):
        with use_backend(name), torch.no_grad():
            got = net(voxels)
        assert relative_error(got[::25], want) < 1e-5


def golden_network(xyz: np.ndarray) -> tuple[Backbone, Voxels]:
    """A narrow network whose weights come from NumPy's generator, which never changes."""
    spec = InputSpec(voxel_size_m=0.25)
    net = Backbone(preset("demo", spec)).eval()
    rng = np.random.RandomState(7)
    with torch.no_grad():
        for name, value in sorted(net.state_dict().items()):
            if value.dtype.is_floating_point:
                noise = torch.from_numpy(rng.standard_normal(tuple(value.shape)))
                if name.endswith("running_var"):
                    value.copy_(1 + noise.abs())
                elif value.ndim == 3:
                    value.copy_(noise / (value.shape[0] * value.shape[1] / 3) ** 0.5)
                elif value.ndim == 2:
                    value.copy_(noise / value.shape[1] ** 0.5)
                else:
                    value.copy_(0.1 * noise + (1.0 if "weight" in name else 0.0))
    return net, spec.voxelize(PointCloud(xyz))


@pytest.fixture(scope="module")
def golden_frame() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "golden" / "unet_frame.npz") as data:
        return dict(data)


@needs_native
def test_switch_names_and_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert backend_for(cpu, torch.float32).name == "cpu"
    assert backend_for(cpu, torch.float64).name == "torch"
    with use_backend("torch"):
        assert backend_for(cpu, torch.float32).name == "torch"
        with use_backend("cpu"), pytest.raises(EnvironmentProblem, match="float64"):
            backend_for(cpu, torch.float64)
        assert backend_for(cpu, torch.float32).name == "torch"
    with pytest.raises(ConfigError, match="use one of"):
        switch.set_backend("cuda")
    monkeypatch.setenv(switch.VARIABLE, "torch")
    assert backend_for(cpu, torch.float32).name == "torch"
    monkeypatch.setenv(switch.VARIABLE, "nonsense")
    with pytest.raises(ConfigError, match="nonsense"):
        backend_for(cpu, torch.float32)


def test_without_the_compiled_library_torch_computes_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise OSError("the compiled part of this package is not in /nowhere")

    monkeypatch.setattr(native_library, "_loaded", None)
    monkeypatch.setattr(native_library, "_problem", "")
    monkeypatch.setattr(native_library, "_path", missing)
    choose._tell_once.cache_clear()
    coords = random_voxels(200, 2, seed=7)
    case = Case("submanifold", 3)
    with caplog.at_level(logging.WARNING):
        assert max(errors_against_dense(case, 4, 4, torch.float32, coords, 2)) < 1e-6
        assert backend_for(torch.device("cpu"), torch.float32).name == "torch"
    assert "Install a C++ compiler" in caplog.text
    assert "torch computes instead" in caplog.text
    with use_backend("cpu"), pytest.raises(EnvironmentProblem, match="/nowhere"):
        sparse_convolution(torch.ones(1, 1), torch.ones(1, 1, 1), identity_map(1))
    choose._tell_once.cache_clear()


def test_arguments_that_do_not_fit() -> None:
    m = identity_map(3)
    with pytest.raises(SparseError, match="C_in"):
        sparse_convolution(torch.ones(3, 2), torch.ones(1, 3, 3), m)
    with pytest.raises(SparseError, match="4 rows"):
        sparse_convolution(torch.ones(4, 2), torch.ones(1, 2, 3), m)
    with pytest.raises(SparseError, match="convert the one"):
        sparse_convolution(torch.ones(3, 2).double(), torch.ones(1, 2, 3), m)
    with pytest.raises(SparseError, match="one device"):
        sparse_convolution(torch.ones(3, 2), torch.ones(1, 2, 3, device="meta"), m)
    with pytest.raises(SparseError, match="bounds"):
        StridedConv3d(2, 2, bounds=((0, 0, 0), (1, 1, 1)))
    with pytest.raises(SparseError, match="padding"):
        StridedConv3d(2, 2, padding=-1)


def test_half_precision_of_every_kind_and_deterministic_mode() -> None:
    """float16 is computed by torch on a CPU; deterministic algorithms change nothing."""
    coords = random_voxels(300, 2, seed=8)
    layers = torch.nn.Sequential(
        SubmanifoldConv3d(3, 8), StridedConv3d(8, 8), TransposedConv3d(8, 3)
    )
    x = torch.randn(len(coords), 3)
    exact = layers(SparseTensor(x, coords)).features
    torch.use_deterministic_algorithms(True)
    try:
        for dtype in (torch.bfloat16, torch.float16):
            runs = []
            for _ in range(3):
                layers.zero_grad()
                with torch.autocast("cpu", dtype=dtype):
                    out = layers(SparseTensor(x, coords)).features
                out.float().sum().backward()
                runs.append([out, layers[0].weight.grad.clone()])
            assert runs[0][0].dtype == dtype
            assert relative_error(runs[0][0], exact) < 2e-2
            assert all(map(torch.equal, runs[0], runs[1]))
            assert all(map(torch.equal, runs[0], runs[2]))
    finally:
        torch.use_deterministic_algorithms(False)


def test_table_and_pairs_are_two_forms_of_one_map() -> None:
    coords = random_voxels(400, 2, seed=9)
    for case in CASES:
        inputs, outputs, m = case.map(coords, 2)
        again = KernelMap(m.kernel_size, m.n_source, m.n_target, m.identity, table=m.table)
        assert _sorted_pairs(again) == _sorted_pairs(m)
        assert torch.equal(again.transposed.table, m.transposed.table)
        assert m.transposed.transposed is m
        assert m.table.shape == (m.kernel_size, len(outputs))
        assert int(m.table.max()) < len(inputs)
