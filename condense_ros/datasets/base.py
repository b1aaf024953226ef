"""`Dataset`, what every reader of recorded or simulated sensor data offers, and shared checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from condense_ros.errors import CondenseError, DatasetError, WireError
from condense_ros.frame import CameraImage, Frame
from condense_ros.geometry import Array
from condense_ros.ontology import Ontology

#: stamp of the first frame where a data set ships no clock; ROS reads a stamp of 0 as "unset"
FIRST_STAMP_NS = 1_000_000_000


@runtime_checkable
class Dataset(Protocol):
    """Frames in the order they were recorded, read from disk when asked for.

    Attributes:
        name: short name, used as `Frame.sequence`.
        period_s: time between frames in seconds (the nominal one where stamps are missing).
        classes: what the values of `Frame.labels` mean, or None where there are no labels.
        T_base_lidar: (4, 4) mounting of the lidar on the vehicle, or None where it is not shipped.
            Mountings of cameras follow: `T_base_lidar @ inverse(image.T_cam_lidar)`.
        poses: (len, 4, 4) `T_world_lidar` of every frame, or None.
    """

    @property
    def name(self) -> str: ...

    @property
    def period_s(self) -> float: ...

    @property
    def classes(self) -> Ontology | None: ...

    @property
    def T_base_lidar(self) -> Array | None: ...

    @property
    def poses(self) -> Array | None: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame:
        """Frame `index` (negative ones count from the end).

        Raises:
            IndexError: out of range.
            DatasetError: a file of the frame is missing or damaged.
        """
        ...


#: (camera, error) of an image that was left out
ImageReport = Callable[[str, CondenseError], None]
_report: ContextVar[ImageReport | None] = ContextVar("damaged_images", default=None)


@contextmanager
def leave_out_damaged_images(report: ImageReport) -> Iterator[None]:
    """Within it, a frame of several cameras does without images that cannot be read.

    Outside, and where no image of a frame can be read, such an image is the frame's error.

    Args:
        report: called for every image left out.
    """
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


def gather_images(
    loaders: Iterable[tuple[str, Callable[[], CameraImage]]],
) -> tuple[CameraImage, ...]:
    """The images of a frame; readers of several cameras read them through this.

    Args:
        loaders: camera name and what reads its image.

    Raises:
        DatasetError, WireError: an image is damaged, and it is not to be left out.
    """
    report = _report.get()
    images: list[CameraImage] = []
    failed: list[tuple[str, CondenseError]] = []
    for name, load in loaders:
        try:
            images.append(load())
        except (DatasetError, WireError) as error:
            if report is None:
                raise
            failed.append((name, error))
    if report is not None and failed:
        if not images:
            raise failed[-1][1]
        for name, reason in failed:
            report(name, reason)
    return tuple(images)


@runtime_checkable
class Fingerprinted(Protocol):
    """A data set too large to be hashed file by file, or of which a part is read."""

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with what is read, not with where it lies."""
        ...


def check_index(index: int, length: int, name: str) -> int:
    """`index` as a non-negative row; IndexError past either end, which also ends iteration."""
    row = index + length if index < 0 else index
    if not 0 <= row < length:
        raise IndexError(f"{name} has {length} frames, not number {index}")
    return row


def describe_folder(folder: Path, limit: int = 12) -> str:
    """The first names in a folder, for error messages."""
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    shown = ", ".join(names[:limit]) or "nothing"
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file.

    Raises:
        DatasetError: missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DatasetError(
            f"{path} is not a readable image ({error})", "restore the file"
        ) from None


def read_numbers(path: Path, columns: int) -> Array:
    """(N, columns) float64 of a whitespace-separated text file.

    Raises:
        DatasetError: missing, not numbers, or rows of another length.
    """
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
        values = np.array(rows, dtype=np.float64)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a table of numbers ({error})", "restore it") from None
    if values.ndim != 2 or values.shape[1] != columns or not np.isfinite(values).all():
        raise DatasetError(
            f"{path} holds a table of shape {values.shape}", f"give {columns} numbers per row"
        )
    return values


def rows_to_poses(rows: Array) -> Array:
    """(N, 12) rows of 3x4 matrices (KITTI odometry text) to (N, 4, 4)."""
    poses = np.zeros((len(rows), 4, 4))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    poses[:, 3, 3] = 1.0
    return poses


def require(paths: Iterable[Path], what: str) -> None:
    """Raises DatasetError naming the first of `paths` that is absent."""
    for path in paths:
        if not path.exists():
            raise DatasetError(f"{what}: {path} is missing", "restore the file or folder")
