"""The frames of one or more data sets as one numbered collection."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from condense_ros.datasets import Dataset, open_dataset
from condense_ros.datasets.base import Fingerprinted
from condense_ros.datasets.subsets import every_kth
from condense_ros.errors import TrainingError
from condense_ros.frame import Frame
from condense_ros.ontology import Ontology


class FrameSource:
    """Frames of several data sets, numbered through.

    Args:
        paths: anything `open_dataset` reads: data set folders, bags.
        stride: every n-th frame of each data set.
        limit: at most so many frames of each data set, None for all.

    Raises:
        DatasetError: a path that is no data set.
        TrainingError: no frame at all.
    """

    def __init__(self, paths: Sequence[Path], *, stride: int = 1, limit: int | None = None) -> None:
        self.paths = tuple(Path(path) for path in paths)
        self.datasets: tuple[Dataset, ...] = tuple(open_dataset(path) for path in self.paths)
        self._entries = [
            (which, index)
            for which, dataset in enumerate(self.datasets)
            for index in list(range(0, len(dataset), stride))[:limit]
        ]
        if not self._entries:
            raise TrainingError(
                f"no frame in {', '.join(map(str, self.paths)) or 'an empty list of data'}",
                "give folders or bags that hold camera and LiDAR pairs",
            )
        self._selection: tuple[object, ...] = (stride, limit)
        self._hash: str | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> Frame:
        which, index = self._entries[number]
        return self.datasets[which][index]

    def subset(self, numbers: Sequence[int]) -> FrameSource:
        """The frames of these numbers, in this order; the files are opened once.

        Raises:
            TrainingError: no number.
            IndexError: a number that does not exist.
        """
        if not len(numbers):
            raise TrainingError("a selection without frames", "select at least one")
        chosen = copy.copy(self)
        chosen._entries = [self._entries[number] for number in numbers]
        chosen._selection = (*self._selection, *chosen._entries)
        chosen._hash = None
        return chosen

    def share(self, fraction: float) -> FrameSource:
        """The part that fine-tuning protocols learn from: of each data set every k-th frame, or of
        nuScenes every k-th scene, k = round(1 / fraction).

        Raises:
            ConfigError: a fraction outside (0, 1], or no scene would be left.
            TrainingError: no frame is left.
        """
        rows = [set(every_kth(dataset, fraction)) for dataset in self.datasets]
        entries = enumerate(self._entries)
        return self.subset([n for n, (which, index) in entries if index in rows[which]])

    @property
    def classes(self) -> Ontology | None:
        """What the labels of all data sets mean; None where one has none or they differ."""
        first = self.datasets[0].classes
        return first if all(dataset.classes == first for dataset in self.datasets) else None

    @property
    def lengths(self) -> list[int]:
        """Chosen frames of each data set, which are numbered through."""
        sets = [which for which, _ in self._entries]
        return [sets.count(which) for which in range(len(self.datasets))]

    def describe(self, number: int) -> str:
        """Names a frame for messages: data set and index."""
        which, index = self._entries[number]
        return f"{self.paths[which]} frame {index}"

    def manifest_hash(self) -> str:
        """Sixteen hex digits over names, sizes and first 64 KiB of every file, and the selection.

        Data sets with a `fingerprint` of their own count by that. Where the data lies does not
        matter; which frames were chosen does. Read once.
        """
        if self._hash is None:
            self._hash = self._manifest_hash()
        return self._hash

    def _manifest_hash(self) -> str:
        digest = hashlib.sha256(repr(self._selection).encode())
        for path, dataset in zip(self.paths, self.datasets, strict=True):
            if isinstance(dataset, Fingerprinted):
                digest.update(dataset.fingerprint().encode())
                continue
            files = [path] if path.is_file() else sorted(path.rglob("*"))
            for file in files:
                if not file.is_file():
                    continue
                name = file.name if file == path else file.relative_to(path).as_posix()
                digest.update(f"{name}\0{file.stat().st_size}\0".encode())
                with open(file, "rb") as content:
                    digest.update(content.read(65536))
        return digest.hexdigest()[:16]


def epoch_order(count: int, seed: int, stage: int, epoch: int) -> np.ndarray:
    """(count,) permutation in which an epoch visits the frames."""
    return np.random.default_rng([seed, stage, epoch, 1]).permutation(count)


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` numbers, evenly spread over 0..count-1."""
    taken = min(count, wanted)
    return [i * count // taken for i in range(taken)]
