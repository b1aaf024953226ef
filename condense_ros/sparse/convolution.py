"""Weight-stationary sparse convolution: per kernel offset gather, matrix product, scatter-add.

LiDAR voxels have 3 to 9 of 27 neighbours, so multiplying true pairs only does a fraction of the
work of padded im2col. The product of one offset is never kept: forward and backward need memory
for one offset's pairs at a time, where autograd through index operations would store all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from condense_ros.sparse.maps import KernelMap


def _accumulator(rows: int, columns: int, like: Tensor) -> Tensor:
    # sums over up to 27 offsets are kept in float32 when features are half precision
    dtype = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
    return torch.zeros(rows, columns, dtype=dtype, device=like.device)


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kernel_map = kernel_map
        m = kernel_map
        weights = weight.unbind()
        if m.identity >= 0:
            out = x @ weights[m.identity]
            if out.dtype in (torch.float16, torch.bfloat16):
                out = out.float()
        else:
            out = _accumulator(m.n_target, weight.shape[2], x)
        for k, source, target in m.runs:
            product = x.index_select(0, source) @ weights[k]
            out.index_add_(0, target, product.to(out.dtype))
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        m: KernelMap = ctx.kernel_map
        grad = grads[0].contiguous()
        need_x, need_weight = ctx.needs_input_grad[:2]
        weights = weight.unbind()
        grad_x = grad_weight = None
        if need_weight:
            grad_weight = torch.zeros_like(weight)
            grad_weights = grad_weight.unbind()
            if m.identity >= 0:
                torch.mm(x.t(), grad, out=grad_weights[m.identity])
        if need_x:
            if m.identity >= 0:
                grad_x = grad @ weights[m.identity].t()
                if grad_x.dtype in (torch.float16, torch.bfloat16):
                    grad_x = grad_x.float()
            else:
                grad_x = _accumulator(m.n_source, weight.shape[1], grad)
        for k, source, target in m.runs:
            grad_rows = grad.index_select(0, target)
            if grad_weight is not None:
                torch.mm(x.index_select(0, source).t(), grad_rows, out=grad_weights[k])
            if grad_x is not None:
                grad_x.index_add_(0, source, (grad_rows @ weights[k].t()).to(grad_x.dtype))
        return None if grad_x is None else grad_x.to(x.dtype), grad_weight, None


def sparse_convolution(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sparse convolution of rows under a kernel map.

    Args:
        x: (n_source, C_in) features.
        weight: (K, C_in, C_out), offsets ordered x slowest, z fastest.
        kernel_map: pairs of the convolution.

    Returns:
        (n_target, C_out). Under autocast the products run in its dtype, sums in float32.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
        with torch.autocast(device, enabled=False):
            return _SparseConvolution.apply(x, weight, kernel_map)  # type: ignore[no-any-return]
    return _SparseConvolution.apply(x, weight, kernel_map)  # type: ignore[no-any-return]
