"""sensor_msgs/CompressedImage (JPEG, PNG, compressedDepth) <-> arrays."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from condense_ros.errors import WireError
from condense_ros.wire import cdr
from condense_ros.wire.header import Header, header_from_message, header_to_message
from condense_ros.wire.image import ImageMessage, check_size, depth_metres, depth_millimetres

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

#: compressed_depth_image_transport puts an enum and two floats before the PNG
_DEPTH_CONFIG_BYTES = 12


def _check_picture(data: bytes) -> tuple[int, int]:
    """(width, height) of the picture's header: a small file must not claim gigabytes."""
    try:
        # Pillow warns about sizes far below our own limit
        with PillowImage.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
    except PillowImage.DecompressionBombError as error:
        raise WireError(f"compressed image: {error}", "publish smaller images") from error
    except Exception as error:  # Pillow's parsers raise what they meet (struct.error, OSError, ...)
        raise WireError(
            f"{len(data)} bytes are neither JPEG nor PNG", "publish the image as jpeg or png"
        ) from error
    check_size(width, height)
    if data[:2] == b"\xff\xd8" and not _whole_jpeg(data):
        raise WireError(
            f"JPEG of {len(data)} bytes has no end",
            "check the camera driver and the link; the message was cut short",
        )
    return width, height


def _decompress(data: bytes, flags: int) -> npt.NDArray[Any]:
    _check_picture(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise WireError(
            f"compressed image of {len(data)} bytes is damaged",
            "check the camera driver and the link; the message was cut short or altered",
        )
    return np.asarray(pixels)


def _whole_jpeg(data: bytes) -> bool:
    """Whether the end-of-image marker is there: OpenCV fills the missing part with grey."""
    return b"\xff\xd9" in data.rstrip(b"\0")[-64:]


def _decode_depth(format: str, data: bytes) -> npt.NDArray[np.float32]:
    inverse = None
    if "compressedDepth" in format:
        if len(data) <= _DEPTH_CONFIG_BYTES:
            raise WireError(
                f"compressedDepth image of {len(data)} bytes has no picture",
                "check the depth camera's driver",
            )
        if format.startswith("32FC1"):
            inverse = np.frombuffer(data, "<f4", count=2, offset=4).astype(np.float64)
        data = data[_DEPTH_CONFIG_BYTES:]
    values = _decompress(data, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise WireError(
            f"depth picture holds {values.dtype} {values.shape}", "send depth as a 16-bit grey PNG"
        )
    if inverse is None:
        return depth_metres(values)
    # inverse depth, quantised: depth = A / (value - B); 0 = none
    with np.errstate(all="ignore"):
        depth = inverse[0] / (values.astype(np.float64) - inverse[1])
        depth[(values == 0) | ~(np.abs(depth) < 1e6)] = 0.0
    return depth_metres(depth)


def decode_compressed_image(raw: cdr.Bytes) -> ImageMessage:
    """Decodes a JPEG or PNG; depth where `format` says 16UC1, 32FC1 or compressedDepth.

    Raises:
        WireError: malformed bytes, damaged or truncated picture, another format, too large.
    """
    message = cdr.deserialize(COMPRESSED_IMAGE, raw)
    header = header_from_message(message.header)
    data = message.data.tobytes()
    format = message.format
    if "compressedDepth" in format or format.startswith(("16UC1", "32FC1")):
        return ImageMessage(header, format, _decode_depth(format, data))
    bgr = _decompress(data, cv2.IMREAD_COLOR)
    return ImageMessage(header, format, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))


def check_compressed_image(raw: cdr.Bytes) -> tuple[Header, int, int]:
    """(header, width, height) from the picture's own header; pixels stay compressed.

    Finds truncation, not damage inside: only decoding does.

    Raises:
        WireError: malformed bytes, truncated picture, another format, too large.
    """
    message = cdr.deserialize(COMPRESSED_IMAGE, raw)
    header = header_from_message(message.header)
    data = message.data.tobytes()
    skip = _DEPTH_CONFIG_BYTES if "compressedDepth" in message.format else 0
    return header, *_check_picture(data[skip:])


def encode_compressed_image(
    header: Header, pixels: npt.NDArray[Any], format: str = "jpeg", quality: int = 90
) -> bytes:
    """A CompressedImage message.

    Args:
        pixels: (H, W, 3) uint8 RGB, or (H, W) float depth in metres (PNG only, millimetres).
        format: "jpeg" or "png".
        quality: of JPEG, 1 to 100.

    Raises:
        WireError: another format, or pixels that do not fit it.
    """
    pixels = np.asarray(pixels)
    depth = pixels.ndim == 2 and pixels.dtype.kind == "f"
    colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if format not in ("jpeg", "png") or not (colour or (depth and format == "png")):
        raise WireError(
            f"{pixels.dtype} pixels of shape {pixels.shape} cannot be sent as {format!r}",
            "use jpeg or png for uint8 RGB, png for float depth in metres",
        )
    check_size(pixels.shape[1], pixels.shape[0])
    picture: npt.NDArray[Any]
    if depth:
        picture, name = depth_millimetres(pixels), "16UC1; png compressed"
    else:
        picture, name = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), format
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if format == "jpeg" else []
    done, data = cv2.imencode(f".{'jpg' if format == 'jpeg' else 'png'}", picture, options)
    if not done:
        raise WireError(f"OpenCV could not compress to {format}", "use another format")
    return cdr.serialize(
        COMPRESSED_IMAGE,
        cdr.message(
            COMPRESSED_IMAGE,
            header=header_to_message(header),
            format=name,
            data=np.asarray(data, np.uint8).reshape(-1),
        ),
    )
