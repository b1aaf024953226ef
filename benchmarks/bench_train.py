"""Where a training step's time goes, per stage: making the batch, forward, backward, update.

python benchmarks/bench_train.py DATA [--preset demo] [--steps 10] [--threads 2]

DATA is any data set folder or bag with clouds and images.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import platform
import pstats
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from condense_training.batches import BatchMaker, Quarantine
from condense_training.frames import FrameSource
from condense_training.recipe import Batch, Parts, Stage
from condense_training.recipes import build_recipe
from condense_training.steps import set_modes


def measure(parts: Parts, stage: Stage, batches: list[Batch]) -> dict[str, float]:
    """Seconds per step of each phase; the first batch only warms up."""
    optimiser = stage.optimiser(set_modes(parts, stage, stage.steps))
    spent: Counter[str] = Counter()
    for number, batch in enumerate(batches):
        marks = [time.perf_counter()]
        parts.zero_grad(set_to_none=True)
        loss, _ = stage.loss(parts, batch)
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        optimiser.step()
        marks.append(time.perf_counter())
        if number:
            for i, name in enumerate(("forward_s", "backward_s", "update_s")):
                spent[name] += marks[i + 1] - marks[i]
    return {name: value / (len(batches) - 1) for name, value in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--recipe", default="janda")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", type=json.loads, default={}, help="recipe settings, as JSON")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", action="store_true", help="also print the costliest functions")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = build_recipe(options.recipe, options.preset, options.set)
    source = FrameSource(options.data)
    torch.manual_seed(0)
    parts = recipe.build()
    report: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": options.threads,
        "recipe": f"{options.recipe} {options.preset}",
    }
    for index, stage in enumerate(recipe.stages):
        maker = BatchMaker(source, stage, index, 0, Quarantine(source, 0.0))
        maker(0)
        start = time.perf_counter()
        batches = [maker(step) for step in range(options.steps + 1)]
        making = (time.perf_counter() - start) / len(batches)
        profiler = cProfile.Profile()
        if options.profile:
            profiler.enable()
        times = {"batch_s": making, **measure(parts, stage, batches)}
        if options.profile:
            profiler.disable()
            text = io.StringIO()
            pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(12)
            print(text.getvalue())
        total = sum(times.values())
        report[stage.name] = {
            **{name: round(value, 4) for name, value in times.items()},
            "samples_per_s": round(stage.batch_size / total, 2),
            "samples_per_s_prefetched": round(stage.batch_size / max(making, total - making), 2),
            "stage_minutes": round(stage.steps * total / 60, 2),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
