"""sensor_msgs/PointCloud2 <-> arrays, whatever the layout of the points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.errors import WireError
from condense_ros.frame import PointCloud
from condense_ros.wire import cdr
from condense_ros.wire.header import (
    SECOND_NS,
    Header,
    header_from_message,
    header_to_message,
)

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"

#: limits of a layout; real drivers stay two orders below
MAX_FIELDS = 256
MAX_POINT_STEP = 65_536

#: PointField datatype -> numpy type without byte order
_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_DATATYPE_OF = {name: number for number, name in _DATATYPES.items()}

_INTENSITY = ("intensity", "intensities", "i", "reflectivity")
_RING = ("ring", "channel", "line", "laser_id")
_TIME = ("t", "time", "timestamp", "time_stamp", "offset_time", "timeoffset")


@dataclass(frozen=True, eq=False)
class CloudMessage:
    """A decoded cloud.

    Attributes:
        header: stamp and lidar frame.
        points: (N,) structured view of the message bytes with the fields as sent; row-major for
            organised clouds.
        height, width: height 1 for unorganised clouds.
        is_dense: as the sender claims; `points` is not searched for NaN.
    """

    header: Header
    points: npt.NDArray[Any]
    height: int
    width: int
    is_dense: bool

    def rows(self) -> npt.NDArray[Any]:
        """(height, width) view of `points`: neighbours in an organised cloud are neighbours in the
        image of the sensor that took it."""
        return self.points.reshape(self.height, self.width)

    def _find(self, names: tuple[str, ...]) -> npt.NDArray[Any] | None:
        """The first scalar field of these names (any case)."""
        fields: Mapping[str, Any] = self.points.dtype.fields or {}
        known = {name.lower(): name for name, entry in fields.items() if entry[0].shape == ()}
        name = next((known[name] for name in names if name in known), None)
        return None if name is None else self.points[name]

    def _triples(self, axes: tuple[npt.NDArray[Any], ...]) -> npt.NDArray[np.void] | None:
        """View (N,) of 12 bytes each where x, y, z are neighbouring float32, but unaligned.

        Moving 12 bytes per point at once is three times as fast as three passes over odd addresses;
        over aligned fields the passes are as fast.
        """
        start, *others = (v.__array_interface__["data"][0] for v in axes)
        beside = others == [start + 4, start + 8]
        if axes[0].flags.aligned or not beside or any(v.dtype != np.float32 for v in axes):
            return None
        offset = start - self.points.__array_interface__["data"][0]
        layout = {"names": ["xyz"], "formats": ["V12"], "offsets": [offset]}
        dtype = np.dtype(layout | {"itemsize": self.points.itemsize})  # type: ignore[call-overload]
        return self.points.view(dtype)["xyz"]  # type: ignore[no-any-return]

    def axes(self) -> tuple[npt.NDArray[Any], ...]:
        """The fields x, y and z as they are on the wire, three views (N,).

        Raises:
            WireError: no scalar fields x, y and z.
        """
        found = {axis: self._find((axis,)) for axis in "xyz"}
        missing = [axis for axis, values in found.items() if values is None]
        if missing:
            raise WireError(
                f"cloud in frame {self.header.frame_id!r} has no field {', '.join(missing)}; "
                f"its fields are {', '.join(self.points.dtype.names or ()) or 'none'}",
                "publish a cloud with scalar fields x, y and z in metres",
            )
        return tuple(values for values in found.values() if values is not None)

    def any_finite(self) -> bool:
        """Whether any point has finite coordinates; a look at some answers for most clouds.

        Raises:
            WireError: points without scalar fields x, y and z.
        """
        if not len(self.points):
            return False
        axes = self.axes()
        with np.errstate(over="ignore", invalid="ignore"):
            return any(
                bool(np.isfinite([axis[::step].astype(np.float32) for axis in axes]).all(0).any())
                for step in (max(1, len(self.points) // 64), 1)
            )

    def xyz(self) -> npt.NDArray[np.float32]:
        """(N, 3) float32 coordinates in metres, of fields of any datatype.

        Raises:
            WireError: no scalar fields x, y and z.
        """
        axes = self.axes()
        side_by_side = self._triples(axes)
        if side_by_side is not None:
            return np.ascontiguousarray(side_by_side).view(np.float32).reshape(-1, 3)
        xyz = np.empty((len(self.points), 3), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes inf
            for column, values in enumerate(axes):
                xyz[:, column] = values
        return xyz

    def cloud(self) -> PointCloud:
        """The points as a `PointCloud`: coordinates, intensity, beam number and time.

        Time fields become seconds after the header's stamp. Integers are nanoseconds after it;
        floats are seconds after it, or absolute seconds or nanoseconds where that reading falls
        within ten seconds of the stamp; otherwise `time_s` is None.

        Raises:
            WireError: no fields x, y and z.
        """
        xyz = self.xyz()
        with np.errstate(over="ignore", invalid="ignore"):
            intensity, ring = self._find(_INTENSITY), self._find(_RING)
            time = self._find(_TIME)
            return PointCloud(
                xyz,
                intensity=None if intensity is None else intensity.astype(np.float32),
                ring=None if ring is None else _beam_number(ring),
                time_s=None if time is None else _seconds_after(time, self.header.stamp_ns),
                frame_id=self.header.frame_id,
            )


def _beam_number(ring: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    if ring.dtype == np.uint16:
        return ring.astype(np.uint16)
    if ring.dtype.kind == "f":
        ring = np.nan_to_num(ring)
    return np.clip(ring, 0, 65535).astype(np.uint16)


def _seconds_after(time: npt.NDArray[Any], stamp_ns: int) -> npt.NDArray[np.float32] | None:
    if time.dtype.kind in "iu":
        return (time.astype(np.float64) / SECOND_NS).astype(np.float32)
    some = time[:: max(1, len(time) // 1000)]
    finite = some[np.isfinite(some)]
    if not finite.size:
        finite = time[np.isfinite(time)]
    middle = float(np.median(finite)) if finite.size else 0.0
    # a sweep lasts a fraction of a second, so at most one of these readings is near the stamp
    for unit_s, start in ((1.0, 0.0), (1.0, stamp_ns / SECOND_NS), (1e-9, float(stamp_ns))):
        if abs(middle - start) * unit_s < 10.0:
            return ((time.astype(np.float64) - start) * unit_s).astype(np.float32)
    return None


def _layout(message: Any) -> np.dtype[Any]:
    """The numpy type of one point."""
    order = ">" if message.is_bigendian else "<"
    step, fields = message.point_step, message.fields
    if not 0 < step <= MAX_POINT_STEP or len(fields) > MAX_FIELDS:
        raise WireError(
            f"cloud has point_step {step} and {len(fields)} fields",
            f"use a point_step of 1 to {MAX_POINT_STEP} and at most {MAX_FIELDS} fields",
        )
    names, formats, offsets = [], [], []
    for field in fields:
        kind = _DATATYPES.get(field.datatype)
        if kind is None:
            raise WireError(
                f"field {field.name!r} of the cloud has datatype {field.datatype}",
                "use datatypes 1 (INT8) to 8 (FLOAT64)",
            )
        count = max(field.count, 1)  # some drivers leave 0 for scalars, as PCL accepts
        end = field.offset + count * np.dtype(kind).itemsize
        if end > step:
            raise WireError(
                f"field {field.name!r} of the cloud ends at byte {end} of a point of {step} bytes",
                "make offset and count of the fields fit into point_step",
            )
        if not field.name or field.name in names:
            raise WireError(
                f"cloud has two fields named {field.name!r}"
                if field.name
                else "a field of the cloud has no name",
                "give every field a name of its own",
            )
        names.append(field.name)
        formats.append((order + kind, (count,)) if count > 1 else order + kind)
        offsets.append(field.offset)
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": step}  # type: ignore[call-overload]
    )


def decode_cloud(raw: cdr.Bytes) -> CloudMessage:
    """Decodes any layout: field order, padding, datatype, count, byte order, organised or not.

    The points are a view of `raw`; they are copied only where rows of an organised cloud are
    padded. A `row_step` that contradicts the data is ignored where the data length leaves no doubt
    (height x width x point_step bytes).

    Raises:
        WireError: malformed bytes, fields outside the point, or too few or too many bytes.
    """
    message = cdr.deserialize(POINT_CLOUD, raw)
    header = header_from_message(message.header)
    height, width, row_step = message.height, message.width, message.row_step
    size, count = len(message.data), height * width
    if count == 0 and size == 0 and message.point_step == 0:
        message.point_step = 1  # an empty cloud of a driver that fills in nothing
        message.fields = []
    dtype = _layout(message)
    row_bytes = width * dtype.itemsize
    if size == height * row_bytes:
        points = np.frombuffer(message.data, dtype=dtype, count=count) if count else None
    elif count and row_step >= row_bytes and size == height * row_step:
        rows = np.ndarray((height, width), dtype, message.data, strides=(row_step, dtype.itemsize))
        points = rows.reshape(-1)
    else:
        raise WireError(
            f"cloud of {width}x{height} points of {dtype.itemsize} bytes with row_step {row_step} "
            f"has {size} bytes",
            "send height x row_step bytes; the message may have been cut short",
        )
    if points is None:
        points = np.empty(0, dtype)
    return CloudMessage(header, points, height, width, bool(message.is_dense))


def encode_cloud(
    header: Header, fields: Mapping[str, npt.NDArray[Any]], *, height: int = 1
) -> bytes:
    """A PointCloud2 whose points hold `fields` one after the other, without padding.

    Args:
        fields: name -> (N,) array, or (N, C) for a field of count C; 8 to 32-bit integers, float32
            or float64.
        height: rows of an organised cloud, whose N points are in row-major order.

    Raises:
        WireError: lengths that differ or do not fill `height` rows, another dtype, no fields.
    """
    arrays = {name: np.asarray(values) for name, values in fields.items()}
    lengths = {len(values) if values.ndim else -1 for values in arrays.values()}
    if len(lengths) != 1 or -1 in lengths or not all(arrays):
        shapes = {name: values.shape for name, values in arrays.items()}
        raise WireError(f"cloud fields have shapes {shapes}", "give one value per point and field")
    point_fields, formats, offset = [], [], 0
    for name, values in arrays.items():
        kind = values.dtype.str[1:]
        if kind not in _DATATYPE_OF or values.ndim > 2 or values.shape[1:] == (0,):
            raise WireError(
                f"cloud field {name!r} is {values.dtype} of shape {values.shape}",
                "use int8 to uint32, float32 or float64, shape (N,) or (N, count)",
            )
        size = int(values.shape[1]) if values.ndim == 2 else 1
        point_fields.append(
            cdr.message(
                "sensor_msgs/msg/PointField",
                name=name,
                offset=offset,
                datatype=_DATATYPE_OF[kind],
                count=size,
            )
        )
        formats.append((name, "<" + kind, (size,)) if size > 1 else (name, "<" + kind))
        offset += size * values.dtype.itemsize
    count = lengths.pop()
    if height < 1 or count % height:
        raise WireError(
            f"{count} points do not fill {height} rows", "give height x width points, height >= 1"
        )
    points = np.empty(count, dtype=np.dtype(formats))
    for name, values in arrays.items():
        points[name] = values.reshape(points[name].shape)
    coordinates = [arrays[axis] for axis in "xyz" if axis in arrays]
    message = cdr.message(
        POINT_CLOUD,
        header=header_to_message(header),
        height=height,
        width=count // height,
        fields=point_fields,
        is_bigendian=False,
        point_step=offset,
        row_step=offset * (count // height),
        is_dense=all(bool(np.isfinite(values).all()) for values in coordinates),
    )
    return cdr.serialize_around(POINT_CLOUD, message, points.view(np.uint8))


def cloud_fields(cloud: PointCloud) -> dict[str, npt.NDArray[Any]]:
    """The fields x, y, z, intensity, ring, time (seconds after the stamp) that a cloud has."""
    named = {"intensity": cloud.intensity, "ring": cloud.ring, "time": cloud.time_s}
    xyz = {axis: cloud.xyz[:, column] for column, axis in enumerate("xyz")}
    return xyz | {name: values for name, values in named.items() if values is not None}


def pack_rgb(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Colours (N, 3) uint8 as the float32 `rgb` field of PCL: bytes 0, r, g, b of a uint32."""
    r, g, b = (np.asarray(rgb, dtype=np.uint32)[:, channel] for channel in range(3))
    return ((r << 16) | (g << 8) | b).astype(np.uint32).view(np.float32)


def unpack_rgb(packed: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """(N, 3) uint8 colours of a float32 (or uint32) `rgb` field."""
    bits = np.ascontiguousarray(packed).view(np.uint32)
    return np.stack([(bits >> shift) & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
