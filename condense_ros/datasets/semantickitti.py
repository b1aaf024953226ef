"""SemanticKITTI's layout, and the data sets that share it: sequences of scans with label files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.datasets.base import (
    FIRST_STAMP_NS,
    check_index,
    read_image,
    read_numbers,
    rows_to_poses,
)
from condense_ros.datasets.clouds import read_bin
from condense_ros.datasets.kitti import SCAN_NS, KittiCalibration, find_calibration
from condense_ros.datasets.options import DataOptions
from condense_ros.datasets.point_labels import PointLabels
from condense_ros.datasets.sequences import choose_scans, list_scans, scan_folder_of
from condense_ros.datasets.subsets import every_kth_scan
from condense_ros.errors import CalibrationMissing, DatasetError
from condense_ros.frame import CameraImage, Frame
from condense_ros.geometry import Array, CameraModel, inverse
from condense_ros.ontology import Ontology

#: pause between the stamps of two sequences
_PAUSE_NS = 10_000_000_000
#: scans whose size is looked at where no label map says how many columns they have
_LOOKED_AT = 32
#: about so many scans are read for the fingerprint; of the others the size counts
_CONTENTS = 64


@dataclass(frozen=True, eq=False)
class _Sequence:
    """One drive: `numbers` and `stamps_ns` of all its scans by their stems."""

    name: str
    folder: Path
    numbers: dict[str, int]
    stamps_ns: dict[str, int]
    has_labels: bool
    images: str | None
    calibration: KittiCalibration | None


class SemanticKitti:
    """Sequences of scans, optionally with label files, images, calibration, poses and times.

    Each sequence is a folder of `velodyne/*.bin` and `labels/*.label` (uint32: semantic id in the
    lower, instance in the upper 16 bits); a label map says what the ids mean and what the folders
    are called. Nothing is labelled without one. `Frame.sequence` and `Frame.index` are the
    sequence and the number of the scan in it, whichever part of the data is read. Poses are given
    where one sequence is read: every sequence has an origin of its own.

    Args:
        folder: that of the sequences, one above it, or a single sequence.
        options: label map, split, drives, fraction (every k-th scan of the sorted list), images.

    Raises:
        DatasetError: no scans, a sequence of the split missing, no labels, ids that the map does
            not know in the first label file, or scans of other columns.
        CalibrationMissing: images or poses without calibration.
        ConfigError: no such label map or split.
    """

    T_base_lidar: Array | None = None

    def __init__(self, folder: Path, options: DataOptions | None = None) -> None:
        self.folder = Path(folder)
        self.options = options = options or DataOptions()
        self.name = self.folder.resolve().name
        self.labels = None if options.label_map is None else PointLabels.load(options.label_map)
        self._scans = scan_folder_of(self.folder) or "velodyne"
        if self.labels is not None:
            self._scans = self.labels.scans
        chosen = choose_scans(self.folder, self._scans, self.labels, options)
        every = [(name, stem) for name, (_, stems) in chosen.items() for stem in stems]
        self._rows = every_kth_scan(every, options.fraction)
        used = {name for name, _ in self._rows}
        self._sequences: dict[str, _Sequence] = {}
        start_ns = FIRST_STAMP_NS
        for name, (path, _) in chosen.items():
            if name in used:
                self._sequences[name] = self._open(name, path, start_ns)
                start_ns = max(self._sequences[name].stamps_ns.values()) + _PAUSE_NS
        self.classes: Ontology | None = self._classes()
        self.notes = self._notes()
        self.period_s = self._period()
        self.poses = self._poses()
        self._check_first()

    def _open(self, name: str, folder: Path, start_ns: int) -> _Sequence:
        stems = list_scans(folder / self._scans)
        numbers = {stem: int(stem) if stem.isdigit() else i for i, stem in enumerate(stems)}
        odometry = self._scans == "velodyne" if self.labels is None else self.labels.odometry
        times = folder / "times.txt"
        stamps = {stem: start_ns + number * SCAN_NS for stem, number in numbers.items()}
        if odometry and times.is_file():
            seconds = read_numbers(times, 1)[:, 0]
            if len(seconds) <= max(numbers.values()):
                raise DatasetError(
                    f"{times} has {len(seconds)} times for scans numbered up to "
                    f"{max(numbers.values())}",
                    "give one row per scan of the sequence",
                )
            after_ns = np.rint((seconds - seconds[0]) * 1e9).astype(np.int64).tolist()
            stamps = {stem: start_ns + after_ns[number] for stem, number in numbers.items()}
        images = None
        if odometry and self.options.images:
            images = next((n for n in ("image_2", "image_02") if (folder / n).is_dir()), None)
        calibration = find_calibration(folder) if images is not None else None
        has_labels = self.labels is not None and (folder / self.labels.labels).is_dir()
        return _Sequence(name, folder, numbers, stamps, has_labels, images, calibration)

    def _classes(self) -> Ontology | None:
        if self.labels is None:
            return None
        if not any(sequence.has_labels for sequence in self._sequences.values()):
            raise DatasetError(
                f"no sequence of {self.folder} that is read has {self.labels.labels}/, the labels "
                f"of {self.labels.name}",
                "unpack the labels beside the scans, or leave out label_map",
            )
        return self.labels.ontology

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self.labels is None and any(
            (sequence.folder / "labels").is_dir() for sequence in self._sequences.values()
        ):
            notes.append("labels/ is not read: no label_map is chosen")
        if len(self._sequences) > 1:
            notes.append("no poses: several sequences are read, each with an origin of its own")
        return tuple(notes)

    def _period(self) -> float:
        stamps = [self._sequences[name].stamps_ns[stem] for name, stem in self._rows]
        steps = np.diff(stamps)
        return float(np.median(steps)) * 1e-9 if steps.size else SCAN_NS * 1e-9

    def _poses(self) -> Array | None:
        """(len, 4, 4) of the lidar from poses.txt (camera 0) of the only sequence, or None."""
        if len(self._sequences) != 1 or not (self.labels is None or self.labels.odometry):
            return None
        (sequence,) = self._sequences.values()
        # the odometry benchmark ships poses in a folder beside that of the sequences
        beside = sequence.folder.resolve().parents[1] / "poses" / f"{sequence.name}.txt"
        path = next((p for p in (sequence.folder / "poses.txt", beside) if p.is_file()), None)
        if path is None:
            return None
        if not (sequence.folder / "calib.txt").is_file():
            raise CalibrationMissing(
                f"{path} holds poses of the camera and there is no calib.txt in {sequence.folder}",
                "add calib.txt, or move the poses away",
            )
        T = (sequence.calibration or find_calibration(sequence.folder)).T_cam0_lidar
        poses = rows_to_poses(read_numbers(path, 12))
        numbers = [sequence.numbers[stem] for _, stem in self._rows]
        if len(poses) <= max(numbers):
            raise DatasetError(
                f"{path} has {len(poses)} poses for scans numbered up to {max(numbers)}",
                "give one row per scan of the sequence",
            )
        return np.asarray(inverse(T) @ poses[numbers] @ T)

    def _check_first(self) -> None:
        """Wrong maps and columns are found before anything is learned from them."""
        columns = 4 if self.labels is None else self.labels.columns
        for name, stem in self._rows[:_LOOKED_AT]:
            path = self._scan(name, stem)
            if path.stat().st_size % (4 * columns):
                raise DatasetError(
                    f"{path} has {path.stat().st_size} bytes, no multiple of {4 * columns}: it is "
                    f"truncated, or its points have not {columns} columns",
                    "copy it again, or choose the label map of this data set",
                )
        for name, stem in self._rows:
            sequence = self._sequences[name]
            if sequence.has_labels:
                self._read_labels(sequence, stem)
                return

    def _scan(self, name: str, stem: str) -> Path:
        return self._sequences[name].folder / self._scans / f"{stem}.bin"

    def _label_path(self, sequence: _Sequence, stem: str) -> Path:
        assert self.labels is not None
        return sequence.folder / self.labels.labels / f"{stem}.label"

    def _read_labels(self, sequence: _Sequence, stem: str) -> npt.NDArray[np.uint8]:
        assert self.labels is not None
        path = self._label_path(sequence, stem)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path} cannot be read ({error})", "restore the labels") from None
        if len(raw) % 4:
            raise DatasetError(f"{path} has {len(raw)} bytes, no multiple of 4", "copy it again")
        return self.labels.map(np.frombuffer(raw, "<u4"), str(path))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Frame:
        row = check_index(index, len(self), self.name)
        name, stem = self._rows[row]
        sequence = self._sequences[name]
        path = self._scan(name, stem)
        cloud = read_bin(path, 4 if self.labels is None else self.labels.columns)
        if self.options.intensity_offset and cloud.intensity is not None:
            offset = np.float32(self.options.intensity_offset)
            cloud = replace(cloud, intensity=cloud.intensity + offset)
        labels = None
        if sequence.has_labels:
            labels = self._read_labels(sequence, stem)
            if len(labels) != len(cloud):
                raise DatasetError(
                    f"{self._label_path(sequence, stem)} has {len(labels)} labels for "
                    f"{len(cloud)} points",
                    "restore the scan and its labels from the same release",
                )
        return Frame(
            sequence.stamps_ns[stem],
            cloud,
            self._images(sequence, stem),
            None if self.poses is None else self.poses[row],
            labels,
            sequence=name,
            index=sequence.numbers[stem],
            notes=self.notes,
        )

    def _images(self, sequence: _Sequence, stem: str) -> tuple[CameraImage, ...]:
        if sequence.images is None or sequence.calibration is None:
            return ()
        path = sequence.folder / sequence.images / f"{stem}.png"
        pixels = read_image(path)
        camera = CameraModel(sequence.calibration.K, pixels.shape[1], pixels.shape[0])
        stamp_ns, T_cam_lidar = sequence.stamps_ns[stem], sequence.calibration.T_cam_lidar
        return (CameraImage("image_02", stamp_ns, pixels, camera, T_cam_lidar),)

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with what is read, not with where it lies."""
        digest = hashlib.sha256(f"{self.options.images} {self.options.intensity_offset}".encode())
        if self.labels is not None:
            ontology = self.labels.ontology.hash()
            digest.update(repr((sorted(self.labels.ids.items()), ontology)).encode())
        for sequence in self._sequences.values():
            if sequence.calibration is not None:
                digest.update(sequence.calibration.T_cam_lidar.tobytes())
                digest.update(sequence.calibration.K.tobytes())
        if self.poses is not None:
            digest.update(self.poses.tobytes())
        contents = max(1, len(self._rows) // _CONTENTS)
        for row, (name, stem) in enumerate(self._rows):
            files = [self._scan(name, stem)]
            if self._sequences[name].has_labels:
                files.append(self._label_path(self._sequences[name], stem))
            for file in files:
                size = file.stat().st_size if file.is_file() else -1
                digest.update(f"{name}/{file.name} {size}\n".encode())
                if row % contents == 0 and size >= 0:
                    with open(file, "rb") as content:
                        digest.update(content.read(65536))
        return digest.hexdigest()[:16]
