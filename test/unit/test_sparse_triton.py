"""The Triton backend in Triton's interpreter: same results as the reference, no waiting, no luck.

The interpreter runs the kernels' own code on the CPU, program by program. What it cannot show
(speed, registers, a real device) is in test_sparse_triton_compile.py and test_sparse_cuda.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from sparse_problems import CASES, Case, check, problem, results, strided, submanifold
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from condense_ros.errors import ConfigError
from condense_ros.models import Backbone, BackboneConfig, InputSpec
from condense_ros.sparse import (
    MapCache,
    SparseTensor,
    SubmanifoldConv3d,
    search,
    sparse_convolution,
    use_backend,
)
from condense_ros.sparse.backends.base import Epilogue
from condense_ros.sparse.backends.choose import available, backend

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("Triton compiles for a GPU here", allow_module_level=True)

from condense_ros.sparse import triton_maps  # noqa: E402
from condense_ros.sparse.backends import triton_launch  # noqa: E402
from condense_ros.sparse.backends.triton_plan import plan_of, row_order  # noqa: E402
from condense_ros.sparse.backends.triton_store import TunedTiles  # noqa: E402
from condense_ros.sparse.backends.triton_tiles import Shape, Tiles  # noqa: E402
from condense_ros.sparse.backends.triton_tuning import surface  # noqa: E402

TRITON = backend("triton")
BY_NAME = {case.name: case for case in CASES}
#: where waiting for the device, or shapes that depend on values, show as operators
WAITING = (
    *("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "bincount"),
    *("repeat_interleave", "equal", "is_nonzero"),
)


@pytest.fixture(autouse=True)
def no_stored_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TunedTiles("interpreter", tmp_path / "tiles.json")
    monkeypatch.setattr(triton_launch, "tuned", lambda device: store)


def force_tiles(monkeypatch: pytest.MonkeyPatch, **of_kind: Tiles) -> None:
    """Tiles by kind, whatever the shape."""
    default = triton_launch._default
    monkeypatch.setattr(
        triton_launch,
        "_default",
        lambda shape, device: of_kind.get(shape.kind) or default(shape, device),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_float32_equals_reference(case: Case) -> None:
    check(TRITON, case, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["submanifold 3", "linear", "strided 2", "transposed 3 by 2"])
def test_half_precision_equals_reference(name: str, dtype: torch.dtype) -> None:
    check(TRITON, BY_NAME[name], dtype)


@pytest.mark.parametrize(
    ("forward", "gradient"),
    [
        (Tiles(16, 16, 32, 1), Tiles(16, 16, 64, 1)),
        (Tiles(32, 32, 16, 2), Tiles(16, 32, 16, 3)),
        (Tiles(16, 16, 64, 5), Tiles(32, 16, 64, 64)),
        (Tiles(128, 64, 16, 4), Tiles(128, 16, 16, 2)),
    ],
)
@pytest.mark.parametrize("name", ["submanifold 1x3x5", "strided 2", "linear"])
def test_every_tile_size_is_right(
    name: str, forward: Tiles, gradient: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Splits of the products, chunks past the end of a list, blocks larger than the channels."""
    force_tiles(monkeypatch, forward=forward, input_gradient=forward, weight_gradient=gradient)
    check(TRITON, BY_NAME[name], torch.float32)


def test_epilogue_parts_alone_and_nan() -> None:
    p = problem(BY_NAME["strided 2"], torch.float32)
    plain = TRITON.forward(p.x, p.weight, p.kernel_map)
    e = p.epilogue
    assert e.scale is not None
    assert e.shift is not None
    assert e.residual is not None
    for epilogue, want in (
        (Epilogue(scale=e.scale), plain * e.scale),
        (Epilogue(shift=e.shift), plain + e.shift),
        (Epilogue(residual=e.residual), plain + e.residual),
        (Epilogue(residual=e.residual.t().contiguous().t()), plain + e.residual),
        (Epilogue(relu=True), plain.relu()),
    ):
        got = TRITON.forward(p.x, p.weight, p.kernel_map, epilogue)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    x = p.x.clone()
    x[3, 2] = torch.nan
    got = TRITON.forward(x, p.weight, p.kernel_map, Epilogue(relu=True))
    want = backend("torch").forward(x, p.weight, p.kernel_map, Epilogue(relu=True))
    assert want.isnan().any()
    assert torch.equal(got.isnan(), want.isnan())


@pytest.mark.parametrize("name", ["submanifold 3", "strided 4 by 4", "transposed 2"])
@pytest.mark.parametrize("rows", [16, 32])
def test_tiling_holds_every_pair_once(name: str, rows: int) -> None:
    kernel_map = BY_NAME[name].map("cpu")
    plan = plan_of(kernel_map)
    tiling, slots = plan.tiling(rows), plan.slots(rows)
    assert tiling is not None
    assert slots is not None
    assert plan.order is not None
    order = plan.order.tolist()
    assert sorted(order) == list(range(kernel_map.n_target))
    table = kernel_map.table
    found = torch.full_like(table, -1)
    listed = []
    for tile, count in enumerate(tiling.counts.tolist()):
        here = order[tile * rows : (tile + 1) * rows]
        offsets = tiling.offsets[tile, :count].tolist()
        assert offsets == (table[:, here] >= 0).any(1).nonzero().squeeze(1).tolist()
        for place, offset in enumerate(offsets):
            listed.append((offset, tile * kernel_map.kernel_size + place))
            sources = tiling.sources[tile, place]
            found[offset, here] = sources[: len(here)]
            assert (sources[len(here) :] == -1).all()
    assert torch.equal(found, table)
    by_offset = [
        (offset, slot)
        for offset, count in enumerate(slots.counts.tolist())
        for slot in slots.slots[offset, :count].tolist()
    ]
    assert by_offset == sorted(listed)


def test_rows_of_equal_neighbours_come_together() -> None:
    """A tile visits what its rows have; sorted rows need fewer visits than rows as they come."""
    table = MapCache(surface(400)).submanifold(1, 3).table
    there = (table >= 0).long()
    masks = (there << torch.arange(len(table))[:, None]).sum(0)
    order = row_order(table)
    assert torch.equal(order.long(), torch.sort(masks, stable=True).indices)

    def visits(columns: Tensor) -> int:
        return sum(int((tile >= 0).any(1).sum()) for tile in columns.split(16, dim=1))

    assert visits(table[:, order.long()]) < 0.8 * visits(table)


def test_kernels_of_more_offsets_than_bits_share_bits() -> None:
    kernel_map = BY_NAME["submanifold 5"].map("cpu")
    there = (kernel_map.table >= 0).long()
    bits = torch.zeros(63, kernel_map.n_target, dtype=torch.long)
    bits.index_add_(0, torch.arange(125) // 2, there)
    masks = (bits.clamp(max=1) << torch.arange(63)[:, None]).sum(0)
    want = torch.sort(masks, stable=True).indices
    assert torch.equal(row_order(kernel_map.table).long(), want)


def test_a_symmetric_map_needs_one_plan() -> None:
    kernel_map = BY_NAME["submanifold 3"].map("cpu")
    assert kernel_map.symmetric
    turned = kernel_map.transposed
    assert torch.equal(turned.table, kernel_map.table.flip(0))
    p = problem(BY_NAME["submanifold 3"], torch.float32)
    results(TRITON, p)
    assert "triton" not in p.kernel_map.__dict__.get("transposed", turned).kept
    assert not BY_NAME["strided 3 by 2"].map("cpu").symmetric


def test_rows_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows lie so far apart that their offsets exceed 2^31 elements."""
    case = Case("far", submanifold((1, 3, 3)), voxels=20, batch=1, c_in=16, c_out=16)
    p = problem(case, torch.float16)
    stride = 2**31 // 16
    # pages that are never touched cost nothing
    far = torch.empty(stride * (len(p.x) - 1) + 16, dtype=torch.float16)
    spread = far.as_strided(p.x.shape, (stride, 1))
    spread.copy_(p.x)
    assert len(p.x) * stride > 2**31
    want = TRITON.forward(p.x, p.weight, p.kernel_map)
    assert torch.equal(TRITON.forward(spread, p.weight, p.kernel_map), want)
    grads = [TRITON.weight_gradient(x, p.grad, p.kernel_map) for x in (p.x, spread)]
    assert torch.equal(*grads)
    with monkeypatch.context() as patch:
        patch.setattr(triton_launch, "_LIMIT", 1)  # every offset in 64 bits
        for name in ("submanifold 3", "strided 2"):
            force_tiles(patch, forward=Tiles(16, 16, 32, 2))
            check(TRITON, BY_NAME[name], torch.float32)


class NoWaiting(TorchDispatchMode):
    """Fails where the host would ask a device for a value."""

    def __enter__(self) -> Any:
        # not an operator
        self._patch = mock.patch.object(Tensor, "tolist", side_effect=AssertionError("waits"))
        self._patch.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._patch.stop()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert not any(word in name for word in WAITING), f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), f"{name} by a mask"
        if name in ("_to_copy", "copy_"):
            assert (kwargs or {}).get("device") in (None, torch.device("cpu"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_layer_never_waits_for_the_device(dtype: torch.dtype) -> None:
    """From the table on: order, tiles, products and both gradients."""
    for make in (submanifold(3), strided(3, 2)):
        case = Case("waiting", make)
        made = case.map("cpu")
        # as on a GPU: a table and no pairs
        table, symmetric = made.table, made.symmetric
        made = type(made)(
            made.kernel_size, made.n_source, made.n_target, made.identity,
            table=table, symmetric=symmetric,
        )  # fmt: skip
        x = torch.randn(made.n_source, 8, dtype=dtype, requires_grad=True)
        weight = torch.randn(made.kernel_size, 8, 8, requires_grad=True)
        with use_backend("triton"), NoWaiting():
            sparse_convolution(x, weight, made).sum().backward()
        assert x.grad is not None
        assert "pairs" not in made.__dict__


def test_waiting_would_be_seen() -> None:
    values = torch.arange(4)
    for wait in (
        lambda: values.sum().item(),
        lambda: values.nonzero(),
        lambda: values[values > 1],
        lambda: values.tolist(),
        lambda: bool((values > 1).all()),
    ):
        with pytest.raises(AssertionError, match=r"waits|mask"), NoWaiting():
            wait()


def test_tables_equal_those_of_torch() -> None:
    offsets = [
        ((-1, -1, -1), (3, 3, 3), (1, 1, 1)),
        ((-2, -1, -3), (3, 1, 3), (2, 1, 3)),
        ((0, 0, 0), (2, 2, 2), (1, 1, 1)),
        ((-2, -2, -2), (5, 5, 5), (1, 1, 1)),
    ]
    for voxels in (0, 1, 2, 63, 64, 65):
        case = Case("tables", submanifold(1), voxels=voxels)
        maps = MapCache(case.coords(), 2)
        keys = maps.level(1).keys
        for first, kernel, dilation in offsets:
            got = triton_maps.lookup_table(keys, keys, first, kernel, dilation)
            shifts = search.key_shifts(first, kernel, dilation)
            assert torch.equal(got, search.lookup_table(keys, keys, shifts))
        for factor in ((2, 2, 2), (3, 1, 2)):
            coarse = maps.coarsen(1, factor)
            parents = maps._parents[(1, 1, 1), factor]
            got = triton_maps.tiled_table(keys, parents, factor, len(coarse))
            assert torch.equal(got, search.tiled_table(keys, parents, factor, len(coarse)))


def test_tables_are_made_without_waiting() -> None:
    maps = MapCache(Case("tables", submanifold(1)).coords(), 2)
    keys = maps.level(1).keys
    coarse = maps.coarsen(1, 2)
    parents = maps._parents[(1, 1, 1), (2, 2, 2)]
    centre, cube = (-1, -1, -1), (3, 3, 3)
    with NoWaiting():
        search.lookup_table(keys, keys, search.key_shifts(centre, cube, (1, 1, 1)))
        search.tiled_table(keys, parents, (2, 2, 2), len(coarse))
        triton_maps.lookup_table(keys, keys, centre, cube, (1, 1, 1))
        triton_maps.tiled_table(keys, parents, (2, 2, 2), len(coarse))


def test_twenty_runs_give_the_same_bits() -> None:
    p = problem(Case("again", submanifold((1, 1, 3)), voxels=40, c_in=8, c_out=16), torch.float32)
    first = results(TRITON, p)
    for _ in range(20):
        for what, again in results(TRITON, p).items():
            assert torch.equal(again, first[what]), what


def test_changed_weights_are_used() -> None:
    p = problem(BY_NAME["strided 2"], torch.float16)
    weight = torch.nn.Parameter(p.weight.clone())
    first = TRITON.forward(p.x, weight, p.kernel_map)
    with torch.no_grad():
        weight.mul_(2)
    torch.testing.assert_close(TRITON.forward(p.x, weight, p.kernel_map), 2 * first)
    with torch.no_grad():
        weight.data = p.weight.clone()
    assert torch.equal(TRITON.forward(p.x, weight, p.kernel_map), first)


def test_a_network_equals_the_reference() -> None:
    config = BackboneConfig(InputSpec(), (16,) * 9, (1,) * 8)
    torch.manual_seed(0)
    net = Backbone(config).net
    coords = Case("network", submanifold(1), voxels=24).coords()
    features = torch.randn(len(coords), net.in_channels)
    outputs, gradients = [], []
    for name in ("torch", "triton"):
        with use_backend(name), torch.no_grad():
            outputs.append(net.eval()(SparseTensor(features, coords)).features)
    for name in ("torch", "triton"):
        with use_backend(name):
            net.train().zero_grad()
            net(SparseTensor(features, coords)).features.square().mean().backward()
            gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    for want, got in zip(*gradients, strict=True):
        assert (got - want).norm() <= 1e-3 * want.norm() + 1e-6


def test_autocast_trains_in_half_precision() -> None:
    conv = SubmanifoldConv3d(8, 8)
    coords = Case("autocast", submanifold(1)).coords()
    x = torch.randn(len(coords), 8, requires_grad=True)
    with use_backend("triton"), torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv(SparseTensor(x, coords)).features
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32
    assert x.grad is not None


def test_precision_of_float32_follows_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = torch.backends.cuda.matmul
    before = setting.allow_tf32
    assert triton_launch.precision_of(torch.float16) == "float16"
    try:
        for allowed, want in ((True, "tf32"), (False, "ieee")):
            setting.allow_tf32 = allowed
            assert triton_launch.precision_of(torch.float32) == want
    finally:
        setting.allow_tf32 = before
    monkeypatch.setenv(triton_launch.PRECISION_VARIABLE, "tf32x3")
    assert triton_launch.precision_of(torch.float32) == "tf32x3"
    monkeypatch.setenv(triton_launch.PRECISION_VARIABLE, "fast")
    with pytest.raises(ConfigError, match="ieee, tf32, tf32x3"):
        triton_launch.precision_of(torch.float32)


def test_what_it_cannot_do_is_said() -> None:
    cpu = torch.device("cpu")
    assert not TRITON.problem(cpu, torch.float32)
    assert "float64" in TRITON.problem(cpu, torch.float64)
    assert "meta" in TRITON.problem(torch.device("meta"), torch.float32)
    assert available(cpu, torch.float32)["triton"] == ""


def test_tiles_that_do_not_fit_give_way_to_defaults(caplog: pytest.LogCaptureFixture) -> None:
    shape = Shape.of("forward", "ieee", 8, 8, 27, 100)
    device = torch.device("cpu")
    bad = Tiles(64, 64, 64)
    triton_launch.tuned(device).add({shape: bad})
    used = []

    def launch(tiles: Tiles) -> Tensor:
        used.append(tiles)
        if tiles == bad:
            raise triton.runtime.errors.OutOfResources(200_000, 101_376, "shared memory")
        return torch.ones(1)

    for _ in range(2):
        triton_launch._run(shape, device, launch)
    assert used[0] == bad
    assert bad not in used[1:]
    assert len(used) == 3
    assert "do not fit" in caplog.text
