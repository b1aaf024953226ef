"""Point Cloud Data files of PCL, version 0.7: ascii, binary and binary_compressed."""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

from condense_ros.errors import DatasetError

_TYPES = {
    ("F", 4): "<f4",
    ("F", 8): "<f8",
    **{(kind, size): f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}
#: a header that claims more points than this is damaged
_MAX_POINTS = 500_000_000


def _damaged(what: str, problem: str) -> DatasetError:
    return DatasetError(f"{what} is no readable PCD file: {problem}", "export it again with PCL")


def _header(raw: bytes, what: str) -> tuple[np.dtype, int, str, bytes]:
    """(dtype of a row, points, encoding, body)."""
    entries: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in entries:
        end = raw.find(b"\n", at)
        if end < 0:
            raise _damaged(what, "the header has no DATA line")
        line = raw[at:end].decode("latin-1").strip()
        at = end + 1
        if not line or line.startswith("#"):
            continue
        key, *values = line.split()
        entries[key.upper()] = values
    try:
        names, sizes, kinds = entries["FIELDS"], entries["SIZE"], entries["TYPE"]
        counts = [int(count) for count in entries.get("COUNT", ["1"] * len(names))]
        if "POINTS" in entries:
            points = int(entries["POINTS"][0])
        else:
            points = int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])
        encoding = entries["DATA"][0].lower()
        columns = zip(names, sizes, kinds, counts, strict=True)
        dtype = np.dtype(
            [
                # "_" is PCL's padding; numpy needs distinct names
                (name if name != "_" else f"_{i}", _TYPES[kind.upper(), int(size)], (count,))
                for i, (name, size, kind, count) in enumerate(columns)
            ]
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise _damaged(what, f"bad header ({error!r})") from None
    if not 0 <= points <= _MAX_POINTS or any(not 0 < count <= 65536 for count in counts):
        raise _damaged(what, f"the header claims {points} points of counts {counts}")
    return dtype, points, encoding, raw[at:]


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Expands LZF (liblzf) data to exactly `size` bytes.

    A control byte below 32 starts a literal run of that many plus one bytes. Otherwise its upper
    three bits are a length (7: one more byte is added) and its lower five with the next byte the
    distance of a back reference, which may overlap what it writes.

    Raises:
        ValueError: the data are truncated, refer before the start, or expand to another size.
    """
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end:
            control = data[at]
            at += 1
            if control < 32:
                run = data[at : at + control + 1]
                if len(run) != control + 1:
                    raise ValueError("literal run ends early")
                out += run
                at += control + 1
            else:
                length = control >> 5
                if length == 7:
                    length += data[at]
                    at += 1
                start = len(out) - ((control & 31) << 8) - data[at] - 1
                at += 1
                length += 2
                if start < 0:
                    raise ValueError("reference before the start")
                piece = out[start : start + length]
                if len(piece) < length:  # overlapping: the piece repeats itself
                    piece = (piece * (length // len(piece) + 1))[:length]
                out += piece
            if len(out) > size:
                raise ValueError(f"expands to more than {size} bytes")
    except IndexError:
        raise ValueError("data end early") from None
    if len(out) != size:
        raise ValueError(f"expands to {len(out)} bytes instead of {size}")
    return bytes(out)


def _ascii(body: bytes, dtype: np.dtype, points: int, what: str) -> dict[str, npt.NDArray]:
    widths = [math.prod(dtype[name].shape) for name in dtype.names or ()]
    tokens = body.split()
    if len(tokens) != points * sum(widths):
        raise _damaged(what, f"{len(tokens)} values for {points} points of {sum(widths)}")
    columns = np.array(tokens).reshape(points, sum(widths))
    starts = np.cumsum([0, *widths])
    out = {}
    for i, name in enumerate(dtype.names or ()):
        base = dtype[name].base
        values = columns[:, starts[i] : starts[i + 1]]
        try:
            # whole numbers go through int64: float64 would round 64-bit time stamps
            out[name] = values.astype(np.float64 if base.kind == "f" else np.int64).astype(base)
        except (ValueError, OverflowError):
            raise _damaged(what, f"field {name} holds text that is no number") from None
    return out


def read_pcd(raw: bytes, what: str) -> dict[str, npt.NDArray]:
    """Fields of a PCD file as columns (N,); fields with a count above one are left out.

    Args:
        raw: the file's bytes.
        what: how to call the file in error messages.

    Raises:
        DatasetError: the header is damaged or the data are truncated.
    """
    dtype, points, encoding, body = _header(raw, what)
    if encoding == "ascii":
        columns = _ascii(body, dtype, points, what)
    elif encoding == "binary":
        if len(body) < points * dtype.itemsize:
            raise _damaged(
                what, f"truncated: {len(body)} bytes for {points} points of {dtype.itemsize}"
            )
        rows = np.frombuffer(body, dtype, points)
        columns = {name: rows[name] for name in dtype.names or ()}
    elif encoding == "binary_compressed":
        columns = _compressed(body, dtype, points, what)
    else:
        raise _damaged(what, f"unknown encoding {encoding!r}")
    return {name: c.reshape(points) for name, c in columns.items() if c.size == points}


def _compressed(body: bytes, dtype: np.dtype, points: int, what: str) -> dict[str, npt.NDArray]:
    """Compressed files hold one field after the other, not one point after the other."""
    if len(body) < 8:
        raise _damaged(what, "truncated")
    packed, size = struct.unpack_from("<II", body)
    if size != points * dtype.itemsize or len(body) < 8 + packed:
        raise _damaged(what, f"truncated or of another size ({packed} -> {size} bytes)")
    try:
        data = decompress_lzf(body[8 : 8 + packed], size)
    except ValueError as error:
        raise _damaged(what, f"damaged LZF data: {error}") from None
    columns, at = {}, 0
    for name in dtype.names or ():
        count = points * math.prod(dtype[name].shape)
        columns[name] = np.frombuffer(data, dtype[name].base, count, at)
        at += points * dtype[name].itemsize
    return columns
