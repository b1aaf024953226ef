"""Rendered samples as the bytes of a folder's files."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.sim.folders.render import Picture, Sweep

#: how one point lies in a cloud file; intensity is 0 .. 255 for 0 .. 1, bit k of visible says that
#: camera k sees the point in its image of that frame, instance 0 is the ground
POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("time", "<f4"),
        ("instance", "<i4"),
        ("ring", "<u2"),
        ("intensity", "u1"),
        ("label", "u1"),
        ("visible", "u1"),
    ]
)
#: instance of pixels that show the sky
NO_INSTANCE = 65535


def cloud_bytes(sweep: Sweep) -> bytes:
    """A sweep as a .npy file of `POINT`."""
    cloud, points = sweep.cloud, np.empty(len(sweep.cloud), POINT)
    points["x"], points["y"], points["z"] = cloud.xyz.T
    assert cloud.intensity is not None
    points["intensity"] = np.round(cloud.intensity * 255)
    points["time"], points["ring"] = cloud.time_s, cloud.ring
    points["label"], points["instance"] = sweep.labels, sweep.instance
    points["visible"] = sweep.visible
    # a plain header and the raw bytes: zip containers would carry the time of writing
    buffer = BytesIO()
    np.save(buffer, points, allow_pickle=False)
    return buffer.getvalue()


def picture_files(picture: Picture, name: str, image_format: str) -> Iterator[tuple[str, bytes]]:
    """(path in the folder, bytes) of an image and its truth; the image itself comes last."""
    image, truth = picture.image, picture.truth
    if truth is not None:
        yield f"truth/semantic/{image.name}/{name}.png", _png(truth.semantic)
        instance = np.where(truth.instance < 0, NO_INSTANCE, truth.instance)
        yield f"truth/instance/{image.name}/{name}.png", _png(instance.astype(np.uint16))
        options = [cv2.IMWRITE_TIFF_COMPRESSION, 8]
        depth = cv2.imencode(".tiff", truth.depth, options)[1].tobytes()
        yield f"truth/depth/{image.name}/{name}.tiff", depth
    if image.depth is not None:
        millimetres = np.round(image.depth * 1000)
        millimetres = np.where(millimetres > 65535, 0, millimetres).astype(np.uint16)
        yield f"depth/{image.name}/{name}.png", _png(millimetres)
    bgr = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2BGR)
    options = (
        [cv2.IMWRITE_JPEG_QUALITY, 95]
        if image_format == "jpg"
        else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    path = f"images/{image.name}/{name}.{image_format}"
    yield path, cv2.imencode(f".{image_format}", bgr, options)[1].tobytes()


def _png(array: npt.NDArray[Any]) -> bytes:
    return cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
