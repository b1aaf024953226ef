"""Other libraries in turns with ours: a stand-in for spconv, in an interpreter of its own."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from condense_ros.cli.bench.engine import measure as measuring
from condense_ros.cli.bench.engine import peer_worker, rows
from condense_ros.cli.bench.engine.measure import EngineBench, measure
from condense_ros.cli.bench.engine.program import program
from condense_ros.errors import ConfigError, EnvironmentProblem

#: figures that rows of peers have as ours do
KEYS = {"backend", "dtype", "device", "cloud", "voxels", "gmac", "map_ms", "forward_ms", "step_ms"}
KEYS |= {"gflops", "floor_ms", "peak_mb", "max_rel_error", "threads", "network", "total_ms"}

SPCONV = '''
"""The part of spconv that the benchmark uses, by looking every neighbour up: an oracle."""
import itertools
import torch
from torch import nn

class SparseConvTensor:
    def __init__(self, features, indices, shape, batch_size, known=None):
        assert indices.is_contiguous() and int(indices.min()) >= 0
        assert (indices[:, 1:] < torch.tensor(shape)).all()
        self.features, self.indices, self.shape = features, indices, shape
        self.known = {} if known is None else known

    def replace_feature(self, features):
        return SparseConvTensor(features, self.indices, self.shape, 1, self.known)

class Convolution(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, bias, indice_key, stride=1):
        super().__init__()
        assert not bias
        k = kernel_size
        self.weight = nn.Parameter(torch.empty(out_channels, k, k, k, in_channels))
        self.k, self.key = k, indice_key

    def gather(self, x, pairs, rows):
        out = torch.zeros(rows, self.weight.shape[0], dtype=torch.float64)
        for source, target, offset in pairs:
            weight = self.weight[(slice(None), *offset)].double()
            out[target] += weight @ x.features[source].double()
        return out.float() * FACTOR

class SubMConv3d(Convolution):
    def forward(self, x):
        where = {tuple(c): i for i, c in enumerate(x.indices.tolist())}
        pairs, half = [], self.k // 2
        for (b, *c), target in where.items():
            for o in itertools.product(range(self.k), repeat=3):
                source = where.get((b, *(p + d - half for p, d in zip(c, o))))
                if source is not None:
                    pairs.append((source, target, o))
        return x.replace_feature(self.gather(x, pairs, len(where)))

class SparseConv3d(Convolution):
    def forward(self, x):
        fine = x.indices.tolist()
        parents = [(b, *(p // 2 for p in c)) for b, *c in fine]
        rows = {c: i for i, c in enumerate(dict.fromkeys(parents))}
        pairs = [(i, rows[parents[i]], tuple(p % 2 for p in c)) for i, (b, *c) in enumerate(fine)]
        x.known[self.key] = pairs, x.indices, x.shape
        indices = torch.tensor(list(rows), dtype=torch.int32)
        out = self.gather(x, pairs, len(rows))
        return SparseConvTensor(out, indices, [n // 2 for n in x.shape], 1, x.known)

class SparseInverseConv3d(Convolution):
    def forward(self, x):
        pairs, indices, shape = x.known[self.key]
        turned = [(target, source, offset) for source, target, offset in pairs]
        out = self.gather(x, turned, len(indices))
        return SparseConvTensor(out, indices, shape, 1, x.known)
'''


def interpreter_with_spconv(folder: Path, factor: float = 1.0) -> Path:
    """A Python of its own kind, in which a stand-in for spconv is installed."""
    package = folder / "site" / "spconv"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '2.0-oracle'\nprint('noise')\n")
    (package / "pytorch.py").write_text(f"FACTOR = {factor}\n{SPCONV}")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/site exec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def small(cloud_file: Path, **changes: Any) -> EngineBench:
    settings: dict[str, Any] = {"network": "demo", "cloud": str(cloud_file), "voxel_m": 0.5}
    settings |= {"backends": ("cpu",), "dtypes": ("float32",), "peers": True}
    return EngineBench(**{**settings, **changes})


@pytest.fixture(scope="module")
def cloud_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Points in a shallow box, some of negative coordinates."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("cloud") / "box.bin"
    (rng.uniform(-1, 1, (400, 4)) * (5, 5, 1, 1)).astype("<f4").tofile(path)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what has nothing to do with peers and takes seconds."""
    monkeypatch.setattr(rows, "peak_mb", lambda *_: None)
    monkeypatch.setattr(measuring, "measure_copy", lambda *_: 1e4)


def test_a_peer_computes_the_same_and_takes_turns(cloud_file: Path, tmp_path: Path) -> None:
    python = interpreter_with_spconv(tmp_path)
    found = measure(small(cloud_file, peer_python=python))
    (row,) = found["peers"]
    assert set(row) >= KEYS
    assert row["backend"] == "spconv 2.0-oracle"
    assert row["difference_to_ours"] < 1e-5
    assert row["max_rel_error"] < 1e-5
    assert row["gmac"] == found["rows"][0]["gmac"]
    paired = row["paired"]
    assert paired["backend"] == "cpu"
    assert len(paired["runs_ms"]) == 5
    # looking neighbours up one by one in Python is not fast
    assert paired["ratio"] > 1
    assert row["total_ms"] > paired["total_ms"]


def test_a_peer_that_computes_something_else_gets_no_figure(
    cloud_file: Path, tmp_path: Path
) -> None:
    python = interpreter_with_spconv(tmp_path, factor=1.001)
    with pytest.raises(EnvironmentProblem, match="deviates from ours"):
        measure(small(cloud_file, peer_python=python))


def test_spconv_on_the_cpu_is_refused_with_two_threads(cloud_file: Path, tmp_path: Path) -> None:
    python = interpreter_with_spconv(tmp_path)
    with pytest.raises(EnvironmentProblem, match="wrong results with more than one thread"):
        measure(small(cloud_file, peer_python=python, threads=2))


def test_an_interpreter_without_peers_or_none_at_all(cloud_file: Path, tmp_path: Path) -> None:
    python = interpreter_with_spconv(tmp_path)
    (tmp_path / "site" / "spconv" / "pytorch.py").write_text("raise RuntimeError('no GPU')\n")
    with pytest.raises(EnvironmentProblem, match="spconv: RuntimeError: no GPU"):
        measure(small(cloud_file, peer_python=python))
    with pytest.raises(ConfigError, match="no Python interpreter"):
        measure(small(cloud_file, peer_python=tmp_path / "none"))


def test_a_peer_that_dies_is_told_with_its_last_words(cloud_file: Path, tmp_path: Path) -> None:
    python = interpreter_with_spconv(tmp_path)
    path = tmp_path / "site" / "spconv" / "pytorch.py"
    broken = path.read_text().replace("def replace_feature", "def gone")
    path.write_text(broken)
    with pytest.raises(EnvironmentProblem, match="replace_feature"):
        measure(small(cloud_file, peer_python=python))


def test_peers_know_u_nets_only(cloud_file: Path) -> None:
    with pytest.raises(ConfigError, match="peers know no Sequential"):
        program(nn.Sequential())
    config = small(cloud_file)
    frame = measuring._subject(config, torch.device("cpu"), None)
    steps, weights = program(frame.network)
    products = [step for step in steps if step["kind"] != "join"]
    assert len(products) == len(frame.layers)
    assert set(weights) == {
        name for step in products for name in (step["weight"], f"{step['weight']}_bias")
    }


def test_offsets_turned_to_x_fastest() -> None:
    weight = torch.arange(27.0).view(27, 1, 1)
    turned = peer_worker.x_fastest(weight, 3)
    for x in range(3):
        for y in range(3):
            for z in range(3):
                assert turned[(z * 3 + y) * 3 + x] == weight[(x * 3 + y) * 3 + z]
