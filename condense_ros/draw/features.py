"""High-dimensional features as colours: their three main directions become red, green and blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import add_axes, new_figure, save, title
from condense_ros.errors import FrameError


def pca_colours(
    features: npt.ArrayLike, *, fit_rows: int = 20_000, fit: npt.ArrayLike | None = None
) -> npt.NDArray[np.uint8]:
    """Colours (..., 3) uint8 of features (..., C): like features get like colours.

    The first three principal components, each stretched between its 2nd and 98th percentile. Signs
    are fixed (the largest loading is positive), so the same features give the same colours.
    Non-finite rows are black.

    Args:
        fit_rows: components are computed from at most this many rows, evenly spaced.
        fit: features (..., C) that components and percentiles are taken from instead, so that
            several arrays share their colours.

    Raises:
        FrameError: no channel axis, no finite row, or `fit` of another length of features.
    """
    array = np.asarray(features, dtype=np.float64)
    if array.ndim < 2 or not array.shape[-1]:
        raise FrameError(f"features have shape {array.shape}", "give (..., channels)")
    rows = array.reshape(-1, array.shape[-1])
    finite = np.isfinite(rows).all(axis=1)
    if not finite.any():
        raise FrameError("no feature is finite", "check the network's output")
    usable = rows[finite]
    base = usable
    if fit is not None:
        given = np.asarray(fit, dtype=np.float64)
        if given.shape[-1] != array.shape[-1]:
            raise FrameError(
                f"features of {array.shape[-1]} channels, colours of {given.shape[-1]}",
                "give both of one network",
            )
        base = given.reshape(-1, given.shape[-1])
        base = base[np.isfinite(base).all(axis=1)]
        if not len(base):
            raise FrameError("no feature to take colours from is finite", "check the network")
    sample = base[:: max(1, -(-len(base) // fit_rows))]
    mean = sample.mean(axis=0)
    _, vectors = np.linalg.eigh((sample - mean).T @ (sample - mean))
    axes = vectors[:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])

    def scored(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        scores = np.zeros((len(rows), 3))
        scores[:, : axes.shape[1]] = (rows - mean) @ axes
        return scores

    scores = scored(usable)
    low, high = np.percentile(scores if fit is None else scored(base), [2, 98], axis=0)
    spread = high - low
    # a component without variance carries nothing: mid grey instead of amplified rounding noise
    flat = spread <= 1e-9 * max(float(spread.max()), 1e-30)
    scaled = np.where(flat, 0.5, (scores - low) / np.where(flat, 1.0, spread))
    out = np.zeros((len(rows), 3), np.uint8)
    out[finite] = np.round(np.clip(scaled, 0, 1) * 255)
    return out.reshape(*array.shape[:-1], 3)


def draw_features(
    pixels: npt.NDArray[np.uint8], features: npt.NDArray[np.floating], out: str | Path
) -> Path:
    """Draws an image beside its feature map in PCA colours.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        features: (h, w, C), of any resolution.
        out: where to write the picture.

    Raises:
        FrameError: features that are no map.
    """
    if features.ndim != 3:
        raise FrameError(f"feature map has shape {features.shape}", "give (h, w, channels)")
    width = 5.0
    figure = new_figure(2 * width, width * pixels.shape[0] / pixels.shape[1] + 0.35)
    left, right = add_axes(figure, 1, 2)
    left.imshow(pixels)
    title(left, "image")
    size = (-0.5, pixels.shape[1] - 0.5, pixels.shape[0] - 0.5, -0.5)
    right.imshow(pca_colours(features), extent=size, interpolation="nearest")
    title(right, f"features: 3 main directions of {features.shape[-1]}")
    for axes in (left, right):
        axes.set_axis_off()
    return save(figure, out)
