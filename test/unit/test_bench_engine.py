"""`condense bench engine`: counts against hand counts, figures that fit together, typed errors."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from condense_ros.cli.app import app
from condense_ros.cli.bench import machine
from condense_ros.cli.bench.engine import measure as measuring
from condense_ros.cli.bench.engine import networks, rows
from condense_ros.cli.bench.engine.clock import Parts, SteppedTorchBackend
from condense_ros.cli.bench.engine.clouds import load_cloud
from condense_ros.cli.bench.engine.layers import Layer, make_maps, map_form, trace
from condense_ros.cli.bench.engine.measure import EngineBench, measure
from condense_ros.cli.bench.engine.memory import Job, peak_mb
from condense_ros.cli.bench.engine.picture import draw_layers
from condense_ros.cli.bench.engine.rates import Rates
from condense_ros.cli.bench.engine.report import show
from condense_ros.errors import CondenseError, ConfigError, EnvironmentProblem, StorageFull
from condense_ros.frame import PointCloud
from condense_ros.models import InputSpec
from condense_ros.models.unet import ConvNorm
from condense_ros.sparse import (
    BatchNorm,
    Linear,
    MapCache,
    ReLU,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    TransposedConv3d,
    use_backend,
)
from condense_ros.sparse.backends.base import Epilogue
from condense_ros.sparse.backends.choose import observed
from condense_ros.sparse.backends.cpu_backend import CpuBackend
from condense_ros.sparse.backends.torch_backend import TorchBackend

KEYS = {"backend", "dtype", "device", "cloud", "voxels", "gmac", "map_ms", "forward_ms", "step_ms"}
KEYS |= {"gflops", "floor_ms", "peak_mb", "max_rel_error"}
KEYS |= {"threads", "network", "total_ms", "layers", "instruction_set"}


@pytest.fixture(scope="module")
def cloud_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wall and a floor, as KITTI stores them."""
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(2, 6, (500, 2)), rng.normal(-1.7, 0.01, 500), rng.random(500)]
    wall = np.c_[np.full(300, 6.0), rng.uniform(-2, 2, (300, 2)), rng.random(300)]
    path = tmp_path_factory.mktemp("cloud") / "sweep.bin"
    np.concatenate([floor, wall]).astype("<f4").tofile(path)
    return path


def bench(cloud_file: Path, **changes: Any) -> EngineBench:
    settings = {"network": "demo", "cloud": str(cloud_file), "voxel_m": 0.2, **changes}
    return EngineBench(**settings)


@pytest.fixture(scope="module")
def result(cloud_file: Path) -> dict[str, Any]:
    return measure(bench(cloud_file, backends=("torch", "cpu"), train=True))


def subject(cloud_file: Path) -> rows.Subject:
    return measuring._subject(bench(cloud_file), torch.device("cpu"), None)


# counts


def three_voxels() -> tuple[nn.Module, SparseTensor]:
    """x = 0, 1 and 2 in a row: 3 pairs of a voxel with itself, 2 of neighbours each way."""
    network = nn.Sequential(
        ConvNorm(SubmanifoldConv3d(2, 5), BatchNorm(5), ReLU()),
        ConvNorm(Linear(5, 7, bias=False), BatchNorm(7)),
        ConvNorm(StridedConv3d(7, 4), BatchNorm(4), ReLU()),
        ConvNorm(TransposedConv3d(4, 3), BatchNorm(3), ReLU()),
    ).eval()
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 2, 0, 0]], dtype=torch.int32)
    return network, SparseTensor(torch.ones(3, 2), coords)


def test_layers_against_a_count_by_hand() -> None:
    layers = trace(*three_voxels())
    assert [layer.name for layer in layers] == ["0.0", "1.0", "2.0", "3.0"]
    assert [layer.kind for layer in layers] == ["submanifold", "linear", "strided", "transposed"]
    assert [layer.pairs for layer in layers] == [3 + 4, 3, 3, 3]
    assert [layer.listed for layer in layers] == [4, 0, 3, 3]
    assert [(layer.rows_in, layer.rows) for layer in layers] == [(3, 3), (3, 3), (3, 2), (2, 3)]
    assert [layer.mac for layer in layers] == [7 * 10, 3 * 35, 3 * 28, 3 * 12]
    # features in and out, 27 matrices, 4 listed pairs
    assert layers[0].least_bytes(4) == 4 * (3 * 2 + 3 * 5 + 27 * 10) + 8 * 4
    assert layers[2].least_bytes(2) == 2 * (3 * 7 + 2 * 4 + 8 * 28) + 8 * 3


def test_a_shortcut_is_read_too(cloud_file: Path) -> None:
    added = [layer for layer in subject(cloud_file).layers if layer.residual]
    assert len(added) == 8  # one per block
    for layer in added:
        plain = layer.rows_in * layer.c_in + layer.rows * layer.c_out
        plain += 27 * layer.c_in * layer.c_out
        assert layer.least_bytes(4) == 4 * (plain + layer.rows * layer.c_out) + 8 * layer.listed


def test_tracing_leaves_the_network_as_it_was() -> None:
    network, x = three_voxels()
    before = network(x).features
    trace(network, x)
    assert not any("geometry" in module.__dict__ for module in network.modules())
    assert torch.equal(network(x).features, before)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_maps_are_those_of_the_network(cloud_file: Path, backend: str) -> None:
    frame = subject(cloud_file)
    made: list[Any] = []
    form = map_form(backend)
    with use_backend(backend):
        levels_ms, times = make_maps(
            frame.layers, frame.coords, 1, lambda m: made.append(m) or form(m), lambda: None
        )
    assert levels_ms > 0
    assert len(times) == len(frame.layers)
    wanted = [layer for layer in frame.layers if layer.module is not None]
    assert [m.n_pairs for m in made] == [layer.pairs for layer in wanted]
    assert [m.n_target for m in made] == [layer.rows for layer in wanted]
    assert [t for t, layer in zip(times, frame.layers, strict=True) if layer.module is None] == [
        0.0
    ] * sum(layer.module is None for layer in frame.layers)


def test_minkunet_is_the_network_of_the_published_figures() -> None:
    network = networks.build("minkunet", 0.1).eval()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(21.7e6, rel=5e-3)
    spec = networks.input_of("minkunet", 0.1)
    xyz = np.random.default_rng(1).uniform(1, 9, (200, 3)).astype(np.float32)
    voxels = spec.voxelize(PointCloud(xyz, np.ones(200, np.float32)))
    assert voxels.features.shape[1] == 4
    assert len(trace(network, voxels.sparse_tensor())) == 49


def test_weights_and_clouds_are_the_same_every_time() -> None:
    before = torch.random.get_rng_state()
    one, two = (networks.build("demo", 0.1).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before)
    first, second = load_cloud("32beam"), load_cloud("32beam")
    assert np.array_equal(first.xyz, second.xyz)
    assert 25_000 < len(first) < 40_000


# floors and parts


def layer_of(**changes: Any) -> Layer:
    values: dict[str, Any] = {
        "name": "a", "kind": "submanifold", "kernel": (3, 3, 3), "stride": (1, 1, 1), "c_in": 10,
        "c_out": 20, "rows_in": 100, "rows": 100, "pairs": 600, "listed": 500, "residual": False,
        "module": None, "maps_in": 0, "maps_out": 0,
    }  # fmt: skip
    return Layer(**{**values, **changes})


def test_the_floor_is_the_larger_of_products_and_memory() -> None:
    layer = layer_of()
    products_ms = 2 * 600 * 10 * 20 / 50e9 * 1e3
    traffic = 4 * (100 * 10 + 100 * 20 + 27 * 200) + 8 * 500
    # a copied byte is read and written
    memory_ms = traffic / (2 * 100e6) * 1e3
    assert Rates(40.0, {(10, 20): 50.0}, 1e6).floor_ms(layer, 4) == pytest.approx(products_ms)
    assert Rates(40.0, {(10, 20): 50.0}, 100.0).floor_ms(layer, 4) == pytest.approx(memory_ms)
    assert Rates(80.0, {(10, 20): 50.0}, 1e6).dense_ms(layer) == pytest.approx(products_ms)


@pytest.mark.parametrize("threads", [1, 2])
def test_copies(threads: int) -> None:
    assert 100 < machine.copy_rate(1 << 18, threads) < 1e7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_of_the_torch_backend_are_its_own(cloud_file: Path, dtype: torch.dtype) -> None:
    coords = subject(cloud_file).coords
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(coords), 8, generator=generator).to(dtype)
    weight = torch.randn(27, 8, 6, generator=generator)
    m = MapCache(coords).submanifold(1, 3)
    epilogue = Epilogue(torch.rand(6), torch.rand(6), torch.randn(len(coords), 6).to(dtype), True)
    parts: list[Parts] = []
    stepped = SteppedTorchBackend(parts).forward(x, weight, m, epilogue)
    assert torch.equal(stepped, TorchBackend().forward(x, weight, m, epilogue))
    assert len(parts) == 1
    assert all(value > 0 for value in parts[0])


def test_a_watched_block_computes_through_what_watches(cloud_file: Path) -> None:
    frame, seen = subject(cloud_file), []

    def watch(backend: Any) -> Any:
        seen.append(backend.name)
        return backend

    with use_backend("torch"):
        with observed(watch):
            frame.network(frame.tensor(torch.float32)).features.sum().backward()
        inside = len(seen)
        frame.network(frame.tensor(torch.float32))
    # recording gradients, linear shortcuts are no sparse products
    assert seen == ["torch"] * sum(layer.module is not None for layer in frame.layers)
    assert len(seen) == inside


# figures


def test_every_row_has_every_figure(result: dict[str, Any]) -> None:
    assert [(row["backend"], row["dtype"]) for row in result["rows"]] == [
        ("torch", "float32"), ("torch", "bfloat16"), ("cpu", "float32"), ("cpu", "bfloat16"),
    ]  # fmt: skip
    for row in result["rows"]:
        assert set(row) >= KEYS
        for name in ("map_ms", "forward_ms", "total_ms", "step_ms", "gflops", "floor_ms"):
            assert row[name] > 0, name
        assert row["peak_mb"] >= 0
        assert row["gflops"] == pytest.approx(2 * row["gmac"] / row["forward_ms"] * 1e3)
        assert row["ratio_to_floor"] == pytest.approx(row["forward_ms"] / row["floor_ms"])
    assert result["machine"]["copy_mb_s"] > 0
    assert set(result["machine"]["gemm_gflops"]) == {"float32", "bfloat16"}
    assert len(result["coords_sha256"]) == 64


def test_layers_add_up(result: dict[str, Any], cloud_file: Path) -> None:
    counted = sum(layer.mac for layer in subject(cloud_file).layers) / 1e9
    for row in result["rows"]:
        layers = row["layers"]
        assert sum(layer["gmac"] for layer in layers) == pytest.approx(row["gmac"])
        assert row["gmac"] == pytest.approx(counted)
        assert sum(layer["floor_ms"] for layer in layers) == pytest.approx(row["floor_ms"])
        assert sum(layer["ms"] for layer in layers) == pytest.approx(row["product_ms"])
        maps = sum(layer["map_ms"] for layer in layers)
        assert row["levels_ms"] + maps == pytest.approx(row["map_ms"])
        assert all(layer["floor_ms"] > 0 and layer["ms"] > 0 for layer in layers)


def test_parts_are_timed_where_they_are_apart(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        parts = [row[f"{part}_ms"] for part in Parts._fields]
        of_layers = [layer[f"{part}_ms"] for layer in row["layers"] for part in Parts._fields]
        if row["backend"] == "torch":
            assert row["parts_note"] is None
            assert sum(parts) == pytest.approx(sum(of_layers))
            assert all(part > 0 for part in parts)
        else:
            assert "tile by tile" in row["parts_note"]
            assert parts == [None] * 4
            assert of_layers == [None] * len(of_layers)


def test_errors_are_those_of_the_number_format(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        low = 1e-4 if row["dtype"] == "bfloat16" else 1e-9
        high = 5e-2 if row["dtype"] == "bfloat16" else 1e-5
        assert low < row["max_rel_error"] < high


def test_a_wrong_backend_shows(cloud_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = subject(cloud_file)
    right = CpuBackend.forward

    def wrong(self: CpuBackend, *arguments: Any) -> torch.Tensor:
        return right(self, *arguments) * 1.02

    rates = Rates(50.0, {(layer.c_in, layer.c_out): 50.0 for layer in frame.layers}, 1e4)
    monkeypatch.setattr(rows, "peak_mb", lambda *_: None)

    def error() -> float:
        row = rows.measure_row(frame, "cpu", torch.float32, rates, 5, False, lambda: None)
        assert row["step_ms"] is None
        return float(row["max_rel_error"])

    assert error() < 1e-5
    monkeypatch.setattr(CpuBackend, "forward", wrong)
    assert error() > 1e-2


def test_relative_error() -> None:
    reference = torch.tensor([[1.0, -4.0], [2.0, 0.0]], dtype=torch.float64)
    assert rows.relative_error(reference.float(), reference) == 0
    moved = reference.clone()
    moved[1, 1] = 0.5
    assert rows.relative_error(moved, reference) == 0.125
    moved[0, 0] = float("nan")
    assert not rows.relative_error(moved, reference) < 1


def test_peak_memory_holds_at_least_the_result() -> None:
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(-20, 20, (40_000, 2)), rng.uniform(-2, 0, 40_000)].astype(np.float32)
    voxels = InputSpec(voxel_size_m=0.1).voxelize(PointCloud(xyz))
    job = Job("demo", 0.1, "cpu", "float32", "cpu", 1)
    peak = peak_mb(job, voxels.coords, voxels.features)
    assert peak is not None
    assert len(voxels) * 32 * 4 / 1e6 < peak < 500


def test_a_process_that_fails_is_told() -> None:
    job = Job("demo", 0.1, "cpu", "float32", "cpu", 1)
    coords = torch.zeros(2, 4, dtype=torch.int32)  # the same voxel twice
    with pytest.raises(EnvironmentProblem, match="duplicate voxel"):
        peak_mb(job, coords, torch.ones(2, 2))


def test_threads_are_set_and_given_back(cloud_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []

    def rates(*_: Any) -> Rates:
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "measure_copy", lambda *_: 1e4)
    monkeypatch.setattr(measuring, "measure_rates", rates)
    with pytest.raises(KeyboardInterrupt):
        measure(bench(cloud_file, threads=2, backends=("torch",)))
    assert seen == [2]
    assert torch.get_num_threads() == before


# errors


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "unet99"}, "unet34c"),
        ({"backends": ("cuda",)}, "spconv-triton"),
        ({"dtypes": ("int8",)}, "float16"),
        ({"cloud": "128beam"}, "64beam"),
        ({"runs": 4}, "5 runs"),
        ({"threads": 0}, "1 thread"),
        ({"voxel_m": 0.0}, "positive edge"),
    ],
)
def test_unknown_names_say_what_is_known(
    cloud_file: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        measure(bench(cloud_file, **changes))
    assert said in str(error.value)


def test_a_backend_asked_for_must_work(cloud_file: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="'cpu' cannot be measured"):
        measure(bench(cloud_file, backends=("cpu",), dtypes=("float16",)))


def test_all_backends_leave_out_those_that_cannot(cloud_file: Path) -> None:
    config = bench(cloud_file, dtypes=("float16",))
    work, skipped = measuring._possible(config, torch.device("cpu"))
    assert work == [("torch", "float16")]
    reasons = {item["backend"]: item["reason"] for item in skipped}
    assert set(reasons) == {"cpu", "triton", "spconv", "spconv-triton"}
    assert all(reasons.values())


def test_a_cloud_without_points_in_range(tmp_path: Path) -> None:
    np.full((5, 4), 1e4, "<f4").tofile(tmp_path / "far.bin")
    with pytest.raises(ConfigError, match="no point within 60 m"):
        measure(bench(tmp_path / "far.bin"))


def test_a_file_without_intensity_will_do(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.ones((4, 3), np.float32))
    cloud = load_cloud(str(tmp_path / "plain.npy"))
    assert cloud.intensity is not None
    assert not cloud.intensity.any()


# the command


def test_the_command_writes_a_file_whole_or_not_at_all(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EngineBench] = []

    def measured(config: EngineBench, progress: Any) -> dict[str, Any]:
        asked.append(config)
        return result

    monkeypatch.setattr(measuring, "measure", measured)
    path = tmp_path / "folder" / "engine.json"
    command = ["bench", "engine", "--network", "demo", "--backend", "cpu, torch", "--dtype", "all"]
    command += ["--json", str(path), "--out", str(tmp_path / "layers.png"), "--layers"]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert asked[0].backends == ("torch", "cpu")
    assert asked[0].dtypes == ("float32", "bfloat16", "float16")
    assert json.loads(path.read_text()) == result
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    assert "decoder.3.0.conv2" in done.output
    assert "bfloat16" in done.output

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", no_room)
    failed = CliRunner().invoke(app, command[:-1])
    assert isinstance(failed.exception, StorageFull)
    assert json.loads(path.read_text()) == result
    assert list(path.parent.iterdir()) == [path]


def test_errors_reach_the_command_line() -> None:
    for arguments in (["--backend", "fpga"], ["--dtype", "int4"], ["--network", "resnet"]):
        done = CliRunner().invoke(app, ["bench", "engine", *arguments])
        assert isinstance(done.exception, ConfigError), arguments
        assert isinstance(done.exception, CondenseError)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from condense_ros.cli import main\n"
        "try:\n"
        "    main(['bench', 'engine', '--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code in (0, None), end.code\n"
        "print('LOADED', [n for n in ('torch', 'numpy', 'matplotlib') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert "--peer-python" in done.stdout


def test_a_table_without_rows_is_no_error(result: dict[str, Any], tmp_path: Path) -> None:
    show({**result, "rows": []})
    with pytest.raises(ConfigError, match="no figures"):
        draw_layers({**result, "rows": []}, tmp_path / "none.png")
