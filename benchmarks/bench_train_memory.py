"""Peak memory of training by micro-batches and precision, each in a process of its own.

    condense sim generate --world town --frames 20 --out TOWN
    python benchmarks/bench_train_memory.py TOWN [--backbone unet34c] [--batch 8] [--json F]

Three steps of recipe `supervised` on the CPU; resident memory of the process at its highest, the
interpreter with torch included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from condense_ros.datasets import open_dataset
from condense_ros.files import write_json
from condense_training import PretrainConfig, pretrain
from condense_training.trainer_config import TrainerConfig


def train(folder: Path, backbone: str, batch: int, accumulate: int, precision: str) -> float:
    """Mebibytes at the highest before the export."""
    peaks = []
    classes = open_dataset(folder).classes
    if classes is None:
        raise SystemExit(f"{folder} has no labels")
    settings = {"backbone": backbone, "batch": batch, "steps": 3, "classes": len(classes)}
    trainer = TrainerConfig(
        progress=False, threads=1, prefetch=False, accumulate=accumulate, precision=precision
    )
    config = PretrainConfig("supervised", "demo", settings, trainer=trainer)
    with tempfile.TemporaryDirectory() as out:
        pretrain(
            [folder],
            Path(out),
            config,
            on_step=lambda _: peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss),
        )
    return peaks[-1] / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="unet34c")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        accumulate, precision = options.one
        print(train(options.folder, options.backbone, options.batch, int(accumulate), precision))
        return
    rows = []
    for precision in ("float32", "bfloat16"):
        for accumulate in (n for n in (1, 2, 4, 8) if options.batch % n == 0):
            command = [sys.executable, __file__, *sys.argv[1:], "--one", str(accumulate), precision]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            peak = float(done.stdout.splitlines()[-1])
            rows.append({"precision": precision, "accumulate": accumulate, "peak_mib": peak})
            print(f"{precision:8s}  accumulate {accumulate}  {peak:6.0f} MiB", flush=True)
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
