"""The class of every point-pixel pair: from label images, or from labelled points.

Labels are read in the frame as recorded, before anything is augmented; a pair keeps its label.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.errors import DatasetError, LabelError, TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_training.labels.folder import LabelFolder
from condense_training.labels.store import HEADER, read_record
from condense_training.pairs import RigPairs

Labels = npt.NDArray[np.uint8]
#: edge of the ground cells in which noise is of one piece, metres
_PATCH_M = 2.0
#: draws of another class before any class will do
_ATTEMPTS = 50


class PixelLabels(Protocol):
    """Label images of a data set, made offline."""

    def image(self, frame: Frame, number: int) -> Labels:
        """(H, W) uint8 classes of one image at its own resolution, `IGNORE` where none.

        Args:
            frame: as recorded.
            number: of the image in `frame.images`.

        Raises:
            DatasetError: there is none, or it is damaged.
        """
        ...

    def identity(self) -> str:
        """Changes with the labels; goes into the settings of a run."""
        ...


class PngLabels:
    """Label images as 8-bit PNG files, `FOLDER/CAMERA/000000.png` by the frame's index, or
    `FOLDER/SEQUENCE/CAMERA/000000.png` where several data sets are labelled.

    Raises:
        DatasetError: no such folder, or no PNG in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._files = sorted(self.folder.rglob("*.png"))
        if not self._files:
            raise DatasetError(f"no label images in {folder}", "give a folder of CAMERA/000000.png")

    def image(self, frame: Frame, number: int) -> Labels:
        """See `PixelLabels.image`."""
        sequence, index, camera = frame.sequence, frame.index, frame.images[number].name
        name = Path(camera) / f"{index:06d}.png"
        of_sequence = self.folder / sequence / name
        path = of_sequence if sequence and of_sequence.is_file() else self.folder / name
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
        if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
            raise DatasetError(
                f"no 8-bit label image of frame {index} of {sequence!r}, camera {camera!r}: {path}",
                "label all images of the data, or leave the frame out",
            )
        return np.asarray(labels, np.uint8)

    def identity(self) -> str:
        """Sixteen hex digits over names and contents."""
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(f"{file.relative_to(self.folder).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]


class MadeLabels:
    """What `condense label` has written, found by the pixels of an image and not by its name: one
    folder may hold the labels of several data sets, and those of another image are never taken.

    Raises:
        DatasetError: no such folder, or it has been edited.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.folder = LabelFolder(folder)
        except LabelError as error:
            raise DatasetError(error.problem, error.fix) from None

    def image(self, frame: Frame, number: int) -> Labels:
        """See `PixelLabels.image`."""
        image = frame.images[number]
        try:
            return self.folder.read(image.pixels).labels
        except LabelError as error:
            raise DatasetError(
                f"no labels of frame {frame.index} of {frame.sequence!r}, camera {image.name!r}: "
                f"{error.problem}",
                error.fix,
            ) from None

    def identity(self) -> str:
        """Sixteen hex digits over labeler, ontology, and hashes of all labels."""
        header = self.folder.header
        digest = hashlib.sha256(f"{header.labeler_hash} {header.ontology.hash()}".encode())
        for path in sorted((self.folder.path / "objects").rglob("*.json")):
            digest.update(f"{path.stem} {read_record(path).get('label_sha256')}\n".encode())
        return digest.hexdigest()[:16]


def open_pixel_labels(folder: Path) -> PixelLabels:
    """Labels of `condense label`, or any folder of PNG files.

    Raises:
        DatasetError: neither.
    """
    return MadeLabels(folder) if (folder / HEADER).is_file() else PngLabels(folder)


def pixel_labels_of(frame: Frame, pairs: RigPairs, source: PixelLabels) -> Labels:
    """(M,) the label of the pixel nearest to each pair's projection.

    Args:
        pairs: in pixels of whole images.

    Raises:
        DatasetError: a label image is missing or of another size than its image.
    """
    labels = np.full(len(pairs), IGNORE, np.uint8)
    for number in np.unique(pairs.image).tolist():
        image = frame.images[number]
        picture = source.image(frame, number)
        if picture.shape != image.pixels.shape[:2]:
            raise DatasetError(
                f"label image of {image.name!r}, frame {frame.index} of {frame.sequence!r}, is "
                f"{picture.shape}, the image {image.pixels.shape[:2]}",
                "label images at their own resolution",
            )
        mine = pairs.image == number
        column, row = np.rint(pairs.uv[mine]).astype(np.int64).T
        labels[mine] = picture[row, column]
    return labels


def point_labels_of(frame: Frame, pairs: RigPairs, *, classes: int, noise: float = 0.0) -> Labels:
    """(M,) the label of each pair's point.

    Args:
        classes: number of classes; only noise needs it.
        noise: share of patches (2 m cells of the ground, of one class) that get the class of
            another patch of the frame, as label models err in pieces and not pixel by pixel. The
            same every time a frame is seen.

    Raises:
        TrainingError: the frame has no labels.
    """
    if frame.labels is None:
        raise TrainingError(
            f"frame {frame.index} of {frame.sequence!r} has no labels",
            "give labelled data (for example simulated), or label images with labels=folder",
        )
    labels = frame.labels
    if noise > 0:
        labels = _noisy(frame, labels, classes, noise)
    return labels[pairs.point]


def _noisy(frame: Frame, labels: Labels, classes: int, noise: float) -> Labels:
    rng = np.random.default_rng([zlib.crc32(frame.sequence.encode()), frame.index])
    known = frame.cloud.finite() & (labels < classes)
    cell = np.floor(frame.cloud.xyz[known, :2] / _PATCH_M).astype(np.int64)
    _, patch = np.unique(_keys(cell, labels[known]), return_inverse=True)
    value = labels[known]
    _, first = np.unique(patch, return_index=True)
    of_patch = value[first]
    wrong = _other_classes(of_patch, rng, classes)
    changed = rng.random(len(of_patch)) < noise
    out = labels.copy()
    out[known] = np.where(changed, wrong, of_patch)[patch]
    return out


def _other_classes(of_patch: Labels, rng: np.random.Generator, classes: int) -> Labels:
    """Another class for every patch, that of some other patch of the frame: what is rare stays
    rare, as with a label model that is right in most of what it calls by any name."""
    wrong = of_patch.copy()
    for _ in range(_ATTEMPTS):
        same = np.flatnonzero(wrong == of_patch)
        if not len(same):
            break
        wrong[same] = of_patch[rng.integers(0, len(of_patch), len(same))]
    same = np.flatnonzero(wrong == of_patch)  # nearly everything is of one class
    shift = rng.integers(1, max(2, classes), len(same))
    wrong[same] = (wrong[same].astype(np.int64) + shift) % classes
    return wrong


def _keys(cell: npt.NDArray[np.int64], labels: Labels) -> npt.NDArray[np.int64]:
    """One number for cell and class, in the order of both; sorting rows takes ten times as long."""
    if not len(cell):
        return np.zeros(0, np.int64)
    low = cell.min(axis=0)
    width = cell[:, 1].max() - low[1] + 1
    key: npt.NDArray[np.int64] = (cell[:, 0] - low[0]) * width + (cell[:, 1] - low[1])
    return key * (IGNORE + 1) + labels
