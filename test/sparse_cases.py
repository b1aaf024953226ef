"""Random voxels, and what dense convolutions in float64 make of them: the truth that every backend
of the sparse engine is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense_ros.sparse import MapCache, sparse_convolution
from condense_ros.sparse.kernel_map import KernelMap
from condense_ros.sparse.maps import first_offset, triple

Triple = tuple[int, int, int]
#: room around the voxels for every kernel of the cases
PAD = 12


@dataclass(frozen=True)
class Case:
    """One convolution: kind "submanifold", "strided" or "transposed"."""

    kind: str
    kernel: int | Triple
    stride: int | Triple = 1
    dilation: int | Triple = 1

    def map(self, coords: Tensor, batch: int) -> tuple[Tensor, Tensor, KernelMap]:
        """Coordinates of input and output rows, and the map under test."""
        cache = MapCache(coords, batch)
        if self.kind == "submanifold":
            return coords, coords, cache.submanifold(1, self.kernel, self.dilation)
        m = cache.strided(1, self.kernel, self.stride, self.dilation)
        coarse = cache.level(triple(self.stride, "stride")).coords
        if self.kind == "strided":
            return coords, coarse, m
        return coarse, coords, cache.transposed(1, self.kernel, self.stride, self.dilation)


CASES = [
    Case("submanifold", 3),
    Case("submanifold", 1),
    Case("submanifold", 5),
    Case("submanifold", 3, dilation=2),
    Case("submanifold", (1, 3, 5), dilation=(1, 2, 1)),
    Case("strided", 2, 2),
    Case("strided", 3, 2),
    Case("strided", (3, 1, 1), (2, 1, 1)),
    Case("strided", (2, 4, 3), (2, 2, 3)),
    Case("transposed", 2, 2),
    Case("transposed", 3, 2),
]


def random_voxels(n: int, batch: int, seed: int, low: int = -7, size: int = 14) -> Tensor:
    """About n distinct (batch, x, y, z), unsorted; elements share coordinates; the last one but one
    of three or more is empty."""
    generator = torch.Generator().manual_seed(seed)
    elements = [b for b in range(batch) if batch < 3 or b != batch - 2]
    cells = torch.randperm(size**3, generator=generator)[: max(n // len(elements), 1)]
    xyz = torch.stack([cells // size**2, cells // size % size, cells % size], 1) + low
    coords = torch.cat([F.pad(xyz, (1, 0), value=b) for b in elements]).int()
    return coords[torch.randperm(len(coords), generator=generator)].contiguous()


def dense_convolution(
    case: Case, x: Tensor, weight: Tensor, inputs: Tensor, outputs: Tensor, batch: int
) -> Tensor:
    """The same convolution by torch's conv3d on a dense grid, read at the output voxels."""
    kernel, stride, dilation = (
        triple(v, "value") for v in (case.kernel, case.stride, case.dilation)
    )
    first = [first_offset(k, s, d) for k, s, d in zip(kernel, stride, dilation, strict=True)]
    if case.kind == "submanifold":
        first = [-d * (k // 2) for k, d in zip(kernel, dilation, strict=True)]
    shape = weight.reshape(*kernel, *weight.shape[1:]).permute(4, 3, 0, 1, 2)
    fine, coarse = (outputs, inputs) if case.kind == "transposed" else (inputs, outputs)
    # the coarse grid starts at `origin`, the fine one where kernel element 0 of that cell reads
    origin = torch.tensor([-PAD] * 3)
    start = origin * torch.tensor(stride) + torch.tensor(first)
    size = [int((coarse[:, 1 + a].max() if len(coarse) else 0) + PAD + 2) for a in range(3)]
    reach = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(size, stride, dilation, kernel, strict=True)
    ]
    span = [
        max(r, int((fine[:, 1 + a].max() if len(fine) else 0) - start[a] + 1))
        for a, r in enumerate(reach)
    ]

    def index(coords: Tensor, low: Tensor) -> tuple[Tensor, ...]:
        c = coords.long()
        return (c[:, 0], *(c[:, 1:] - low).unbind(1))

    if case.kind == "transposed":
        grid = torch.zeros(batch, *size, x.shape[1], dtype=x.dtype)
        grid = grid.index_put(index(inputs, origin), x).permute(0, 4, 1, 2, 3)
        dense = F.conv_transpose3d(grid, shape.transpose(0, 1), stride=stride, dilation=dilation)
        grow = [v for a in (2, 1, 0) for v in (0, max(span[a] - dense.shape[2 + a], 0))]
        dense = F.pad(dense, grow)
        return dense.permute(0, 2, 3, 4, 1)[index(outputs, start)]
    grid = torch.zeros(batch, *span, x.shape[1], dtype=x.dtype)
    grid = grid.index_put(index(inputs, start), x).permute(0, 4, 1, 2, 3)
    dense = F.conv3d(grid, shape, stride=stride, dilation=dilation)
    return dense.permute(0, 2, 3, 4, 1)[index(outputs, origin)]


def relative_error(got: Tensor, want: Tensor) -> float:
    """Norm of the difference by the norm of the truth."""
    scale = want.double().norm().clamp(min=1e-30)
    return float((got.detach().double() - want.detach().double()).norm() / scale.detach())


def errors_against_dense(
    case: Case,
    c_in: int,
    c_out: int,
    dtype: torch.dtype,
    coords: Tensor,
    batch: int,
    convolve: Callable[[Tensor, Tensor, KernelMap], Tensor] = sparse_convolution,
) -> tuple[float, float, float]:
    """Relative errors of output, input gradient and weight gradient of the backend in force.

    The truth sees the same rounded inputs, so the errors are those of the computation.
    """
    generator = torch.Generator().manual_seed(0)
    inputs, outputs, kernel_map = case.map(coords, batch)
    x = torch.randn(len(inputs), c_in, generator=generator).to(dtype)
    k = kernel_map.kernel_size
    weight = (torch.randn(k, c_in, c_out, generator=generator) / c_in**0.5).to(dtype)
    grad = torch.randn(len(outputs), c_out, generator=generator).to(dtype)
    ours = [x.clone().requires_grad_(), weight.float().requires_grad_()]
    truth = [x.double().requires_grad_(), weight.double().requires_grad_()]
    out = convolve(ours[0], ours[1], kernel_map)
    want = dense_convolution(case, truth[0], truth[1], inputs, outputs, batch)
    got_gradients = torch.autograd.grad(out, ours, grad.to(out.dtype))
    gradients = torch.autograd.grad(want, truth, grad.double())
    pairs = zip((out, *got_gradients), (want, *gradients), strict=True)
    a, b, c = (relative_error(g, w) for g, w in pairs)
    return a, b, c
