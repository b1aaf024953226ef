"""The files of a simulated folder; `condense_ros.sim.folders.writer` describes their layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.errors import DatasetError
from condense_ros.geometry import Array
from condense_ros.sim.folders.encode import POINT

AGAIN = "run the generation again into the same folder; it goes on where it stopped"
Stamps = npt.NDArray[np.int64]


class FolderFiles:
    """Reads single files of a folder.

    Args:
        samples: number of samples per sensor.
    """

    def __init__(self, path: Path, samples: dict[str, int]) -> None:
        self.path, self.samples = path, samples

    def rows(self, name: str, sensor: str, columns: int) -> tuple[Stamps, Array]:
        """A table: (K,) whole numbers, each followed by `columns` numbers, (K, columns).

        Raises:
            DatasetError: missing, damaged, or not one row per sample of the sensor.
        """
        count = self.samples[sensor]
        try:
            rows = [line.split() for line in (self.path / name).read_text().splitlines()]
            stamps = np.array([int(row[0]) for row in rows], np.int64)
            values = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), columns)
        except (OSError, ValueError, IndexError) as error:
            raise DatasetError(f"cannot read {self.path / name}: {error}", AGAIN) from error
        if len(stamps) != count or not np.isfinite(values).all():
            raise DatasetError(f"{self.path / name} has {len(stamps)} of {count} rows", AGAIN)
        return stamps, values

    def picture(self, name: Path, flag: int = cv2.IMREAD_UNCHANGED) -> npt.NDArray[Any]:
        """An image file.

        Raises:
            DatasetError: missing or damaged.
        """
        path = self.path / name
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        # some versions of OpenCV make up what is missing of a JPEG
        cut = path.suffix in (".jpg", ".jpeg") and b"\xff\xd9" not in data[-64:]
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data and not cut else None
        if array is None:
            raise DatasetError(
                f"{path} is missing or damaged",
                "delete the cloud of that time and generate the folder again",
            )
        return np.asarray(array)

    def points(self, index: int) -> npt.NDArray[np.void]:
        """(N,) structured array of a sweep, see `condense_ros.sim.folders.encode.POINT`.

        Raises:
            DatasetError: missing or damaged.
        """
        path = self.path / "clouds" / f"{index:06d}.npy"
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(
                f"cannot read {path}: {error}", "delete this file and generate the folder again"
            ) from error
        if points.dtype != POINT or points.ndim != 1:
            raise DatasetError(f"{path} holds {points.dtype}", "generate the folder anew")
        return np.asarray(points)


def poses_of(rows: Array) -> Array:
    """(K, 4, 4) transforms from (K, 12) rows of 3x4 matrices."""
    poses = np.zeros((len(rows), 4, 4))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    poses[:, 3, 3] = 1.0
    return poses
