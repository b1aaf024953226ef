"""How well a segmentation head labels the points of test frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE, Frame, PointCloud
from condense_ros.models import Backbone, Checkpoint
from condense_training.evaluate.features import labels_of
from condense_training.evaluate.metrics import Confusion
from condense_training.threads import cpu_threads


class Segmenter:
    """A backbone and a head, for many clouds.

    Args:
        backbone, head: on the CPU, in eval mode from here on.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        self.backbone, self.head = backbone.eval(), head.eval()

    @torch.no_grad()
    def count(self, cloud: PointCloud, labels: npt.NDArray[np.uint8], confusion: Confusion) -> None:
        """Adds the labelled points in the backbone's range to a confusion matrix."""
        voxels = self.backbone.input.voxelize(cloud)
        inside = (voxels.inverse >= 0).numpy() & (labels != IGNORE)
        if not inside.any():
            return
        predicted = self.head(self.backbone(voxels)).argmax(1)
        confusion.add(labels[inside], predicted[voxels.inverse[inside]].numpy())

    def judge(
        self,
        frames: Iterable[Frame],
        classes: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Confusion:
        """Confusion over all labelled points in the backbone's range.

        Args:
            classes: K of the head.
            progress: gets the number of frames done, after each.

        Raises:
            TrainingError: no frames, or frames without labels of these classes.
        """
        confusion, count = Confusion(classes), 0
        with cpu_threads():
            for frame in frames:
                count += 1
                self.count(frame.cloud, labels_of(frame, classes), confusion)
                progress(count)
        if not count:
            raise TrainingError("no frame to evaluate on", "give test data")
        return confusion


def evaluate_segmentation(
    checkpoint: Checkpoint, frames: Iterable[Frame], head: str = "segmentation"
) -> Confusion:
    """`Segmenter.judge` of a checkpoint's backbone and its own head.

    Raises:
        CheckpointError: no such head.
        TrainingError: no frames, or frames without labels of the head's classes.
    """
    trained = checkpoint.build_head(head)
    segmenter = Segmenter(checkpoint.build_backbone(), trained)
    return segmenter.judge(frames, len(trained.info.ontology))
