"""Cloud to labels: everything `perception_node` computes for a cloud, stage by stage.

    python benchmarks/bench_live.py [--preset live] [--threads 2] [--precision bfloat16] [CLOUD ...]

CLOUD is any file that `datasets.read_cloud` reads; without one, simulated sweeps of 32 and 64
beams. Weights are random: they do not change the time. Medians and 99th percentiles, in
milliseconds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from condense_ros.cli.bench.engine.clouds import SENSORS, load_cloud
from condense_ros.models import Checkpoint, HeadInfo, InputSpec, LinearHead, build_backbone
from condense_ros.perception import Perceiver, PerceptionConfig
from condense_ros.sim import ontology


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clouds", nargs="*", type=Path)
    parser.add_argument("--preset", default="live")
    parser.add_argument("--voxel", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    torch.manual_seed(0)
    backbone = build_backbone(options.preset, InputSpec(options.voxel, 60.0))
    head = LinearHead(HeadInfo(ontology, "random weights", backbone.out_channels))
    config = PerceptionConfig(
        device="cpu", precision=options.precision, threads=options.threads, descriptor="ring_height"
    )
    perceiver = Perceiver(Checkpoint.of(backbone, {"head": head}), config)
    named = [str(path) for path in options.clouds] or list(SENSORS)
    for name in named:
        cloud = load_cloud(name)
        stages: dict[str, list[float]] = {}
        for i in range(options.runs + 3):
            started = time.perf_counter()
            seen = perceiver.perceive(cloud)
            total = (time.perf_counter() - started) * 1e3
            if i >= 3:
                for stage, ms in {**seen.timings_ms, "all": total}.items():
                    stages.setdefault(stage, []).append(ms)
        print(f"{name}: {len(cloud)} points, {len(seen.features)} voxels")
        for stage, values in stages.items():
            print(f"  {stage:10s} {np.median(values):7.1f} {np.percentile(values, 99):7.1f}")


if __name__ == "__main__":
    main()
