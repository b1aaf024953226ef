"""Boxes in images: overlap, suppression of repeated ones, clipping."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_training.labels.protocols import Detections

Floats = npt.NDArray[np.floating]


def box_iou(first: Floats, second: Floats) -> npt.NDArray[np.float64]:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes; 0 for boxes without area."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = size.clip(0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(0).prod(axis=-1) for box in (a, b)]
    union = areas[0] + areas[1] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def suppress(found: Detections, iou: float) -> Detections:
    """Non-maximum suppression within each class, best first.

    A box is left out where a better one of its class overlaps it by more than `iou`. Boxes of
    different classes stay: which of them a pixel belongs to, fusion decides.
    """
    order = np.argsort(-found.scores, kind="stable")
    overlap = box_iou(found.boxes, found.boxes) > iou
    same = found.class_ids[:, None] == found.class_ids[None]
    kept: list[int] = []
    for row in order.tolist():
        if not (overlap[row, kept] & same[row, kept]).any():
            kept.append(row)
    return found.select(np.array(kept, np.int64))


def clip(found: Detections, width: int, height: int) -> Detections:
    """Boxes cut off at the border of the image; those with less than a pixel left are dropped."""
    boxes = found.boxes.copy()
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
    kept = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)
    return Detections(boxes, found.scores, found.class_ids).select(np.asarray(kept))
