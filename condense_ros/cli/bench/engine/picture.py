"""The layers of a network as bars: time of each beside its floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from condense_ros.draw.style import GRID, INK, PALETTE, add_axes, new_figure, save
from condense_ros.draw.style import title as set_title
from condense_ros.errors import ConfigError

_MAP, _PRODUCT = PALETTE[1], PALETTE[0]


def draw_layers(result: dict[str, Any], out: str | Path) -> Path:
    """One panel per backend and dtype; the first layer is on top.

    Raises:
        ConfigError: no rows to draw.
        StorageFull: no room.
    """
    rows = result["rows"]
    if not rows:
        raise ConfigError("no figures to draw", "measure at least one backend")
    names = [layer["name"] for layer in rows[0]["layers"]]
    figure = new_figure(2.0 + 3.2 * len(rows), 1.6 + 0.17 * len(names))
    all_axes = add_axes(figure, 1, len(rows))
    place = np.arange(len(names))
    for axes, row in zip(all_axes, rows, strict=True):
        layers = row["layers"]
        product = np.array([layer["ms"] for layer in layers])
        maps = np.array([layer["map_ms"] for layer in layers])
        floor = np.array([layer["floor_ms"] for layer in layers])
        axes.barh(place, product, 0.72, color=_PRODUCT, label="product")
        axes.barh(place, maps, 0.72, left=product, color=_MAP, label="map")
        axes.vlines(floor, place - 0.45, place + 0.45, color=INK, lw=1.6, label="floor")
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(place, names if axes is all_axes[0] else [""] * len(names), fontsize=7)
        axes.set_xlabel("ms")
        axes.grid(axis="x", color=GRID, lw=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        set_title(axes, f"{row['backend']}, {row['dtype']}: {row['forward_ms']:.0f} ms")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower right", ncols=3)
    figure.suptitle(
        f"{result['network']}, {result['cloud']} at {result['voxel_m']:g} m, "
        f"{result['voxels']} voxels, threads: {result['threads']}",
        x=0.01,
        ha="left",
    )
    return save(figure, out)
