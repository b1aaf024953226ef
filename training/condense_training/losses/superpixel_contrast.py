"""Contrast between the mean features of image segments in 3D and 2D (SLidR).

C. Sautier et al., "Image-to-Lidar Self-Supervised Distillation for Autonomous Driving Data", CVPR
2022, eqs. 1-3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condense_ros.errors import TrainingError
from condense_training.distributed import any_of
from condense_training.losses.info_nce import info_nce
from condense_training.losses.inputs import check_labels, full_precision


def segment_means(features: Tensor, segments: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean feature (count, C) of each segment, zero where it has no row, and its rows (count,).
    Sums are in float32 (float64 stays float64).

    Args:
        features: (n, C).
        segments: (n,) int64 in 0 .. count - 1; negative rows belong to none.
    """
    inside = segments >= 0
    rows, segments = features[inside], segments[inside]
    rows = rows if rows.dtype == torch.float64 else rows.float()
    sums = rows.new_zeros(count, features.shape[1]).index_add(0, segments, rows)
    counts = torch.bincount(segments, minlength=count)
    return sums / counts.clamp(min=1)[:, None].to(sums.dtype), counts


@full_precision
def superpixel_contrast(
    points: Tensor,
    point_segments: Tensor,
    pixels: Tensor,
    pixel_segments: Tensor,
    *,
    temperature: float,
    negatives: str = "per_rank",
) -> Tensor:
    """InfoNCE from the mean over a segment's points to the mean over its pixels, against all other
    segments of the batch.

    Args:
        points: (n, C) features of points that cameras see (a point once per camera).
        point_segments: (n,) int64 segment of each, counted through the batch's images; -1: none.
        pixels: (m, C) features of pixels.
        pixel_segments: (m,) int64, the same numbers.
        negatives: segments of this process, or of all: as of `info_nce`.

    Returns:
        Scalar, the mean over the segments that have both points and pixels.

    Raises:
        TrainingError: shapes that do not fit, or no segment with both.
    """
    check_labels("superpixel contrast", point_segments, len(points))
    check_labels("superpixel contrast", pixel_segments, len(pixels))
    sizes = [int(s.max()) + 1 for s in (point_segments, pixel_segments) if len(s)]
    count = max(sizes, default=0)
    queries, seen_3d = segment_means(points, point_segments, count)
    keys, seen_2d = segment_means(pixels, pixel_segments, count)
    both = (seen_3d > 0) & (seen_2d > 0)
    if not any_of(bool(both.any())):  # one of several processes may have none
        raise TrainingError(
            "no segment has points as well as pixels",
            "check that segments of both sides are numbered alike",
        )
    return info_nce(queries[both], keys[both], temperature=temperature, negatives=negatives)
