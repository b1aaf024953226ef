"""Other libraries on the same weights and voxels, in turns with this one, run by run."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from condense_ros.cli.bench.engine.clock import timed_ms
from condense_ros.cli.bench.engine.layers import gmac
from condense_ros.cli.bench.engine.program import program
from condense_ros.cli.bench.engine.rates import waiter
from condense_ros.cli.bench.engine.rows import Subject, relative_error
from condense_ros.errors import ConfigError, EnvironmentProblem
from condense_ros.sparse import use_backend

if TYPE_CHECKING:
    from condense_ros.cli.bench.engine.measure import EngineBench

WORKER = Path(__file__).with_name("peer_worker.py")
#: largest deviation of a peer's output from ours: beyond it, not the same network was computed
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2, "float16": 5e-2}
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Peer:
    """A library that can be measured.

    Attributes:
        name, version: of the library.
        python: interpreter that has it.
        dtypes: of those asked for, the ones that it computes.
    """

    name: str
    version: str
    python: Path
    dtypes: tuple[str, ...]


def find(bench: EngineBench) -> list[Peer]:
    """The libraries of the peers' interpreter that can compute what is asked.

    Raises:
        ConfigError: no such interpreter.
        EnvironmentProblem: not a single library can; the message says why, one by one.
    """
    python = bench.peer_python or Path(sys.executable)
    here = _probe(python, bench.threads)
    found, reasons = [], []
    for name, library in here["libraries"].items():
        dtypes, problem = _able(name, bench, bool(here["cuda"]))
        problem = library["problem"] or problem
        if problem:
            reasons.append(f"{name}: {problem}")
        else:
            found.append(Peer(name, library["version"], python, dtypes))
    if not found:
        raise EnvironmentProblem(
            f"no peer can be measured with {python}: " + "; ".join(reasons),
            "install one elsewhere and name its interpreter with --peer-python, or leave out "
            "--peers",
        )
    return found


def _able(name: str, bench: EngineBench, cuda: bool) -> tuple[tuple[str, ...], str]:
    """The dtypes that a library computes correctly on this device, or why none."""
    dtypes: tuple[str, ...] = ("float32",) if name == "minkowski" else ("float32", "float16")
    if bench.device == "cpu":
        if name == "torchsparse":
            return (), "it computes on GPUs only"
        if name == "spconv" and bench.threads > 1:
            return (), "its CPU kernels give wrong results with more than one thread"
        dtypes = ("float32",)
    elif not cuda:
        return (), "torch sees no GPU there"
    dtypes = tuple(dtype for dtype in bench.dtypes if dtype in dtypes)
    return dtypes, "" if dtypes else f"it computes none of {', '.join(bench.dtypes)}"


def _environment(threads: int) -> dict[str, str]:
    # nothing of this environment's packages may come before those of the other interpreter
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def _probe(python: Path, threads: int) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [str(python), str(WORKER)],
            env=_environment(threads),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise ConfigError(
            f"{python} is no Python interpreter: {error.strerror}", "give a path to one"
        ) from None
    if done.returncode:
        raise EnvironmentProblem(
            f"{python} has no torch or NumPy: " + "\n".join(done.stderr.splitlines()[-1:]),
            "install them there, beside the library to compare with",
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(
    peer: Peer, bench: EngineBench, subject: Subject, ours: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A peer's rows: maps and forward pass, in turns with our fastest backend of the same dtype.

    Raises:
        ConfigError: a network that peers do not know.
        EnvironmentProblem: the peer fails, or computes something else.
    """
    rows = []
    for dtype in peer.dtypes:
        rivals = [row for row in ours if row["dtype"] == dtype]
        best = min(rivals, key=lambda row: float(row["total_ms"])) if rivals else None
        rows.append(_compare(peer, bench, subject, dtype, best))
    return rows


def _compare(
    peer: Peer, bench: EngineBench, subject: Subject, dtype: str, best: dict[str, Any] | None
) -> dict[str, Any]:
    low, wait = getattr(torch, dtype), waiter(subject.device)
    backend = "auto" if best is None else str(best["backend"])
    pairs: list[tuple[float, float]] = []
    with (
        use_backend(backend),
        torch.inference_mode(),
        _worker(peer, bench, subject, dtype) as worker,
    ):
        ours: Tensor = subject.network(subject.tensor(low)).features
        output = worker.output(subject.coords)
        difference = relative_error(output, ours.cpu().double())
        if not difference <= TOLERANCE[dtype]:
            raise EnvironmentProblem(
                f"the output of {peer.name} {peer.version} in {dtype} deviates from ours by "
                f"{difference:.2g} of its largest value (at most {TOLERANCE[dtype]:g} is the same "
                "network)",
                "leave out --peers; times of a wrong result would mean nothing",
            )
        worker.run_ms()
        for _ in range(bench.runs):
            mine = timed_ms(lambda: subject.network(subject.tensor(low)), wait)
            pairs.append((mine, worker.run_ms()))
    total_ms = statistics.median(theirs for _, theirs in pairs)
    work = gmac(subject.layers)
    return {
        "backend": f"{peer.name} {peer.version}".strip(),
        "dtype": dtype,
        "device": str(subject.device),
        "gmac": work,
        "map_ms": None,
        "forward_ms": None,
        "total_ms": total_ms,
        "step_ms": None,
        "parts_note": "it makes its maps while it computes: only the whole can be timed",
        "gflops": 2 * work / total_ms * 1e3,
        "floor_ms": None if best is None else best["floor_ms"],
        "peak_mb": None,
        "max_rel_error": relative_error(output, subject.reference.cpu()),
        "difference_to_ours": difference,
        "paired": {
            "backend": backend,
            "total_ms": statistics.median(mine for mine, _ in pairs),
            "ratio": statistics.median(theirs / mine for mine, theirs in pairs),
            "runs_ms": [list(pair) for pair in pairs],
        },
    }


class _Worker:
    """The other process: asked by lines, answers in lines of JSON."""

    def __init__(self, peer: Peer, folder: Path, process: subprocess.Popen[str]) -> None:
        self._peer, self._folder, self._process = peer, folder, process

    def answer(self) -> Any:
        """Its next answer.

        Raises:
            EnvironmentProblem: it ended, or says nothing for ten minutes.
        """
        out = self._process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], _TIMEOUT_S)
        line = out.readline() if ready else ""
        if not line:
            log = (self._folder / "log.txt").read_text(errors="replace").splitlines()
            raise EnvironmentProblem(
                f"{self._peer.name} {self._peer.version} failed: " + "\n".join(log[-4:]),
                "leave out --peers, or repair its installation",
            )
        return json.loads(line)

    def output(self, coords: Tensor) -> Tensor:
        """(N, C) float64 of its first run, in the row order of our voxels."""
        self.answer()
        with np.load(self._folder / "output.npz") as arrays:
            features, order = torch.from_numpy(arrays["features"]), arrays["coords"]
        if len(order):
            row = {tuple(place): i for i, place in enumerate(order.tolist())}
            features = features[[row[tuple(place)] for place in coords.tolist()]]
        if len(features) != len(coords):
            raise EnvironmentProblem(
                f"{self._peer.name} gives {len(features)} rows for {len(coords)} voxels",
                "leave out --peers",
            )
        return features.double()

    def run_ms(self) -> float:
        """Milliseconds of maps and forward pass."""
        sink = self._process.stdin
        assert sink is not None
        sink.write("run\n")
        sink.flush()
        return float(self.answer())


@contextmanager
def _worker(peer: Peer, bench: EngineBench, subject: Subject, dtype: str) -> Iterator[_Worker]:
    steps, weights = program(subject.network)
    with tempfile.TemporaryDirectory(prefix="bench_peer_") as name:
        folder = Path(name)
        job = {
            "library": peer.name,
            "dtype": dtype,
            "device": str(subject.device),
            "threads": bench.threads,
            "steps": steps,
        }
        (folder / "job.json").write_text(json.dumps(job))
        arrays: dict[str, Any] = {
            "coords": subject.coords.cpu().numpy(),
            "features": subject.features.cpu().numpy(),
            **weights,
        }
        np.savez(folder / "job.npz", **arrays)
        with (folder / "log.txt").open("w") as log:
            process = _start(peer, folder, bench.threads, log)
        try:
            yield _Worker(peer, folder, process)
        finally:
            process.kill()
            process.communicate()


def _start(peer: Peer, folder: Path, threads: int, log: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(peer.python), str(WORKER), str(folder)],
        env=_environment(threads),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
