"""Segmentation metrics from a confusion matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE


class Confusion:
    """Counts of (truth, prediction) over any number of clouds.

    Attributes:
        counts: (K, K) int64, rows truth, columns prediction.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]) -> None:
        """Counts points; those whose truth is `IGNORE` are left out.

        Raises:
            TrainingError: lengths that differ, or a class that does not exist.
        """
        truth, prediction = np.asarray(truth, np.int64), np.asarray(prediction, np.int64)
        if truth.shape != prediction.shape:
            raise TrainingError(
                f"{prediction.shape} predictions for {truth.shape} labels", "predict every point"
            )
        kept = truth != IGNORE
        truth, prediction = truth[kept], prediction[kept]
        classes = len(self.counts)
        for name, values in (("label", truth), ("prediction", prediction)):
            if len(values) and not (values.min() >= 0 and values.max() < classes):
                raise TrainingError(
                    f"{name} {values.max()} where there are {classes} classes",
                    "use the ontology the labels were made with",
                )
        flat = np.bincount(truth * classes + prediction, minlength=classes * classes)
        self.counts += flat.reshape(classes, classes)

    def iou(self) -> npt.NDArray[np.float64]:
        """(K,) intersection over union; NaN for classes without a point of truth."""
        hit = np.diag(self.counts).astype(np.float64)
        truth, predicted = self.counts.sum(1), self.counts.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(truth > 0, hit / (truth + predicted - hit), np.nan)

    def miou(self) -> float:
        """Mean IoU over the classes present in the truth; NaN where there is none."""
        values = self.iou()
        present = values[~np.isnan(values)]
        return float(present.mean()) if len(present) else float("nan")

    def miou_absent_is_one(self) -> float:
        """Mean IoU where a class with neither truth nor prediction counts as 1, as the code of
        SLidR and OLIVINE has it; one that is only predicted counts as 0. For comparison only."""
        union = self.counts.sum(1) + self.counts.sum(0) - np.diag(self.counts)
        return float(np.where(union > 0, np.diag(self.counts) / np.maximum(union, 1), 1.0).mean())

    def accuracy(self) -> float:
        """Share of points that are right; NaN where there is no point."""
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else float("nan")
