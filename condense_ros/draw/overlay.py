"""LiDAR points drawn over the camera images that see them: the eye's test of a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.draw.style import (
    NIGHT,
    NIGHT_INK,
    add_axes,
    class_colours,
    new_figure,
    ramp,
    save,
)
from condense_ros.errors import FrameError
from condense_ros.frame import CameraImage, Frame
from condense_ros.geometry import Projection, project_cloud, transform
from condense_ros.ontology import Ontology

#: an RGB-D cloud has a point per pixel, which would cover the image
_MAX_POINTS = 24_000
_TICKS = (0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80)
#: luminance (ITU-R BT.601)
_GREY = np.array([0.299, 0.587, 0.114])


def dimmed(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A darker, paler image, so that the points carry the colour."""
    grey = (pixels @ _GREY)[..., None]
    return np.asarray((0.55 * (0.45 * pixels + 0.55 * grey)).astype(np.uint8))


def by_direction(images: list[CameraImage]) -> list[CameraImage]:
    """Cameras that look ahead from left to right, then those that look back."""
    axes = [image.T_cam_lidar[2, :2] for image in images]  # optical axis in the lidar frame
    ahead = [axis[0] >= -0.2 for axis in axes]
    azimuth = [np.degrees(np.arctan2(axis[1], axis[0])) for axis in axes]
    keys = [(not a, -z if a else z % 360) for a, z in zip(ahead, azimuth, strict=True)]
    return [images[i] for i in sorted(range(len(images)), key=lambda i: keys[i])]


def visible_points(frame: Frame, image: CameraImage) -> Projection:
    """Visible points, far ones first so that near ones are drawn on top, thinned where dense.

    Their depth is the distance for a fisheye.
    """
    seen = project_cloud(frame.cloud.xyz, image.T_cam_cloud, image.camera)
    # a regular stride would draw patterns of its own
    rows = np.random.default_rng(0).permutation(len(seen.index))[:_MAX_POINTS]
    distance = seen.depth
    if image.camera.model == "fisheye":  # which may see behind its own plane
        xyz = frame.cloud.xyz[seen.index]
        distance = np.linalg.norm(transform(image.T_cam_cloud, xyz), axis=1)
    rows = rows[np.argsort(-distance[rows], kind="stable")]
    return Projection(seen.index[rows], seen.uv[rows], distance[rows])


def draw_overlay(
    frame: Frame,
    image_name: str | None,
    out: str | Path,
    *,
    colours: npt.NDArray[np.uint8] | None = None,
    labels: npt.NDArray[np.uint8] | None = None,
    ontology: Ontology | None = None,
    point_pt: float | None = None,
) -> Path:
    """Draws the points a camera sees over its image, coloured by depth, label or given colours.

    Args:
        frame: cloud and images.
        image_name: which camera; None draws all of them side by side.
        out: where to write the picture.
        colours: (N, 3) uint8 per point.
        labels: (N,) uint8 per point, coloured by `ontology`, which then is needed.
        point_pt: diameter of a point on the page, in 1/72 inch (the page is 10 inches wide for one
            camera, 15 for several); by default larger the fewer points there are.

    Raises:
        FrameError: no image of that name, or colours or labels that do not fit the cloud.
    """
    from matplotlib.colors import LogNorm

    images = [i for i in frame.images if image_name is None or i.name == image_name]
    if not images:
        names = ", ".join(image.name for image in frame.images) or "none"
        raise FrameError(f"the frame has no image {image_name!r}", f"it has: {names}")
    if labels is not None:
        if ontology is None:
            raise FrameError("labels without an ontology cannot be coloured", "pass ontology=")
        palette = np.zeros((256, 3))
        palette[: len(ontology)] = class_colours(ontology)
        colours = np.round(palette[labels] * 255).astype(np.uint8)
    if colours is not None and colours.shape != (len(frame.cloud), 3):
        raise FrameError(
            f"colours have shape {colours.shape} for {len(frame.cloud)} points", "give one RGB each"
        )
    images = by_direction(images)
    views = [visible_points(frame, image) for image in images]
    depths = np.concatenate([view.depth for view in views] + [np.array([1.0, 10.0])])
    low, high = np.percentile(depths, [1, 97])
    depth_style: dict[str, Any] = {
        "cmap": ramp("plasma", 1.0, 0.12),
        "norm": LogNorm(low, max(high, 1.5 * low), clip=True),
    }

    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    aspect = max(image.camera.height / image.camera.width for image in images)
    width = 10.0 if columns == 1 else 5.0 * columns
    height = rows * width / columns * aspect + 0.55  # the last half inch is the legend's
    tall = width / columns * aspect / height
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    figure.set_facecolor(NIGHT)
    points = None
    panels = add_axes(figure, rows, columns)
    for axes in panels:
        axes.set_axis_off()
    for i, (axes, image, view) in enumerate(zip(panels, images, views, strict=False)):
        row, column = divmod(i, columns)
        axes.set_position((column / columns, 1 - (row + 1) * tall, 1 / columns, tall))
        axes.imshow(dimmed(image.pixels), interpolation="bilinear")
        room = (72 * width / columns) ** 2 * aspect / max(len(view.index), 1)
        size = point_pt or float(np.clip(0.32 * np.sqrt(room), 1.7, 4.0))
        style: dict[str, Any] = {"s": size**2, "linewidths": 0}
        if colours is None:
            style |= {"c": view.depth, **depth_style}
        else:
            style["c"] = colours[view.index] / 255
        points = axes.scatter(view.uv[:, 0], view.uv[:, 1], **style)
        axes.set(xlim=(-0.5, image.camera.width - 0.5), ylim=(image.camera.height - 0.5, -0.5))
        if len(images) > 1:
            label = {"facecolor": NIGHT, "alpha": 0.7, "edgecolor": "none", "pad": 2.5}
            axes.text(
                0.012,
                0.965,
                image.name,
                transform=axes.transAxes,
                va="top",
                color="white",
                fontsize=9,
                bbox=label,
            )
    if labels is not None and ontology is not None:
        _class_legend(figure, labels, ontology)
    elif colours is None:
        bar = figure.add_axes((0.3, 0.27 / height, 0.4, 0.13 / height))
        scale = figure.colorbar(points, cax=bar, orientation="horizontal")
        ticks = [d for d in _TICKS if scale.vmin <= d <= scale.vmax]
        scale.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        scale.ax.minorticks_off()
        scale.ax.tick_params(colors=NIGHT_INK, labelsize=8, length=0, pad=2)
        scale.outline.set_visible(False)
        bar.text(1.02, 0.5, "depth [m]", transform=bar.transAxes, va="center", color=NIGHT_INK)
    return save(figure, out)


def _class_legend(figure: Any, labels: npt.NDArray[np.uint8], ontology: Ontology) -> None:
    from matplotlib.lines import Line2D

    present = [k for k in np.unique(labels).tolist() if k < len(ontology)]
    marks = [
        Line2D([], [], marker="o", ls="", ms=6, mew=0, color=tuple(class_colours(ontology)[k]))
        for k in present
    ]
    figure.legend(
        marks,
        [ontology.names[k].replace("_", " ") for k in present],
        loc="lower center",
        ncols=min(len(present), 9),
        frameon=False,
        fontsize=9,
        labelcolor=NIGHT_INK,
        handletextpad=0.2,
        columnspacing=1.2,
    )
