"""Sparse convolution by own Triton kernels: one masked implicit GEMM for every kind of layer.

No call waits for the device. Results are the same bits every time.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from condense_ros.sparse.backends.base import Epilogue
from condense_ros.sparse.backends.kept_weights import KeptWeights
from condense_ros.sparse.kernel_map import KernelMap

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
#: the oldest devices that Triton supports
_CAPABILITY = (8, 0)


class TritonBackend:
    """float32, float16 and bfloat16 on CUDA devices; on the CPU in Triton's interpreter only."""

    name = "triton"

    def __init__(self) -> None:
        self._cast = KeptWeights()

    def problem(self, device: torch.device, dtype: torch.dtype) -> str:
        if dtype not in _DTYPES:
            return f"computes float32, float16 and bfloat16, features are {dtype}"
        return device_problem(device)

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        from condense_ros.sparse.backends import triton_launch
        from condense_ros.sparse.backends.triton_plan import plan_of

        with _on(x):
            rows, weights = triton_launch.rows_of(x), self._weights(weight, x.dtype)
            return triton_launch.convolve(
                "forward", rows, weights, plan_of(kernel_map), epilogue=epilogue
            )

    def input_gradient(self, grad: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        from condense_ros.sparse.backends import triton_launch
        from condense_ros.sparse.backends.triton_plan import plan_of

        with _on(grad):
            # a symmetric map is its own transpose with the offsets backwards: one plan for both
            flip = kernel_map.symmetric
            plan = plan_of(kernel_map if flip else kernel_map.transposed)
            turned = self._weights(weight, grad.dtype).transpose(1, 2)
            rows = triton_launch.rows_of(grad)
            return triton_launch.convolve("input_gradient", rows, turned, plan, flip)

    def weight_gradient(self, x: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        from condense_ros.sparse.backends import triton_launch
        from condense_ros.sparse.backends.triton_plan import plan_of

        with _on(x):
            rows, grads = triton_launch.rows_of(x), triton_launch.rows_of(grad)
            return triton_launch.weight_gradient(rows, grads, plan_of(kernel_map))

    def _weights(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The weights in a dtype, converted once for each state of the parameter."""
        if weight.dtype == dtype:
            return weight.detach()
        return self._cast.get(weight, dtype, lambda w: w.to(dtype))


def _on(x: Tensor) -> AbstractContextManager[object]:
    """Kernels are launched on the current device: that of the features."""
    if x.device.type != "cuda" or x.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(x.device)


@cache
def device_problem(device: torch.device) -> str:
    """Why Triton kernels do not run on a device; empty when they do."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install triton)"
    if device.type == "cpu":
        from condense_ros.sparse.backends.triton_launch import INTERPRETED

        return "" if INTERPRETED else "works on CUDA devices, features are on the CPU"
    if device.type != "cuda":
        return f"works on CUDA devices, features are on {device}"
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < _CAPABILITY:
        return f"needs compute capability 8.0, {device} has {capability[0]}.{capability[1]}"
    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    if not any(name and shutil.which(name) for name in compilers):
        return "triton needs a C compiler on this machine (apt-get install gcc)"
    return _trial(device)


def _trial(device: torch.device) -> str:
    """What a first tiny launch says: drivers, headers and compilers that do not fit show here."""
    from condense_ros.sparse.backends.triton_plan import row_masks

    table = torch.zeros(1, 1, dtype=torch.int32, device=device)
    masks = torch.empty(1, dtype=torch.int32, device=device)
    try:
        with torch.cuda.device(device):
            row_masks[(1,)](table, masks, 1, 1, 1, 16)
    except Exception as error:
        return f"a first Triton kernel failed: {type(error).__name__}: {error}"
    return ""
