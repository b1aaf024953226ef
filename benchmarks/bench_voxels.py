"""Memory and time of `sparse.voxelize` on clouds of up to millions of points, whole and in slices.

python benchmarks/bench_voxels.py [--points 5000000] [--features 4] [--voxel 0.1]

Every row is a process of its own. `extra` is the peak of its resident memory above what it held
with the input arrays loaded (VmHWM of /proc/self/status, reset before the call): Linux only.
`bound` is what docs/benchmarks/voxels.md promises.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from condense_ros.sparse import voxelize
from condense_ros.sparse.voxelization import SLICE_POINTS


def scan(points: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Ground, walls and scatter of a surveyed street, 200 m long; seed 0."""
    rng = np.random.default_rng(0)
    xyz = np.empty((points, 3), np.float32)
    xyz[:, 0] = rng.uniform(-100, 100, points)
    xyz[:, 1] = rng.normal(0, 8, points)
    xyz[:, 2] = np.where(rng.random(points) < 0.7, 0.0, rng.uniform(0, 8, points))
    xyz[:, 2] += rng.normal(0, 0.03, points)
    return xyz, rng.random((points, features), np.float32)


def status_mib(key: str) -> float:
    """A memory figure of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def measure(points: int, features: int, voxel: float, slice_points: int) -> dict[str, float]:
    """One call, in this process."""
    torch.set_num_threads(1)
    xyz, values = scan(points, features)
    voxelize(xyz[:1000], values[:1000], voxel)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status_mib("VmRSS"), time.perf_counter()
    voxels = voxelize(xyz, values, voxel, slice_points=slice_points)
    seconds = time.perf_counter() - start
    return {"voxels": len(voxels), "mib": status_mib("VmHWM") - before, "s": seconds}


def bound_mib(points: int, voxels: float, features: int, slice_points: int) -> float:
    """Memory that a call may need beside its input, results included."""
    part = min(points, slice_points)
    return (8 * points + (90 + 4 * features) * voxels + (160 + 16 * features) * part) / 2**20


def main() -> None:
    """Prints one row per size of cloud and of slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--voxel", type=float, default=0.1)
    parser.add_argument("--one", type=int, help="measure one slice size in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.points, args.features, args.voxel, args.one)))
        return
    print(
        f"{args.features} features, voxels of {args.voxel} m, one thread, torch {torch.__version__}"
    )
    print("| points | slice | voxels | extra, MiB | bound, MiB | s |\n|---|---|---|---|---|---|")
    rows = [(args.points // 50, SLICE_POINTS), (args.points // 5, SLICE_POINTS)]
    rows += [(args.points, size) for size in (args.points, 4 * SLICE_POINTS, SLICE_POINTS)]
    for points, size in rows:
        command = [sys.executable, __file__, "--one", str(size), "--points", str(points)]
        command += ["--features", str(args.features), "--voxel", str(args.voxel)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {points:,} | {min(size, points):,} | {row['voxels']:,.0f} | {row['mib']:.0f} | "
            f"{bound_mib(points, row['voxels'], args.features, size):.0f} | {row['s']:.2f} |"
        )


if __name__ == "__main__":
    main()
