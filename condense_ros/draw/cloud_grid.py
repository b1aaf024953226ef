"""Many small clouds from above, side by side: what became of a sweep under each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import NIGHT, NIGHT_INK, PALETTE, add_axes, new_figure, ramp, save
from condense_ros.errors import ConfigError
from condense_ros.frame import PointCloud

_MARKED, _LOST = "#ff5d5d", PALETTE[5]
_SIDE_IN = 1.9


@dataclass(frozen=True, eq=False)
class CloudPanel:
    """One small picture.

    Attributes:
        cloud: drawn by brightness where it has intensities.
        marked: (N,) points drawn in red, or None.
        lost: (M, 3) points drawn faintly below: those that are gone.
    """

    cloud: PointCloud
    marked: npt.NDArray[np.bool_] | None = None
    lost: npt.NDArray[np.floating] | None = None


def draw_cloud_grid(
    columns: Mapping[str, Sequence[CloudPanel | None]],
    rows: Sequence[str],
    out: str | Path,
    *,
    range_m: float = 25.0,
    marked_as: str = "marked",
    lost_as: str = "lost",
    bright: float | None = None,
) -> Path:
    """Draws a grid of clouds, all of the same part of the ground and with the same colours.

    Args:
        columns: title -> one panel for each row, None where there is none.
        rows: titles of the rows.
        range_m: half width of every panel.
        marked_as, lost_as: names in the legend.
        bright: intensity that is drawn brightest; by default the 95th percentile of the first
            panel.

    Raises:
        ConfigError: no panel, or columns whose length is not that of the rows.
    """
    panels = [panel for column in columns.values() for panel in column if panel is not None]
    if not panels or any(len(column) != len(rows) for column in columns.values()):
        raise ConfigError("panels do not fill the grid", "give one panel or None for each row")
    intensity = panels[0].cloud.intensity
    if bright is None:
        bright = 1.0 if intensity is None else max(float(np.percentile(intensity, 95)), 1e-6)
    wide, tall = _SIDE_IN * len(columns) + 0.3, _SIDE_IN * len(rows) + 0.65
    figure = new_figure(wide, tall)
    figure.set_layout_engine("none")
    figure.set_facecolor(NIGHT)
    all_axes = add_axes(figure, len(rows), len(columns))
    for number, axes in enumerate(all_axes):
        row, column = divmod(number, len(columns))
        left = (0.3 + _SIDE_IN * column) / wide
        bottom = (tall - 0.3 - _SIDE_IN * (row + 1)) / tall
        axes.set_position((left, bottom, 0.97 * _SIDE_IN / wide, 0.97 * _SIDE_IN / tall))
        axes.set_facecolor(NIGHT)
        axes.set(xticks=[], yticks=[], xlim=(-range_m, range_m), ylim=(-range_m, range_m))
        for spine in axes.spines.values():
            spine.set_visible(False)
        name = list(columns)[column]
        if row == 0:
            axes.set_title(name, color=NIGHT_INK, fontsize=9, pad=3)
        panel = columns[name][row]
        if panel is not None:
            _draw(axes, panel, range_m, bright)
    for row, text in enumerate(rows):
        middle = (tall - 0.3 - _SIDE_IN * (row + 0.5)) / tall
        style: dict[str, Any] = {"rotation": 90, "va": "center", "ha": "center"}
        figure.text(0.15 / wide, middle, text, color=NIGHT_INK, fontsize=9, **style)
    _legend(figure, marked_as, lost_as)
    return save(figure, out)


def _draw(axes: Any, panel: CloudPanel, range_m: float, bright: float) -> None:
    cloud = panel.cloud
    style: dict[str, Any] = {"linewidths": 0, "s": 0.9}
    if panel.lost is not None and len(panel.lost):
        axes.scatter(panel.lost[:, 0], panel.lost[:, 1], c=_LOST, alpha=0.35, zorder=1, **style)
    marked = np.zeros(len(cloud), bool) if panel.marked is None else panel.marked
    x, y = cloud.xyz[:, 0], cloud.xyz[:, 1]
    if cloud.intensity is None:
        axes.scatter(x[~marked], y[~marked], c="#d9dee4", zorder=2, **style)
    else:
        share = np.sqrt(np.clip(cloud.intensity / bright, 0, 1))
        colour: dict[str, Any] = {"cmap": ramp("gray", 0.28, 1.0), "vmin": 0, "vmax": 1}
        axes.scatter(x[~marked], y[~marked], c=share[~marked], zorder=2, **colour, **style)
    axes.scatter(x[marked], y[marked], c=_MARKED, zorder=3, linewidths=0, s=1.6)


def _legend(figure: Any, marked_as: str, lost_as: str) -> None:
    from matplotlib.lines import Line2D

    names = {"brighter: more intensity": "#d9dee4", marked_as: _MARKED, lost_as: _LOST}
    marks = [Line2D([], [], marker="o", ls="", ms=6, mew=0, color=c) for c in names.values()]
    style: dict[str, Any] = {"frameon": False, "labelcolor": NIGHT_INK, "handletextpad": 0.2}
    figure.legend(marks, list(names), loc="lower center", ncols=3, fontsize=9, **style)
