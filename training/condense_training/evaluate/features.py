"""Frozen backbone features of labelled points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_ros.models import Backbone


@dataclass(frozen=True, eq=False)
class LabelledVoxels:
    """Voxels of one cloud with features, and how many points of each class they hold.

    Attributes:
        features: (M, C) float32, frozen.
        votes: (M, K) int64 labelled points per class.
    """

    features: Tensor
    votes: Tensor


def labels_of(frame: Frame, classes: int) -> npt.NDArray[np.uint8]:
    """The frame's labels.

    Raises:
        TrainingError: the frame has none, or has a class outside 0..classes-1.
    """
    name = f"frame {frame.index} of {frame.sequence!r}"
    if frame.labels is None:
        raise TrainingError(f"{name} has no labels", "give labelled data, for example simulated")
    known = frame.labels[frame.labels != IGNORE]
    if len(known) and known.max() >= classes:
        raise TrainingError(
            f"{name} has label {known.max()} where there are {classes} classes",
            "give the ontology the labels were made with",
        )
    return frame.labels


@torch.no_grad()
def labelled_voxels(backbone: Backbone, frame: Frame, classes: int) -> LabelledVoxels:
    """Runs the backbone on one frame, in eval mode; points out of range have no voxel."""
    labels = torch.from_numpy(labels_of(frame, classes).astype(np.int64))
    voxels = backbone.input.voxelize(frame.cloud)
    backbone.eval()
    features = backbone(voxels)
    counted = (labels != IGNORE) & (voxels.inverse >= 0)
    flat = voxels.inverse[counted] * classes + labels[counted]
    votes = torch.bincount(flat, minlength=len(features) * classes)
    return LabelledVoxels(features, votes.view(len(features), classes))


def sample_points(
    clouds: Iterable[LabelledVoxels], points_per_cloud: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random labelled points: (n, C) features and (n,) classes, each point as likely as another.

    Clouds are taken one at a time, so an iterator that makes them needs the memory of one.

    Raises:
        TrainingError: no labelled point within range in any cloud.
    """
    features, classes = [], []
    for cloud in clouds:
        voxel, label = cloud.votes.nonzero(as_tuple=True)
        counts = cloud.votes[voxel, label]
        total = int(counts.sum())
        if total == 0:
            continue
        picked = torch.randperm(total, generator=generator)[:points_per_cloud]
        rows = torch.searchsorted(counts.cumsum(0), picked, right=True)
        features.append(cloud.features[voxel[rows]])
        classes.append(label[rows])
    if not features:
        raise TrainingError(
            "no labelled point within range in any frame", "give frames with labels"
        )
    return torch.cat(features), torch.cat(classes)
