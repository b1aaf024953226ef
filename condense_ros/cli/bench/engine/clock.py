"""Backends that keep time: of each layer, and of the steps inside the torch backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from condense_ros.sparse import KernelMap
from condense_ros.sparse.backends.base import Backend, Epilogue
from condense_ros.sparse.backends.torch_backend import TorchBackend, apply_epilogue

_HALF = (torch.float16, torch.bfloat16)


class Parts(NamedTuple):
    """Milliseconds of one product in torch: rows collected, multiplied, added up, finished."""

    gather: float
    gemm: float
    scatter: float
    epilogue: float


def median_ms(job: Callable[[], object], runs: int, wait: Callable[[], object]) -> float:
    """Median of some runs; what the device still has to do is part of the time."""
    return statistics.median(timed_ms(job, wait) for _ in range(runs))


def timed_ms(job: Callable[[], object], wait: Callable[[], object]) -> float:
    """Milliseconds of one run."""
    wait()
    start = time.perf_counter()
    job()
    wait()
    return (time.perf_counter() - start) * 1e3


class TimedBackend:
    """Another backend with the time of each of its products, in `ms`."""

    def __init__(self, inner: Backend, wait: Callable[[], object], ms: list[float]) -> None:
        self._inner, self._wait, self.ms, self.name = inner, wait, ms, inner.name

    def problem(self, device: torch.device, dtype: torch.dtype) -> str:
        return self._inner.problem(device, dtype)

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        self._wait()
        start = time.perf_counter()
        out = self._inner.forward(x, weight, kernel_map, epilogue)
        self._wait()
        self.ms.append((time.perf_counter() - start) * 1e3)
        return out

    def input_gradient(self, grad: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        return self._inner.input_gradient(grad, weight, kernel_map)

    def weight_gradient(self, x: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        return self._inner.weight_gradient(x, grad, kernel_map)


class SteppedTorchBackend(TorchBackend):
    """The torch backend's loop with a clock between its steps, for the CPU.

    The same operations in the same order as `torch_backend`, so the same bits.
    """

    def __init__(self, parts: list[Parts]) -> None:
        self.parts = parts

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        clock = time.perf_counter
        gather = gemm = scatter = 0.0
        wide = torch.float32 if x.dtype in _HALF else x.dtype
        start = clock()
        weights = weight.to(x.dtype).unbind()
        if kernel_map.identity >= 0:
            product = x @ weights[kernel_map.identity]
            gemm, start = gemm + clock() - start, clock()
            out = product.to(wide)
        else:
            out = torch.zeros(kernel_map.n_target, weight.shape[2], dtype=wide, device=x.device)
        scatter += clock() - start
        for k, source, target in kernel_map.runs:
            start = clock()
            rows = x.index_select(0, source)
            gathered = clock()
            product = rows @ weights[k]
            multiplied = clock()
            out.index_add_(0, target, product.to(wide))
            gather += gathered - start
            gemm += multiplied - gathered
            scatter += clock() - multiplied
        start = clock()
        result = apply_epilogue(out, epilogue, x.dtype)
        self.parts.append(Parts(1e3 * gather, 1e3 * gemm, 1e3 * scatter, 1e3 * (clock() - start)))
        return result
