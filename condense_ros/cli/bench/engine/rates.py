"""What the machine can do with torch alone, and what that means for a layer: its floor."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from condense_ros.cli.bench.engine.layers import Layer
from condense_ros.cli.bench.machine import copy_rate

#: rows, C_in, C_out of the large product
LARGE = (2048, 1024, 1024)
#: rows of a product with a layer's channels
LAYER_ROWS = 8192
COPY_BYTES = 8 << 20
_RUNS = 7


@dataclass(frozen=True)
class Rates:
    """What a device does in one dtype with a number of threads.

    Attributes:
        large: GFLOP/s of the product `LARGE`.
        shaped: (C_in, C_out) -> GFLOP/s of a dense product of `LAYER_ROWS` rows.
        copy_mb_s: MB/s of copies; a copied byte is read and written.
    """

    large: float
    shaped: dict[tuple[int, int], float]
    copy_mb_s: float

    @property
    def best(self) -> float:
        """GFLOP/s of the fastest product seen."""
        return max(self.large, *self.shaped.values())

    def floor_ms(self, layer: Layer, itemsize: int) -> float:
        """The larger of two times that no implementation of a layer can beat.

        Its multiply-accumulates at the best rate of dense products, and its least bytes at the rate
        of copies (Williams et al. 2009, "Roofline"). Both may overlap, so they do not add up.
        """
        multiply = 2 * layer.mac / self.best / 1e6
        move = layer.least_bytes(itemsize) / (2 * self.copy_mb_s) / 1e3
        return max(multiply, move)

    def dense_ms(self, layer: Layer) -> float:
        """Time of the same products as one dense product of the layer's own channels."""
        return 2 * layer.mac / self.shaped[layer.c_in, layer.c_out] / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shaped = {f"{c_in}x{c_out}": rate for (c_in, c_out), rate in self.shaped.items()}
        return {"best": self.best, "large": self.large, "shaped": shaped}


def measure_rates(
    layers: Sequence[Layer], device: torch.device, dtype: torch.dtype, copy_mb_s: float
) -> Rates:
    """Rates of one dtype, at torch's present number of threads."""
    shapes = sorted({(layer.c_in, layer.c_out) for layer in layers})
    shaped = {shape: _gflops((LAYER_ROWS, *shape), device, dtype) for shape in shapes}
    return Rates(_gflops(LARGE, device, dtype), shaped, copy_mb_s)


def _gflops(shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> float:
    """Of one dense product: the fastest of some runs, as the floor is what the machine can do."""
    rows, c_in, c_out = shape
    a = torch.ones(rows, c_in, device=device, dtype=dtype)
    b = torch.ones(c_in, c_out, device=device, dtype=dtype)
    out = torch.empty(rows, c_out, device=device, dtype=dtype)
    flop = 2 * rows * c_in * c_out
    # small products many times over, or the clock and a GPU's launches would be measured
    repeats = max(1, round((2e8 if device.type == "cpu" else 2e11) / flop))

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    return repeats * flop / fastest_s(multiply, device) / 1e9


def measure_copy(device: torch.device, threads: int) -> float:
    """MB/s of copies within the device's memory."""
    if device.type == "cpu":
        return copy_rate(COPY_BYTES, threads)
    source = torch.ones(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return len(source) / fastest_s(lambda: target.copy_(source), device) / 1e6


def fastest_s(job: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some runs, after one more."""
    wait = waiter(device)
    times = []
    for _ in range(_RUNS + 1):
        wait()
        start = time.perf_counter()
        job()
        wait()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def waiter(device: torch.device) -> Callable[[], object]:
    """A function that returns when the device has done what was asked of it."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def machine(device: torch.device) -> dict[str, Any]:
    """What was measured on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if "model name" in line), name)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }
