"""The figures of one backend in one dtype."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense_ros.cli.bench.engine.clock import (
    Parts,
    SteppedTorchBackend,
    TimedBackend,
    median_ms,
    timed_ms,
)
from condense_ros.cli.bench.engine.layers import Layer, gmac, make_maps, map_form
from condense_ros.cli.bench.engine.memory import Job, peak_mb
from condense_ros.cli.bench.engine.rates import Rates, waiter
from condense_ros.sparse import MapCache, SparseTensor, use_backend
from condense_ros.sparse.backends.choose import observed

_FUSED = (
    "rows are collected, multiplied and added up tile by tile within one product: only the whole "
    "can be timed, to be compared with dense_ms, the same products as one dense product"
)
_ON_GPU = "a clock between the steps would make the GPU wait after each"


@dataclass(frozen=True, eq=False)
class Subject:
    """What all rows share.

    Attributes:
        network: in inference mode, on the device, float32.
        coords, features: (N, 4) int32 and (N, C) float32 of the voxels of one cloud.
        layers: of the network on these voxels.
        reference: (N, C_out) float64, what the torch backend computes in float64.
        name, voxel_m: of the network, to build it again.
    """

    network: nn.Module
    coords: Tensor
    features: Tensor
    layers: list[Layer]
    reference: Tensor
    name: str
    voxel_m: float

    @property
    def device(self) -> torch.device:
        return self.coords.device

    def tensor(self, dtype: torch.dtype) -> SparseTensor:
        """The network's input, with a new geometry."""
        return SparseTensor(self.features.to(dtype), self.coords, batch_size=1)


def relative_error(output: Tensor, reference: Tensor) -> float:
    """Largest deviation, in units of the largest value of the reference; NaN stays NaN."""
    if not len(reference):
        return 0.0
    difference = (output.double() - reference).abs().max()
    return float(difference / reference.abs().max())


def measure_row(
    subject: Subject,
    backend: str,
    dtype: torch.dtype,
    rates: Rates,
    runs: int,
    train: bool,
    done: Callable[[], object],
) -> dict[str, Any]:
    """All figures of one backend and dtype.

    Args:
        runs: medians are of so many.
        train: also a training step.
        done: called after each of the `steps_of_row` steps.
    """
    wait, layers = waiter(subject.device), subject.layers
    with use_backend(backend):
        with torch.inference_mode():
            x = subject.tensor(dtype)
            output: Tensor = subject.network(x).features
            error = relative_error(output, subject.reference)
            done()
            forward_ms = median_ms(lambda: subject.network(x), runs, wait)
            done()
            product_ms, parts = _layer_times(subject, x, backend, runs, wait)
            done()
            levels_ms, map_ms = _map_times(subject, backend, runs, wait)
            done()
            total_ms = median_ms(lambda: subject.network(subject.tensor(dtype)), runs, wait)
            done()
        step_ms = _step_ms(subject, dtype, runs, wait) if train else None
    done()
    name = str(dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    job = Job(subject.name, subject.voxel_m, backend, name, str(subject.device), threads)
    peak = peak_mb(job, subject.coords, subject.features)
    done()
    rows = [
        _layer_row(layer, rates, dtype.itemsize, ms, of_map, of_parts)
        for layer, ms, of_map, of_parts in zip(layers, product_ms, map_ms, parts, strict=True)
    ]
    floor_ms = sum(row["floor_ms"] for row in rows)
    sums = {
        f"{part}_ms": None if parts[0] is None else sum(row[f"{part}_ms"] for row in rows)
        for part in Parts._fields
    }
    return {
        "backend": backend,
        "dtype": name,
        "device": str(subject.device),
        "gmac": gmac(layers),
        "map_ms": levels_ms + sum(map_ms),
        "levels_ms": levels_ms,
        "forward_ms": forward_ms,
        "total_ms": total_ms,
        "step_ms": step_ms,
        "product_ms": sum(product_ms),
        **sums,
        "parts_note": _parts_note(subject, backend),
        "gflops": 2 * gmac(layers) / forward_ms * 1e3,
        "floor_ms": floor_ms,
        "ratio_to_floor": forward_ms / floor_ms,
        "dense_ms": sum(row["dense_ms"] for row in rows),
        "peak_mb": peak,
        "max_rel_error": error,
        "layers": rows,
    }


def steps_of_row() -> int:
    """How often `measure_row` calls `done`."""
    return 7


def _parts_note(subject: Subject, backend: str) -> str | None:
    if backend != "torch":
        return _FUSED
    return _ON_GPU if subject.device.type == "cuda" else None


def _layer_times(
    subject: Subject, x: SparseTensor, backend: str, runs: int, wait: Callable[[], object]
) -> tuple[list[float], list[Parts | None]]:
    """Milliseconds of each layer's product within forward passes, and of its parts."""
    count = len(subject.layers)
    times: list[list[float]] = []
    for _ in range(runs):
        ms: list[float] = []
        with observed(lambda inner, ms=ms: TimedBackend(inner, wait, ms)):  # type: ignore[misc]
            subject.network(x)
        times.append(ms)
    product_ms = [statistics.median(run[i] for run in times) for i in range(count)]
    if _parts_note(subject, backend) is not None:
        return product_ms, [None] * count
    stepped: list[list[Parts]] = []
    for _ in range(runs):
        parts: list[Parts] = []
        with observed(lambda _, parts=parts: SteppedTorchBackend(parts)):  # type: ignore[misc]
            subject.network(x)
        stepped.append(parts)
    medians: list[Parts | None] = [
        Parts(*(statistics.median(run[i][part] for run in stepped) for part in range(4)))
        for i in range(count)
    ]
    return product_ms, medians


def _map_times(
    subject: Subject, backend: str, runs: int, wait: Callable[[], object]
) -> tuple[float, list[float]]:
    form = map_form(backend)
    taken = [make_maps(subject.layers, subject.coords, 1, form, wait) for _ in range(runs)]
    levels_ms = statistics.median(levels for levels, _ in taken)
    count = len(subject.layers)
    return levels_ms, [statistics.median(run[i] for _, run in taken) for i in range(count)]


def _step_ms(subject: Subject, dtype: torch.dtype, runs: int, wait: Callable[[], object]) -> float:
    """A training step without its optimiser: forward and backward pass, maps there already.

    Half precision is autocast, as in training: parameters stay float32.
    """
    network = copy.deepcopy(subject.network).train()  # the norms' statistics will change
    maps = MapCache(subject.coords, 1)
    low = dtype in (torch.float16, torch.bfloat16)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        x = SparseTensor(subject.features, subject.coords, maps=maps)
        with torch.autocast(subject.device.type, dtype=dtype, enabled=low):
            features = network(x).features
        features.float().square().mean().backward()

    timed_ms(step, wait)
    return median_ms(step, runs, wait)


def _layer_row(
    layer: Layer, rates: Rates, itemsize: int, ms: float, map_ms: float, parts: Parts | None
) -> dict[str, Any]:
    of_parts: dict[str, Any] = dict.fromkeys(Parts._fields) if parts is None else parts._asdict()
    return {
        "name": layer.name,
        "kind": layer.kind,
        "kernel": list(layer.kernel),
        "stride": list(layer.stride),
        "channels_in": layer.c_in,
        "channels_out": layer.c_out,
        "rows_in": layer.rows_in,
        "rows": layer.rows,
        "pairs": layer.pairs,
        "gmac": layer.mac / 1e9,
        "map_ms": map_ms,
        **{f"{name}_ms": value for name, value in of_parts.items()},
        "ms": ms,
        "gflops": 2 * layer.mac / ms / 1e6,
        "floor_ms": rates.floor_ms(layer, itemsize),
        "dense_ms": rates.dense_ms(layer),
    }
