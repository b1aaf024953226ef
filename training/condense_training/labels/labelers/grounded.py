"""`GroundedLabeler`: any detector and any masker make a dense labeler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from condense_ros.errors import LabelError
from condense_training.labels.boxes import clip, suppress
from condense_training.labels.fusion import fuse
from condense_training.labels.images import SourceImage
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import Detector, LabelImage, Masker


class GroundedLabeler:
    """Boxes by text, masks by box, fused by score (Grounded-SAM, Ren et al. 2024).

    A mask's score is its box's class score times the masker's own estimate of the mask.

    Args:
        nms_iou: overlap of two boxes of a class above which the worse is left out.
        max_boxes: at most so many boxes, the best.
        min_area_px: smaller masks are left out.
    """

    def __init__(
        self,
        detector: Detector,
        masker: Masker,
        ontology: LabelOntology,
        *,
        nms_iou: float = 0.5,
        max_boxes: int = 300,
        min_area_px: int = 16,
    ) -> None:
        self.ontology = ontology
        self._detector, self._masker = detector, masker
        self._settings = {"nms_iou": nms_iou, "max_boxes": max_boxes, "min_area_px": min_area_px}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Detector, masker and the settings between them."""
        return {
            "detector": dict(self._detector.identity),
            "masker": dict(self._masker.identity),
            **self._settings,
        }

    def close(self) -> None:
        """Ends what detector and masker have started."""
        for part in (self._detector, self._masker):
            if hasattr(part, "close"):
                part.close()

    def label(self, image: SourceImage) -> LabelImage:
        """Labels of one image; no box at all is a valid answer: no class anywhere.

        Raises:
            LabelError: a network puts out NaN, or the masker loses a box.
        """
        height, width = image.pixels.shape[:2]
        found = self._detector.detect(image.pixels, self.ontology.prompts)
        found = suppress(clip(found, width, height), float(self._settings["nms_iou"]))
        found = found.select(np.arange(min(len(found), int(self._settings["max_boxes"]))))
        made = self._masker.segment(image.pixels, found.boxes)
        if made.masks.shape != (len(found), height, width):
            raise LabelError(
                f"masks {made.masks.shape} for {len(found)} boxes of a {height}x{width} image",
                "a masker returns one mask of the image's size per box",
            )
        scores = found.scores * made.scores
        fused = fuse(
            made.masks,
            scores,
            found.class_ids,
            self.ontology.things,
            min_area_px=int(self._settings["min_area_px"]),
        )
        detections = [
            {
                "class": self.ontology.classes[class_id].name,
                "score": round(float(score), 4),
                "mask_score": round(float(quality), 4),
                "box": [round(float(side), 1) for side in box],
            }
            for class_id, score, quality, box in zip(
                found.class_ids.tolist(), found.scores, made.scores, found.boxes, strict=True
            )
        ]
        details = {**fused.details, "detections": detections}
        return LabelImage(fused.labels, fused.confidence, details)
