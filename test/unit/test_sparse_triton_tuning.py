"""Tiles of the Triton kernels: defaults, candidates, store, and the tuner with a made-up clock."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sparse_problems import Case, submanifold

from condense_ros.errors import EnvironmentProblem
from condense_ros.sparse.backends.triton_store import TunedTiles, cache_folder, path_of
from condense_ros.sparse.backends.triton_tiles import (
    FORWARD,
    INPUT_GRADIENT,
    WEIGHT_GRADIENT,
    Shape,
    Tiles,
    candidates,
    defaults,
    fits,
)

KINDS = (FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT)
PRECISIONS = ("ieee", "tf32", "float16", "bfloat16")
SHAPES = [
    Shape.of(kind, precision, c_in, c_out, kernel, rows)
    for kind, precision, (c_in, c_out), kernel, rows in itertools.product(
        KINDS, PRECISIONS, ((1, 16), (4, 32), (96, 96), (384, 256), (3, 1000)), (1, 8, 27, 125),
        (1, 900, 85_000, 3_000_000),
    )
]  # fmt: skip
LAYER = Shape.of(FORWARD, "float16", 32, 64, 27, 50_000)


def test_clouds_of_like_size_are_one_shape() -> None:
    assert Shape.of(FORWARD, "float16", 32, 64, 27, 33_000) == LAYER
    assert Shape.of(FORWARD, "float16", 32, 64, 27, 32_768) != LAYER
    assert LAYER.name == "forward float16 32x64 k27 n16"
    assert len({shape.name for shape in SHAPES}) == len(set(SHAPES))


@pytest.mark.parametrize("processors", [1, 16, 132])
def test_defaults_and_candidates_can_run(processors: int) -> None:
    """On the smallest device: 99 KiB of shared memory, sums in registers, blocks for tl.dot."""
    for shape in SHAPES:
        default = defaults(shape, processors)
        tries = candidates(shape, processors)
        assert tries[0] == default
        assert len(tries) == len(set(tries)) <= 80
        for tiles in tries:
            assert fits(shape, tiles), (shape, tiles)
            assert Tiles.from_dict(tiles.to_dict()) == tiles
            assert tiles.columns <= max(16, 2 * shape.c_out)
            assert tiles.inner <= max(16, 2 * shape.c_in)


def test_a_wide_layer_has_a_choice_and_a_large_device_gets_more_programs() -> None:
    wide = Shape.of(FORWARD, "bfloat16", 256, 256, 27, 2_800)
    assert len(candidates(wide, 132)) >= 20

    def programs(tiles: Tiles) -> int:
        return math.ceil(2_800 / tiles.rows) * math.ceil(256 / tiles.columns) * tiles.parts

    assert programs(defaults(wide, 132)) >= 132
    assert programs(defaults(wide, 132)) > programs(defaults(wide, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 48},
        {"rows": 8},
        {"inner": 2048},
        {"columns": "64"},
        {"parts": 0},
        {"warps": 3},
        {"stages": 20},
        {"stages": True},
        {"colour": 1},
    ],
    ids=str,
)
def test_tiles_no_kernel_runs_with_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tiles.from_dict({**Tiles(64, 32, 64).to_dict(), **wrong})


def test_the_store_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "condense_ros" / "triton"
    name = "NVIDIA H100 80GB HBM3 (PCIe)"
    assert path_of(name).name == "NVIDIA-H100-80GB-HBM3-PCIe.json"
    tiles = Tiles(128, 64, 32, 2, 8, 5)
    first = TunedTiles(name)
    assert first.find(LAYER) is None
    first.add({LAYER: tiles})
    assert first.find(LAYER) == tiles
    again = TunedTiles(name)
    assert again.has(LAYER)
    assert again.find(LAYER) == tiles
    content = json.loads(path_of(name).read_text())
    assert content["device"] == name
    # another device of the same file name has nothing of it
    assert TunedTiles("NVIDIA H100 80GB HBM3 PCIe", path_of(name)).find(LAYER) is None


def test_two_processes_keep_each_others_results(tmp_path: Path) -> None:
    path = tmp_path / "tiles.json"
    one, other = TunedTiles("gpu", path), TunedTiles("gpu", path)
    second = Shape.of(WEIGHT_GRADIENT, "float16", 8, 8, 27, 100)
    one.add({LAYER: Tiles(64, 32, 64)})
    other.add({second: Tiles(32, 16, 16)})
    read = TunedTiles("gpu", path)
    assert len(read) == 2
    assert read.has(LAYER)
    assert read.has(second)


def test_the_nearest_size_is_taken(tmp_path: Path) -> None:
    store = TunedTiles("gpu", tmp_path / "tiles.json")
    at_16, at_12 = Tiles(128, 32, 64), Tiles(32, 32, 64)
    store.add({LAYER: at_16, Shape.of(FORWARD, "float16", 32, 64, 27, 4_000): at_12})

    def find(rows: int, precision: str = "float16") -> Tiles | None:
        return store.find(Shape.of(FORWARD, precision, 32, 64, 27, rows))

    assert find(100_000) == find(60_000) == find(30_000) == at_16
    assert find(7_000) == find(600) == at_12
    assert find(10_000_000) is None
    assert find(60_000, "bfloat16") is None
    store.forget(LAYER)
    assert store.find(LAYER) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 0, "device": "gpu", "tiles": {}}',
        '{"format": 1, "device": "gpu", "tiles": {"forward": {"rows": 3}}}',
        '{"format": 1, "device": "gpu", "tiles": []}',
    ],
)
def test_a_damaged_store_is_told_about_and_replaced(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tiles.json"
    path.write_text(content)
    store = TunedTiles("gpu", path)
    assert str(path) in caplog.text
    assert store.find(LAYER) is None
    store.add({LAYER: Tiles(64, 32, 64)})
    assert TunedTiles("gpu", path).has(LAYER)


triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("Triton compiles for a GPU here", allow_module_level=True)

from condense_ros.sparse import sparse_convolution  # noqa: E402
from condense_ros.sparse.backends import triton_launch, triton_tuning  # noqa: E402
from condense_ros.sparse.backends.triton_tuning import (  # noqa: E402
    Layer,
    surface,
    tune,
    tune_layers,
)

BEST = Tiles(16, 16, 16)


class Clock:
    """Milliseconds by number of candidate; one of them may be too large for the device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, best: int, too_large: int = 10_000) -> None:
        self.calls = 0
        self.best, self.too_large = best, too_large
        few = [Tiles(32, 16, 16), Tiles(16, 16, 16), Tiles(16, 16, 16, 2), Tiles(64, 16, 16)]
        monkeypatch.setattr(triton_tuning, "candidates", lambda shape, processors: few)

    def __call__(self, call: Callable[[], object]) -> float:
        number = self.calls % 4
        self.calls += 1
        if number == self.too_large:
            raise triton.runtime.errors.OutOfResources(1, 0, "shared memory")
        call()
        return 1.0 if number == self.best else 2.0 + number


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TunedTiles:
    made = TunedTiles("interpreter", tmp_path / "tiles.json")
    monkeypatch.setattr(triton_launch, "tuned", lambda device: made)
    return made


def training_step() -> None:
    case = Case("tuned", submanifold((1, 1, 3)), voxels=20, c_in=4, c_out=8)
    kernel_map = case.map("cpu")
    x = torch.randn(kernel_map.n_source, 4, requires_grad=True)
    weight = torch.randn(3, 4, 8, requires_grad=True)
    for _ in range(2):  # the same layer again is the same shape
        sparse_convolution(x, weight, kernel_map).sum().backward()


def test_tuning_finds_stores_and_uses_the_fastest(
    store: TunedTiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, best=2)
    results = tune(training_step, timer=clock)
    assert sorted(result.shape.kind for result in results) == sorted(KINDS)
    assert clock.calls == 3 * 4
    for result in results:
        assert result.tiles == Tiles(16, 16, 16, 2)
        assert (result.ms, result.default_ms, result.tried) == (1.0, 2.0, 4)
        assert TunedTiles("interpreter", store.path).find(result.shape) == result.tiles
    assert triton_launch.listener is None
    # what has been found is what runs
    used = []
    shape = results[0].shape
    triton_launch._run(
        shape, torch.device("cpu"), lambda tiles: used.append(tiles) or torch.ones(1)
    )
    assert used == [Tiles(16, 16, 16, 2)]


def test_tuned_shapes_are_not_timed_again(
    store: TunedTiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, best=1)
    assert len(tune(training_step, timer=clock)) == 3
    assert tune(training_step, timer=clock) == []
    assert clock.calls == 12
    assert len(tune(training_step, timer=clock, again=True)) == 3


def test_candidates_that_do_not_fit_are_left_out(
    store: TunedTiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tune(training_step, timer=Clock(monkeypatch, best=3, too_large=3))
    assert {result.tried for result in results} == {3}
    assert {result.tiles for result in results} == {Tiles(32, 16, 16)}
    with pytest.raises(EnvironmentProblem, match="default tiles"):
        tune(training_step, timer=Clock(monkeypatch, best=1, too_large=0), again=True)
    assert triton_launch.listener is None


def test_layers_by_numbers(
    store: TunedTiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "elsewhere.json"
    layers = [Layer(3, 5, (1, 1, 3), rows=40), Layer(4, 4, 1, rows=17)]
    results = tune_layers(
        layers, device="cpu", dtype=torch.float16, timer=Clock(monkeypatch, best=0), path=path
    )
    names = {result.shape.name for result in results}
    assert names == {"forward float16 3x5 k3 n6", "forward float16 4x4 k1 n5"}
    assert len(TunedTiles("interpreter", path)) == 2
    assert len(store) == 0
    more = tune_layers(
        layers[:1], device="cpu", training=True, timer=Clock(monkeypatch, best=0), path=path
    )
    assert {result.shape.kind for result in more} == {INPUT_GRADIENT, WEIGHT_GRADIENT}
    with pytest.raises(EnvironmentProblem, match="meta"):
        tune_layers(layers, device="meta")


def test_the_made_up_surface_is_like_a_scan() -> None:
    coords = surface(3_000)
    assert len(torch.unique(coords, dim=0)) == 3_000
    from condense_ros.sparse import MapCache

    neighbours = MapCache(coords).submanifold(1, 3).n_pairs / 3_000
    assert 5 < neighbours < 11
