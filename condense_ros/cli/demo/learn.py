"""Steps c and d: pretrain from the bag without labels, probe, fit a head on labelled frames."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from condense_ros.cli.demo.plan import DemoPlan
from condense_ros.datasets.simulated import SimulatedFolder
from condense_training import HeadConfig, PretrainConfig, ProbeConfig, compare, fit_head, pretrain
from condense_training.trainer import TrainerConfig


def pretrain_backbone(
    bag: Path, out: Path, plan: DemoPlan, seed: int, console: Console
) -> tuple[Path, dict[str, Any]]:
    """(checkpoint, the `pretrain` part of the summary): only the bag is read, no label."""
    started = time.monotonic()
    config = PretrainConfig(preset=plan.pretrain_preset, trainer=TrainerConfig(seed=seed))
    checkpoint = pretrain([bag], out, config, console=console)
    metadata = json.loads((out / "config.json").read_text())
    return checkpoint, {
        "recipe": config.recipe,
        "preset": plan.pretrain_preset,
        "supervision": metadata["supervision"],
        "frames": metadata["frames"],
        "steps": metadata["steps"],
        "stages": metadata["stages"],
        "loss_first": metadata["loss_first"],
        "loss_last": metadata["loss_last"],
        "seconds": round(time.monotonic() - started, 1),
    }


def loss_curves(folder: Path) -> dict[str, list[float]]:
    """Loss of every optimiser step by stage, from the trainer's log."""
    curves: dict[str, list[float]] = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "loss" in record and not record["skipped"]:
            curves.setdefault(record["stage"], []).append(record["loss"])
    return curves


def probe_backbone(
    checkpoint: Path, train: SimulatedFolder, test: SimulatedFolder, plan: DemoPlan
) -> dict[str, Any]:
    """The `probe` part of the summary: pretrained against random, tested in another town."""
    config = ProbeConfig(seeds=plan.probe_seeds, max_frames=plan.probe_frames)
    return compare(checkpoint, [train.path], [test.path], config).to_dict()


def _head(seed: int) -> HeadConfig:
    return HeadConfig(label_source="simulated", seed=seed)


def fit_segmentation(
    checkpoint: Path, labelled: SimulatedFolder, out: Path, plan: DemoPlan, seed: int
) -> tuple[Path, str]:
    """(checkpoint with a segmentation head, what supervised that head)."""
    step = max(1, len(labelled) // plan.head_frames)
    frames = (labelled[i] for i in range(0, step * plan.head_frames, step))
    path = fit_head(checkpoint, frames, labelled.classes, out, _head(seed))
    from condense_ros.models import load_checkpoint

    return path, load_checkpoint(path).heads["segmentation"].supervision
