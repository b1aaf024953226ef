"""Layers on sparse tensors. Convolution weights are (K, C_in, C_out), offsets x slowest."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from condense_ros.errors import SparseError
from condense_ros.sparse.convolution import fused_convolution, sparse_convolution
from condense_ros.sparse.kernel_map import KernelMap, identity_map
from condense_ros.sparse.maps import MapCache, triple
from condense_ros.sparse.search import Triple
from condense_ros.sparse.tensor import SparseTensor


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

    def geometry(self, x: SparseTensor) -> tuple[MapCache, Triple, KernelMap]:
        """The geometry and stride of the output, and the map that leads there."""
        raise NotImplementedError

    def _check(self, x: SparseTensor) -> None:
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

    def forward(self, x: SparseTensor) -> SparseTensor:
        """
        Raises:
            SparseError: other channels or another device than the layer's; for a transposed
                convolution, finer voxels that no strided convolution has come from.
        """
        self._check(x)
        maps, stride, kernel_map = self.geometry(x)
        out = sparse_convolution(x.features, self.weight, kernel_map)
        if self.bias is not None:
            out = out + self.bias.to(out.dtype)
        return SparseTensor.on(out, maps, stride)


class SubmanifoldConv3d(_Convolution):
    """Convolution whose output voxels are its input voxels (Graham et al. 2018).

    Equals dense conv3d with zero padding read at the active voxels.

    Args:
        kernel: odd size, or one per axis.
        dilation: spacing of kernel elements in voxels, or one per axis.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Triple = 3,
        dilation: int | Triple = 1,
        bias: bool = False,
    ) -> None:
        sizes = triple(kernel, "kernel")
        if any(size % 2 == 0 for size in sizes):
            raise SparseError(f"submanifold kernel is {kernel}", "use odd kernel sizes")
        super().__init__(in_channels, out_channels, sizes, bias)
        self.dilation = triple(dilation, "dilation")

    def geometry(self, x: SparseTensor) -> tuple[MapCache, Triple, KernelMap]:
        return x.maps, x.stride, x.maps.submanifold(x.stride, self.kernel, self.dilation)


class StridedConv3d(_Convolution):
    """Convolution onto the voxels of `stride` times the size.

    Args:
        kernel, stride, dilation: one for all axes, or one per axis (x, y, z).
        padding: where the kernel starts; see `MapCache.strided` for the alignment without.
        outputs: "contained": output voxels are those that contain an input voxel (Choy et al.
            2019). "reached": those that any kernel element reaches, as spconv's SparseConv3d; they
            are a new geometry, from which no transposed convolution leads back.
        bounds: with "reached", the lowest and highest output voxel per axis (`MapCache.reached`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Triple = 2,
        stride: int | Triple = 2,
        dilation: int | Triple = 1,
        bias: bool = False,
        padding: int | Triple | None = None,
        outputs: str = "contained",
        bounds: tuple[Triple, Triple] | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, triple(kernel, "kernel"), bias)
        self.stride = triple(stride, "stride")
        self.dilation = triple(dilation, "dilation")
        self.padding = None if padding is None else triple(padding, "padding", low=0)
        if outputs not in ("contained", "reached") or (bounds and outputs == "contained"):
            raise SparseError(
                f"outputs are {outputs!r} with bounds {bounds}",
                'use "contained" without bounds, or "reached"',
            )
        self.outputs, self.bounds = outputs, bounds

    def geometry(self, x: SparseTensor) -> tuple[MapCache, Triple, KernelMap]:
        a, b = x.stride, self.stride
        coarse = (a[0] * b[0], a[1] * b[1], a[2] * b[2])
        how = (x.stride, self.kernel, self.stride, self.dilation, self.padding)
        if self.outputs == "reached":
            maps, kernel_map = x.maps.reached(*how, self.bounds)
            return maps, coarse, kernel_map
        return x.maps, coarse, x.maps.strided(*how)


class TransposedConv3d(_Convolution):
    """Transposed convolution back onto the finer voxels that a `StridedConv3d` of the same kernel,
    stride, dilation and padding came from."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Triple = 2,
        stride: int | Triple = 2,
        dilation: int | Triple = 1,
        bias: bool = False,
        padding: int | Triple | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, triple(kernel, "kernel"), bias)
        self.stride = triple(stride, "stride")
        self.dilation = triple(dilation, "dilation")
        self.padding = None if padding is None else triple(padding, "padding", low=0)

    def geometry(self, x: SparseTensor) -> tuple[MapCache, Triple, KernelMap]:
        if any(size % by for size, by in zip(x.stride, self.stride, strict=True)):
            raise SparseError(
                f"a tensor of stride {x.stride} has no finer level by {self.stride}",
                "apply the strided convolution of the same stride first",
            )
        a, b = x.stride, self.stride
        fine = (a[0] // b[0], a[1] // b[1], a[2] // b[2])
        kernel_map = x.maps.transposed(fine, self.kernel, b, self.dilation, self.padding)
        return x.maps, fine, kernel_map


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

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) float32 each: what normalisation with the running statistics multiplies and adds.

        Computed once for each state of the parameters.

        Raises:
            SparseError: a norm without running statistics.
        """
        mean, var = self.running_mean, self.running_var
        if mean is None or var is None:
            raise SparseError(
                "a norm without running statistics", "build it with track_running_stats"
            )
        # torch's own kernels move the running statistics without counting it as a change of those
        # tensors, but every such step is counted in num_batches_tracked
        named = (mean, var, self.weight, self.bias, self.num_batches_tracked)
        parts = [part for part in named if part is not None]
        state = None
        if not any(part.is_inference() for part in parts):
            state = tuple((part.data_ptr(), part._version) for part in parts)
        known = self.__dict__.get("_folded")
        if state is None or known is None or known[0] != state:
            with torch.no_grad():
                scale = torch.rsqrt(var.double() + self.eps)
                if self.weight is not None:
                    scale = scale * self.weight.double()
                shift = -mean.double() * scale
                if self.bias is not None:
                    shift = shift + self.bias.double()
                known = (state, (scale.float(), shift.float()))
            self.__dict__["_folded"] = known
        folded: tuple[Tensor, Tensor] = known[1]
        return folded


def conv_norm(
    conv: _Convolution | Linear,
    norm: BatchNorm,
    x: SparseTensor,
    *,
    residual: SparseTensor | None = None,
    relu: bool = False,
) -> SparseTensor:
    """Convolution (or linear map), norm, shortcut and rectifier.

    Where no gradient is recorded and the norm uses its running statistics, all in one pass over
    the outputs; otherwise layer by layer.
    """
    fused = not torch.is_grad_enabled() and not norm.training and x.features.dtype != torch.float64
    if not fused:
        y = norm(conv(x))
        features = y.features if residual is None else y.features + residual.features
        return y.replace(torch.relu(features) if relu else features)
    scale, shift = norm.scale_and_shift()
    if isinstance(conv, Linear):
        weight: Tensor = conv.weight.t()[None]
        bias: Tensor | None = conv.bias
        maps, stride = x.maps, x.stride
        kernel_map = identity_map(len(x), x.device)
    else:
        conv._check(x)
        weight, bias = conv.weight, conv.bias
        maps, stride, kernel_map = conv.geometry(x)
    if bias is not None:
        shift = shift + bias.float() * scale
    add = None if residual is None else residual.features
    out = fused_convolution(x.features, weight, kernel_map, scale, shift, add, relu)
    return SparseTensor.on(out, maps, stride)
