"""A cloud from above, coloured by class, by given colours or by height."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import (
    NIGHT_GRID,
    NIGHT_INK,
    add_axes,
    class_colours,
    new_figure,
    night,
    ramp,
    save,
)
from condense_ros.draw.style import title as set_title
from condense_ros.errors import FrameError
from condense_ros.frame import PointCloud
from condense_ros.ontology import Ontology


def draw_bird_view(
    cloud: PointCloud,
    out: str | Path,
    *,
    labels: npt.NDArray[np.uint8] | None = None,
    ontology: Ontology | None = None,
    colours: npt.NDArray[np.uint8] | None = None,
    range_m: float | None = None,
    title: str = "",
) -> Path:
    """Draws a cloud from above, forward to the right, with the sensor at the origin.

    Args:
        cloud: points in the lidar frame.
        out: where to write the picture.
        labels: (N,) uint8, with `ontology` for colours and legend; unlabelled points are grey.
        colours: (N, 3) uint8 instead of labels.
        range_m: half width of the picture; by default what holds 98 % of the points.

    Raises:
        FrameError: labels or colours that do not fit the cloud, labels without ontology, or a cloud
            without finite points.
    """
    for name, values in (("labels", labels), ("colours", colours)):
        if values is not None and len(values) != len(cloud):
            raise FrameError(f"{len(values)} {name} for {len(cloud)} points", "give one per point")
    if labels is not None and ontology is None:
        raise FrameError("labels without an ontology cannot be coloured", "pass ontology=")
    finite = cloud.finite()
    if not finite.any():
        raise FrameError("the cloud has no finite point", "draw another frame")
    xyz = cloud.xyz[finite]
    reach = np.abs(xyz[:, :2]).max(axis=1)
    half = float(range_m or max(np.percentile(reach, 98), 1.0))
    near = reach <= half * 1.02
    xyz = xyz[near]

    # laid out by hand: automatic layouts crop labels of axes with equal scales
    width, height = 9.0 if colours is None else 7.6, 7.5
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    (axes,) = add_axes(figure)
    night(axes)
    axes.set_position((0.75 / width, 0.6 / height, 6.45 / width, 6.45 / height))
    _rings(axes, half)
    order = np.argsort(xyz[:, 2])  # what is higher covers what is lower, as seen from above
    x, y = xyz[order, 0], xyz[order, 1]
    style: dict[str, Any] = {"linewidths": 0, "s": _dot_area(len(xyz)), "zorder": 2}
    if labels is not None and ontology is not None:
        kept = labels[finite][near]
        palette = np.full((256, 3), 0.35)
        palette[: len(ontology)] = class_colours(ontology)
        rgb = palette[kept]
        axes.scatter(x, y, c=rgb[order], **style)
        _legend(figure, kept, ontology)
    elif colours is not None:
        axes.scatter(x, y, c=colours[finite][near][order] / 255, **style)
    else:
        low, high = np.percentile(xyz[:, 2], [2, 98])
        style |= {"cmap": ramp("viridis", 0.12, 1.0), "vmin": low, "vmax": max(high, low + 0.1)}
        points = axes.scatter(x, y, c=xyz[order, 2], **style)
        place = figure.add_axes((7.4 / width, 2.2 / height, 0.13 / width, 3.2 / height))
        bar = figure.colorbar(points, cax=place)
        bar.set_label("height [m]", color=NIGHT_INK)
        bar.ax.tick_params(colors=NIGHT_INK)
        bar.outline.set_visible(False)
    size = half / 40
    axes.fill(
        *np.array([(1.6, 0), (-1, 0.9), (-0.5, 0), (-1, -0.9)]).T * size, color="white", zorder=4
    )
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    axes.set(xlabel="x, forward [m]", ylabel="y, left [m]")
    if title:
        set_title(axes, title, NIGHT_INK)
    return save(figure, out)


def _dot_area(points: int) -> float:
    """Large dots for few points, small ones for many, so that every cloud fills the picture."""
    return float(np.clip(1.2e5 / max(points, 1), 1.0, 9.0))


def _rings(axes: Any, half: float) -> None:
    from matplotlib.patches import Circle

    step = next((s for s in (1, 2, 5, 10, 20, 50, 100) if half / s <= 5), 200)
    for radius in np.arange(step, half * 1.5, step):
        axes.add_patch(
            Circle((0, 0), radius, fill=False, ec=NIGHT_GRID, lw=0.8, zorder=1, clip_on=True)
        )


def _legend(figure: Any, labels: npt.NDArray[np.uint8], ontology: Ontology) -> None:
    from matplotlib.lines import Line2D

    counts = np.bincount(labels, minlength=256)
    present = [k for k in range(len(ontology)) if counts[k]]
    marks = [
        Line2D([], [], marker="o", ls="", ms=7, mew=0, color=tuple(class_colours(ontology)[k]))
        for k in present
    ]
    names = [ontology.names[k].replace("_", " ") for k in present]
    if counts[len(ontology) :].any():
        marks.append(Line2D([], [], marker="o", ls="", ms=7, mew=0, color=(0.35, 0.35, 0.35)))
        names.append("unlabelled")
    figure.legend(
        marks,
        names,
        loc="center left",
        bbox_to_anchor=(0.8, 0.5),
        frameon=False,
        labelcolor=NIGHT_INK,
        handletextpad=0.3,
    )
