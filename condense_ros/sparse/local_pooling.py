"""Pooling over the active voxels of a window, and the way back to finer voxels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from condense_ros.errors import SparseError
from condense_ros.sparse.kernel_map import KernelMap
from condense_ros.sparse.maps import triple
from condense_ros.sparse.search import Triple
from condense_ros.sparse.tensor import SparseTensor


class _Pool3d(nn.Module):
    """Windows shared by the kinds of pooling, which differ in what they make of them.

    Output voxels are those that contain an input voxel, as of `StridedConv3d`. A window that holds
    no active voxel (kernels smaller than the stride, paddings) gives zeros.

    Args:
        kernel, stride, dilation: one for all axes, or one per axis (x, y, z).
        padding: where the window starts; None: windows tile where kernel = stride, otherwise as
            `MapCache.strided` aligns kernels.
    """

    def __init__(
        self,
        kernel: int | Triple = 2,
        stride: int | Triple = 2,
        dilation: int | Triple = 1,
        padding: int | Triple | None = None,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = triple(kernel, "kernel"), triple(stride, "stride")
        self.dilation = triple(dilation, "dilation")
        if padding is None and self.kernel == self.stride and self.dilation == (1, 1, 1):
            padding = 0
        self.padding = None if padding is None else triple(padding, "padding", low=0)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}"

    def _pool(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        raise NotImplementedError

    def forward(self, x: SparseTensor) -> SparseTensor:
        kernel_map = x.maps.strided(x.stride, self.kernel, self.stride, self.dilation, self.padding)
        a, b = x.stride, self.stride
        coarse = (a[0] * b[0], a[1] * b[1], a[2] * b[2])
        return x.replace(self._pool(x.features, kernel_map), coarse)


class SumPool3d(_Pool3d):
    """Sum over the active voxels of each window."""

    def _pool(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        return _sums(features, kernel_map).to(features.dtype)


class AveragePool3d(_Pool3d):
    """Mean over the active voxels of each window; voxels that are not there do not count."""

    def _pool(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        count = torch.bincount(kernel_map.target, minlength=kernel_map.n_target).clamp(min=1)
        sums = _sums(features, kernel_map)
        return (sums / count[:, None].to(sums.dtype)).to(features.dtype)


class MaxPool3d(_Pool3d):
    """Maximum over the active voxels of each window, channel by channel.

    Among equal values the gradient goes to the first in kernel order (x slowest), as in torch's
    dense pooling. NaN wins over any number.
    """

    def _pool(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        out: Tensor = _MaxPool.apply(features, kernel_map)  # type: ignore[no-untyped-call]
        return out


class Unpool3d(nn.Module):
    """Features of the voxels `stride` times as large, copied to each finer voxel they contain.

    The finer voxels are those that a pooling or convolution of this stride came from.
    """

    def __init__(self, stride: int | Triple = 2) -> None:
        super().__init__()
        self.stride = triple(stride, "stride")

    def forward(self, x: SparseTensor) -> SparseTensor:
        """
        Raises:
            SparseError: the finer voxels are unknown.
        """
        if any(size % by for size, by in zip(x.stride, self.stride, strict=True)):
            raise SparseError(
                f"a tensor of stride {x.stride} has no finer level by {self.stride}",
                "apply the pooling of the same stride first",
            )
        a, b = x.stride, self.stride
        fine = (a[0] // b[0], a[1] // b[1], a[2] // b[2])
        tiles = x.maps.strided(fine, b, b, padding=0)
        parents = torch.empty(tiles.n_source, dtype=torch.int64, device=x.device)
        parents[tiles.source.long()] = tiles.target.long()
        return x.replace(x.features[parents], fine)


def _sums(features: Tensor, kernel_map: KernelMap) -> Tensor:
    """(n_target, C) sums of each window, in float32 for half precision."""
    half = features.dtype in (torch.float16, torch.bfloat16)
    out = features.new_zeros(
        kernel_map.n_target, features.shape[1], dtype=torch.float32 if half else features.dtype
    )
    # one kernel offset at a time: no copy of all pairs is ever made
    for _, source, target in kernel_map.runs:
        out = out.index_add_(0, target, features.index_select(0, source).to(out.dtype))
    # part of the graph also without pairs, so that a backward pass finds its way
    return out if kernel_map.runs else out + features[:0].sum(0)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel_map: KernelMap) -> Tensor:
        shape = (kernel_map.n_target, x.shape[1])
        out = x.new_zeros(shape)
        winner = torch.full(shape, -1, dtype=torch.int64, device=x.device)
        for _, source, target in kernel_map.runs:
            rows, source = target.long(), source.long()
            value, best, known = x[source], out[rows], winner[rows]
            better = (known < 0) | (value > best) | (value.isnan() & ~best.isnan())
            out[rows] = torch.where(better, value, best)
            winner[rows] = torch.where(better, source[:, None], known)
        ctx.save_for_backward(winner)
        ctx.n_source = kernel_map.n_source
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (winner,) = ctx.saved_tensors
        grad = torch.where(winner >= 0, grads[0], 0.0)
        out = grad.new_zeros(ctx.n_source, grad.shape[1])
        if len(out):
            out.scatter_add_(0, winner.clamp(min=0), grad)
        return out, None
