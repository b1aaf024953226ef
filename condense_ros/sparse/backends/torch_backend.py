"""The reference: per kernel offset gather, matrix product, scatter-add, in torch alone.

LiDAR voxels have 3 to 9 of 27 neighbours, so multiplying true pairs only does a fraction of the
work of padded im2col. The product of one offset is never kept: forward and backward need memory
for one offset's pairs at a time, where autograd through index operations would store all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condense_ros.sparse.backends.base import Epilogue
from condense_ros.sparse.kernel_map import KernelMap

_HALF = (torch.float16, torch.bfloat16)


def apply_epilogue(sums: Tensor, epilogue: Epilogue | None, dtype: torch.dtype) -> Tensor:
    """The epilogue of sums that are not rounded yet, then the features' dtype."""
    if epilogue is not None:
        if epilogue.scale is not None:
            sums = sums * epilogue.scale.to(sums.dtype)
        if epilogue.shift is not None:
            sums = sums + epilogue.shift.to(sums.dtype)
        if epilogue.residual is not None:
            sums = sums + epilogue.residual.to(sums.dtype)
        if epilogue.relu:
            sums = torch.relu(sums)
    return sums.to(dtype)


class TorchBackend:
    """Any device, any floating dtype."""

    name = "torch"

    def problem(self, device: torch.device, dtype: torch.dtype) -> str:
        return ""

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        sums = _multiply(x, weight.to(x.dtype), kernel_map)
        return apply_epilogue(sums, epilogue, x.dtype)

    def input_gradient(self, grad: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        turned = weight.to(grad.dtype).transpose(1, 2)
        return _multiply(grad, turned, kernel_map.transposed).to(grad.dtype)

    def weight_gradient(self, x: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        k, dtype = kernel_map.kernel_size, x.dtype
        wide = torch.float32 if dtype in _HALF else dtype
        out = torch.zeros(k, x.shape[1], grad.shape[1], dtype=wide, device=x.device)
        if kernel_map.identity >= 0:
            out[kernel_map.identity] = x.t() @ grad
        for offset, source, target in kernel_map.runs:
            out[offset] = x.index_select(0, source).t() @ grad.index_select(0, target)
        return out


def _multiply(x: Tensor, weight: Tensor, m: KernelMap) -> Tensor:
    """Sums over all offsets, in float32 when features are half precision."""
    weights = weight.unbind()
    wide = torch.float32 if x.dtype in _HALF else x.dtype
    if m.identity >= 0:
        out = (x @ weights[m.identity]).to(wide)
    else:
        out = torch.zeros(m.n_target, weight.shape[2], dtype=wide, device=x.device)
    for k, source, target in m.runs:
        product = x.index_select(0, source) @ weights[k]
        out.index_add_(0, target, product.to(wide))
    return out
