"""Sparse convolution by the compiled library: products of rows where they lie, tile by tile.

Every output row is summed by one thread in a fixed order, so results are the same bits whatever
the number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from condense_ros.sparse.backends.base import Epilogue
from condense_ros.sparse.kernel_map import KernelMap
from condense_ros.sparse.native_library import NativeLibrary, library, pointer, problem, threads

_BITS = {torch.float32: 32, torch.bfloat16: 16}


def _rows(native: NativeLibrary, x: Tensor) -> Tensor:
    """Rows that lie side by side, padded with zeros to what the kernels read."""
    channels = x.shape[1]
    padded = int(native.padded_channels(_BITS[x.dtype], channels))
    if padded != channels:
        wide = x.new_zeros(len(x), padded)
        wide[:, :channels] = x
        return wide
    return x if x.stride(1) == 1 or channels == 1 else x.contiguous()


class CpuBackend:
    """float32 and bfloat16 on the CPU."""

    name = "cpu"

    def __init__(self) -> None:
        # packed weights by parameter: (version, address, instruction set) and the packed tensor
        self._packed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def problem(self, device: torch.device, dtype: torch.dtype) -> str:
        if device.type != "cpu":
            return f"works on the CPU, features are on {device}"
        if dtype not in _BITS:
            return f"computes float32 and bfloat16, features are {dtype}"
        return problem()

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        return self._multiply(x, weight, kernel_map, False, epilogue)

    def input_gradient(self, grad: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        return self._multiply(grad, weight, kernel_map.transposed, True, None)

    def weight_gradient(self, x: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        native = _native()
        c_in, c_out = x.shape[1], grad.shape[1]
        x, grad = _side_by_side(x), _side_by_side(grad)
        out = torch.empty(kernel_map.kernel_size, c_in, c_out)
        pairs = kernel_map.pairs
        native.weight_gradient(
            _BITS[x.dtype], pointer(x), x.stride(0), c_in, pointer(grad), grad.stride(0), c_out,
            pointer(pairs.source), pointer(pairs.target), pointer(pairs.starts),
            kernel_map.kernel_size, kernel_map.identity, kernel_map.n_target, pointer(out),
            threads(),
        )  # fmt: skip
        return out

    def _multiply(
        self,
        x: Tensor,
        weight: Tensor,
        kernel_map: KernelMap,
        turned: bool,
        epilogue: Epilogue | None,
    ) -> Tensor:
        native = _native()
        c_out = weight.shape[1 if turned else 2]
        packed = self._pack(native, weight, x.dtype, turned)
        rows = _rows(native, x)
        out = torch.empty(kernel_map.n_target, c_out, dtype=x.dtype)
        e = epilogue or Epilogue()
        scale, shift = _vector(e.scale), _vector(e.shift)
        residual = None if e.residual is None else _side_by_side(e.residual.to(x.dtype))
        pairs = kernel_map.pairs.by_target
        native.convolve(
            _BITS[x.dtype], pointer(rows), rows.stride(0), x.shape[1], pointer(packed),
            pointer(pairs.source), pointer(pairs.target), pointer(pairs.starts),
            kernel_map.kernel_size, kernel_map.identity, kernel_map.n_target, c_out,
            pointer(scale), pointer(shift), pointer(residual),
            0 if residual is None else residual.stride(0), int(e.relu),
            pointer(out), out.stride(0), threads(),
        )  # fmt: skip
        return out

    def _pack(
        self, native: NativeLibrary, weight: Tensor, dtype: torch.dtype, turned: bool
    ) -> Tensor:
        # tensors made in inference mode do not count their changes: nothing could be kept
        keep = not weight.is_inference()
        state = (weight._version if keep else 0, weight.data_ptr(), native.instruction_set)
        name = (dtype, turned)
        known: dict[object, object] = self._packed.get(weight, {}) if keep else {}
        if known.get("state") == state and name in known:
            packed = known[name]
            assert isinstance(packed, Tensor)
            return packed
        k, c_in, c_out = weight.shape
        bits = _BITS[dtype]
        source = weight.detach().float().contiguous()
        rows, columns = (c_out, c_in) if turned else (c_in, c_out)
        packed = torch.empty(native.packed_size(bits, k, rows, columns), dtype=dtype)
        native.pack(bits, pointer(source), k, c_in, c_out, int(turned), pointer(packed), threads())
        if keep:
            if known.get("state") != state:
                known = {"state": state}
            known[name] = packed
            self._packed[weight] = known
        return packed


def _native() -> NativeLibrary:
    native = library()
    assert native is not None, "chosen though it has a problem"
    return native


def _side_by_side(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _vector(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().float().contiguous()
