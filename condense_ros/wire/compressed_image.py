"""sensor_msgs/CompressedImage (JPEG, PNG, compressedDepth) <-> arrays."""

from __future__ import annotations

import io
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from condense_ros.errors import WireError
from condense_ros.wire import cdr
from condense_ros.wire.header import Header, header_from_message, header_to_message
from condense_ros.wire.image import ImageMessage, check_size, depth_metres, depth_millimetres
from condense_ros.wire.rvl import decode_rvl, encode_rvl

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

#: compressed_depth_image_transport puts an enum and two floats before the picture
_DEPTH_CONFIG_BYTES = 12

#: RVL says "nothing here" of any number of pixels in a few bytes, so its size has a limit of its
#: own (the largest depth cameras have 5 million pixels)
MAX_RVL_PIXELS = 1 << 24

#: the most that a byte can hold: JPEG spends a bit or more on a block of 8x8 pixels, deflate a
#: byte on 1032 bytes of eight one-bit pixels
_JPEG_PIXELS_PER_BYTE = 512
_PNG_PIXELS_PER_BYTE = 8256


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
    jpeg = data[:2] == b"\xff\xd8"
    most = len(data) * (_JPEG_PIXELS_PER_BYTE if jpeg else _PNG_PIXELS_PER_BYTE)
    if width * height > most + 4096:
        raise WireError(
            f"picture of {len(data)} bytes claims {width}x{height} pixels",
            "check the camera driver and the link; the message was cut short or altered",
        )
    if not jpeg:
        _check_png(data)
    if jpeg and not _whole_jpeg(data):
        raise WireError(
            f"JPEG of {len(data)} bytes has no end",
            "check the camera driver and the link; the message was cut short",
        )
    return width, height


def _check_png(data: bytes) -> None:
    """Walks the chunks of a PNG: OpenCV would set aside whatever length a damaged one claims."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            break
        if kind == b"IEND":
            return
        at = end
    raise WireError(
        f"PNG of {len(data)} bytes is damaged at byte {at}",
        "check the camera driver and the link; the message was cut short or altered",
    )


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
    if "rvl" in format.lower():
        width, height = _rvl_size(data)
        values = decode_rvl(data[8:], width * height).reshape(height, width)
    else:
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


def _rvl_size(data: bytes) -> tuple[int, int]:
    """(width, height) before an RVL stream."""
    if len(data) < 8:
        raise WireError(f"RVL image of {len(data)} bytes", "check the depth camera's driver")
    width, height = np.frombuffer(data, "<u4", count=2).tolist()
    check_size(width, height)
    if width * height > MAX_RVL_PIXELS:
        raise WireError(
            f"RVL depth image is {width}x{height}",
            f"publish RVL depth of at most {MAX_RVL_PIXELS} pixels",
        )
    return width, height


def decode_compressed_image(raw: cdr.Bytes) -> ImageMessage:
    """Decodes a JPEG or PNG; depth where `format` says 16UC1, 32FC1 or compressedDepth (PNG, RVL).

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

    Finds truncation, and by its checksums any damage to a PNG; a JPEG has none.

    Raises:
        WireError: malformed bytes, truncated picture, another format, too large.
    """
    message = cdr.deserialize(COMPRESSED_IMAGE, raw)
    header = header_from_message(message.header)
    data = message.data.tobytes()
    skip = _DEPTH_CONFIG_BYTES if "compressedDepth" in message.format else 0
    rvl = "rvl" in message.format.lower()
    return header, *(_rvl_size(data[skip:]) if rvl else _check_picture(data[skip:]))


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
    return _message(header, name, np.asarray(data, np.uint8))


def _message(header: Header, format: str, data: npt.NDArray[np.uint8]) -> bytes:
    message = cdr.message(COMPRESSED_IMAGE, header=header_to_message(header), format=format)
    return cdr.serialize_around(COMPRESSED_IMAGE, message, data)


def encode_compressed_depth(
    header: Header,
    depth: npt.NDArray[np.floating],
    codec: str = "png",
    encoding: str = "16UC1",
    *,
    max_m: float = 10.0,
    quantisation: float = 100.0,
) -> bytes:
    """A CompressedImage as compressed_depth_image_transport sends it.

    Args:
        depth: (H, W) metres, 0 or NaN = none.
        codec: "png" or "rvl".
        encoding: "16UC1" for millimetres, "32FC1" for quantised inverse depth.
        max_m: 32FC1: farther is none.
        quantisation: 32FC1: steps grow with distance; larger is finer near the camera.

    Raises:
        WireError: another codec or encoding, or too many pixels.
    """
    depth = np.asarray(depth)
    if codec not in ("png", "rvl") or encoding not in ("16UC1", "32FC1") or depth.ndim != 2:
        raise WireError(
            f"{depth.dtype} of shape {depth.shape} cannot be sent as {encoding!r} {codec!r}",
            "use png or rvl for (H, W) depth as 16UC1 or 32FC1",
        )
    height, width = depth.shape
    check_size(width, height)
    a = b = 0.0
    if encoding == "16UC1":
        values = depth_millimetres(depth)
    else:
        a = quantisation * (quantisation + 1.0)
        b = 1.0 - a / max_m
        with np.errstate(all="ignore"):
            inverse = np.rint(a / depth.astype(np.float64) + b)
        held = (depth > 0) & (depth < max_m) & (inverse > 0) & (inverse < 65536)
        values = np.where(held, inverse, 0).astype("<u2")
    head = np.zeros(1, "<i4").tobytes() + np.array([a, b], "<f4").tobytes()
    if codec == "rvl":
        body = np.array([width, height], "<u4").tobytes() + encode_rvl(values)
        if width * height > MAX_RVL_PIXELS:
            raise WireError(f"depth image is {width}x{height}", "send it as png")
    else:
        body = cv2.imencode(".png", values)[1].tobytes()
    data = np.frombuffer(head + body, np.uint8)
    return _message(header, f"{encoding}; compressedDepth {codec}", data)
