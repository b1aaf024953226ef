"""Single point clouds in the common file formats, and folders of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.datasets.base import FIRST_STAMP_NS, check_index, describe_folder
from condense_ros.datasets.open import CLOUD_SUFFIXES
from condense_ros.datasets.pcd import read_pcd
from condense_ros.datasets.ply import read_ply
from condense_ros.errors import DatasetError
from condense_ros.frame import Frame, PointCloud
from condense_ros.geometry import Array
from condense_ros.ontology import Ontology

Fields = Mapping[str, npt.NDArray]

#: names under which drivers and tools write the same thing; the first found is taken
_INTENSITY = ("intensity", "i", "reflectivity", "scalar_intensity")
_RING = ("ring", "channel", "laser_number", "laser_id")


def fields_to_cloud(fields: Fields, what: str) -> PointCloud:
    """A cloud from named columns; `x`, `y`, `z` are needed, intensity and ring taken if there.

    Raises:
        DatasetError: x, y or z is absent, or columns differ in shape.
    """
    lower = {name.lower(): np.asarray(values) for name, values in fields.items()}
    missing = [name for name in "xyz" if name not in lower]
    if missing:
        raise DatasetError(
            f"{what} has no field {', '.join(missing)} (it has {', '.join(fields) or 'none'})",
            "export the cloud with fields x, y and z in metres",
        )
    chosen = {"x": lower["x"], "y": lower["y"], "z": lower["z"]}
    for kind, names in (("intensity", _INTENSITY), ("ring", _RING)):
        found = next((name for name in names if name in lower), None)
        if found is not None:
            chosen[kind] = lower[found]
    shapes = {values.shape for values in chosen.values()}
    if len(shapes) != 1 or chosen["x"].ndim != 1:
        raise DatasetError(f"{what} has columns of shapes {sorted(shapes)}", "give one row each")
    if any(values.dtype.kind not in "fiu" for values in chosen.values()):
        raise DatasetError(f"{what} has columns that are not numbers", "export numeric columns")
    with np.errstate(over="ignore"):
        xyz = np.stack([chosen[axis] for axis in "xyz"], axis=1).astype(np.float32)
    ring = chosen.get("ring")
    if ring is not None and (not _is_whole(ring) or ring.min(initial=0) < 0):
        ring = None
    return PointCloud(
        xyz, None if "intensity" not in chosen else chosen["intensity"].astype(np.float32), ring
    )


def _is_whole(values: npt.NDArray) -> bool:
    """True for beam numbers that fit uint16, whatever number type they were stored in."""
    return bool(np.isfinite(values).all() and (values % 1 == 0).all() and (values < 65536).all())


def read_bin(path: Path, columns: int) -> PointCloud:
    """Rows of float32: x, y, z, intensity, then ring and whatever else, which is left out.

    Raises:
        DatasetError: absent, or not of whole rows.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error})", "restore the file") from None
    if len(raw) % (4 * columns):
        raise DatasetError(
            f"{path} has {len(raw)} bytes, no multiple of {4 * columns}; it is truncated or no "
            f"cloud of {columns} float32 per point",
            "copy the file again",
        )
    rows = np.frombuffer(raw, "<f4").reshape(-1, columns)
    names = ("x", "y", "z", "intensity", "ring")[:columns]
    return fields_to_cloud({name: rows[:, i] for i, name in enumerate(names)}, str(path))


def _read_bin(path: Path) -> PointCloud:
    # nuScenes ends its rows of x y z intensity ring in .pcd.bin, KITTI its x y z intensity in .bin
    return read_bin(path, 5 if path.name.endswith(".pcd.bin") else 4)


def _read_npy(path: Path) -> PointCloud:
    try:
        content = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DatasetError(f"{path} is no NumPy array ({error})", "save it with np.save") from None
    return _from_array(content, path)


def _from_array(content: npt.NDArray, path: Path) -> PointCloud:
    if content.dtype.names:
        return fields_to_cloud({name: content[name] for name in content.dtype.names}, str(path))
    if content.ndim != 2 or content.shape[1] < 3:
        raise DatasetError(
            f"{path} holds an array of shape {content.shape}",
            "give (N, 3) x y z, (N, 4) with intensity, or a structured array with fields x y z",
        )
    names = ("x", "y", "z", "intensity")
    return fields_to_cloud(dict(zip(names, content.T, strict=False)), str(path))


def _read_npz(path: Path) -> PointCloud:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is no .npz archive ({error})", "use np.savez") from None
    for key in ("xyz", "points"):
        if key in arrays:
            cloud = _from_array(arrays[key], path)
            columns = {"x": cloud.xyz[:, 0], "y": cloud.xyz[:, 1], "z": cloud.xyz[:, 2]}
            if cloud.intensity is not None:
                columns["intensity"] = cloud.intensity
            extra = {k: v for k, v in arrays.items() if v.shape == (len(cloud),)}
            return fields_to_cloud({**columns, **extra}, str(path))
    if len(arrays) == 1:
        return _from_array(next(iter(arrays.values())), path)
    return fields_to_cloud(arrays, str(path))


def _read_pcd(path: Path) -> PointCloud:
    return fields_to_cloud(read_pcd(path.read_bytes(), str(path)), str(path))


def _read_ply(path: Path) -> PointCloud:
    return fields_to_cloud(read_ply(path.read_bytes(), str(path)), str(path))


def read_feather(path: Path) -> dict[str, npt.NDArray]:
    """Columns of a feather file.

    Raises:
        DatasetError: damaged, or pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException, feather
    except ImportError:
        raise DatasetError(f"{path} needs pyarrow", "pip install pyarrow") from None
    try:
        table = feather.read_table(path)
    except (ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path} is no feather file ({error})", "copy it again") from None
    return {name: table[name].to_numpy() for name in table.column_names}


def _read_feather(path: Path) -> PointCloud:
    return fields_to_cloud(read_feather(path), str(path))


_READERS: dict[str, Callable[[Path], PointCloud]] = {
    ".bin": _read_bin,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pcd": _read_pcd,
    ".ply": _read_ply,
    ".feather": _read_feather,
}


def read_cloud(path: str | Path) -> PointCloud:
    """Reads one point cloud; the suffix names the format.

    `.bin` (KITTI: x y z intensity float32; `.pcd.bin`, nuScenes: and ring), `.npy`, `.npz`, `.pcd`
    (ascii, binary, binary_compressed), `.ply` (ascii, binary of either byte order), `.feather`.

    Raises:
        DatasetError: absent, unknown suffix, truncated or damaged, or without x, y, z.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"{path} has no suffix of a cloud format", f"use one of {' '.join(_READERS)}"
        )
    if not path.is_file():
        raise DatasetError(f"{path} is no file", "check the path")
    try:
        return reader(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error})", "check the file") from None


class CloudFolder:
    """A folder of cloud files, or one cloud file, as frames without images, poses or clock.

    Raises:
        DatasetError: no cloud files.
    """

    classes: Ontology | None = None
    T_base_lidar: Array | None = None
    poses: Array | None = None
    period_s = 0.1

    def __init__(self, path: Path) -> None:
        path = Path(path)
        self.name = path.resolve().name
        self._files = [path] if path.is_file() else sorted(path.iterdir())
        self._files = [p for p in self._files if p.suffix.lower() in CLOUD_SUFFIXES]
        if not self._files:
            found = describe_folder(path) if path.is_dir() else path.suffix
            raise DatasetError(
                f"{path} holds no clouds (it holds {found})", f"use {' '.join(CLOUD_SUFFIXES)}"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Frame:
        row = check_index(index, len(self), self.name)
        return Frame(
            FIRST_STAMP_NS + row * 100_000_000,
            read_cloud(self._files[row]),
            sequence=self.name,
            index=row,
            notes=("stamps are made up: files in order of their names at 10 Hz",),
        )
