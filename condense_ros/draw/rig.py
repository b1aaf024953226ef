"""A rig's images side by side, with points over them and maps below; beside them the cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.draw.overlay import by_direction, dimmed, visible_points
from condense_ros.draw.style import (
    NIGHT,
    NIGHT_GRID,
    NIGHT_INK,
    add_axes,
    new_figure,
    ramp,
    save,
)
from condense_ros.draw.style import title as set_title
from condense_ros.errors import FrameError
from condense_ros.frame import Frame

_CAMERA_IN, _EDGE_IN, _TOP_IN, _FOOT_IN, _NAME_IN = 3.6, 0.08, 0.4, 0.5, 0.25
#: cameras beside each other
_COLUMNS = 3
_MARK = "#00ff9c"


@dataclass(frozen=True, eq=False)
class RigPicture:
    """What is drawn over one frame: colours, or numbers with a scale.

    Attributes:
        points: (N, 3) uint8 colours, or (N,) values; points with NaN are left out.
        maps: camera name -> (h, w, 3) uint8 colours or (h, w) values of the whole image.
        marks: camera name -> (2,) pixel that a ring marks.
        mark_xyz: (3,) place in the cloud that a ring marks, or None.
        scale: name of the values; empty for colours.
        known: (N,) bool: points that are drawn, or None for all with finite values.
    """

    points: npt.NDArray[Any]
    maps: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    marks: Mapping[str, npt.NDArray[np.floating]] = field(default_factory=dict)
    mark_xyz: npt.NDArray[np.floating] | None = None
    scale: str = ""
    known: npt.NDArray[np.bool_] | None = None


def draw_rig(
    frame: Frame,
    picture: RigPicture,
    out: str | Path,
    *,
    title: str = "",
    range_m: float | None = None,
    cameras: Sequence[str] = (),
) -> Path:
    """Draws the cloud from above, and beside it each camera: points over the image, and below it
    the image's map, where there is one.

    Args:
        range_m: half width of the view from above; by default what holds 95 % of the points.
        cameras: names, row by row; by default all of the frame, as a driver sees them.

    Raises:
        FrameError: values that do not fit the cloud, none of them finite, or no such camera.
    """
    if len(picture.points) != len(frame.cloud):
        raise FrameError(
            f"{len(picture.points)} values for {len(frame.cloud)} points", "give one per point"
        )
    by_name = {image.name: image for image in frame.images}
    names = list(cameras) or [image.name for image in by_direction(list(frame.images))]
    absent = [name for name in [*names, *picture.maps] if name not in by_name]
    if absent:
        raise FrameError(f"the frame has no image {absent[0]!r}", f"it has: {', '.join(by_name)}")
    shown = frame.cloud.finite()
    if picture.points.ndim == 1:
        shown = shown & np.isfinite(picture.points)
    if picture.known is not None:
        shown = shown & picture.known
    if not shown.any():
        raise FrameError("no point has a value", "draw another frame")
    how = _Colours(picture, shown)

    rows = 2 if picture.maps else 1
    columns = min(_COLUMNS, len(names))
    blocks = -(-len(names) // _COLUMNS)
    aspect = max([i.camera.height / i.camera.width for i in frame.images], default=0.75)
    cell = _CAMERA_IN * aspect
    block = rows * cell + _NAME_IN
    side = max(blocks * block, 3.4)
    foot = _FOOT_IN if picture.scale else _EDGE_IN
    wide, tall = side + _CAMERA_IN * columns + 2 * _EDGE_IN, side + _TOP_IN + foot
    figure = new_figure(wide, tall)
    figure.set_layout_engine("none")
    figure.set_facecolor(NIGHT)
    panels = add_axes(figure, 1, 1 + rows * len(names))
    for axes in panels:
        axes.set_facecolor(NIGHT)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)

    def place(axes: Any, left: float, bottom: float, width: float, height: float) -> None:
        edge = _EDGE_IN / 2
        axes.set_position(
            (
                (left + edge) / wide,
                (bottom + edge) / tall,
                (width - 2 * edge) / wide,
                (height - 2 * edge) / tall,
            )
        )

    place(panels[0], _EDGE_IN, foot, side, side)
    _above(panels[0], frame, picture, shown, how, range_m)
    if title:
        set_title(panels[0], title, NIGHT_INK)
    for number, name in enumerate(names):
        down, across = divmod(number, columns)
        left = _EDGE_IN + side + _CAMERA_IN * across
        top = foot + side - block * down - _NAME_IN
        over = panels[1 + rows * number]
        place(over, left, top - cell, _CAMERA_IN, cell)
        _over_image(over, frame, name, picture, shown, how)
        over.set_title(name, color=NIGHT_INK, fontsize=9, pad=3)
        if rows == 2:
            below = panels[2 + rows * number]
            place(below, left, top - 2 * cell, _CAMERA_IN, cell)
            _map(below, frame, name, picture, how)
    if picture.scale:
        how.bar(figure, (0.3, 0.3 / tall, 0.4, 0.12 / tall), picture.scale)
    return save(figure, out)


class _Colours:
    """Colours as given, or values on one scale for points and pixels."""

    def __init__(self, picture: RigPicture, shown: npt.NDArray[np.bool_]) -> None:
        from matplotlib.colors import Normalize

        self.values = bool(picture.scale)
        low, high = 0.0, 1.0
        if self.values:
            parts = [picture.points[shown], *(m.ravel() for m in picture.maps.values())]
            low, high = (float(v) for v in np.percentile(np.concatenate(parts), [2, 99.5]))
        self.norm = Normalize(low, max(high, low + 1e-6), clip=True)
        self.map = ramp("inferno", 0.12, 1.0)

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
        if self.values:
            return np.asarray(self.map(self.norm(values))[..., :3])
        return np.asarray(values / 255)

    def bar(self, figure: Any, where: tuple[float, ...], name: str) -> None:
        from matplotlib.cm import ScalarMappable

        axes = figure.add_axes(where)
        scale = figure.colorbar(
            ScalarMappable(self.norm, self.map), cax=axes, orientation="horizontal"
        )
        scale.ax.tick_params(colors=NIGHT_INK, labelsize=8, length=0, pad=2)
        scale.outline.set_visible(False)
        axes.text(1.02, 0.5, name, transform=axes.transAxes, va="center", color=NIGHT_INK)


def _ring(axes: Any, x: float, y: float) -> None:
    axes.scatter([x], [y], s=150, facecolors="none", edgecolors=_MARK, linewidths=2.0, zorder=9)


def _above(
    axes: Any,
    frame: Frame,
    picture: RigPicture,
    shown: npt.NDArray[np.bool_],
    how: _Colours,
    range_m: float | None,
) -> None:
    xyz, colours = frame.cloud.xyz[shown], how(picture.points[shown])
    reach = np.abs(xyz[:, :2]).max(axis=1)
    half = float(range_m or max(np.percentile(reach, 95), 1.0))
    if range_m is None and picture.mark_xyz is not None:
        half = max(half, 1.1 * float(np.abs(picture.mark_xyz[:2]).max()))
    order = np.argsort(xyz[:, 2])
    size = float(np.clip(6e4 / len(xyz), 1.0, 8.0))
    axes.scatter(*xyz[order, :2].T, c=colours[order], s=size, linewidths=0)
    axes.set(xlim=(-half, half), ylim=(-half, half))
    tip = half / 40 * np.array([(1.6, 0), (-1, 0.9), (-0.5, 0), (-1, -0.9)])
    axes.fill(*tip.T, color="white", zorder=4)
    axes.text(
        0.02, 0.02, f"{2 * half:.0f} m wide", transform=axes.transAxes, color=NIGHT_INK, fontsize=8
    )
    if picture.mark_xyz is not None:
        _ring(axes, *picture.mark_xyz[:2])


def _frame_axes(axes: Any, frame: Frame, name: str) -> Any:
    image = next(image for image in frame.images if image.name == name)
    width, height = image.camera.width, image.camera.height
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return image


def _over_image(
    axes: Any,
    frame: Frame,
    name: str,
    picture: RigPicture,
    shown: npt.NDArray[np.bool_],
    how: _Colours,
) -> None:
    image = next(image for image in frame.images if image.name == name)
    axes.imshow(dimmed(image.pixels), interpolation="bilinear", aspect="auto")
    _frame_axes(axes, frame, name)
    seen = visible_points(frame, image)
    kept = shown[seen.index]
    uv, index = seen.uv[kept], seen.index[kept]
    size = float(np.clip(2.5e4 / max(len(index), 1), 2.0, 9.0))
    axes.scatter(*uv.T, c=how(picture.points[index]), s=size, linewidths=0)
    if name in picture.marks:
        _ring(axes, *picture.marks[name])


def _map(axes: Any, frame: Frame, name: str, picture: RigPicture, how: _Colours) -> None:
    if name not in picture.maps:
        axes.set_facecolor(NIGHT_GRID)
        return
    image = next(image for image in frame.images if image.name == name)
    extent = (-0.5, image.camera.width - 0.5, image.camera.height - 0.5, -0.5)
    axes.imshow(how(picture.maps[name]), extent=extent, interpolation="nearest", aspect="auto")
    _frame_axes(axes, frame, name)
    if name in picture.marks:
        _ring(axes, *picture.marks[name])
