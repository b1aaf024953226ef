"""Pictures of a calibration: intervals per axis, and how the fit changes with each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import GRID, INK, PALETTE, add_axes, new_figure, save
from condense_ros.draw.style import title as set_title
from condense_ros.errors import ConfigError

#: status -> colour
COLOURS = {"good": PALETTE[2], "off": PALETTE[3], "unobservable": "#9aa4af"}


def draw_intervals(
    rows: Sequence[tuple[str, float, float, float, str, str]],
    out: str | Path,
    *,
    title: str = "",
    tolerance: Mapping[str, float] | None = None,
) -> Path:
    """Draws estimates with their 95 % intervals, one panel per unit.

    Args:
        rows: (name, value, low, high, unit, status) per axis.
        out: where to write the picture.
        tolerance: unit -> half width of the band in which an error is tolerated.

    Raises:
        ConfigError: no rows.
    """
    if not rows:
        raise ConfigError("no axes to draw", "estimate a calibration first")
    units = list(dict.fromkeys(row[4] for row in rows))
    figure = new_figure(3.6 * len(units), 2.6)
    for axes, unit in zip(add_axes(figure, 1, len(units)), units, strict=True):
        shown = [row for row in rows if row[4] == unit]
        band = (tolerance or {}).get(unit)
        if band is not None:
            axes.axvspan(-band, band, color=GRID, alpha=0.6, lw=0)
        axes.axvline(0, color=INK, lw=0.8)
        for y, (_, value, low, high, _, status) in enumerate(shown):
            colour = COLOURS.get(status, INK)
            axes.plot([low, high], [y, y], color=colour, lw=2.4, solid_capstyle="round")
            axes.plot([value], [y], "o", color=colour, ms=5)
        axes.set_yticks(range(len(shown)), [row[0].replace("_", " ") for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel(f"error of the given calibration [{unit}]")
        axes.grid(axis="x", color=GRID, lw=0.6)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    return save(figure, out)


def draw_cost_curves(
    curves: Mapping[str, npt.ArrayLike],
    out: str | Path,
    *,
    units: Mapping[str, str],
    y_label: str,
) -> Path:
    """Draws one panel per axis: the misfit over the error of that axis; a line marks the given one.

    Args:
        curves: name -> (N, 2) rows of error and misfit.
        out: where to write the picture.
        units: name -> unit of the errors.

    Raises:
        ConfigError: no curves.
    """
    names = [name for name, rows in curves.items() if len(np.asarray(rows))]
    if not names:
        raise ConfigError("no cost curves to draw", "estimate a calibration first")
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(2.7 * columns, 2.2 * lines)
    panels = add_axes(figure, lines, columns)
    for axes, name in zip(panels, names, strict=False):
        rows = np.asarray(curves[name], dtype=np.float64)
        axes.plot(rows[:, 0], rows[:, 1], color=PALETTE[0], lw=1.6)
        axes.axvline(0, color=INK, lw=0.8, ls=":")
        best = rows[rows[:, 1].argmin(), 0]
        axes.axvline(best, color=PALETTE[3], lw=1.0)
        axes.set_xlabel(f"{name.replace('_', ' ')} [{units.get(name, '')}]")
        axes.grid(color=GRID, lw=0.6)
    for number in range(0, len(names), columns):
        panels[number].set_ylabel(y_label)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    set_title(panels[0], "dotted: as given")
    return save(figure, out)
