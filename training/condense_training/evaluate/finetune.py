"""Few labels on top of a backbone: fine-tuning and the linear probe as papers train them.

A new linear head is trained with the trunk (fine-tuning) or on the frozen trunk in eval mode
(probe), by cross-entropy plus Lovász-softmax over voxels; clouds are turned and mirrored, nothing
else. Metrics count points. The probe of `evaluate.probe` is the quicker, convex one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, TrainingError
from condense_ros.models import Backbone
from condense_ros.ontology import Ontology
from condense_training.evaluate.metrics import Confusion
from condense_training.evaluate.segmentation import Segmenter
from condense_training.frames import FrameSource
from condense_training.recipe import Parts, Recipe, Stage
from condense_training.recipes import supervised
from condense_training.schedules import build_schedule
from condense_training.threads import cpu_threads
from condense_training.trainer import StepRecord, TrainerConfig, train

MODES = ("finetune", "probe")


@dataclass(frozen=True)
class FinetuneConfig:
    """How a labelled share of the data is learned from; defaults are OLIVINE's on nuScenes."""

    mode: str = parameter("finetune", "finetune (trunk and head) or probe (head alone)")
    fraction: float = parameter(
        1.0, "share of the labels: every round(1/fraction)-th frame, or scene", low=1e-6, high=1.0
    )
    epochs: int = parameter(50, "passes over that share", low=1)
    steps: int = parameter(0, "optimiser steps instead of epochs; 0: epochs", low=0)
    batch: int = parameter(16, "clouds per step", low=1)
    optimiser: str = parameter("sgd", "sgd (momentum 0.9, dampening 0.1) or adamw")
    lr: float = parameter(0.02, "learning rate of the trunk", low=0.0)
    head_lr: float = parameter(2.0, "learning rate of the head", low=0.0)
    weight_decay: float = parameter(1e-4, "weight decay", low=0.0)
    schedule: str = parameter("cosine_annealing", "exponential, cosine or cosine_annealing")
    lovasz: float = parameter(1.0, "weight of Lovász-softmax beside cross-entropy", low=0.0)
    bn_momentum: float = parameter(
        0.02, "of the trunk's batch norms in fine-tuning", low=0.0, high=1.0
    )


_PROBE = FinetuneConfig(mode="probe", head_lr=0.05)
#: published settings, section 7 of the paper and its released configurations
PRESETS: dict[str, FinetuneConfig] = {
    "nuscenes": FinetuneConfig(),
    "nuscenes_1": FinetuneConfig(fraction=0.01, epochs=100),
    "nuscenes_5": FinetuneConfig(fraction=0.05),
    "nuscenes_10": FinetuneConfig(fraction=0.1),
    "nuscenes_25": FinetuneConfig(fraction=0.25),
    "nuscenes_probe": _PROBE,
    "semantickitti": FinetuneConfig(lr=0.05, batch=10),
    "semantickitti_1": FinetuneConfig(lr=0.05, batch=10, fraction=0.01, epochs=100),
    "semantickitti_5": FinetuneConfig(lr=0.05, batch=10, fraction=0.05),
    "semantickitti_10": FinetuneConfig(lr=0.05, batch=10, fraction=0.1),
    "semantickitti_20": FinetuneConfig(lr=0.05, batch=10, fraction=0.2),
    "scribblekitti": FinetuneConfig(lr=0.05, batch=10, epochs=100),
    "semanticstf": FinetuneConfig(lr=0.05, batch=10, epochs=100),
    "rellis3d": FinetuneConfig(lr=0.05, batch=10, epochs=100),
    "rellis3d_1": FinetuneConfig(lr=0.05, batch=2, epochs=100, fraction=0.01),
    "daps3d": FinetuneConfig(lr=0.05, head_lr=0.2, batch=2, epochs=100),
    # minutes on two CPU cores
    "demo": FinetuneConfig(
        steps=100, batch=2, optimiser="adamw", lr=2e-3, head_lr=2e-2, bn_momentum=0.1
    ),
    "demo_probe": FinetuneConfig(
        mode="probe", steps=100, batch=2, optimiser="adamw", head_lr=2e-2, bn_momentum=0.1
    ),
}


def check(config: FinetuneConfig) -> None:
    """Refuses values that do not fit together (ConfigError)."""
    if config.mode not in MODES:
        raise ConfigError(f"FinetuneConfig.mode is {config.mode!r}", f"use {' or '.join(MODES)}")
    if config.optimiser not in ("sgd", "adamw"):
        raise ConfigError(f"unknown optimiser {config.optimiser!r}", "use sgd or adamw")


def steps_of(config: FinetuneConfig, frames: int) -> int:
    """Optimiser steps over `frames` labelled frames."""
    return config.steps or max(1, config.epochs * frames // config.batch)


def _optimiser(config: FinetuneConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Groups of their own for trunk and head; the head is the last part, a weight and a bias."""
    trunk, head = parameters[:-2], parameters[-2:]
    groups: list[dict[str, Any]] = [{"params": head, "lr": config.head_lr}]
    if trunk:
        groups.insert(0, {"params": trunk, "lr": config.lr})
    decay = config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=0.9, dampening=0.1, weight_decay=decay
        )
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=decay)


def build_recipe(
    config: FinetuneConfig,
    backbone: Callable[[], Backbone],
    origin: str,
    classes: int,
    frames: int,
) -> Recipe:
    """One stage over the parts "backbone" and "head".

    Args:
        backbone: makes the network to start from; called after the random generator was seeded.
        origin: names its weights (a hash, or "random"); another one forbids resuming.
        classes: K of the data's ontology.
        frames: labelled frames that will be learned from.
    """
    check(config)
    # turned and mirrored at its own size, and not tilted
    augmentation = supervised.SupervisedConfig(
        classes=classes, lovasz=config.lovasz, tilt_deg=0.0, scale=0.0
    )
    spec = backbone().input
    finetune = config.mode == "finetune"

    def build() -> Parts:
        trunk = backbone()
        for module in trunk.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = config.bn_momentum
        head = nn.Linear(trunk.out_channels, classes)
        return nn.ModuleDict({"backbone": trunk, "head": head})

    steps = steps_of(config, frames)
    stage = Stage(
        name=config.mode,
        steps=steps,
        batch_size=min(config.batch, frames),
        trainable=("backbone", "head") if finetune else ("head",),
        frozen=() if finetune else ("backbone",),
        sample=partial(supervised.sample, augmentation, spec),
        collate=supervised.collate,
        loss=partial(supervised.loss, augmentation),
        optimiser=partial(_optimiser, config),
        schedule=build_schedule(config.schedule, steps),
    )
    return Recipe(
        "finetune",
        {**asdict(config), "origin": origin, "classes": classes},
        build,
        (stage,),
        backbone="backbone",
        supervision=f"{frames} labelled frames",
        head="head",
    )


def same_classes(train: FrameSource, test: FrameSource) -> Ontology:
    """The ontology of both.

    Raises:
        TrainingError: a source without labels, or different classes.
    """
    if train.classes is None or train.classes != test.classes:
        raise TrainingError(
            "data without labels, or with different classes for training and test",
            "give data sets with the same ontology, for example simulated worlds, or read both "
            "with the same label map",
        )
    return train.classes


def finetune(
    backbone: Callable[[], Backbone],
    origin: str,
    train_frames: FrameSource,
    test: FrameSource,
    out: Path,
    config: FinetuneConfig,
    trainer: TrainerConfig,
    *,
    resume: bool = True,
    on_step: Callable[[StepRecord], None] | None = None,
    console: Console | None = None,
) -> tuple[Parts, Confusion]:
    """Trains on exactly `train_frames` (choose a fraction before) and is judged on `test`.

    Resumes the run in `out` as `condense_training.train` does.

    Returns:
        The parts "backbone" and "head", in eval mode, and the confusion on `test`.

    Raises:
        ConfigError, DatasetError, TrainingError, StorageFull, KeyboardInterrupt.
    """
    classes = len(same_classes(train_frames, test))
    recipe = build_recipe(config, backbone, origin, classes, len(train_frames))
    with cpu_threads(trainer.threads):
        result = train(
            recipe, train_frames, out, trainer, resume=resume, on_step=on_step, console=console
        )
    # clouds are read on the CPU, wherever the network was trained
    parts = result.parts.cpu()
    segmenter = Segmenter(cast(Backbone, parts["backbone"]), parts["head"])
    with judging(console, trainer.progress, len(test)) as progress:
        frames = (test[number] for number in range(len(test)))
        return parts, segmenter.judge(frames, classes, progress)


@contextmanager
def judging(console: Console | None, shown: bool, frames: int) -> Iterator[Callable[[int], None]]:
    """Shows how many of the test frames are done."""
    with Progress(console=console or Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("judged on test frames", total=frames)
        yield lambda done: bar.update(task, completed=done)
