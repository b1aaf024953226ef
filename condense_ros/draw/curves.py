"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import GRID, PALETTE, add_axes, new_figure, save
from condense_ros.draw.style import title as set_title
from condense_ros.errors import ConfigError
from condense_ros.geometry import Array


def smooth(values: npt.ArrayLike, window: int) -> Array:
    """Centred moving mean of (N,) values; at the ends over the part that exists."""
    values = np.asarray(values, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    rows = np.arange(len(values))
    low = np.maximum(rows - window // 2, 0)
    high = np.minimum(rows + window // 2 + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))


def draw_curves(
    curves: Mapping[str, npt.ArrayLike],
    out: str | Path,
    *,
    x_label: str = "step",
    y_label: str = "loss",
    title: str = "",
    separate: bool = False,
) -> Path:
    """Draws curves: each step faint, a moving mean (a twentieth of the curve) strong.

    Args:
        curves: name -> (N,) values per step, or (N, 2) rows of step and value.
        out: where to write the picture.
        separate: one panel per curve, for values of different scale.

    Raises:
        ConfigError: no curves, or one that is empty or of another shape.
    """
    if not curves:
        raise ConfigError("no curves to draw", "give at least one")
    panels = len(curves) if separate else 1
    figure = new_figure(6.0 if panels == 1 else 4.2 * panels, 3.6)
    all_axes = add_axes(figure, 1, panels)
    for i, (name, raw) in enumerate(curves.items()):
        rows = np.asarray(raw, dtype=np.float64)
        if rows.ndim == 1:
            rows = np.stack([np.arange(len(rows)), rows], axis=1)
        if rows.ndim != 2 or rows.shape[1] != 2 or not len(rows):
            raise ConfigError(f"curve {name!r} has shape {rows.shape}", "give (N,) or (N, 2)")
        rows = rows[np.isfinite(rows).all(axis=1)]
        axes = all_axes[i if separate else 0]
        colour = PALETTE[i % len(PALETTE)]
        mean = smooth(rows[:, 1], max(1, len(rows) // 20))
        axes.plot(*rows.T, color=colour, lw=0.8, alpha=0.25)
        axes.plot(rows[:, 0], mean, color=colour, lw=2, label=name, solid_capstyle="round")
        if len(rows):
            axes.annotate(
                f"{mean[-1]:.3g}",
                (rows[-1, 0], mean[-1]),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                annotation_clip=False,
            )
        if separate:
            set_title(axes, name)
    for axes in all_axes:
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(axis="y", color=GRID, lw=0.7)
        axes.tick_params(length=0)
        axes.margins(x=0.02)
    if not separate:
        set_title(all_axes[0], title)
        if len(curves) > 1:
            all_axes[0].legend(frameon=False)
    elif title:
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return save(figure, out)
