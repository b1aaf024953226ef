"""Writes clouds with any per-point fields as .ply, .pcd or .npz."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.errors import ConfigError, DatasetError
from condense_ros.files import write_atomically

_PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i1": "char", "u2": "ushort"}
_PLY_TYPES |= {"i2": "short", "u4": "uint", "i4": "int"}
SUFFIXES = (".ply", ".pcd", ".npz")

Fields = Mapping[str, npt.NDArray[Any]]


def write_cloud(path: Path | str, fields: Fields) -> Path:
    """Writes a cloud; the suffix names the format.

    Args:
        fields: (N,) arrays by name, in the order they are written; x, y, z come first by custom.

    Raises:
        ConfigError: another suffix.
        StorageFull: no room left; nothing half-written stays.
        DatasetError: the file cannot be written.
    """
    path = Path(path)
    writers = {".ply": _ply, ".pcd": _pcd, ".npz": _npz}
    if path.suffix not in writers:
        raise ConfigError(f"{path.name} has no known suffix", f"use one of {', '.join(SUFFIXES)}")
    data = writers[path.suffix](fields)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error}", "check the folder") from None
    return path


def _packed(fields: Fields) -> npt.NDArray[Any]:
    """One little-endian record per point."""
    layout = [(name, np.asarray(values).dtype.newbyteorder("<")) for name, values in fields.items()]
    count = len(next(iter(fields.values()))) if fields else 0
    records = np.zeros(count, np.dtype(layout))
    for name, values in fields.items():
        records[name] = values
    return records


def _ply(fields: Fields) -> bytes:
    records = _packed(fields)
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(records)}"]
    lines += [
        f"property {_PLY_TYPES[values.dtype.str[1:]]} {name}" for name, values in fields.items()
    ]
    return ("\n".join([*lines, "end_header"]) + "\n").encode() + records.tobytes()


def _pcd(fields: Fields) -> bytes:
    records = _packed(fields)
    kinds = [values.dtype for values in fields.values()]
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join(fields),
        "SIZE " + " ".join(str(kind.itemsize) for kind in kinds),
        "TYPE " + " ".join({"f": "F", "u": "U", "i": "I"}[kind.kind] for kind in kinds),
        "COUNT " + " ".join("1" for _ in kinds),
        f"WIDTH {len(records)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(records)}",
        "DATA binary",
    ]
    return ("\n".join(lines) + "\n").encode() + records.tobytes()


def _npz(fields: Fields) -> bytes:
    buffer = io.BytesIO()
    xyz = np.stack([fields["x"], fields["y"], fields["z"]], axis=1)
    rest: dict[str, Any] = {k: v for k, v in fields.items() if k not in ("x", "y", "z")}
    np.savez_compressed(buffer, xyz=xyz, **rest)
    return buffer.getvalue()
