"""Samples per second of recipe olivine beside a straightforward PyTorch version of the same step.

python benchmarks/bench_pretrain.py DATA... [--preset demo] [--set '{"pairs": 2048}'] [--json F]

Both versions share batches, weights, samplers, optimiser and one process; steps are taken in turn.
The straightforward one does what the papers' text says, operation by operation: sparse convolutions
by gather, matrix product and scatter in torch; heads on every pixel, then upsampling to full
images; all n x n logits and a mask as large; class statistics class by class. Its losses are
checked against those of the recipe before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from condense_ros.frame import IGNORE
from condense_ros.models import Backbone
from condense_ros.sparse.backends.switch import use_backend
from condense_training.batches import BatchMaker, Quarantine
from condense_training.clouds import voxels_of
from condense_training.frames import FrameSource
from condense_training.heads import PairHeads
from condense_training.losses import VmfStatistics
from condense_training.losses.vmf_normaliser import log_vmf_normaliser
from condense_training.recipe import Batch, Parts, Stage
from condense_training.recipes import build_recipe
from condense_training.recipes.olivine import OlivineConfig, teacher_maps
from condense_training.sampling import sample_pairs
from condense_training.trainer import set_modes


def plain_loss(
    config: OlivineConfig, parts: Parts, batch: Batch
) -> tuple[Tensor, dict[str, float]]:
    """Point contrast, class contrast and pull, written down as the paper has them."""
    backbone, heads = cast(Backbone, parts["backbone"]), cast(PairHeads, parts["heads"])
    labels, distance, views = batch["pair_label"], batch["pair_distance_m"], batch["views"]
    with torch.no_grad():
        maps = teacher_maps(config, parts, views)
    clouds = int(batch["coords"][:, 0].max()) + 1
    with use_backend("torch"):
        voxels = backbone(voxels_of(batch, backbone.input, clouds))
    points, pixels = {}, {}
    for space in ("pair", "class"):
        points[space] = functional.normalize(heads.points[space](voxels), dim=1)
        head = cast(torch.nn.Linear, heads.pixels[space])
        projected = functional.conv2d(maps, head.weight[:, :, None, None], head.bias)
        image = functional.interpolate(
            projected, views.shape[-2:], mode="bilinear", align_corners=True
        )
        pixels[space] = functional.normalize(image, dim=1)
    where = batch["pair_uv"].round().long()
    column = where[:, 0].clamp(0, views.shape[-1] - 1)
    row = where[:, 1].clamp(0, views.shape[-2] - 1)

    def both(space: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        q = points[space][batch["pair_voxel"][rows]]
        k = pixels[space][batch["pair_view"][rows], :, row[rows], column[rows]]
        return q, k

    def draw(strategy: str, ignored: int | None) -> Tensor:
        return sample_pairs(
            strategy,
            config.pairs,
            distance,
            labels,
            resolution_m=config.sampling_resolution_m,
            ignored=ignored,
        )

    q, k = both("pair", draw("uniform", None))
    logits = q @ k.T / config.temperature
    point = functional.cross_entropy(logits, torch.arange(len(q)))
    rows = draw(config.sampling, IGNORE)
    q, k = both("class", rows)
    logits = q @ k.T / config.temperature
    same = labels[rows][:, None] == labels[rows][None]
    inside = logits.masked_fill(~same, -torch.inf).logsumexp(1)
    of_class = (logits.logsumexp(1) - inside + same.sum(1).log()).mean()
    total = config.point_weight * point + config.class_weight * of_class
    terms = {"point_loss": float(point.detach()), "class_loss": float(of_class.detach())}

    statistics = cast(VmfStatistics, parts["statistics"])
    known = labels < statistics.classes
    features, of_pair = points["class"][batch["pair_voxel"][known]], labels[known]
    active = not statistics.collecting
    if statistics.training:
        statistics.update(features, of_pair)
    if active:
        classes = statistics.distributions()
        losses = []
        for label in of_pair.unique():
            if not bool(classes.known[label]):
                continue
            mine = features[of_pair == label]
            kappa = classes.kappa[label]
            along = (mine * classes.direction[label]).sum(1)
            losses.append((-log_vmf_normaliser(kappa, features.shape[1]) - kappa * along).mean())
        pull = torch.stack(losses).mean()
        terms["kl_loss"] = float(pull.detach())
        total = total + config.consistency_weight * pull
    return total, terms


def step(parts: Parts, stage: Stage, loss: Any, batch: Batch, optimiser: Any, seed: int) -> Any:
    """One optimiser step; returns seconds of forward, backward and update, and the log terms."""
    torch.manual_seed(seed)
    marks = [time.perf_counter()]
    parts.zero_grad(set_to_none=True)
    value, terms = loss(parts, batch)
    marks.append(time.perf_counter())
    value.backward()
    marks.append(time.perf_counter())
    optimiser.step()
    marks.append(time.perf_counter())
    return [b - a for a, b in pairwise(marks)], terms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", type=json.loads, default={}, help="recipe settings, as JSON")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = build_recipe("olivine", options.preset, options.set)
    config = OlivineConfig(
        **{k: v for k, v in recipe.settings.items() if k in OlivineConfig.__dataclass_fields__}
    )
    stage = recipe.stages[-1]
    source = FrameSource(options.data)
    maker = BatchMaker(source, stage, len(recipe.stages) - 1, 0, Quarantine(source, 0.0))
    maker(0)
    start = time.perf_counter()
    batches = [maker(number) for number in range(options.steps + 1)]
    making = (time.perf_counter() - start) / len(batches)

    sides: dict[str, Any] = {}
    for name in ("recipe", "straightforward"):
        torch.manual_seed(0)
        parts = recipe.build()
        statistics = cast(VmfStatistics, parts["statistics"])
        # the pull acts in every step that is timed
        statistics.collection_steps = statistics.min_updates = 1
        optimiser = stage.optimiser(set_modes(parts, stage, 0))
        sides[name] = (parts, optimiser)
    losses = {
        "recipe": stage.loss,
        "straightforward": lambda parts, batch: plain_loss(config, parts, batch),
    }
    spent: dict[str, list[list[float]]] = {name: [] for name in sides}
    for number, batch in enumerate(batches):
        # who goes first changes every step
        order = list(sides) if number % 2 else list(reversed(sides))
        found = {}
        for name in order:
            parts, optimiser = sides[name]
            times, found[name] = step(parts, stage, losses[name], batch, optimiser, number)
            if number:
                spent[name].append(times)
        if number == 0:
            check(found["recipe"], found["straightforward"])
    report: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}",
        "torch": torch.__version__,
        "threads": options.threads,
        "preset": options.preset,
        "settings": options.set,
        "batch": stage.batch_size,
        "batch_making_s": round(making, 4),
        "peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    for name, rows in spent.items():
        forward, backward, update = (median(row[i] for row in rows) for i in range(3))
        computing = median(sum(row) for row in rows)
        report[name] = {
            "forward_s": round(forward, 4),
            "backward_s": round(backward, 4),
            "update_s": round(update, 4),
            "step_s": round(computing, 4),
            "samples_per_s": round(stage.batch_size / (computing + making), 2),
            "samples_per_s_batches_made_aside": round(stage.batch_size / max(computing, making), 2),
        }
    pairs = zip(spent["recipe"], spent["straightforward"], strict=True)
    ratios = sorted((sum(plain) + making) / (sum(ours) + making) for ours, plain in pairs)
    report["times_as_fast"] = round(median(ratios), 2)
    report["times_as_fast_range"] = [round(ratios[0], 2), round(ratios[-1], 2)]
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def check(ours: dict[str, float], plain: dict[str, float]) -> None:
    """Both compute the same: pixels are rounded in one, so the values agree to a per cent."""
    for name in ("point_loss", "class_loss"):
        if abs(ours[name] - plain[name]) > 0.01 * abs(plain[name]):
            raise SystemExit(f"{name}: {ours[name]} of the recipe, {plain[name]} straightforward")


if __name__ == "__main__":
    main()
