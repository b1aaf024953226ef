"""What a labeler is made of: detectors, maskers, dense labelers, and what they hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from condense_ros.errors import LabelError
from condense_training.labels.images import SourceImage
from condense_training.labels.ontology import LabelOntology, Prompt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes found in one image.

    Attributes:
        boxes: (N, 4) float32 pixels, left, top, right, bottom.
        scores: (N,) float32 in 0..1.
        class_ids: (N,) int64.

    Raises:
        LabelError: lengths differ, or a value is not finite.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.scores), 4) or len(self.class_ids) != len(self.scores):
            raise LabelError(
                f"{self.boxes.shape} boxes, {len(self.scores)} scores, {len(self.class_ids)} ids",
                "a detector returns one of each per box",
            )
        check_finite("boxes", self.boxes)
        check_finite("box scores", self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: npt.NDArray[Any]) -> Detections:
        """Some of them, by mask or indices."""
        return Detections(self.boxes[rows], self.scores[rows], self.class_ids[rows])


@dataclass(frozen=True, eq=False)
class Masks:
    """What is inside each box.

    Attributes:
        masks: (N, H, W) bool, at the image's own resolution.
        scores: (N,) float32 in 0..1, how good the model thinks each mask is.
    """

    masks: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelImage:
    """The class of every pixel.

    Attributes:
        labels: (H, W) uint8 class ids, 255 = none.
        confidence: (H, W) float32 in 0..1, 0 where there is no class.
        details: JSON values worth keeping (boxes, scores, counts).

    Raises:
        LabelError: shapes differ, or confidences are no numbers in 0..1.
    """

    labels: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = self.labels.shape, self.confidence.shape
        if self.labels.ndim != 2 or shapes[0] != shapes[1] or self.labels.dtype != np.uint8:
            raise LabelError(
                f"labels {self.labels.dtype} {shapes[0]}, confidence {shapes[1]}",
                "a labeler returns two (H, W) arrays, labels as uint8",
            )
        check_finite("confidences", self.confidence)
        if self.confidence.size and not 0 <= self.confidence.min() <= self.confidence.max() <= 1:
            raise LabelError(
                f"confidences reach from {self.confidence.min()} to {self.confidence.max()}",
                "a labeler returns confidences in 0..1",
            )


def check_finite(what: str, values: npt.NDArray[Any]) -> None:
    """Raises LabelError where a model has put out NaN or infinity."""
    if not np.isfinite(values).all():
        raise LabelError(
            f"{np.count_nonzero(~np.isfinite(values))} {what} are not finite",
            "use float32 (-p dtype=float32), and check the weights",
        )


@runtime_checkable
class Detector(Protocol):
    """Finds boxes by text. `identity`: all that its boxes depend on, as JSON values."""

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def detect(self, pixels: Pixels, prompts: Sequence[Prompt]) -> Detections:
        """Boxes in an (H, W, 3) uint8 RGB image, each with the class it fits best."""
        ...


@runtime_checkable
class Masker(Protocol):
    """Finds the pixels of what is in a box."""

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def segment(self, pixels: Pixels, boxes: npt.NDArray[np.float32]) -> Masks:
        """One mask for each of (N, 4) boxes in pixels, in the same order."""
        ...


@runtime_checkable
class DenseLabeler(Protocol):
    """Gives every pixel a class of `ontology`, or none.

    `identity` holds, as JSON values, all that labels depend on beside image and ontology: settings,
    hashes of weights. Equal identity, image and ontology mean equal labels, so nothing is labelled
    twice.
    """

    @property
    def ontology(self) -> LabelOntology: ...

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def label(self, image: SourceImage) -> LabelImage:
        """Labels of one image.

        Raises:
            LabelError: this image cannot be labelled; others may.
        """
        ...
