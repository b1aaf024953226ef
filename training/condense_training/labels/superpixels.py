"""SLIC superpixels (Achanta et al., "SLIC Superpixels Compared to State-of-the-Art", 2012)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.config import parameter
from condense_ros.errors import LabelError
from condense_ros.sim.sensors.compiled import compiled


@dataclass(frozen=True)
class SlicConfig:
    """Defaults are those of SLidR's superpixels."""

    segments: int = parameter(150, "superpixels per image, about", low=1)
    compactness: float = parameter(6.0, "weight of distance against colour", low=0.01)
    blur_px: float = parameter(3.0, "the image is blurred by this first, pixels", low=0.0)
    iterations: int = parameter(10, "rounds of assignment", low=1)


def superpixels(
    pixels: npt.NDArray[np.uint8], config: SlicConfig | None = None
) -> npt.NDArray[np.int32]:
    """Cuts an image into connected pieces of like colour and about equal size.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        (H, W) int32 piece of every pixel, 0 .. n-1, numbered in reading order; n may differ from
        `config.segments` by some tens of percent.

    Raises:
        LabelError: no pixels.
    """
    config = config or SlicConfig()
    height, width = pixels.shape[:2]
    if not height or not width:
        raise LabelError(f"an image of {width}x{height} pixels", "give one that has pixels")
    lab = np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    if config.blur_px > 0:
        lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), config.blur_px), np.float32)
    step = max(1.0, float(np.sqrt(height * width / config.segments)))
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    centres = _seeds(lab, rows, columns)
    # distances in pixels and in Lab become comparable by this factor (equation 3 of the paper)
    weight = (config.compactness / step) ** 2
    assigned = _assign(lab, centres, step, weight, config.iterations)
    return _connect(assigned, max(1, int(step * step / 4)))


def _seeds(lab: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float64]:
    """(rows * columns, 5) centres (L, a, b, y, x) on a grid, moved off edges within 3x3 pixels."""
    height, width = lab.shape[:2]
    along = [
        sum(
            np.diff(lab, axis=axis, append=lab.take([-1], axis=axis))[..., k] ** 2 for k in range(3)
        )
        for axis in (0, 1)
    ]
    gradient = np.asarray(along[0] + along[1])
    centres = np.zeros((rows * columns, 5))
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        y = min(height - 1, int((row + 0.5) * height / rows))
        x = min(width - 1, int((column + 0.5) * width / columns))
        top, left = max(0, y - 1), max(0, x - 1)
        near = gradient[top : y + 2, left : x + 2]
        dy, dx = divmod(int(near.argmin()), near.shape[1])
        y, x = top + dy, left + dx
        centres[number] = (*lab[y, x], y, x)
    return centres


@compiled
def _assign(lab, centres, step, weight, iterations):  # type: ignore[no-untyped-def]
    """(H, W) int32 nearest centre of every pixel, centres searched within two steps."""
    height, width = lab.shape[:2]
    reach = int(np.ceil(step))
    count = len(centres)
    assigned = np.zeros((height, width), np.int32)
    distance = np.empty((height, width), np.float32)
    for _ in range(iterations):
        distance[:] = np.inf
        for k in range(count):
            cy, cx = centres[k, 3], centres[k, 4]
            y0, y1 = max(0, int(cy) - reach), min(height, int(cy) + reach + 1)
            x0, x1 = max(0, int(cx) - reach), min(width, int(cx) + reach + 1)
            for y in range(y0, y1):
                for x in range(x0, x1):
                    d = (
                        (lab[y, x, 0] - centres[k, 0]) ** 2
                        + (lab[y, x, 1] - centres[k, 1]) ** 2
                        + (lab[y, x, 2] - centres[k, 2]) ** 2
                        + weight * ((y - cy) ** 2 + (x - cx) ** 2)
                    )
                    if d < distance[y, x]:
                        distance[y, x] = d
                        assigned[y, x] = k
        sums = np.zeros((count, 5))
        sizes = np.zeros(count)
        for y in range(height):
            for x in range(width):
                k = assigned[y, x]
                sizes[k] += 1
                for c in range(3):
                    sums[k, c] += lab[y, x, c]
                sums[k, 3] += y
                sums[k, 4] += x
        for k in range(count):
            if sizes[k] > 0:
                centres[k] = sums[k] / sizes[k]
    return assigned


@compiled
def _connect(assigned, min_size):  # type: ignore[no-untyped-def]
    """Pieces made connected and renumbered; those smaller than `min_size` join the one before."""
    height, width = assigned.shape
    out = np.full((height, width), -1, np.int32)
    queue = np.empty((height * width, 2), np.int32)
    number = 0
    for y in range(height):
        for x in range(width):
            if out[y, x] >= 0:
                continue
            label, before = assigned[y, x], -1
            if x > 0:
                before = out[y, x - 1]
            elif y > 0:
                before = out[y - 1, x]
            out[y, x] = number
            queue[0, 0], queue[0, 1] = y, x
            head, tail = 0, 1
            while head < tail:
                cy, cx = queue[head]
                head += 1
                for d in range(4):
                    ny = cy + (1, -1, 0, 0)[d]
                    nx = cx + (0, 0, 1, -1)[d]
                    inside = 0 <= ny < height and 0 <= nx < width
                    if inside and out[ny, nx] < 0 and assigned[ny, nx] == label:
                        out[ny, nx] = number
                        queue[tail, 0], queue[tail, 1] = ny, nx
                        tail += 1
            if tail < min_size and before >= 0:
                for i in range(tail):
                    out[queue[i, 0], queue[i, 1]] = before
            else:
                number += 1
    return out
