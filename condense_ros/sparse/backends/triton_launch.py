"""Launches of the Triton kernels: tiles chosen, buffers made, no word from the device awaited."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import lru_cache

import torch
import triton
from torch import Tensor

from condense_ros.errors import ConfigError
from condense_ros.sparse.backends import triton_kernels as kernels
from condense_ros.sparse.backends.base import Epilogue
from condense_ros.sparse.backends.triton_plan import Plan
from condense_ros.sparse.backends.triton_store import TunedTiles
from condense_ros.sparse.backends.triton_tiles import WEIGHT_GRADIENT, Shape, Tiles, defaults

#: environment variable that says how float32 is multiplied, whatever torch is set to
PRECISION_VARIABLE = "CONDENSE_TRITON_FLOAT32"
PRECISIONS = ("ieee", "tf32", "tf32x3")
INTERPRETED = bool(triton.knobs.runtime.interpret)
_ADD_COLUMNS = 512
_LIMIT = 2**31
_log = logging.getLogger(__name__)

Launch = Callable[[Tiles], Tensor]
#: set by the tuner while it listens to what a network computes
listener: Callable[[Shape, torch.device, Launch], None] | None = None


def precision_of(dtype: torch.dtype) -> str:
    """How operands are multiplied; sums are float32 always.

    float32 is exact unless torch.backends.cuda.matmul allows TF32 or the environment says else.

    Raises:
        ConfigError: the environment names no precision that exists.
    """
    if dtype != torch.float32:
        return str(dtype).removeprefix("torch.")
    named = os.environ.get(PRECISION_VARIABLE)
    if named:
        if named not in PRECISIONS:
            raise ConfigError(
                f"{PRECISION_VARIABLE} is {named!r}", f"use one of: {', '.join(PRECISIONS)}"
            )
        return named
    # asking with the old name is an error where the new one has been set
    setting = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if setting is None:
        return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
    return "tf32" if setting == "tf32" else "ieee"


@lru_cache
def tuned(device: torch.device) -> TunedTiles:
    """Stored results for a device."""
    return TunedTiles(device_name(device))


def device_name(device: torch.device) -> str:
    """What results are stored under."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


@lru_cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@lru_cache(maxsize=4096)
def _default(shape: Shape, device: torch.device) -> Tiles:
    return defaults(shape, processors(device))


def _run(shape: Shape, device: torch.device, launch: Launch) -> Tensor:
    if listener is not None:
        listener(shape, device, launch)
    stored = tuned(device).find(shape)
    if stored is None:
        return launch(_default(shape, device))
    try:
        return launch(stored)
    except triton.runtime.errors.OutOfResources as error:
        # found by another version of Triton, or on another device of this name
        _log.warning("tuned tiles for %s do not fit, defaults are used: %s", shape.name, error)
        tuned(device).forget(shape)
        return launch(_default(shape, device))


def convolve(
    kind: str,
    x: Tensor,
    weight: Tensor,
    plan: Plan,
    flip: bool = False,
    epilogue: Epilogue | None = None,
) -> Tensor:
    """(n_target, C_out): sums of x[source] @ weight[offset], and what follows them.

    Args:
        kind: what tiles are stored under.
        x: (n_source, C_in), channels side by side.
        weight: (K, C_in, C_out) of x's dtype, any strides.
        flip: offset k of the map meets weight K - 1 - k.
    """
    c_in, c_out = weight.shape[1:]
    precision = precision_of(x.dtype)
    n = plan.n_target
    if not n:
        return x.new_empty(0, c_out)
    e = epilogue or Epilogue()
    scale, shift = _vector(e.scale), _vector(e.shift)
    residual = None if e.residual is None else rows_of(e.residual.to(x.dtype))
    stride_residual = 0 if residual is None else residual.stride(0)
    largest = max(
        n * max(c_out, stride_residual), len(x) * x.stride(0), n * plan.kernel_size
    )  # fmt: skip

    def launch(tiles: Tiles) -> Tensor:
        out = x.new_empty(n, c_out)
        cut = plan.tiling(tiles.rows)
        sources, offsets, counts = (cut.sources, cut.offsets, cut.counts) if cut else (None,) * 3
        columns = -(-c_out // tiles.columns)
        inner = -(-c_in // tiles.inner)
        row_tiles = -(-n // tiles.rows)
        partial = None
        if tiles.parts > 1:
            partial = torch.empty(tiles.parts, n, c_out, dtype=torch.float32, device=x.device)
        wide = largest * (tiles.parts if partial is not None else 1) >= _LIMIT
        kernels.convolve[(row_tiles * columns, tiles.parts)](
            x, x.stride(0), weight, *weight.stride(),
            plan.order, sources, offsets, counts,
            out, c_out, partial, scale, shift, residual, stride_residual,
            n, plan.kernel_size, c_in, c_out, columns, inner, tiles.parts,
            tiles.rows, tiles.inner, tiles.columns,
            c_in % tiles.inner == 0, flip, e.relu and partial is None,
            _dot(precision), wide, _widen(x),
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
        if partial is not None:
            kernels.finish[(row_tiles * columns,)](
                partial, plan.order, out, c_out, scale, shift, residual, stride_residual,
                n, c_out, columns, tiles.parts,
                tiles.rows, tiles.columns, e.relu, wide,
            )  # fmt: skip
        return out

    shape = Shape.of(kind, precision, c_in, c_out, plan.kernel_size, n)
    return _run(shape, x.device, launch)


def weight_gradient(x: Tensor, grad: Tensor, plan: Plan) -> Tensor:
    """(K, C_in, C_out) float32: sums of x[source]^T grad[target] by offset.

    Args:
        x, grad: (n_source, C_in) and (n_target, C_out), channels side by side.
    """
    c_in, c_out, n, k = x.shape[1], grad.shape[1], plan.n_target, plan.kernel_size
    precision = precision_of(x.dtype)
    if not n:
        return torch.zeros(k, c_in, c_out, dtype=torch.float32, device=x.device)
    largest = max(len(x) * x.stride(0), n * grad.stride(0), n * k)

    def launch(tiles: Tiles) -> Tensor:
        cut, slots = plan.tiling(tiles.rows), plan.slots(tiles.rows)
        counts = slots.counts if slots else None
        n_tiles = -(-n // tiles.rows)
        chunk = -(-n_tiles // tiles.parts)
        parts = -(-n_tiles // chunk)
        inner, columns = -(-c_in // tiles.inner), -(-c_out // tiles.columns)
        out = torch.empty(parts, k, c_in, c_out, dtype=torch.float32, device=x.device)
        kernels.weight_gradient[(k * inner * columns, parts)](
            x, x.stride(0), grad, grad.stride(0),
            plan.order, cut.sources if cut else None, slots.slots if slots else None, counts, out,
            n, n_tiles, k, c_in, c_out, columns, inner, chunk,
            tiles.rows, tiles.inner, tiles.columns,
            _dot(precision), largest >= _LIMIT, _widen(x),
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
        if parts == 1:
            return out[0]
        total = out.new_empty(k, c_in, c_out)
        size = c_in * c_out
        blocks = -(-size // _ADD_COLUMNS)
        kernels.add_chunks[(k * blocks,)](
            out, counts, total, n_tiles, k, size, chunk, blocks, _ADD_COLUMNS
        )
        return total

    return _run(Shape.of(WEIGHT_GRADIENT, precision, c_in, c_out, k, n), x.device, launch)


def rows_of(x: Tensor) -> Tensor:
    """The same rows with their channels side by side."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _vector(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().float().contiguous()


def _dot(precision: str) -> str:
    return precision if precision in PRECISIONS else "ieee"


def _widen(x: Tensor) -> bool:
    # Triton's interpreter keeps bfloat16 as integers and would multiply those
    return INTERPRETED and x.dtype == torch.bfloat16
