"""The images of a data set, a bag or a folder of pictures, one entry after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from condense_ros.datasets import Dataset, open_dataset
from condense_ros.datasets.base import read_image
from condense_ros.errors import DatasetError
from condense_ros.frame import CameraImage

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp", ".tif", ".tiff")


def pixel_hash(pixels: npt.NDArray[np.uint8]) -> str:
    """64 hex digits of an (H, W, 3) image: its size and its decoded pixels.

    The same picture has the same hash as a file, in a bag and in a thinned copy of that bag.
    """
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image to be labelled.

    Attributes:
        name: relative path without suffix, unique in its source; names the label files.
        pixels: (H, W, 3) uint8 RGB.
        fields: what path templates may use: camera, index, folder, stem, stamp_ns.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    fields: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """`pixel_hash` of the pixels."""
        return pixel_hash(self.pixels)


class ImageSource(Protocol):
    """Entries (frames or files), each with the images that are read together."""

    path: Path

    def __len__(self) -> int: ...

    def images(self, number: int) -> list[SourceImage]:
        """The images of one entry.

        Raises:
            CondenseError, OSError, ValueError: the entry cannot be read; others may.
        """
        ...

    def describe(self, number: int) -> str:
        """Names an entry for messages."""
        ...


class DatasetImages:
    """The images of a data set's or a bag's frames, named CAMERA/000000."""

    def __init__(
        self, path: Path, dataset: Dataset, stride: int = 1, limit: int | None = None
    ) -> None:
        self.path, self.dataset = path, dataset
        self.selection = stride, limit
        self._rows = list(range(0, len(dataset), stride))[:limit]

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, number: int) -> list[SourceImage]:
        row = self._rows[number]
        return [image_of(image, row) for image in self.dataset[row].images]

    def describe(self, number: int) -> str:
        return f"frame {self._rows[number]}"


def image_of(image: CameraImage, index: int) -> SourceImage:
    """A camera's image of frame `index`, as labels are made and found for it."""
    fields = {
        "camera": image.name,
        "index": index,
        "folder": image.name,
        "stem": f"{index:06d}",
        "stamp_ns": image.stamp_ns,
    }
    return SourceImage(f"{image.name}/{index:06d}", image.pixels, fields)


class FolderImages:
    """The picture files under a folder, at any depth, named by their paths without suffix.

    Raises:
        DatasetError: no picture there, or two that differ in their suffix only.
    """

    def __init__(self, path: Path, stride: int = 1, limit: int | None = None) -> None:
        self.path = path
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not files:
            raise DatasetError(
                f"{path} holds no pictures ({', '.join(SUFFIXES)})", "give a folder of images"
            )
        names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
        for name, following in pairwise(names):
            if name == following:
                raise DatasetError(
                    f"{path} holds two pictures named {name}", "rename or move one of them"
                )
        self._files = files[::stride][:limit]

    def __len__(self) -> int:
        return len(self._files)

    def images(self, number: int) -> list[SourceImage]:
        file = self._files[number]
        relative = file.relative_to(self.path)
        fields = {
            "camera": relative.parent.name,
            "index": number,
            "folder": relative.parent.as_posix(),
            "stem": relative.stem,
        }
        return [SourceImage(relative.with_suffix("").as_posix(), read_image(file), fields)]

    def describe(self, number: int) -> str:
        return self._files[number].relative_to(self.path).as_posix()


def open_images(path: Path | str, *, stride: int = 1, limit: int | None = None) -> ImageSource:
    """The images of anything `open_dataset` reads, or of a folder of pictures.

    Args:
        stride: every n-th frame or file.
        limit: at most so many frames or files.

    Raises:
        DatasetError: neither; the message is that of `open_dataset`.
    """
    path = Path(path)
    try:
        dataset = open_dataset(path)
    except DatasetError:
        if path.is_dir() and any(file.suffix.lower() in SUFFIXES for file in path.rglob("*")):
            return FolderImages(path, stride, limit)
        raise
    return DatasetImages(path, dataset, stride, limit)
