"""sensor_msgs/Image <-> arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.errors import WireError
from condense_ros.wire import cdr
from condense_ros.wire.header import Header, header_from_message, header_to_message

IMAGE = "sensor_msgs/msg/Image"

#: larger images are refused before they are decoded (8k is 33 million pixels)
MAX_PIXELS = 1 << 27

#: encoding -> (channels on the wire, dtype)
_LAYOUT: dict[str, tuple[int, str]] = {
    **dict.fromkeys(("rgb8", "bgr8"), (3, "u1")),
    **dict.fromkeys(("rgba8", "bgra8"), (4, "u1")),
    **dict.fromkeys(("rgb16", "bgr16"), (3, "u2")),
    **dict.fromkeys(("rgba16", "bgra16"), (4, "u2")),
    **dict.fromkeys(("mono8", "8UC1"), (1, "u1")),
    "mono16": (1, "u2"),
    "16UC1": (1, "u2"),
    "32FC1": (1, "f4"),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), (2, "u1")),
    **{f"bayer_{order}8": (1, "u1") for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{order}16": (1, "u2") for order in ("rggb", "bggr", "gbrg", "grbg")},
}
DEPTH_ENCODINGS = ("16UC1", "32FC1")

# OpenCV names a Bayer pattern by its second row, ROS by its first
_BAYER = {
    "bayer_rggb": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg": cv2.COLOR_BayerGB2RGB,
}
_TO_RGB = {
    "bgr": cv2.COLOR_BGR2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
    "mono": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}
_FROM_RGB = {
    "bgr8": cv2.COLOR_RGB2BGR,
    "rgba8": cv2.COLOR_RGB2RGBA,
    "bgra8": cv2.COLOR_RGB2BGRA,
    "mono8": cv2.COLOR_RGB2GRAY,
}


@dataclass(frozen=True, eq=False)
class ImageMessage:
    """A decoded image.

    Attributes:
        header: stamp and optical frame.
        encoding: as on the wire.
        pixels: (H, W, 3) uint8 RGB, or (H, W) float32 metres with 0 = none for depth encodings.
    """

    header: Header
    encoding: str
    pixels: npt.NDArray[Any]

    @property
    def is_depth(self) -> bool:
        return self.pixels.ndim == 2


def check_size(width: int, height: int) -> None:
    """Raises WireError for empty images and for those over `MAX_PIXELS`."""
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise WireError(f"image is {width}x{height}", f"publish images of 1 to {MAX_PIXELS} pixels")


def depth_metres(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Float32 metres, 0 = none, of REP-118 depth: uint16 millimetres or float metres."""
    if values.dtype.kind == "u":
        return np.divide(values, np.float32(1000), dtype=np.float32)
    depth = values.astype(np.float32)  # also brings big-endian data into native order
    depth[~np.isfinite(depth) | (depth < 0)] = 0.0
    return depth


def _rows(message: Any, channels: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """(H, W) or (H, W, C) view of the data, without the padding at the end of each row."""
    height, width, step, size = message.height, message.width, message.step, len(message.data)
    row_bytes = width * channels * dtype.itemsize
    if step < row_bytes or step * height > size:
        raise WireError(
            f"{message.encoding} image of {width}x{height} has step {step} and {size} bytes, "
            f"needs a step of {row_bytes} or more and step x height bytes",
            "set step to the bytes of one row and send all rows",
        )
    shape = (height, width) if channels == 1 else (height, width, channels)
    strides = (step, channels * dtype.itemsize, dtype.itemsize)[: len(shape)]
    return np.ndarray(shape, dtype, buffer=message.data, strides=strides)


def _rgb(values: npt.NDArray[Any], encoding: str) -> npt.NDArray[np.uint8]:
    name = encoding if encoding in _TO_RGB else encoding.rstrip("0123456789")
    wide = values.dtype.itemsize == 2 and name in _BAYER
    if values.dtype.itemsize == 2:
        # native byte order; a mosaic is interpolated before its lower bits go
        native = values.astype(np.uint16)
        values = native if wide else np.right_shift(native, 8).astype(np.uint8)
    if name == "rgb":
        return np.array(values, order="C")
    code = _BAYER[name] if name in _BAYER else _TO_RGB[name]
    try:
        rgb = cv2.cvtColor(np.ascontiguousarray(values), code)
        return np.asarray(np.right_shift(rgb, 8) if wide else rgb, np.uint8)
    except cv2.error as error:
        raise WireError(
            f"{encoding} image of {values.shape[1]}x{values.shape[0]} cannot be converted to RGB",
            "Bayer and YUV images need even sizes of at least 4 pixels",
        ) from error


def decode_image(raw: cdr.Bytes) -> ImageMessage:
    """Decodes any common encoding, either byte order, with or without row padding.

    Colour becomes RGB (Bayer and YUV are converted, 16-bit keeps its upper 8 bits); depth becomes
    metres (`depth_metres`).

    Raises:
        WireError: malformed bytes, unknown encoding, sizes that do not fit the data, 0x0.
    """
    message = cdr.deserialize(IMAGE, raw)
    header = header_from_message(message.header)
    encoding = message.encoding
    if encoding not in _LAYOUT:
        raise WireError(
            f"image encoding {encoding!r} is not supported", f"use one of: {', '.join(_LAYOUT)}"
        )
    check_size(message.width, message.height)
    channels, kind = _LAYOUT[encoding]
    values = _rows(message, channels, np.dtype((">" if message.is_bigendian else "<") + kind))
    if encoding in DEPTH_ENCODINGS:
        return ImageMessage(header, encoding, depth_metres(values))
    return ImageMessage(header, encoding, _rgb(values, encoding))


def encode_image(header: Header, pixels: npt.NDArray[Any], encoding: str = "rgb8") -> bytes:
    """An Image message, little-endian, without row padding.

    Args:
        pixels: (H, W, 3) uint8 RGB for rgb8, bgr8, rgba8, bgra8 (opaque), mono8 and the 8-bit Bayer
            patterns (sampled); (H, W) uint8 for mono8; (H, W) uint16 for mono16; (H, W) float
            metres, 0 = none, for 16UC1 (rounded to millimetres, up to 65.535 m) and 32FC1.

    Raises:
        WireError: another encoding, or pixels that do not fit it.
    """
    pixels = np.asarray(pixels)
    colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not (colour or pixels.ndim == 2):
        raise _misfit(pixels, encoding)
    height, width = pixels.shape[:2]
    check_size(width, height)
    data = np.ascontiguousarray(_from_rgb(pixels, encoding) if colour else _plane(pixels, encoding))
    message = cdr.message(
        IMAGE,
        header=header_to_message(header),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.nbytes // height,
    )
    return cdr.serialize_around(IMAGE, message, data)


def _misfit(pixels: npt.NDArray[Any], encoding: str) -> WireError:
    return WireError(
        f"{pixels.dtype} pixels of shape {pixels.shape} cannot be sent as {encoding!r}",
        "use rgb8, bgr8, rgba8, bgra8, mono8 or bayer_*8 for uint8 RGB, mono16 for uint16, 16UC1 "
        "or 32FC1 for float depth in metres",
    )


def _from_rgb(rgb: npt.NDArray[Any], encoding: str) -> npt.NDArray[Any]:
    """What is sent of (H, W, 3) uint8 RGB."""
    if encoding == "rgb8":
        return rgb
    if encoding in _FROM_RGB:
        return np.asarray(cv2.cvtColor(rgb, _FROM_RGB[encoding]))
    if encoding[:-1] not in _BAYER or not encoding.endswith("8"):
        raise _misfit(rgb, encoding)
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for place, channel in enumerate(encoding[6:10]):  # row by row of the 2x2 pattern
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(channel)]
    return mosaic


def _plane(pixels: npt.NDArray[Any], encoding: str) -> npt.NDArray[Any]:
    """What is sent of one (H, W) channel."""
    if encoding == "16UC1" and pixels.dtype.kind == "f":
        return depth_millimetres(pixels)
    if encoding == "32FC1" and pixels.dtype.kind == "f":
        return pixels.astype("<f4")
    if (encoding, pixels.dtype) in (("mono8", np.dtype(np.uint8)), ("mono16", np.dtype("<u2"))):
        return pixels
    raise _misfit(pixels, encoding)


def depth_millimetres(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """uint16 millimetres of depth in metres; what does not fit (negative, NaN, > 65.5 m) is 0."""
    millimetres = np.rint(np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0)
    return np.where((millimetres < 0) | (millimetres > 65535), 0, millimetres).astype("<u2")


def check_image(raw: cdr.Bytes) -> tuple[Header, int, int]:
    """(header, width, height) of an image that `decode_image` would take; pixels stay untouched.

    Raises:
        WireError: as `decode_image`.
    """
    message = cdr.deserialize(IMAGE, raw)
    header = header_from_message(message.header)
    if message.encoding not in _LAYOUT:
        raise WireError(
            f"image encoding {message.encoding!r} is not supported",
            f"use one of: {', '.join(_LAYOUT)}",
        )
    check_size(message.width, message.height)
    channels, kind = _LAYOUT[message.encoding]
    _rows(message, channels, np.dtype("<" + kind))
    return header, message.width, message.height
