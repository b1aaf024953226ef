"""Layers on sparse tensors. Convolution weights are (K, C_in, C_out), offsets x slowest."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from condense_ros.errors import SparseError
from condense_ros.sparse.convolution import sparse_convolution
from condense_ros.sparse.maps import KernelMap, Triple
from condense_ros.sparse.tensor import SparseTensor


def _triple(value: int | tuple[int, ...], name: str) -> Triple:
    sizes = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(sizes) != 3 or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise SparseError(f"{name} is {value!r}", "give one positive integer, or three")
    return sizes[0], sizes[1], sizes[2]


class _Convolution(nn.Module):
    """Weights shared by the three kinds of convolution, which differ in their maps."""

    def __init__(self, c_in: int, c_out: int, kernel: Triple, bias: bool) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.kernel = c_in, c_out, kernel
        self.weight = nn.Parameter(torch.empty(math.prod(kernel), c_in, c_out))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming normal, fan-out, for ReLU networks (He et al. 2015, eq. 14)."""
        std = math.sqrt(2.0 / (self.weight.shape[0] * self.out_channels))
        nn.init.normal_(self.weight, std=std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel={self.kernel}"

    def _apply_map(self, x: SparseTensor, kernel_map: KernelMap) -> Tensor:
        if x.channels != self.in_channels:
            raise SparseError(
                f"{x.channels} input channels for a convolution of {self.in_channels}",
                "match the layer's in_channels",
            )
        if x.device != self.weight.device:
            raise SparseError(
                f"features on {x.device}, weights on {self.weight.device}",
                "move the tensor or the layer",
            )
        out = sparse_convolution(x.features, self.weight, kernel_map)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class SubmanifoldConv3d(_Convolution):
    """Convolution whose output voxels are its input voxels (Graham et al. 2018).

    Equals dense conv3d with zero padding read at the active voxels.

    Args:
        kernel: odd size, or one per axis.
        dilation: spacing of kernel elements in voxels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Triple = 3,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        sizes = _triple(kernel, "kernel")
        if any(size % 2 == 0 for size in sizes):
            raise SparseError(f"submanifold kernel is {kernel}", "use odd kernel sizes")
        super().__init__(in_channels, out_channels, sizes, bias)
        self.dilation = _triple(dilation, "dilation")[0]

    def forward(self, x: SparseTensor) -> SparseTensor:
        kernel_map = x.maps.submanifold(x.stride, self.kernel, self.dilation)
        return x.replace(self._apply_map(x, kernel_map))


class StridedConv3d(_Convolution):
    """Convolution onto the voxels of `stride` times the size.

    Output voxels are those that contain an input voxel; see `MapCache.strided` for the alignment
    of kernels other than kernel = stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Triple = 2,
        stride: int = 2,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, _triple(kernel, "kernel"), bias)
        self.stride = _triple(stride, "stride")[0]
        self.dilation = _triple(dilation, "dilation")[0]

    def forward(self, x: SparseTensor) -> SparseTensor:
        kernel_map = x.maps.strided(x.stride, self.kernel, self.stride, self.dilation)
        return x.replace(self._apply_map(x, kernel_map), x.stride * self.stride)


class TransposedConv3d(_Convolution):
    """Transposed convolution back onto the finer voxels that a `StridedConv3d` of the same kernel,
    stride and dilation came from."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Triple = 2,
        stride: int = 2,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, _triple(kernel, "kernel"), bias)
        self.stride = _triple(stride, "stride")[0]
        self.dilation = _triple(dilation, "dilation")[0]

    def forward(self, x: SparseTensor) -> SparseTensor:
        """
        Raises:
            SparseError: the finer voxels are unknown: no strided convolution came before.
        """
        if x.stride % self.stride:
            raise SparseError(
                f"a tensor of stride {x.stride} has no finer level by {self.stride}",
                "apply the strided convolution of the same stride first",
            )
        fine = x.stride // self.stride
        kernel_map = x.maps.transposed(fine, self.kernel, self.stride, self.dilation)
        return x.replace(self._apply_map(x, kernel_map), fine)


class Linear(nn.Linear):
    """1x1 convolution: a linear map of each voxel's features."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        return x.replace(super().forward(x.features))


class ReLU(nn.Module):
    """Rectifier of each voxel's features."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(torch.relu(x.features))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all active voxels of the batch, computed in float32.

    With fewer than two voxels a variance does not exist; the running statistics are used then,
    also in training, and stay as they are.
    """

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        features = x.features
        if self.training and len(features) < 2:
            out = nn.functional.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        else:
            out = super().forward(features)
        return x.replace(out.to(features.dtype))
