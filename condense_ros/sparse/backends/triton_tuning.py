"""Times the Triton kernels on this device and remembers the fastest tiles.

    tune(lambda: net(voxels))                   # what this network computes, on this cloud
    tune_layers([Layer(32, 64, rows=80_000)])   # layers by numbers, on a made-up surface

Nothing is ever timed behind anyone's back: a shape that was not tuned runs with default tiles.
"""

from __future__ import annotations

import logging
import statistics
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import triton
from torch import Tensor

from condense_ros.errors import EnvironmentProblem
from condense_ros.sparse.backends import triton_launch
from condense_ros.sparse.backends.switch import use_backend
from condense_ros.sparse.backends.triton_backend import device_problem
from condense_ros.sparse.backends.triton_launch import Launch
from condense_ros.sparse.backends.triton_store import TunedTiles
from condense_ros.sparse.backends.triton_tiles import Shape, Tiles, candidates
from condense_ros.sparse.convolution import sparse_convolution
from condense_ros.sparse.maps import MapCache

#: milliseconds of a call
Timer = Callable[[Callable[[], object]], float]
_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Result:
    """What was found for one shape.

    Attributes:
        tiles: the fastest.
        ms, default_ms: milliseconds with these, and with the tiles of an untuned shape.
        tried: candidates timed; those that did not fit the device are left out.
    """

    shape: Shape
    tiles: Tiles
    ms: float
    default_ms: float
    tried: int


@dataclass(frozen=True)
class Layer:
    """A convolution by its numbers."""

    c_in: int
    c_out: int
    kernel: int | tuple[int, int, int] = 3
    rows: int = 50_000


def device_timer(call: Callable[[], object], warm_ms: float = 5, measured_ms: float = 20) -> float:
    """Median milliseconds of a call between CUDA events, after a compilation and a warm-up."""
    call()
    torch.cuda.synchronize()

    def times(n: int) -> list[float]:
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
        torch.cuda.synchronize()
        return [a.elapsed_time(b) for a, b in pairwise(marks)]

    once = max(statistics.median(times(3)), 1e-3)
    times(max(1, min(50, round(warm_ms / once))))
    return statistics.median(times(max(5, min(100, round(measured_ms / once)))))


def tune(
    run: Callable[[], object],
    *,
    timer: Timer = device_timer,
    path: Path | None = None,
    again: bool = False,
) -> list[Result]:
    """Finds the fastest tiles for every convolution that `run` computes, and stores them.

    Args:
        run: a forward pass, or a whole training step; called once. Autocast, if any, is inside.
        timer: milliseconds of a call.
        path: where to store, instead of the user's cache folder.
        again: also times shapes that have been tuned before, at this very number of rows.

    Raises:
        StorageFull: no room for the results.
        OSError: the cache folder cannot be written.
    """
    with _one_at_a_time:
        heard: dict[tuple[Shape, torch.device], Launch] = {}

        def listen(shape: Shape, device: torch.device, launch: Launch) -> None:
            heard.setdefault((shape, device), launch)

        triton_launch.listener = listen
        try:
            with use_backend("triton"):
                run()
        finally:
            triton_launch.listener = None
        results = []
        for device in {device for _, device in heard}:
            store = triton_launch.tuned(device)
            if path is not None:
                store = TunedTiles(triton_launch.device_name(device), path)
            here = {shape: launch for (shape, where), launch in heard.items() if where == device}
            for shape, launch in here.items():
                if again or not store.has(shape):
                    results.append(_fastest(shape, device, launch, timer))
                    # after each: an interrupted tuning keeps what it has found
                    store.add({shape: results[-1].tiles})
        return results


def _fastest(shape: Shape, device: torch.device, launch: Launch, timer: Timer) -> Result:
    times: dict[Tiles, float] = {}
    tries = candidates(shape, triton_launch.processors(device))
    with torch.no_grad():
        for tiles in tries:
            try:
                times[tiles] = timer(lambda tiles=tiles: launch(tiles))  # type: ignore[misc]
            except (triton.runtime.errors.OutOfResources, torch.cuda.OutOfMemoryError) as error:
                _log.info("%s with %s: %s", shape.name, tiles, error)
    if tries[0] not in times:
        raise EnvironmentProblem(
            f"the default tiles of {shape.name} do not run on this device",
            "use the backend torch, and free memory of the device if it is full",
        )
    best = min(times, key=times.__getitem__)
    _log.info("%s: %.3f ms, %.3f before", shape.name, times[best], times[tries[0]])
    return Result(shape, best, times[best], times[tries[0]], len(times))


def tune_layers(
    layers: Iterable[Layer],
    *,
    device: torch.device | str = "cuda",
    dtype: torch.dtype = torch.float16,
    training: bool = False,
    timer: Timer = device_timer,
    path: Path | None = None,
    again: bool = False,
) -> list[Result]:
    """The same for submanifold convolutions by their numbers, on voxels of a rolling surface.

    Args:
        training: gradients too.

    Raises:
        EnvironmentProblem: Triton does not run on the device.
        StorageFull, OSError: see `tune`.
    """
    where = torch.device(device)
    if where.type == "cuda" and where.index is None:
        where = torch.device("cuda", torch.cuda.current_device())
    problem = device_problem(where)
    if problem:
        raise EnvironmentProblem(f"nothing to tune: {problem}", "tune on a machine with a GPU")
    layers = list(layers)

    def run() -> None:
        for layer in layers:
            maps = MapCache(surface(layer.rows).to(where))
            kernel_map = maps.submanifold(1, layer.kernel)
            x = torch.randn(layer.rows, layer.c_in, device=where, dtype=dtype)
            weight = torch.randn(kernel_map.kernel_size, layer.c_in, layer.c_out, device=where)
            with torch.set_grad_enabled(training):
                out = sparse_convolution(
                    x.requires_grad_(training), weight.requires_grad_(training), kernel_map
                )
            if training:
                out.sum().backward()

    return tune(run, timer=timer, path=path, again=again)


def surface(rows: int) -> Tensor:
    """(rows, 4) int32 voxels of a rolling sheet: like a scan, 6 to 9 neighbours of 26 each."""
    side = max(1, int(rows**0.5))
    i = torch.arange(rows)
    x, y = i // side, i % side
    z = (4 * torch.sin(x / 9) + 3 * torch.cos(y / 7)).round().long()
    return torch.stack([torch.zeros_like(x), x, y, z], 1).int()
