"""Adapters to spconv and to spconv-triton: their kernels on this project's weights and maps.

Both offer the same functions. Kernels of up to 32 offsets run as masked implicit GEMM on our table,
larger ones and gradients of weights on lists of pairs. Sums of half precision come back rounded.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense_ros.sparse.backends.base import Epilogue
from condense_ros.sparse.backends.kept_weights import KeptWeights
from condense_ros.sparse.backends.torch_backend import apply_epilogue
from condense_ros.sparse.kernel_map import KernelMap

_DTYPES = (torch.float32, torch.float16)
#: offsets that fit one word of their masks
_MASK_BITS = 32
_ALL_OFFSETS = 0xFFFFFFFF


def to_krsc(weight: Tensor) -> Tensor:
    """(K, C_in, C_out) to spconv's (C_out, K, C_in), offsets x slowest in both."""
    return weight.permute(2, 0, 1).contiguous()


def from_krsc(weight: Tensor) -> Tensor:
    """The inverse, also of (C_out, kx, ky, kz, C_in) as spconv's layers store it."""
    return weight.flatten(1, -2).permute(1, 2, 0).contiguous()


def native_pairs(kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """(2, K, longest) int32 input and output rows, -1 past the end, and (K,) int32 lengths."""
    pairs = kernel_map.pairs
    counts = list(pairs.counts)
    if kernel_map.identity >= 0:
        counts[kernel_map.identity] = kernel_map.n_target
    device = kernel_map.device
    out = torch.full((2, len(counts), max([1, *counts])), -1, dtype=torch.int32, device=device)
    runs = zip(pairs.source.split(pairs.counts), pairs.target.split(pairs.counts), strict=True)
    for offset, (source, target) in enumerate(runs):
        out[0, offset, : len(source)] = source
        out[1, offset, : len(target)] = target
    if kernel_map.identity >= 0:
        rows = torch.arange(kernel_map.n_target, dtype=torch.int32, device=device)
        out[:, kernel_map.identity, : len(rows)] = rows
    return out, torch.tensor(counts, dtype=torch.int32, device=device)


def offset_masks(table: Tensor) -> Tensor:
    """(n,) int32: bit k says whether a row has a partner under offset k, at most 32 offsets."""
    bits = torch.ones((), dtype=torch.int64, device=table.device) << torch.arange(
        len(table), device=table.device
    )
    words = torch.where(table >= 0, bits[:, None], 0).sum(0)
    return words.to(torch.int32)  # the highest bit becomes the sign


class SpconvBackend:
    """spconv 2 on CUDA devices. Its CPU build is refused."""

    name = "spconv"
    package = "spconv"
    on_cpu = "its CPU build gives wrong sums with two threads and has no backward pass"

    def __init__(self) -> None:
        self._weights = KeptWeights()

    def problem(self, device: torch.device, dtype: torch.dtype) -> str:
        if device.type != "cuda":
            return f"works on CUDA devices, features are on {device}; {self.on_cpu}"
        if dtype not in _DTYPES:
            return f"computes float32 and float16, features are {dtype}"
        return _import_problem(self.package)

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        filters = self._weights.get(weight, x.dtype, lambda w: to_krsc(w.to(x.dtype)))
        return apply_epilogue(self._multiply(x, filters, kernel_map, epilogue), epilogue, x.dtype)

    def input_gradient(self, grad: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        # the same convolution of the transposed map and weights: their own function would need
        # what their forward pass has left behind
        filters = self._weights.get(
            weight,
            ("transposed", grad.dtype),
            lambda w: to_krsc(w.to(grad.dtype).transpose(1, 2)),
        )
        return self._multiply(grad, filters, kernel_map.transposed, None)

    def weight_gradient(self, x: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        shape = (grad.shape[1], kernel_map.kernel_size, x.shape[1])
        pairs, counts = _kept(kernel_map, "pairs", native_pairs)
        # they compute both gradients; that of the input goes with these weights
        unused = torch.zeros(shape, dtype=x.dtype, device=x.device)
        _, filters = self._ops.indice_conv_backward(
            x.contiguous(), unused, grad.contiguous(), pairs, counts
        )
        return from_krsc(filters).to(torch.float32)

    def _multiply(
        self, x: Tensor, filters: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None
    ) -> Tensor:
        n, x = kernel_map.n_target, x.contiguous()
        if not n or not len(x):
            sums = x.new_zeros(n, len(filters))
        elif kernel_map.kernel_size <= _MASK_BITS:
            table, masks, order = _kept(kernel_map, "masks", _masked_table)
            all_offsets = [np.array([_ALL_OFFSETS], dtype=np.uint32)]
            sums = self._ops.implicit_gemm(
                x, filters, table, [masks], [order], n, all_offsets, False, False
            )[0]
        else:
            pairs, counts = _kept(kernel_map, "pairs", native_pairs)
            sums = self._ops.indice_conv(x, filters, pairs, counts, n)
        return sums if epilogue is None else sums.float()

    @property
    def _ops(self) -> Any:
        return importlib.import_module(f"{self.package}.pytorch.ops")


class SpconvTritonBackend(SpconvBackend):
    """spconv-triton on CUDA devices."""

    name = "spconv-triton"
    package = "spconv_triton"
    on_cpu = "it has no kernels for CPUs"


def _masked_table(kernel_map: KernelMap) -> tuple[Tensor, Tensor, Tensor]:
    """Table, (n, 1) masks sorted as their kernels expect, and the row at each place."""
    table = kernel_map.table.contiguous()
    masks, order = torch.sort(offset_masks(table), stable=True)
    return table, masks[:, None].contiguous(), order.int()


def _kept(kernel_map: KernelMap, what: str, make: Any) -> Any:
    name = ("spconv", what)
    if name not in kernel_map.kept:
        kernel_map.kept[name] = make(kernel_map)
    return kernel_map.kept[name]


@cache
def _import_problem(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        return f"{package.replace('_', '-')} is not installed"
    try:
        importlib.import_module(f"{package}.pytorch.ops")
    except Exception as error:
        return f"{package} does not import: {type(error).__name__}: {error}"
    return ""
