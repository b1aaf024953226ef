"""Supervised segmentation from labelled clouds: what a backbone learns when it is told the answer.

The upper end that self-supervised recipes are measured against, and the check that data can be
learned from at all. Cross-entropy plus Lovász-softmax, as the fine-tuning of most 3D segmentation
papers does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from condense_ros.config import parameter
from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_ros.models import Backbone, InputSpec, build_backbone, preset
from condense_training.augment import CloudAugmentation, augment_cloud
from condense_training.clouds import cloud_arrays, stack_clouds, voxels_of
from condense_training.losses import lovasz_softmax
from condense_training.optimisers import build_optimiser
from condense_training.recipe import Batch, Parts, Recipe, Sample, Stage
from condense_training.schedules import build_schedule


@dataclass(frozen=True)
class SupervisedConfig:
    """Parameters of supervised training."""

    classes: int = parameter(16, "classes of the data set's ontology", low=2, high=254)
    backbone: str = parameter("unet14", "name of the backbone preset")
    voxel_size_m: float = parameter(0.1, "voxel edge, metres", low=0.005)
    max_range_m: float = parameter(60.0, "points farther away are left out, metres", low=1.0)
    inputs: tuple[str, ...] = parameter(
        ("one", "height", "intensity"), "input features of the backbone"
    )
    intensity_scale: float = parameter(1.0, "intensity of the brightest return", low=1e-6)
    steps: int = parameter(20000, "optimiser steps", low=1)
    batch: int = parameter(4, "clouds per step", low=1)
    optimiser: str = parameter("adamw", "sgd or adamw")
    lr: float = parameter(3e-3, "learning rate", low=0.0)
    weight_decay: float = parameter(0.01, "weight decay", low=0.0)
    schedule: str = parameter("cosine", "exponential or cosine")
    lovasz: float = parameter(1.0, "weight of Lovász-softmax beside cross-entropy", low=0.0)
    tilt_deg: float = parameter(2.0, "largest random roll and pitch of a cloud", low=0.0, high=90)
    scale: float = parameter(0.05, "largest random change of size, share", low=0.0, high=0.9)


PRESETS: dict[str, SupervisedConfig] = {
    "paper": SupervisedConfig(),
    "demo": SupervisedConfig(
        backbone="demo", voxel_size_m=0.15, max_range_m=40.0, steps=1500, batch=2, lr=5e-3
    ),
    "quick": SupervisedConfig(
        backbone="demo", voxel_size_m=0.3, max_range_m=30.0, steps=60, batch=2, lr=5e-3
    ),
}


def sample(
    config: SupervisedConfig, spec: InputSpec, frame: Frame, rng: np.random.Generator
) -> Sample | None:
    """An augmented, voxelised cloud and the label most of each voxel's points carry."""
    if frame.labels is None:
        raise TrainingError(
            f"frame {frame.index} of {frame.sequence!r} has no labels",
            "give labelled data, for example simulated",
        )
    how = CloudAugmentation(
        scale=(1 - config.scale, 1 + config.scale), tilt_rad=float(np.radians(config.tilt_deg))
    )
    voxels = spec.voxelize(augment_cloud(frame.cloud, rng, how))
    row = voxels.inverse.numpy()
    known = (row >= 0) & (frame.labels != IGNORE)
    if not known.any():
        return None
    labels = frame.labels[known].astype(np.int64)
    if labels.max() >= config.classes:
        raise TrainingError(
            f"frame {frame.index} of {frame.sequence!r} has label {labels.max()} where there are "
            f"{config.classes} classes",
            "set the recipe's parameter classes to the size of the data's ontology",
        )
    votes = np.bincount(
        row[known] * config.classes + labels, minlength=len(voxels.coords) * config.classes
    ).reshape(-1, config.classes)
    winner = np.where(votes.any(axis=1), votes.argmax(axis=1), IGNORE)
    return {
        **cloud_arrays(voxels),
        "labels": winner,
    }


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks clouds; the batch number is the first coordinate."""
    return {
        **stack_clouds(samples),
        "labels": torch.from_numpy(np.concatenate([one["labels"] for one in samples])),
    }


def loss(config: SupervisedConfig, parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy over voxels, plus Lovász-softmax."""
    backbone = cast(Backbone, parts["backbone"])
    clouds = int(batch["coords"][:, 0].max()) + 1
    logits = parts["head"](backbone(voxels_of(batch, backbone.input, clouds)))
    labels = batch["labels"]
    value = functional.cross_entropy(logits, labels, ignore_index=IGNORE)
    if config.lovasz:
        value = value + config.lovasz * lovasz_softmax(logits, labels)
    with torch.no_grad():
        known = labels != IGNORE
        right = float((logits.argmax(1)[known] == labels[known]).float().mean())
    return value, {"accuracy": right, "voxels": len(labels) / clouds}


def build_recipe(config: SupervisedConfig) -> Recipe:
    """One stage over the parts "backbone" and "head".

    Raises:
        ConfigError: an unknown backbone, optimiser or schedule.
    """
    given = InputSpec(
        voxel_size_m=config.voxel_size_m,
        max_range_m=config.max_range_m,
        features=config.inputs,
        intensity_scale=config.intensity_scale,
    )
    # a network with a box of its own limits what it is shown
    spec = preset(config.backbone, given).input

    def build() -> Parts:
        backbone = build_backbone(config.backbone, spec)
        head = nn.Linear(backbone.out_channels, config.classes)
        return nn.ModuleDict({"backbone": backbone, "head": head})

    stage = Stage(
        name="supervised segmentation",
        steps=config.steps,
        batch_size=config.batch,
        trainable=("backbone", "head"),
        frozen=(),
        sample=partial(sample, config, spec),
        collate=collate,
        loss=partial(loss, config),
        optimiser=partial(build_optimiser, config.optimiser, config.lr, config.weight_decay),
        schedule=build_schedule(config.schedule, config.steps),
    )
    return Recipe(
        "supervised",
        asdict(config),
        build,
        (stage,),
        backbone="backbone",
        supervision="labels of every point",
        head="head",
    )
