"""Vertices of PLY files (Turk 1994), ascii or binary of either byte order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.errors import DatasetError

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
    **{f"{name}{8 * size}": f"{name[0]}{size}" for name in ("int", "uint") for size in (1, 2, 4)},
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_POINTS = 500_000_000


def _damaged(what: str, problem: str) -> DatasetError:
    return DatasetError(f"{what} is no readable PLY file: {problem}", "export it again")


def read_ply(raw: bytes, what: str) -> dict[str, npt.NDArray]:
    """Properties of the element `vertex` as columns (N,). Other elements may follow it.

    Args:
        raw: the file's bytes.
        what: how to call the file in error messages.

    Raises:
        DatasetError: no PLY, no vertices, list properties on vertices, an element before the
            vertices, or truncated data.
    """
    end = raw.find(b"end_header")
    line_end = raw.find(b"\n", end)
    if not raw.startswith(b"ply") or end < 0 or line_end < 0:
        raise _damaged(what, "no PLY header")
    encoding, element, first, points = "", "", "", -1
    names: list[str] = []
    types: list[str] = []
    try:
        for line in raw[:end].decode("latin-1").splitlines()[1:]:
            words = line.split()
            if not words or words[0] in ("comment", "obj_info"):
                continue
            if words[0] == "format":
                encoding = words[1]
            elif words[0] == "element":
                element, first = words[1], first or words[1]
                if element == "vertex":
                    points = int(words[2])
            elif words[0] == "property" and element == "vertex":
                if words[1] == "list":
                    raise _damaged(what, "its vertices have list properties")
                types.append(_TYPES[words[1]])
                names.append(words[2])
        order = _ORDERS[encoding]
        dtype = np.dtype([(n, order + t) for n, t in zip(names, types, strict=True)])
    except (KeyError, ValueError, IndexError) as error:
        raise _damaged(what, f"bad header ({error!r})") from None
    if first != "vertex" or not 0 <= points <= _MAX_POINTS or not names:
        raise _damaged(what, f"its first element is {first or 'missing'}, with {points} vertices")
    body = raw[line_end + 1 :]
    if encoding == "ascii":
        rows = [line.split() for line in body.splitlines() if line.strip()][:points]
        if len(rows) < points or any(len(row) != len(names) for row in rows):
            raise _damaged(what, f"truncated: fewer than {points} full rows")
        try:
            table = np.array(rows, np.float64).reshape(points, len(names))
        except ValueError:
            raise _damaged(what, "a vertex holds text that is no number") from None
        columns = {}
        for i, name in enumerate(names):
            if types[i][0] in "iu":
                low, high = np.iinfo(types[i]).min, np.iinfo(types[i]).max
                if not ((table[:, i] >= low) & (table[:, i] <= high)).all():
                    raise _damaged(what, f"property {name} leaves {low}..{high}")
            columns[name] = table[:, i].astype(types[i])
        return columns
    if len(body) < points * dtype.itemsize:
        raise _damaged(
            what, f"truncated: {len(body)} bytes for {points} vertices of {dtype.itemsize}"
        )
    vertices = np.frombuffer(body, dtype, points)
    return {name: vertices[name] for name in names}
