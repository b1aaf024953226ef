"""Masks of instances become one label image: stuff first, things over it, the surest on top."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.errors import LabelError
from condense_ros.frame import IGNORE
from condense_training.labels.protocols import LabelImage


def fuse(
    masks: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.floating],
    class_ids: npt.NDArray[np.integer],
    things: npt.NDArray[np.bool_],
    *,
    min_area_px: int = 1,
) -> LabelImage:
    """Paints masks into one label image.

    Every pixel gets the class of the best thing that covers it, or else of the best stuff, or else
    none. Of equal scores the smaller mask wins (a rider on a motorcycle, a sign before a wall),
    then the earlier one. Otherwise the order in which masks come plays no part.

    Args:
        masks: (N, H, W) bool.
        scores: (N,) in 0..1; the pixel's confidence is that of the mask it belongs to.
        class_ids: (N,) rows of `things`.
        things: (K,) bool, which classes are things.
        min_area_px: smaller masks are left out.

    Returns:
        Labels and confidence; details: {"masks": painted, "small": left out}.

    Raises:
        LabelError: lengths differ, or a class that does not exist.
    """
    if masks.ndim != 3 or not len(masks) == len(scores) == len(class_ids):
        raise LabelError(
            f"masks {masks.shape}, {len(scores)} scores, {len(class_ids)} classes",
            "give (N, H, W) masks with one score and class each",
        )
    if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < len(things):
        raise LabelError(
            f"class ids reach from {class_ids.min()} to {class_ids.max()}",
            f"the ontology has {len(things)} classes",
        )
    labels = np.full(masks.shape[1:], IGNORE, np.uint8)
    confidence = np.zeros(masks.shape[1:], np.float32)
    areas = masks.sum(axis=(1, 2))
    rows = np.nonzero(areas >= max(1, min_area_px))[0]
    # painted last is on top; np.lexsort's last key is its first
    keys = (-rows, -areas[rows], scores[rows], things[class_ids[rows]])
    for row in rows[np.lexsort(keys)].tolist():
        labels[masks[row]] = class_ids[row]
        confidence[masks[row]] = scores[row]
    return LabelImage(
        labels, confidence, {"masks": len(rows), "small": int(len(masks) - len(rows))}
    )
