"""nuScenes as its devkit lays it out: tables, key frames, labels of points."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.datasets.base import check_index, describe_folder, gather_images, read_image
from condense_ros.datasets.clouds import read_bin
from condense_ros.datasets.nuscenes import T_LIDAR_NUSCENES
from condense_ros.datasets.nuscenes_tables import KeyFrames, open_tables
from condense_ros.datasets.options import DataOptions
from condense_ros.datasets.point_labels import PointLabels
from condense_ros.datasets.subsets import every_kth_scene
from condense_ros.errors import ConfigError, DatasetError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, CameraModel, inverse, rotation_from_quaternion, se3
from condense_ros.ontology import Ontology

#: label map of nuScenes-lidarseg, by the names of its categories
_LABEL_MAP = "nuscenes"


def find_version(path: Path, version: str | None) -> Path:
    """The folder of tables below a nuScenes folder, or that folder itself.

    Raises:
        DatasetError: none, several and none chosen, or not the chosen one.
    """
    if (path / "sample_data.json").is_file():
        return path
    found = sorted(p.parent for p in path.glob("v1.0-*/sample_data.json"))
    names = [p.name for p in found]
    if version is None and len(found) == 1:
        return found[0]
    if version in names:
        return path / version
    if version is None and found:
        raise DatasetError(
            f"{path} holds tables of {', '.join(names)}", f"choose one: ?version={names[0]}"
        )
    raise DatasetError(
        f"{path} has no tables {version or 'v1.0-*'} (it holds {describe_folder(path)})",
        "unpack the metadata (v1.0-*/*.json) there",
    )


class NuScenesDevkit:
    """The key frames of a nuScenes folder, scene after scene.

    Points are mapped lidar -> vehicle(stamp of the cloud) -> world -> vehicle(stamp of the image)
    -> camera, as the devkit does: `T_cam_lidar` is the mounting, `ego_motion` what the vehicle
    moved in between. Where nuScenes-lidarseg is installed, points have labels in its 16 classes.
    `Frame.sequence` and `Frame.index` are the scene and the number of the key frame in it. Poses
    are given where all scenes that are read lie on one map.

    Args:
        folder: holds `v1.0-*/`, `samples/` and `lidarseg/`; or its `v1.0-*/`.
        options: version, split (train, val, mini_train, mini_val, or a file of scene names),
            drives (scene names), fraction (every k-th scene), images, another label map.

    Attributes:
        scene_rows: rows of each scene's frames, scenes in the order of the table.

    Raises:
        DatasetError: tables missing or damaged, no such scene, or an unknown class name.
        ConfigError: no such split or label map, or no scene left.
    """

    #: key frames are 0.5 s apart
    period_s = 0.5

    def __init__(self, folder: Path, options: DataOptions | None = None) -> None:
        self.options = options = options or DataOptions()
        self._tables = find_version(Path(folder), options.version)
        self.folder = self._tables.parent
        self.name = self._tables.name
        self._frames: KeyFrames = open_tables(self._tables)
        self._map = PointLabels.load(options.label_map or _LABEL_MAP)
        scenes = every_kth_scene(self._scenes(), options.fraction)
        where = {number: np.flatnonzero(self._frames.scene == number) for number in scenes}
        self._rows = np.concatenate([where[number] for number in scenes]).astype(np.int64)
        ends = np.cumsum([0, *(len(where[number]) for number in scenes)]).tolist()
        self.scene_rows: Sequence[Sequence[int]] = tuple(
            range(start, end) for start, end in pairwise(ends)
        )
        self.scenes = tuple(str(self._frames.scenes[number]) for number in scenes)
        self.classes: Ontology | None = self._open_labels()
        places = {str(self._frames.locations[number]) for number in scenes}
        # coordinates of different maps overlap; scenes without a map name may lie anywhere
        self._one_world = len(scenes) == 1 or (len(places) == 1 and places != {""})
        self.notes: tuple[str, ...] = (
            "points turned from nuScenes' lidar axes (x right) to REP-103 (x forward)",
        )
        if not self._one_world:
            self.notes += ("no poses: the scenes lie on different maps",)
        self.T_base_lidar: Array | None = None
        self.poses: Array | None = None
        if len(self._rows):
            self.T_base_lidar = self._T_base_lidar(int(self._rows[0]))
            if self._one_world:
                self.poses = np.array(
                    [self._T_world_base(row, 0) @ self._T_base_lidar(row) for row in self._rows]
                )

    def _scenes(self) -> list[int]:
        """Rows of the scenes of the split and of `drives`, in the order of the table."""
        names = [str(name) for name in self._frames.scenes]
        chosen = set(names)
        if self.options.split is not None:
            chosen &= self._split(self.options.split, chosen)
        if self.options.drives:
            unknown = sorted(set(self.options.drives) - set(names))
            if unknown:
                raise DatasetError(
                    f"{self._tables} has no scenes {', '.join(unknown)} (it has {len(names)}, from "
                    f"{min(names, default='none')} to {max(names, default='none')})",
                    "choose scenes of this version",
                )
            chosen &= set(self.options.drives)
        if not chosen:
            raise ConfigError(
                f"no scene of {self._tables} is in split {self.options.split} and the drives",
                "choose a split of this version: mini_train and mini_val are of v1.0-mini",
            )
        return [number for number, name in enumerate(names) if name in chosen]

    def _split(self, name: str, names: set[str]) -> set[str]:
        known = {key: {f"scene-{n:04d}" for n in value} for key, value in self._map.scenes.items()}
        if name in known:
            return known[name]
        if name == "train" and "val" in known:
            return names - known["val"]
        path = next((p for p in (self.folder / name, Path(name)) if p.is_file()), None)
        if path is None:
            raise ConfigError(
                f"no split {name!r} of {self._map.name}",
                f"use train, {', '.join(known)}, or a file with one scene name per line",
            )
        try:
            listed = set(path.read_text().split())
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} is no list ({error})", "give a text file") from None
        unknown = sorted(listed - names)
        if unknown:
            raise DatasetError(
                f"{len(unknown)} scenes of {path} are not in {self._tables}, the first is "
                f"{unknown[0]!r}",
                "list scenes of this version, one per line",
            )
        return listed

    def _open_labels(self) -> Ontology | None:
        if not any(self._frames.labels[row] for row in self._rows):
            return None
        index = {n: str(name) for n, name in enumerate(self._frames.categories) if name}
        if self._map.names:
            if not index:
                raise DatasetError(
                    f"{self._tables / 'category.json'} has no `index` of the classes",
                    "unpack the tables of nuScenes-lidarseg over those of nuScenes",
                )
            self._map = self._map.numbered(index)
        return self._map.ontology

    def _T_world_base(self, row: int, column: int) -> Array:
        return _pose(self._frames.ego[row, column])

    def _T_base_sensor(self, row: int, column: int) -> Array:
        return _pose(self._frames.mounting[self._frames.sensors[row, column]])

    def _T_base_lidar(self, row: int) -> Array:
        return self._T_base_sensor(row, 0) @ inverse(T_LIDAR_NUSCENES)

    def _path(self, name: bytes) -> Path:
        return self.folder / name.decode()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Frame:
        place = check_index(index, len(self), self.name)
        row = int(self._rows[place])
        raw = read_bin(self._path(self._frames.files[row, 0]), 5)
        xyz = raw.xyz @ T_LIDAR_NUSCENES[:3, :3].T.astype(np.float32)
        intensity = raw.intensity
        if self.options.intensity_offset and intensity is not None:
            intensity = intensity + np.float32(self.options.intensity_offset)
        scene = int(self._frames.scene[row])
        return Frame(
            int(self._frames.stamps_us[row, 0]) * 1000,
            PointCloud(xyz, intensity, raw.ring),
            self._images(row) if self.options.images else (),
            None if self.poses is None else self.poses[place],
            self._labels(row, len(raw)),
            sequence=str(self._frames.scenes[scene]),
            index=row - int(np.searchsorted(self._frames.scene, scene)),
            notes=self.notes,
        )

    def _images(self, row: int) -> tuple[CameraImage, ...]:
        return gather_images(
            (str(name), partial(self._image, row, column))
            for column, name in enumerate(self._frames.cameras, start=1)
            if self._frames.sensors[row, column] >= 0
        )

    def _image(self, row: int, column: int) -> CameraImage:
        T_base_lidar = self._T_base_lidar(row)
        pixels = read_image(self._path(self._frames.files[row, column]))
        K = self._frames.intrinsics[self._frames.sensors[row, column]]
        moved = inverse(self._T_world_base(row, column)) @ self._T_world_base(row, 0)
        return CameraImage(
            str(self._frames.cameras[column - 1]),
            int(self._frames.stamps_us[row, column]) * 1000,
            pixels,
            CameraModel(K, pixels.shape[1], pixels.shape[0]),
            inverse(self._T_base_sensor(row, column)) @ T_base_lidar,
            ego_motion=inverse(T_base_lidar) @ moved @ T_base_lidar,
        )

    def _labels(self, row: int, points: int) -> npt.NDArray[np.uint8] | None:
        name = self._frames.labels[row]
        if self.classes is None or not name:
            return None
        path = self._path(name)
        try:
            raw = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise DatasetError(f"{path} cannot be read ({error})", "restore the labels") from None
        if len(raw) != points:
            raise DatasetError(
                f"{path} has {len(raw)} labels for {points} points", "copy scan and labels again"
            )
        return self._map.map(raw.astype(np.uint16), str(path))

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with what is read, not with where it lies."""
        frames, rows = self._frames, np.asarray(self._rows, np.int64)
        digest = hashlib.sha256(f"{self.options.images} {self.options.intensity_offset}".encode())
        if self.classes is not None:
            digest.update(repr((sorted(self._map.ids.items()), self.classes.hash())).encode())
        for array in (frames.tokens[rows], frames.ego[rows], frames.stamps_us[rows]):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(frames.mounting[frames.sensors[rows]].tobytes())
        digest.update(frames.intrinsics[frames.sensors[rows]].tobytes())
        return digest.hexdigest()[:16]


def _pose(values: Array) -> Array:
    """(4, 4) of x y z and a quaternion w x y z."""
    w, x, y, z = values[3:].tolist()
    return se3(rotation_from_quaternion((x, y, z, w)), values[:3])
