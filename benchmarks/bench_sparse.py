"""Speed and memory of the sparse engine and the backbones on a real or synthetic sweep.

    python benchmarks/bench_sparse.py [SWEEP] [--columns 5] [--voxel 0.2] [--threads 1]

SWEEP is a float32 file of x, y, z, ... (nuScenes .pcd.bin: 5 columns; KITTI .bin: 4). Without it,
a 32-beam sweep through a street of boxes is made up. Batch of two: the sweep and its quarter turn.
Prints minimum and median milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condense_ros.frame import PointCloud
from condense_ros.models import Backbone, InputSpec, preset, presets
from condense_ros.sparse import MapCache, SubmanifoldConv3d, Voxels, collate
from condense_ros.sparse.maps import KernelMap


def measure(call: Callable[[], object], runs: int) -> str:
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return f"{min(times):8.1f} {statistics.median(times):8.1f}"


def made_up_sweep(beams: int = 32, azimuths: int = 1024) -> np.ndarray:
    """Beams against the ground and two rows of facades 8 m away."""
    elevation = np.radians(np.linspace(-25, 15, beams))[:, None]
    azimuth = np.linspace(-np.pi, np.pi, azimuths, endpoint=False)[None]
    rays = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation) + 0 * azimuth,
        ],
        -1,
    ).reshape(-1, 3)
    ground = np.where(rays[:, 2] < 0, -1.8 / np.minimum(rays[:, 2], -1e-9), np.inf)
    depth = 8.0 + np.floor(np.arctan2(rays[:, 1], rays[:, 0]) * 8) % 3
    facade = depth / np.maximum(np.abs(rays[:, 1]), 1e-9)
    distance = np.minimum(ground, facade)
    return (rays * distance[:, None])[distance < 60].astype(np.float32)


def index_autograd(x: Tensor, weight: Tensor, m: KernelMap) -> Tensor:
    """The same convolution through autograd's own index operations."""
    out = x @ weight[m.identity]
    for k, source, target in m.runs:
        out = out.index_add(0, target, x.index_select(0, source) @ weight[k])
    return out


def saved_bytes(call: Callable[[], object]) -> int:
    """Bytes autograd keeps for the backward pass, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        keep = call()  # the graph lives until the sizes are added up
        total = sum(storages.values())
        del keep
    return total


def layer(voxels: Voxels, runs: int) -> None:
    x = voxels.sparse_tensor()
    for channels in (16, 32, 96):
        torch.manual_seed(0)
        conv = SubmanifoldConv3d(channels, channels)
        features = torch.randn(len(voxels), channels, requires_grad=True)
        m = x.maps.submanifold(1, (3, 3, 3))

        def own(f: Tensor = features, c: SubmanifoldConv3d = conv) -> Tensor:
            return c(x.replace(f)).features

        def plain(f: Tensor = features, c: SubmanifoldConv3d = conv, m: KernelMap = m) -> Tensor:
            return index_autograd(f, c.weight, m)

        for name, call in (("own autograd function", own), ("autograd of index ops", plain)):
            mib = saved_bytes(call) / 2**20
            step = measure(lambda call=call: call().sum().backward(), runs)  # type: ignore[misc]
            print(f"conv 3x3x3 {channels:3d}, {name:22s} {step}   saved {mib:6.1f} MiB")


def network(name: str, voxels: Voxels, spec: InputSpec, runs: int) -> None:
    torch.manual_seed(0)
    net = Backbone(preset(name, spec))

    def forward() -> None:
        with torch.no_grad():
            net(voxels)

    def step(low: bool) -> None:
        net.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            features = net(voxels)
        features.float().square().mean().backward()

    size = sum(p.numel() for p in net.parameters()) / 1e6
    print(f"{name:8s} {size:5.1f} M forward              {measure(forward, runs)}")
    print(f"{name:8s} {size:5.1f} M step float32         {measure(lambda: step(False), runs)}")
    print(f"{name:8s} {size:5.1f} M step bfloat16        {measure(lambda: step(True), runs)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sweep", nargs="?", type=Path)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--voxel", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--presets", nargs="*", default=["demo"], choices=list(presets))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.sweep:
        xyz = np.fromfile(args.sweep, np.float32).reshape(-1, args.columns)[:, :3]
    else:
        xyz = made_up_sweep()
    spec = InputSpec(voxel_size_m=args.voxel)
    cloud = PointCloud(xyz)
    turned = PointCloud(xyz[:, [1, 0, 2]] * np.float32([-1, 1, 1]))
    voxels = collate([spec.voxelize(cloud), spec.voxelize(turned)])

    def maps() -> MapCache:
        cache = MapCache(voxels.coords, 2)
        for stride in (1, 2, 4, 8):
            cache.submanifold(stride, (3, 3, 3))
            cache.strided(stride, (2, 2, 2), 2)
        cache.submanifold(16, (3, 3, 3))
        return cache

    cache = maps()
    sizes = [len(cache.level(2**i).keys) for i in range(5)]
    print(f"torch {torch.__version__}, {args.threads} thread(s), voxels of {args.voxel} m")
    print(f"{len(cloud)} points per cloud, batch of 2, voxels per level {sizes}")
    print(f"{'milliseconds':37s} minimum   median")
    print(
        f"voxelize one cloud                   {measure(lambda: spec.voxelize(cloud), args.runs)}"
    )
    print(f"kernel maps of all levels            {measure(maps, args.runs)}")
    layer(voxels, args.runs)
    for name in args.presets:
        network(name, voxels, spec, args.runs)


if __name__ == "__main__":
    main()
