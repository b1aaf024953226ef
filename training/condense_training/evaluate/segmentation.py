"""How well a checkpoint's own segmentation head labels the points of test frames."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_ros.models import Checkpoint
from condense_training.evaluate.features import labels_of
from condense_training.evaluate.metrics import Confusion
from condense_training.threads import cpu_threads


@torch.no_grad()
def evaluate_segmentation(
    checkpoint: Checkpoint, frames: Iterable[Frame], head: str = "segmentation"
) -> Confusion:
    """Confusion over all labelled points in the backbone's range.

    Raises:
        CheckpointError: no such head.
        TrainingError: no frames, or frames without labels of the head's classes.
    """
    backbone, linear = checkpoint.build_backbone(), checkpoint.build_head(head)
    classes = len(linear.info.ontology)
    confusion, count = Confusion(classes), 0
    with cpu_threads():
        for frame in frames:
            count += 1
            labels = labels_of(frame, classes)
            voxels = backbone.input.voxelize(frame.cloud)
            predicted = linear(backbone(voxels)).argmax(1)
            inside = (voxels.inverse >= 0).numpy() & (labels != IGNORE)
            confusion.add(labels[inside], predicted[voxels.inverse[inside]].numpy())
    if not count:
        raise TrainingError("no frame to evaluate on", "give test data")
    return confusion
