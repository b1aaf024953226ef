"""Every decoder of foreign bytes, with valid inputs, its typed errors, and what it may allocate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from condense_ros import wire
from condense_ros.bags.pairs import PAIR_TYPE, PairRecord
from condense_ros.datasets.pcd import read_pcd
from condense_ros.datasets.ply import read_ply
from condense_ros.errors import CondenseError
from condense_ros.geometry import CameraModel
from condense_ros.wire import cdr
from condense_ros.wire.compressed_image import MAX_RVL_PIXELS

HEADER = wire.Header(1_700_000_000_000_000_000, "sensor")
PICTURE = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
DEPTH = np.linspace(0.5, 9, 12 * 16, dtype=np.float32).reshape(12, 16)
K = np.array([[50.0, 0, 8], [0, 50, 6], [0, 0, 1]])
POINTS: dict[str, Any] = {
    **{axis: np.linspace(0, 1, 8, dtype=np.float32) for axis in "xyz"},
    "intensity": np.arange(8, dtype=np.uint8),
    "ring": np.arange(8, dtype=np.uint16),
    "time": np.arange(8) * 0.01,
}
_PCD = """# .PCD v0.7
VERSION 0.7
FIELDS x y z intensity
SIZE 4 4 4 4
TYPE F F F F
COUNT 1 1 1 1
WIDTH 3
HEIGHT 1
POINTS 3
DATA """
_PLY = """ply
format {} 1.0
element vertex 3
property float x
property float y
property uchar red
end_header
"""


@dataclass(frozen=True)
class Target:
    """A decoder.

    Attributes:
        decode: bytes -> anything; raises only `CondenseError`.
        seeds: valid inputs.
        per_byte, at_most: it may allocate `per_byte` times the input's length and a megabyte, and
            never more than `at_most` bytes.
        rest_is_read: False where it looks at the beginning alone.
    """

    decode: Callable[[Any], Any]
    seeds: tuple[bytes, ...]
    per_byte: int = 200
    at_most: int = 4 << 30
    rest_is_read: bool = True

    def limit(self, length: int) -> int:
        """Bytes that decoding `length` bytes may allocate."""
        return min(self.per_byte * length + (1 << 20), self.at_most)


def big_endian(kind: str, raw: bytes) -> bytes:
    """The same message in big-endian CDR."""
    store = cdr.typestore()
    return bytes(store.serialize_cdr(cdr.deserialize(kind, raw), kind, little_endian=False))


def _both(kind: str, *raws: bytes) -> tuple[bytes, ...]:
    return raws + tuple(big_endian(kind, raw) for raw in raws)


def _points(raw: Any) -> Any:
    message = wire.decode_cloud(raw)
    message.rows()
    return message.cloud()


def _image(encoding: str, values: Any, order: int = 0) -> bytes:
    rows = np.ascontiguousarray(values)
    message = cdr.message(
        wire.IMAGE,
        height=rows.shape[0],
        width=rows.shape[1],
        encoding=encoding,
        is_bigendian=order,
        step=rows.nbytes // rows.shape[0],
    )
    return cdr.serialize_around(wire.IMAGE, message, rows)


def _images() -> tuple[bytes, ...]:
    encodings = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_gbrg8")
    own = [wire.encode_image(HEADER, PICTURE, name) for name in encodings]
    wide = PICTURE.astype(">u2") * 200
    own += [
        _image("bayer_grbg16", wide[..., 0], 1),
        _image("rgb16", wide, 1),
        _image("mono16", wide[..., 1], 1),
        _image("yuv422", PICTURE[..., :2]),
        _image("yuv422_yuy2", PICTURE[..., :2]),
        wire.encode_image(HEADER, DEPTH, "16UC1"),
        wire.encode_image(HEADER, DEPTH, "32FC1"),
        _image("32FC1", DEPTH.astype(">f4"), 1),
    ]
    return _both(wire.IMAGE, *own)


def _pictures() -> tuple[bytes, ...]:
    progressive = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    message = cdr.message(wire.COMPRESSED_IMAGE, format="rgb8; jpeg compressed bgr8")
    return (
        wire.encode_compressed_image(HEADER, PICTURE),
        wire.encode_compressed_image(HEADER, PICTURE, "png"),
        wire.encode_compressed_image(HEADER, DEPTH, "png"),
        cdr.serialize_around(wire.COMPRESSED_IMAGE, message, progressive),
    )


def _infos() -> tuple[bytes, ...]:
    cameras = [
        CameraModel(K, 16, 12, np.full(5, 0.01)),
        CameraModel(K, 16, 12, np.full(8, 0.01)),
        CameraModel(K, 16, 12, np.full(4, 0.01), "fisheye"),
        CameraModel(K, 16, 12),
    ]
    return _both(wire.CAMERA_INFO, *(wire.encode_camera_info(HEADER, c) for c in cameras))


def _clouds() -> tuple[bytes, ...]:
    message = cdr.deserialize(wire.POINT_CLOUD, wire.encode_cloud(HEADER, POINTS, height=2))
    message.is_bigendian = True
    odd = {"z": POINTS["z"], "t": np.arange(8, dtype=np.uint32), "x": POINTS["time"]}
    odd |= {"normal": np.ones((8, 3), np.float32), "y": np.arange(8, dtype=np.int16)}
    return _both(
        wire.POINT_CLOUD,
        wire.encode_cloud(HEADER, POINTS),
        wire.encode_cloud(HEADER, odd),
        wire.encode_cloud(HEADER, {axis: np.zeros(0, np.float32) for axis in "xyz"}),
        cdr.serialize(wire.POINT_CLOUD, message),
    )


def _pcd_files() -> tuple[bytes, ...]:
    rows = np.arange(12, dtype="<f4")
    ascii_rows = "\n".join(" ".join(map(str, row)) for row in rows.reshape(3, 4))
    # an LZF stream of literals only: a length less one, then that many bytes
    body = rows.tobytes()
    packed = b"".join(bytes([len(p) - 1]) + p for p in (body[i : i + 32] for i in range(0, 48, 32)))
    sizes = len(packed).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    head = _PCD.encode()
    return (
        head + f"ascii\n{ascii_rows}\n".encode(),
        head + b"binary\n" + body,
        head + b"binary_compressed\n" + sizes + packed,
    )


def _ply_files() -> tuple[bytes, ...]:
    row = np.zeros(3, [("x", "<f4"), ("y", "<f4"), ("red", "u1")])
    return (
        _PLY.format("ascii").encode() + b"1 2 3\n4 5 6\n7 8 9\n",
        _PLY.format("binary_little_endian").encode() + row.tobytes(),
        _PLY.format("binary_big_endian").encode() + row.tobytes(),
    )


def _pairs() -> tuple[bytes, ...]:
    messages = {"points": ("/points", 5), "image/front": ("/front/image", 7)}
    T = np.eye(4)
    records = (PairRecord(5, messages, "0123456789ab", T, "odom", "base"), PairRecord(5, messages))
    return _both(PAIR_TYPE, *(record.encode() for record in records))


def targets() -> dict[str, Target]:
    """All decoders by name."""
    odometry = wire.Odometry(HEADER, "base", np.eye(4))
    transforms = [wire.StampedTransform(9, "a", f"b{i}", np.eye(4)) for i in range(3)]
    statuses = [wire.Diagnostic("a", 1, "b", {"c": 1})] * 2
    depth = [
        wire.encode_compressed_depth(HEADER, DEPTH, codec, encoding)
        for codec in ("png", "rvl")
        for encoding in ("16UC1", "32FC1")
    ]
    images, pictures = _images(), _pictures()
    # the pixels that a compressed byte may claim, as RGB and once more while colours are swapped
    picture, rvl = 8256 * 7, MAX_RVL_PIXELS * 40
    return {
        "image": Target(wire.decode_image, images),
        "check_image": Target(wire.check_image, images),
        "compressed_image": Target(wire.decode_compressed_image, pictures, picture),
        "check_compressed_image": Target(wire.check_compressed_image, pictures),
        "compressed_depth": Target(wire.decode_compressed_image, tuple(depth), 1 << 30, rvl),
        "camera_info": Target(wire.decode_camera_info, _infos()),
        "cloud": Target(_points, _clouds()),
        "tf": Target(wire.decode_tf, _both(wire.TF, wire.encode_tf(transforms))),
        "odometry": Target(
            wire.decode_odometry, _both(wire.ODOMETRY, wire.encode_odometry(odometry))
        ),
        "pose": Target(
            wire.decode_pose, _both(wire.POSE, wire.encode_pose(HEADER, np.eye(4), np.eye(6)))
        ),
        "clock": Target(wire.decode_clock, _both(wire.CLOCK, wire.encode_clock(12_345))),
        "diagnostics": Target(
            wire.decode_diagnostics,
            _both(wire.DIAGNOSTICS, wire.encode_diagnostics(HEADER, statuses)),
        ),
        "header": Target(wire.read_header, images[:1] + images[-1:], rest_is_read=False),
        "pair": Target(PairRecord.decode, _pairs()),
        "pcd": Target(lambda raw: read_pcd(bytes(raw), "a.pcd"), _pcd_files()),
        "ply": Target(lambda raw: read_ply(bytes(raw), "a.ply"), _ply_files()),
    }


def attempt(target: Target, raw: Any) -> tuple[str, Any]:
    """("ok", result), or (error's text, None) for a typed error that names a fix.

    Raises:
        AssertionError: a typed error without a fix.
        Exception: what no decoder may raise.
    """
    try:
        return "ok", target.decode(raw)
    except CondenseError as error:
        if not error.fix:
            raise AssertionError(f"{error} names no fix") from error
        return str(error), None
