"""What a network computes on given voxels: one `Layer` for each sparse product of a forward pass.

Linear maps are layers too where they are computed as products of a 1x1x1 kernel, as in `conv_norm`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense_ros.sparse import (
    KernelMap,
    Linear,
    MapCache,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    TransposedConv3d,
)
from condense_ros.sparse.backends.base import Backend, Epilogue
from condense_ros.sparse.backends.choose import observed

_KINDS: dict[type, str] = {
    SubmanifoldConv3d: "submanifold",
    StridedConv3d: "strided",
    TransposedConv3d: "transposed",
    Linear: "linear",
}
_Convolution = SubmanifoldConv3d | StridedConv3d | TransposedConv3d
Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """One sparse product.

    Attributes:
        name: of the module in the network.
        kind: submanifold, strided, transposed or linear.
        kernel: elements per axis.
        stride: of the voxels that it reads.
        c_in, c_out: channels.
        rows_in, rows: voxels read and written.
        pairs: products, each of c_in x c_out multiply-accumulates.
        listed: of these, the pairs that a map lists (those of a voxel with itself need no list).
        residual: whether a shortcut is added.
        module: the convolution, None for a linear map.
        maps_in, maps_out: the geometries that it reads and writes, as numbers.
    """

    name: str
    kind: str
    kernel: Triple
    stride: Triple
    c_in: int
    c_out: int
    rows_in: int
    rows: int
    pairs: int
    listed: int
    residual: bool
    module: _Convolution | None
    maps_in: int
    maps_out: int

    @property
    def mac(self) -> int:
        """Multiply-accumulates."""
        return self.pairs * self.c_in * self.c_out

    def least_bytes(self, itemsize: int) -> int:
        """Bytes that any implementation reads or writes: every feature, weight and pair once.

        A listed pair is two row numbers of four bytes.
        """
        elements = self.rows_in * self.c_in + self.rows * self.c_out * (2 if self.residual else 1)
        elements += self.kernel[0] * self.kernel[1] * self.kernel[2] * self.c_in * self.c_out
        return itemsize * elements + 8 * self.listed


def gmac(layers: Sequence[Layer]) -> float:
    """Multiply-accumulates of all layers, in 1e9."""
    return sum(layer.mac for layer in layers) / 1e9


class _Watch:
    """Backend that notes what it is asked and lets another compute."""

    def __init__(self, inner: Backend, note: Callable[[Tensor, Tensor, KernelMap, bool], None]):
        self._inner, self._note, self.name = inner, note, inner.name

    def problem(self, device: torch.device, dtype: torch.dtype) -> str:
        return self._inner.problem(device, dtype)

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        residual = epilogue is not None and epilogue.residual is not None
        self._note(x, weight, kernel_map, residual)
        return self._inner.forward(x, weight, kernel_map, epilogue)

    def input_gradient(self, grad: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        return self._inner.input_gradient(grad, weight, kernel_map)

    def weight_gradient(self, x: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        return self._inner.weight_gradient(x, grad, kernel_map)


def trace(network: nn.Module, x: SparseTensor) -> list[Layer]:
    """The layers of a forward pass in the order in which they are computed."""
    homes = {
        module.weight.data_ptr(): (name, module)
        for name, module in network.named_modules()
        if isinstance(module, _Convolution | Linear)
    }
    asked: dict[int, tuple[SparseTensor, MapCache]] = {}
    keep: list[MapCache] = []  # alive until the end, so that no two have one id
    layers: list[Layer] = []

    def note(features: Tensor, weight: Tensor, m: KernelMap, residual: bool) -> None:
        name, module = homes[weight.data_ptr()]
        convolution = module if isinstance(module, _Convolution) else None
        source, out_maps = asked[id(module)] if convolution is not None else (None, None)
        layers.append(
            Layer(
                name,
                _KINDS[type(module)],
                (1, 1, 1) if convolution is None else convolution.kernel,
                (0, 0, 0) if source is None else source.stride,
                weight.shape[1],
                weight.shape[2],
                m.n_source,
                m.n_target,
                m.n_pairs,
                len(m.source),
                residual,
                convolution,
                id(None if source is None else source.maps),
                id(out_maps),
            )
        )

    with (
        _geometry_watched(network, asked, keep),
        torch.inference_mode(),
        observed(lambda backend: _Watch(backend, note)),
    ):
        network(x)
    return layers


@contextmanager
def _geometry_watched(
    network: nn.Module, asked: dict[int, tuple[SparseTensor, MapCache]], keep: list[MapCache]
) -> Iterator[None]:
    """Notes from which tensor to which geometry each convolution leads."""
    modules = [module for module in network.modules() if isinstance(module, _Convolution)]

    def watch(module: _Convolution) -> None:
        inner = module.geometry

        def geometry(x: SparseTensor) -> Any:
            maps, stride, kernel_map = inner(x)
            keep.extend((x.maps, maps))
            asked[id(module)] = x, maps
            return maps, stride, kernel_map

        module.__dict__["geometry"] = geometry

    for module in modules:
        watch(module)
    try:
        yield
    finally:
        for module in modules:
            del module.__dict__["geometry"]


def make_maps(
    layers: Sequence[Layer],
    coords: Tensor,
    batch_size: int,
    finish: Callable[[KernelMap], object],
    wait: Callable[[], object],
) -> tuple[float, list[float]]:
    """Makes the maps of all layers from coordinates alone.

    Args:
        coords: (N, 4) int32, the voxels of the first layer.
        finish: makes of a map the form that a backend multiplies with.
        wait: returns when the device has done its work.

    Returns:
        Milliseconds for the voxels' own order, and those of each layer; a map that several layers
        share counts for the first.
    """
    empty = torch.empty(0, 0)
    wait()
    start = time.perf_counter()
    first = MapCache(coords, batch_size)
    wait()
    levels_ms = (time.perf_counter() - start) * 1e3
    known: dict[int, MapCache] = {}
    times = []
    for layer in layers:
        if layer.module is None:
            times.append(0.0)
            continue
        maps = known.setdefault(layer.maps_in, first)
        rows = maps.level(layer.stride).coords
        x = SparseTensor.on(empty.new_empty(len(rows), 0, device=rows.device), maps, layer.stride)
        start = time.perf_counter()
        out, _, kernel_map = layer.module.geometry(x)
        finish(kernel_map)
        wait()
        times.append((time.perf_counter() - start) * 1e3)
        known[layer.maps_out] = out
    return levels_ms, times


def map_form(backend: str) -> Callable[[KernelMap], object]:
    """What a backend makes of a kernel map before it multiplies."""
    if backend == "cpu":
        return lambda m: m.pairs.by_target.starts
    if backend == "torch":
        return lambda m: m.runs
    if backend == "triton":
        from condense_ros.sparse.backends.triton_plan import plan_of

        return plan_of
    return lambda m: m.table
