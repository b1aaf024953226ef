"""One look for all pictures: fonts, colours, and saving without a display."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.files import write_atomically
from condense_ros.ontology import Ontology

#: colour-blind-safe qualitative palette (Okabe and Ito 2008), black last
PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000"),
)
INK = "#22272e"
GRID = "#d9dee4"
#: background of pictures of clouds, on which light and coloured points both stand out
NIGHT = "#12161c"
NIGHT_GRID = "#2b333d"
NIGHT_INK = "#c9d1d9"

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def new_figure(
    width_in: float, height_in: float, *, equal_axes: bool = False, dpi: int = 130
) -> Any:
    """An empty figure that needs no display and leaves matplotlib's global state alone.

    Args:
        equal_axes: its axes will have equal scales, so they cannot fill what they are given.
    """
    # imported here: matplotlib costs half a second, which `import condense_ros.draw` should not
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout: Any = "compressed" if equal_axes else "constrained"
    figure = Figure(figsize=(width_in, height_in), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Any, rows: int = 1, columns: int = 1) -> list[Any]:
    """Axes in the house style, row by row."""
    from matplotlib import rc_context

    with rc_context(_SETTINGS):
        return [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]


def night(axes: Any) -> None:
    """Turns axes and their figure dark."""
    axes.figure.set_facecolor(NIGHT)
    axes.set_facecolor(NIGHT)
    axes.tick_params(colors=NIGHT_INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(NIGHT_INK)
    for spine in axes.spines.values():
        spine.set_color(NIGHT_GRID)


def class_colours(ontology: Ontology) -> npt.NDArray[np.float64]:
    """(K, 3) colours in 0..1 of the classes, dark ones lightened so that they show on NIGHT."""
    rgb = ontology.colours / 255
    luminance = rgb @ np.array([0.299, 0.587, 0.114])
    lowest = 0.42
    to_white = np.clip((lowest - luminance) / (1 - luminance + 1e-9), 0, 1)[:, None]
    return np.asarray(rgb + (1 - rgb) * to_white)


def title(axes: Any, text: str, colour: str = INK) -> None:
    axes.set_title(text, loc="left", fontsize=12, fontweight="bold", color=colour, pad=10)


def ramp(name: str, low: float = 0.0, high: float = 1.0) -> Any:
    """A stretch of a perceptually uniform colour map, without the end that the ground swallows."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    steps = [low + (high - low) * i / 255 for i in range(256)]
    return LinearSegmentedColormap.from_list(name, colormaps[name](steps))


def save(figure: Any, out: str | Path) -> Path:
    """Writes the figure atomically; the suffix of `out` names the format (png when it has none).

    Raises:
        StorageFull: no room; an older picture of that name is intact.
        OSError: the folder cannot be created or written.
    """
    from matplotlib import rc_context

    out = Path(out)
    if not out.suffix:
        out = out.with_suffix(".png")
    out.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    with rc_context(_SETTINGS):
        figure.savefig(content, format=out.suffix[1:], facecolor=figure.get_facecolor())
    write_atomically(out, content.getvalue())
    return out
