"""Sparse convolution as a function: autograd around whichever backend is in force."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from condense_ros.errors import SparseError
from condense_ros.sparse.backends.base import Backend, Epilogue
from condense_ros.sparse.backends.choose import backend_for
from condense_ros.sparse.kernel_map import KernelMap


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, backend: Backend
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        # the backend of the forward pass: the backward one may run in another thread
        ctx.kernel_map, ctx.backend = kernel_map, backend
        return backend.forward(x, weight, kernel_map)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].to(x.dtype).contiguous()
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = ctx.backend.input_gradient(grad, weight, ctx.kernel_map)
        if ctx.needs_input_grad[1]:
            grad_weight = ctx.backend.weight_gradient(x, grad, ctx.kernel_map).to(weight.dtype)
        return grad_x, grad_weight, None, None


def _checked(x: Tensor, weight: Tensor, m: KernelMap) -> Tensor:
    """The features in the dtype to compute in.

    Raises:
        SparseError: features, weights and map that do not fit together.
    """
    if x.ndim != 2 or weight.ndim != 3 or x.shape[1] != weight.shape[1]:
        raise SparseError(
            f"features {tuple(x.shape)} for weights {tuple(weight.shape)}",
            "give (N, C_in) features and (K, C_in, C_out) weights",
        )
    if len(x) != m.n_source or weight.shape[0] != m.kernel_size:
        raise SparseError(
            f"{len(x)} rows and {weight.shape[0]} kernel offsets for a map of {m.n_source} and "
            f"{m.kernel_size}",
            "use the map of the tensor's own voxels and of this kernel",
        )
    if not x.device == weight.device == m.device:
        raise SparseError(
            f"features on {x.device}, weights on {weight.device}, voxels on {m.device}",
            "move all to one device",
        )
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    elif (x.dtype == torch.float64) != (weight.dtype == torch.float64):
        raise SparseError(
            f"features are {x.dtype}, weights {weight.dtype}", "convert the one or the other"
        )
    return x


def sparse_convolution(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sparse convolution of rows under a kernel map.

    Args:
        x: (n_source, C_in) features.
        weight: (K, C_in, C_out), offsets ordered x slowest, z fastest.
        kernel_map: pairs of the convolution.

    Returns:
        (n_target, C_out) of the features' dtype. Under autocast the products run in its dtype. Sums
        of half precision products are kept in float32, and so is the weights' gradient.

    Raises:
        SparseError: arguments that do not fit together.
        EnvironmentProblem: the backend that was asked for cannot work here.
    """
    x = _checked(x, weight, kernel_map)
    backend = backend_for(x.device, x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = _SparseConvolution.apply(x, weight, kernel_map, backend)  # type: ignore[no-untyped-call]
    return out


def fused_convolution(
    x: Tensor,
    weight: Tensor,
    kernel_map: KernelMap,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Convolution, normalisation, shortcut and rectifier in one pass, for inference.

    relu(conv(x) * scale + shift + residual); what is None is left out. No gradient flows.

    Args:
        scale, shift: (C_out,), float32 inside.
        residual: (n_target, C_out).

    Raises:
        SparseError: arguments that do not fit together.
        EnvironmentProblem: the backend that was asked for cannot work here.
    """
    with torch.no_grad():
        x = _checked(x, weight, kernel_map)
        shape = (kernel_map.n_target, weight.shape[2])
        if residual is not None and tuple(residual.shape) != shape:
            raise SparseError(
                f"a residual of {tuple(residual.shape)} for outputs of {shape}",
                "give one row of C_out features per output voxel",
            )
        with torch.autocast(x.device.type, enabled=False):
            epilogue = Epilogue(scale, shift, residual, relu)
            return backend_for(x.device, x.dtype).forward(x, weight, kernel_map, epilogue)
