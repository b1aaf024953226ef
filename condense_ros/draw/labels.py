"""Label images over their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import NIGHT, NIGHT_INK, add_axes, class_colours, new_figure, save
from condense_ros.errors import FrameError
from condense_ros.ontology import Ontology


def label_colours(
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    ontology: Ontology,
    *,
    confidence: npt.NDArray[np.floating] | None = None,
    strength: float = 0.6,
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) image tinted by class, outlines between classes.

    Args:
        pixels: (H, W, 3) uint8 RGB; where there is no class it stays grey.
        labels: (H, W) uint8 ids, 255 = none.
        confidence: (H, W) in 0..1, fades the tint.

    Raises:
        FrameError: sizes that differ.
    """
    if labels.shape != pixels.shape[:2] or (
        confidence is not None and confidence.shape != labels.shape
    ):
        raise FrameError(
            f"labels are {labels.shape}, the image {pixels.shape[:2]}", "give arrays of one size"
        )
    grey = (pixels @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=2)
    table = np.zeros((256, 3))
    table[: len(ontology)] = class_colours(ontology) * 255
    known = labels < len(ontology)
    weight = np.where(known, strength, 0.0)
    if confidence is not None:
        weight = weight * (0.35 + 0.65 * np.clip(confidence, 0, 1))
    out = grey + weight[..., None] * (table[labels] - grey)
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    out[edge] = 0.4 * out[edge] + 0.6 * np.where(known[edge], 255, 60)[:, None]
    return np.rint(out).clip(0, 255).astype(np.uint8)


def draw_labels(
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    ontology: Ontology,
    out: str | Path,
    *,
    confidence: npt.NDArray[np.floating] | None = None,
    title: str = "",
) -> Path:
    """Draws an image tinted by class, with the names of the largest classes below.

    Raises:
        FrameError: sizes that differ.
    """
    from matplotlib.lines import Line2D

    tinted = label_colours(pixels, labels, ontology, confidence=confidence)
    width = 10.0
    tall = width * pixels.shape[0] / pixels.shape[1]
    counts = np.bincount(labels.ravel(), minlength=256)[: len(ontology)]
    shown = [k for k in np.argsort(-counts, kind="stable").tolist()[:18] if counts[k]]
    rows = -(-len(shown) // 6)
    height = tall + 0.25 * rows + 0.15
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    figure.set_facecolor(NIGHT)
    (axes,) = add_axes(figure)
    axes.set_axis_off()
    axes.set_position((0, 1 - tall / height, 1, tall / height))
    axes.imshow(tinted, interpolation="bilinear", aspect="auto")
    if title:
        box = {"facecolor": NIGHT, "alpha": 0.7, "edgecolor": "none", "pad": 2.5}
        place = {"transform": axes.transAxes, "va": "top", "fontsize": 9}
        axes.text(0.008, 0.97, title, color="white", bbox=box, **place)
    colours = class_colours(ontology)
    marks = [Line2D([], [], marker="s", ls="", ms=7, mew=0, color=tuple(colours[k])) for k in shown]
    names = [
        f"{ontology.names[k].replace('_', ' ')} {100 * counts[k] / labels.size:.0f} %"
        for k in shown
    ]
    if marks:
        style = {"frameon": False, "fontsize": 9, "labelcolor": NIGHT_INK, "handletextpad": 0.2}
        figure.legend(marks, names, loc="lower center", ncols=min(6, len(marks)), **style)
    return save(figure, out)
