"""Points of a plane, coloured by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import NIGHT_INK, add_axes, class_colours, new_figure, night, save
from condense_ros.draw.style import title as set_title
from condense_ros.errors import FrameError
from condense_ros.ontology import Ontology


def draw_scatter(
    places: npt.NDArray[np.floating],
    out: str | Path,
    *,
    labels: npt.NDArray[np.uint8] | None = None,
    ontology: Ontology | None = None,
    title: str = "",
) -> Path:
    """Draws places (n, 2) without axes, coloured by class where labels are given.

    Raises:
        FrameError: no places, or labels that do not fit them or come without an ontology.
    """
    from matplotlib.lines import Line2D

    if places.ndim != 2 or places.shape[1] != 2 or not len(places):
        raise FrameError(f"places have shape {places.shape}", "give (n, 2)")
    if labels is not None and (ontology is None or len(labels) != len(places)):
        raise FrameError(
            f"{len(labels)} labels for {len(places)} places", "give one each, and their ontology"
        )
    figure = new_figure(8.0, 6.0)
    (axes,) = add_axes(figure)
    night(axes)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = float(np.clip(1.4e4 / len(places), 8, 40))
    if labels is None or ontology is None:
        axes.scatter(*places.T, s=size, linewidths=0, c="#d9dee4")
    else:
        palette = np.full((256, 3), 0.35)
        palette[: len(ontology)] = class_colours(ontology)
        # rare classes on top
        counts = np.bincount(labels, minlength=256)
        order = np.argsort(-counts[labels], kind="stable")
        axes.scatter(*places[order].T, s=size, linewidths=0, c=palette[labels[order]])
        present = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
        marks = [
            Line2D([], [], marker="o", ls="", ms=7, mew=0, color=tuple(palette[k])) for k in present
        ]
        names = [
            ontology.names[k].replace("_", " ") if k < len(ontology) else "unlabelled"
            for k in present
        ]
        style = {"frameon": False, "labelcolor": NIGHT_INK, "handletextpad": 0.3}
        figure.legend(marks, names, loc="outside right center", **style)
    if title:
        set_title(axes, title, NIGHT_INK)
    return save(figure, out)
