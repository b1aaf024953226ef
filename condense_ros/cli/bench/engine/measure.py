"""`measure`: the sparse engine on one cloud with one network, by every backend that works here."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from condense_ros.cli.bench.engine import clouds, networks
from condense_ros.cli.bench.engine.layers import trace
from condense_ros.cli.bench.engine.program import program
from condense_ros.cli.bench.engine.rates import Rates, machine, measure_copy, measure_rates
from condense_ros.cli.bench.engine.rows import Subject, measure_row, steps_of_row
from condense_ros.errors import ConfigError, EnvironmentProblem
from condense_ros.frame import PointCloud
from condense_ros.sparse import SparseTensor, use_backend
from condense_ros.sparse.backends import choose, switch
from condense_ros.sparse.native_library import library

BACKENDS = tuple(name for name in switch.NAMES if name != "auto")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class EngineBench:
    """What to measure.

    Attributes:
        network: a backbone's preset, or "minkunet".
        cloud: "64beam", "32beam", or a file.
        voxel_m: edge of a voxel in metres.
        backends, dtypes: names; empty means all that work, others are told in `skipped`.
        threads: of torch and of the compiled library.
        device: torch device.
        runs: medians are of so many.
        train: also training steps.
        peers: also other libraries, in turns with this one.
        peer_python: interpreter in which they are installed; None: this one.
    """

    network: str = networks.MINKUNET
    cloud: str = "64beam"
    voxel_m: float = 0.05
    backends: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    threads: int = 1
    device: str = "cpu"
    runs: int = 5
    train: bool = False
    peers: bool = False
    peer_python: Path | None = None

    def __post_init__(self) -> None:
        networks.check_network(self.network)
        for kind, given, known in (
            ("backend", self.backends, BACKENDS),
            ("dtype", self.dtypes, DTYPES),
        ):
            wrong = [name for name in given if name not in known]
            if wrong:
                raise ConfigError(
                    f"no {kind} {', '.join(map(repr, wrong))}",
                    f"use all, or of: {', '.join(known)}",
                )
        if self.threads < 1 or self.runs < 5:
            raise ConfigError(
                f"{self.threads} threads, {self.runs} runs", "use 1 thread or more, 5 runs or more"
            )


Report = Callable[[int, int], None]


def measure(
    bench: EngineBench, progress: Report = lambda done, total: None, cloud: PointCloud | None = None
) -> dict[str, Any]:
    """All figures, as plain values for JSON.

    Args:
        progress: told (steps done, steps in all).
        cloud: in place of the one that the configuration names.

    Raises:
        ConfigError: a cloud that is neither a name nor a file, or has no voxel in range; a network
            that peers do not know.
        DatasetError: a file that is no cloud.
        EnvironmentProblem: a backend or peer that was asked for cannot work here.
    """
    from condense_ros.cli.bench.engine import peers

    device = torch.device(bench.device)
    with _threads(bench.threads):
        work, skipped = _possible(bench, device)
        rivals = peers.find(bench) if bench.peers else []
        total = 2 + len(bench.dtypes) + steps_of_row() * len(work) + len(rivals)
        steps = iter(range(1, total + 1))

        def done() -> None:
            progress(next(steps), total)

        subject = _subject(bench, device, cloud)
        if rivals:
            program(subject.network)  # a network that they do not know is told before the work
        done()
        copy_mb_s = measure_copy(device, bench.threads)
        rates: dict[str, Rates] = {}
        for name in bench.dtypes:
            rates[name] = measure_rates(subject.layers, device, getattr(torch, name), copy_mb_s)
            done()
        shared = {
            "network": bench.network,
            "cloud": bench.cloud,
            "voxel_m": bench.voxel_m,
            "voxels": len(subject.coords),
            "threads": bench.threads,
        }
        rows = []
        for backend, name in work:
            dtype = getattr(torch, name)
            row = measure_row(subject, backend, dtype, rates[name], bench.runs, bench.train, done)
            rows.append({**shared, "instruction_set": _instruction_set(backend), **row})
        beside = []
        for rival in rivals:
            beside += [{**shared, **row} for row in peers.compare(rival, bench, subject, rows)]
            done()
        result = {
            **shared,
            "coords_sha256": _digest(subject),
            "reference": "torch backend in float64; error: largest deviation / largest value",
            "runs": bench.runs,
            "rows": rows,
            "peers": beside,
            "skipped": skipped,
            "machine": {
                **machine(device),
                "copy_mb_s": copy_mb_s,
                "gemm_gflops": {name: rate.to_dict() for name, rate in rates.items()},
            },
        }
        done()
    return result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _possible(
    bench: EngineBench, device: torch.device
) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """Backends and dtypes that work here, and why others do not."""
    work, skipped = [], []
    for backend in bench.backends or BACKENDS:
        reasons = {}
        for dtype in bench.dtypes:
            problem = _problem(backend, device, getattr(torch, dtype))
            if problem:
                reasons[dtype] = problem
            else:
                work.append((backend, dtype))
        if bench.backends and len(reasons) == len(bench.dtypes):
            reason = next(iter(reasons.values()))
            raise EnvironmentProblem(
                f"the sparse backend {backend!r} cannot be measured: {reason}",
                "use --backend all, which takes those that work",
            )
        skipped += [
            {"backend": backend, "dtype": dtype, "reason": reason}
            for dtype, reason in reasons.items()
        ]
    return work, skipped


def _problem(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    if backend == "triton" and device.type == "cpu":
        return "works on CUDA devices; times of Triton's interpreter on the CPU would mean nothing"
    try:
        return choose.backend(backend).problem(device, dtype)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("condense_ros"):
            return "it is not part of this installation"
        return f"the Python module {error.name} is not installed"


def _subject(bench: EngineBench, device: torch.device, cloud: PointCloud | None) -> Subject:
    spec = networks.input_of(bench.network, bench.voxel_m)
    voxels = spec.voxelize(clouds.load_cloud(bench.cloud) if cloud is None else cloud)
    if not len(voxels):
        raise ConfigError(
            f"cloud {bench.cloud!r} has no point within {spec.max_range_m:g} m",
            "give a cloud in metres, in the frame of its sensor",
        )
    network = networks.build(bench.network, bench.voxel_m)
    networks.settle(network, voxels)
    voxels = voxels.to(device)
    network = network.to(device)
    with torch.inference_mode():
        x = SparseTensor(voxels.features, voxels.coords, batch_size=1)
        layers = trace(network, x)
        with use_backend("torch"):
            exact = copy.deepcopy(network).double()
            wide = SparseTensor(voxels.features.double(), voxels.coords, batch_size=1)
            reference = exact(wide).features
    return Subject(
        network, voxels.coords, voxels.features, layers, reference, bench.network, bench.voxel_m
    )


def _instruction_set(backend: str) -> str | None:
    native = library() if backend == "cpu" else None
    return None if native is None else native.instruction_set


def _digest(subject: Subject) -> str:
    """Of the voxels, so that figures of several machines can be told to be of the same frame."""
    return hashlib.sha256(subject.coords.cpu().numpy().tobytes()).hexdigest()
