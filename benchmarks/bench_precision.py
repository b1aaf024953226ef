"""Whether a network learns the same in bfloat16, and how much faster a training step is.

    condense sim generate --world town --frames 200 --out TOWN
    python benchmarks/bench_precision.py TOWN [--network minkunet] [--steps 200] [--json F]

A run of fixed length from labels (cross-entropy over voxels of 10 cm, AdamW, cosine), several seeds
in float32 and in bfloat16: a seed decides initial weights and the order of the frames. The losses
of both are compared in windows of a tenth of the run: bfloat16 agrees where its mean lies within
the range of float32's own seeds, or no farther from their mean than twice their standard deviation.
Steps are timed against the torch backend in float32, run by run in turn (--seeds 0: that only).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.datasets import open_dataset
from condense_ros.files import write_json
from condense_ros.frame import IGNORE
from condense_ros.models import Backbone, BackboneConfig, InputSpec, preset
from condense_ros.sparse import SparseTensor, use_backend
from condense_training.recipes import supervised

SPEC = InputSpec(0.1, 60.0, features=("one", "height", "intensity"))


def network_config(name: str) -> BackboneConfig:
    """A preset, or "minkunet": the 49 convolutions of the published figures."""
    return BackboneConfig(SPEC, stem_layers=2) if name == "minkunet" else preset(name, SPEC)


def batches(folder: Path, count: int) -> tuple[list[dict[str, Tensor]], int]:
    """Voxels and labels of single sweeps, augmented, and the number of classes."""
    data = open_dataset(folder)
    if data.classes is None:
        raise SystemExit(f"{folder} has no labels")
    config = supervised.SupervisedConfig(classes=len(data.classes))
    rng = np.random.default_rng(0)
    found: list[dict[str, Tensor]] = []
    while len(found) < count:
        sample = supervised.sample(config, SPEC, data[len(found) % len(data)], rng)
        assert sample is not None
        found.append(supervised.collate([sample]))
    return found, len(data.classes)


class Run:
    """One training run that can be stepped."""

    def __init__(self, network: str, classes: int, seed: int, steps: int, low: bool) -> None:
        torch.manual_seed(seed)
        self.backbone = Backbone(network_config(network)).train()
        self.head = torch.nn.Linear(self.backbone.out_channels, classes)
        parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, 2e-3, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)
        self.low = low

    def step(self, batch: dict[str, Tensor]) -> float:
        x = SparseTensor(batch["features"], batch["coords"])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            features = self.backbone.net(x).features
        logits = self.head(features.float())
        loss = functional.cross_entropy(logits, batch["labels"], ignore_index=IGNORE)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())


def curves(
    network: str, data: list[dict[str, Tensor]], classes: int, seeds: int, steps: int, low: bool
) -> list[list[float]]:
    """Loss of every step, by seed."""
    found = []
    for seed in range(seeds):
        run = Run(network, classes, seed, steps, low)
        order = np.random.default_rng(seed).permutation(steps) % len(data)
        started = time.perf_counter()
        found.append([run.step(data[i]) for i in order])
        kind = "bfloat16" if low else "float32"
        seconds = time.perf_counter() - started
        print(
            f"{kind} seed {seed}: last losses {np.mean(found[-1][-20:]):.4f}, {seconds:.0f} s",
            flush=True,
        )
    return found


def times(
    network: str, batch: dict[str, Tensor], classes: int, runs: int
) -> dict[str, list[float]]:
    """Milliseconds of a training step, the three kinds in turn."""
    kinds = {
        "torch float32": ("torch", False),
        "float32": ("auto", False),
        "bfloat16": ("auto", True),
    }
    made = {name: Run(network, classes, 0, 100, low) for name, (_, low) in kinds.items()}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for i in range(runs + 1):
        for name, (backend, _) in kinds.items():
            started = time.perf_counter()
            with use_backend(backend):
                made[name].step(batch)
            if i:
                found[name].append((time.perf_counter() - started) * 1e3)
    return found


def compare(exact: list[list[float]], low: list[list[float]]) -> list[dict[str, Any]]:
    """By window: means and spread over the seeds, and whether they agree."""
    rows = []
    for a, b in zip(
        np.array_split(np.array(exact), 10, axis=1),
        np.array_split(np.array(low), 10, axis=1),
        strict=True,
    ):
        seeds, mean = a.mean(axis=1), float(b.mean())
        spread = float(seeds.std(ddof=1))
        inside = seeds.min() <= mean <= seeds.max() or abs(mean - seeds.mean()) <= 2 * spread
        rows.append(
            {
                "float32": float(seeds.mean()),
                "spread": spread,
                "bfloat16": mean,
                "agrees": bool(inside),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="minkunet")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data, classes = batches(options.folder, options.steps)
    voxels = statistics.median(len(b["coords"]) for b in data)
    print(f"{options.network}, {voxels:.0f} voxels a sweep, {options.threads} threads")
    steps_ms = times(options.network, data[0], classes, options.runs)
    medians = {name: statistics.median(values) for name, values in steps_ms.items()}
    for name, ms in medians.items():
        print(f"step, {name:14s} {ms:8.1f} ms  x {medians['torch float32'] / ms:.2f}", flush=True)
    if not options.seeds:
        return
    sets = [
        curves(options.network, data, classes, options.seeds, options.steps, low)
        for low in (False, True)
    ]
    rows = compare(sets[0], sets[1])
    print("window   float32   spread of seeds   bfloat16   agrees")
    for i, row in enumerate(rows):
        print(
            f"{i:6d} {row['float32']:9.4f} {row['spread']:17.4f} {row['bfloat16']:10.4f}   "
            f"{'yes' if row['agrees'] else 'NO'}"
        )
    if options.json:
        write_json(options.json, {"step_ms": steps_ms, "windows": rows, "curves": sets})


if __name__ == "__main__":
    main()
