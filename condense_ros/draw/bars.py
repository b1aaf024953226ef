"""Groups of bars: one group per condition, one bar per level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from condense_ros.draw.style import GRID, INK, add_axes, new_figure, ramp, save
from condense_ros.draw.style import title as set_title
from condense_ros.errors import ConfigError


def draw_bars(
    groups: Mapping[str, Sequence[float]],
    levels: Sequence[str],
    out: str | Path,
    *,
    y_label: str = "",
    title: str = "",
    reference: tuple[str, float] | None = None,
) -> Path:
    """Draws groups of bars, darker from level to level.

    Args:
        groups: name -> one value per level.
        levels: names of the levels.
        reference: name and value of a line across all groups.

    Raises:
        ConfigError: no group, or one whose values are not one per level.
    """
    if not groups or any(len(values) != len(levels) for values in groups.values()):
        raise ConfigError("bars do not fill their groups", "give one value for each level")
    figure = new_figure(max(5.0, 1.05 * len(groups) + 1.5), 3.8)
    (axes,) = add_axes(figure)
    width = 0.8 / len(levels)
    colours = ramp("viridis", 0.85, 0.15)(np.linspace(0, 1, len(levels)))
    places = np.arange(len(groups))
    for number, level in enumerate(levels):
        values = np.array([group[number] for group in groups.values()], np.float64)
        left = places + (number - (len(levels) - 1) / 2) * width
        bars = axes.bar(left, values, width * 0.94, color=colours[number], label=level, zorder=2)
        texts = axes.bar_label(bars, [f"{value:.1f}" for value in values], fontsize=6.5, padding=1)
        for text in texts:  # readable across the reference line
            text.set(bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3}, zorder=4)
    if reference is not None:
        name, value = reference
        axes.axhline(
            value, color=INK, lw=1.2, ls=(0, (4, 3)), label=f"{name} {value:.1f}", zorder=3
        )
    axes.set_xticks(places, [name.replace("_", "\n") for name in groups])
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color=GRID, lw=0.7, zorder=0)
    axes.tick_params(length=0)
    axes.margins(x=0.02)
    set_title(axes, title)
    figure.legend(loc="outside lower center", ncols=len(levels) + 1, frameon=False)
    return save(figure, out)
