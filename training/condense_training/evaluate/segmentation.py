"""How well a checkpoint's own segmentation head labels the points of test frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE, Frame, PointCloud
from condense_ros.models import Checkpoint
from condense_training.evaluate.features import labels_of
from condense_training.evaluate.metrics import Confusion
from condense_training.threads import cpu_threads


class Segmenter:
    """A checkpoint's backbone and one of its heads, built once for many clouds.

    Raises:
        CheckpointError: no such head.
    """

    def __init__(self, checkpoint: Checkpoint, head: str = "segmentation") -> None:
        self.backbone, self.head = checkpoint.build_backbone(), checkpoint.build_head(head)
        self.ontology = self.head.info.ontology

    @torch.no_grad()
    def count(self, cloud: PointCloud, labels: npt.NDArray[np.uint8], confusion: Confusion) -> None:
        """Adds the labelled points in the backbone's range to a confusion matrix."""
        voxels = self.backbone.input.voxelize(cloud)
        inside = (voxels.inverse >= 0).numpy() & (labels != IGNORE)
        if not inside.any():
            return
        predicted = self.head(self.backbone(voxels)).argmax(1)
        confusion.add(labels[inside], predicted[voxels.inverse[inside]].numpy())


def evaluate_segmentation(
    checkpoint: Checkpoint, frames: Iterable[Frame], head: str = "segmentation"
) -> Confusion:
    """Confusion over all labelled points in the backbone's range.

    Raises:
        CheckpointError: no such head.
        TrainingError: no frames, or frames without labels of the head's classes.
    """
    segmenter = Segmenter(checkpoint, head)
    classes = len(segmenter.ontology)
    confusion, count = Confusion(classes), 0
    with cpu_threads():
        for frame in frames:
            count += 1
            segmenter.count(frame.cloud, labels_of(frame, classes), confusion)
    if not count:
        raise TrainingError("no frame to evaluate on", "give test data")
    return confusion
