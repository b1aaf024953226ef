"""Sparse convolutions that every backend has to get right, on whichever device and in any dtype.

The truth is the torch backend in float64 on the CPU, itself tested against dense convolutions, on
operands that were rounded to the dtype first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from condense_ros.sparse import KernelMap, MapCache
from condense_ros.sparse.backends.base import Backend, Epilogue
from condense_ros.sparse.backends.choose import backend
from condense_ros.sparse.kernel_map import identity_map

#: norm of the error over norm of the truth: forward and input gradient, whose results are rounded
#: to the dtype; the weights' gradient is float32 always
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}
WEIGHT_TOLERANCE = 1e-6
Maps = Callable[[Tensor, int], KernelMap]


@dataclass(frozen=True)
class Case:
    """A geometry and a layer on it.

    Attributes:
        voxels, batch: distinct voxels and batch elements, of which the last is empty where asked.
        side: edge of the grid: small and dense, or large and sparse.
        make: the map of coordinates.
    """

    name: str
    make: Maps
    voxels: int = 90
    batch: int = 2
    side: int = 6
    c_in: int = 20
    c_out: int = 36
    empty: bool = False

    def coords(self) -> Tensor:
        """(N, 4) int32 in random order, negative coordinates among them."""
        generator = torch.Generator().manual_seed(len(self.name))
        elements = self.batch - self.empty
        cells = torch.randperm(elements * self.side**3, generator=generator)[: self.voxels]
        b, cell = cells // self.side**3, cells % self.side**3
        xyz = [cell // self.side**2, cell // self.side % self.side, cell % self.side]
        return torch.stack([b, *(axis - self.side // 2 for axis in xyz)], 1).int()

    def map(self, device: torch.device | str) -> KernelMap:
        """The kernel map, made on the device."""
        return self.make(self.coords().to(device), self.batch)


def submanifold(kernel: object, dilation: int = 1) -> Maps:
    """Maps of a submanifold convolution."""
    return lambda coords, batch: MapCache(coords, batch).submanifold(1, kernel, dilation)  # type: ignore[arg-type]


def strided(kernel: int, factor: int, dilation: int = 1) -> Maps:
    """Maps of a strided convolution."""
    return lambda coords, batch: MapCache(coords, batch).strided(1, kernel, factor, dilation)


def transposed(kernel: int, factor: int) -> Maps:
    """Maps of a transposed convolution."""
    return lambda coords, batch: MapCache(coords, batch).transposed(1, kernel, factor)


def reached(kernel: int, factor: int) -> Maps:
    """Maps of a strided convolution whose outputs lie wherever the kernel reaches."""
    return lambda coords, batch: MapCache(coords, batch).reached(1, kernel, factor)[1]


def linear(coords: Tensor, batch: int) -> KernelMap:
    """The map of a linear layer."""
    return identity_map(len(coords), coords.device)


CASES = [
    Case("submanifold 3", submanifold(3)),
    Case("submanifold 3, sparse", submanifold(3), side=14),
    Case("submanifold 3, dilation 2", submanifold(3, 2), side=8),
    Case("submanifold 1x3x5", submanifold((1, 3, 5)), c_in=3, c_out=5),
    Case("submanifold 5", submanifold(5), voxels=40, c_in=4, c_out=16),
    Case("submanifold 1", submanifold(1), c_in=17),
    Case("linear", linear, c_in=40, c_out=70),
    Case("strided 2", strided(2, 2), c_in=16, c_out=32),
    Case("strided 3 by 2", strided(3, 2)),
    Case("strided 4 by 4", strided(4, 4), voxels=60, side=10, c_in=5, c_out=7),
    Case("transposed 2", transposed(2, 2), c_in=33),
    Case("transposed 3 by 2", transposed(3, 2)),
    Case("reached 3 by 2", reached(3, 2), voxels=30),
    Case("empty element", submanifold(3), empty=True),
    Case("single voxel", submanifold(3), voxels=1, batch=1),
    Case("no voxels", submanifold(3), voxels=0),
    Case("no voxels, strided", strided(2, 2), voxels=0),
]


@dataclass(frozen=True)
class Problem:
    """Operands on a device, and the truth in float64 on the CPU."""

    kernel_map: KernelMap
    x: Tensor
    weight: Tensor
    grad: Tensor
    epilogue: Epilogue
    truth: dict[str, Tensor]


def problem(case: Case, dtype: torch.dtype, device: torch.device | str = "cpu") -> Problem:
    """Random operands for a case."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    exact_map, kernel_map = case.map("cpu"), case.map(device)
    n, k = exact_map.n_target, exact_map.kernel_size
    assert (kernel_map.n_source, kernel_map.n_target) == (exact_map.n_source, n)
    x = random(exact_map.n_source, case.c_in).to(dtype)
    # weights are parameters: float32, rounded by the backend
    weight = (random(k, case.c_in, case.c_out) / (8 * case.c_in) ** 0.5).float()
    grad, residual = random(n, case.c_out).to(dtype), random(n, case.c_out).to(dtype)
    scale, shift = random(case.c_out).float(), random(case.c_out).float()
    reference = backend("torch")
    rounded = weight.to(dtype).double()
    exact = Epilogue(scale.double(), shift.double(), residual.double(), True)
    truth = {
        "forward": reference.forward(x.double(), rounded, exact_map),
        "fused": reference.forward(x.double(), rounded, exact_map, exact),
        "input_gradient": reference.input_gradient(grad.double(), rounded, exact_map),
        "weight_gradient": reference.weight_gradient(x.double(), grad.double(), exact_map),
    }
    x, weight, grad, scale, shift, residual = (
        tensor.to(device) for tensor in (x, weight, grad, scale, shift, residual)
    )
    epilogue = Epilogue(scale, shift, residual, True)
    return Problem(kernel_map, x, weight, grad, epilogue, truth)


def results(engine: Backend, p: Problem) -> dict[str, Tensor]:
    """What a backend computes of a problem."""
    return {
        "forward": engine.forward(p.x, p.weight, p.kernel_map),
        "fused": engine.forward(p.x, p.weight, p.kernel_map, p.epilogue),
        "input_gradient": engine.input_gradient(p.grad, p.weight, p.kernel_map),
        "weight_gradient": engine.weight_gradient(p.x, p.grad, p.kernel_map),
    }


def check(
    engine: Backend,
    case: Case,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    tolerance: float | None = None,
) -> None:
    """Asserts that a backend is right, forward, fused and in both gradients."""
    p = problem(case, dtype, device)
    limit = TOLERANCE[dtype] if tolerance is None else tolerance
    for what, got in results(engine, p).items():
        truth = p.truth[what]
        assert got.shape == truth.shape, what
        assert got.device.type == torch.device(device).type
        assert got.dtype == (torch.float32 if what == "weight_gradient" else dtype), what
        error = (got.cpu().double() - truth).norm() / truth.norm().clamp(min=1e-30)
        most = WEIGHT_TOLERANCE if what == "weight_gradient" and tolerance is None else limit
        assert error <= most, f"{case.name}, {dtype}, {what}: relative error {error:.2e}"
