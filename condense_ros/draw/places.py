"""The stored places from above, with where the robot was and where it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import GRID, INK, PALETTE, add_axes, new_figure, save
from condense_ros.draw.style import title as set_title
from condense_ros.errors import ConfigError
from condense_ros.geometry import Array

_PLACE, _TRUE, _FOUND, _UNKNOWN = PALETTE[5], PALETTE[7], PALETTE[2], PALETTE[3]


@dataclass(frozen=True, eq=False)
class PlaceQuery:
    """One question to the map: the true pose (4, 4), or None, and the found one, or None.

    `status` is the answer's word: "found", "unknown" or "ambiguous".
    """

    T_map_true: Array | None
    T_map_found: Array | None
    status: str = "found"


def draw_places(
    places: npt.ArrayLike,
    out: str | Path,
    *,
    queries: Sequence[PlaceQuery] = (),
    points: npt.NDArray[np.floating] | None = None,
    title: str = "",
) -> Path:
    """Draws stored poses, and for each query an arrow of the true and of the found pose.

    Args:
        places: (P, 4, 4) stored poses in the map frame.
        out: where to write the picture.
        queries: answers of the map; a line joins true and found, so errors are seen as lengths.
        points: (M, 3) of the map frame drawn faintly underneath, metres.

    Raises:
        ConfigError: places of another shape, or none.
    """
    stored = np.asarray(places, dtype=np.float64)
    if stored.ndim != 3 or stored.shape[1:] != (4, 4) or not len(stored):
        raise ConfigError(f"places have shape {stored.shape}", "give (P, 4, 4) poses")
    xy = stored[:, :2, 3]
    known = [q.T_map_true for q in queries if q.T_map_true is not None]
    corners = np.concatenate([xy, *[T[None, :2, 3] for T in known]])
    span = float(max(np.ptp(corners, axis=0).max(), 1.0))
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, span * 0.25) + span * 0.12
    height_in = float(np.clip(7.2 * half[1] / half[0], 3.0, 8.0)) + 1.2
    figure = new_figure(8.0, height_in, equal_axes=True)
    (axes,) = add_axes(figure)
    axes.set(
        xlim=(middle[0] - half[0], middle[0] + half[0]),
        ylim=(middle[1] - half[1], middle[1] + half[1]),
        aspect="equal",
    )
    axes.set_axisbelow(True)
    axes.grid(color=GRID, lw=0.7)
    if points is not None and len(points):
        axes.scatter(points[:, 0], points[:, 1], s=1.6, c="#b4bdc8", linewidths=0, zorder=1)
    axes.plot(*xy.T, color=_PLACE, lw=1.2, alpha=0.6, zorder=2)
    axes.scatter(xy[:, 0], xy[:, 1], s=34, c=_PLACE, edgecolors="white", linewidths=0.8, zorder=3)

    arrow = span / 22
    for query in queries:
        true, found = query.T_map_true, query.T_map_found
        if true is not None and found is not None:
            axes.plot(*np.stack([true[:2, 3], found[:2, 3]]).T, color=_FOUND, lw=1, zorder=4)
        if true is not None:
            refused = query.status != "found"
            _arrow(axes, true, arrow, _UNKNOWN if refused else _TRUE, hollow=True)
        if found is not None:
            _arrow(axes, found, arrow * 0.8, _FOUND, hollow=False)
    axes.set(xlabel="x [m]", ylabel="y [m]")
    set_title(axes, title)
    _legend(axes, queries)
    return save(figure, out)


def _arrow(axes: Any, T: Array, length: float, colour: str, *, hollow: bool) -> None:
    """A dart at the pose, its tip along x."""
    shape = np.array([(0.75, 0), (-0.5, 0.42), (-0.22, 0), (-0.5, -0.42)]) * length
    heading = T[:2, 0] / max(float(np.linalg.norm(T[:2, 0])), 1e-9)
    turned = shape @ np.array([heading, [-heading[1], heading[0]]]) + T[:2, 3]
    face = "none" if hollow else colour
    axes.fill(*turned.T, facecolor=face, edgecolor=colour, lw=1.6, zorder=6 if hollow else 5)


def _legend(axes: Any, queries: Sequence[PlaceQuery]) -> None:
    from matplotlib.lines import Line2D

    def mark(colour: str, name: str, marker: str = ">", **style: Any) -> Line2D:
        style = {"color": colour, "ms": 8, **style}
        return Line2D([], [], marker=marker, ls="", label=name, **style)

    marks = [mark(_PLACE, "stored place", "o", mec="white", ms=7)]
    if any(q.status == "found" and q.T_map_true is not None for q in queries):
        marks.append(mark(_TRUE, "true pose", mfc="none", mew=1.6))
    if any(q.T_map_found is not None for q in queries):
        marks.append(mark(_FOUND, "found pose", mew=0))
    if any(q.status != "found" for q in queries):
        marks.append(mark(_UNKNOWN, 'answered "unknown"', mfc="none", mew=1.6))
    axes.figure.legend(
        handles=marks,
        loc="outside lower center",
        ncols=len(marks),
        frameon=False,
        labelcolor=INK,
        handletextpad=0.3,
    )
