"""The stored map: places in a LanceDB folder, found again by exact search in memory.

LanceDB commits every write by renaming one manifest, so a process killed while it saves leaves the
map as it was. Descriptors and poses are held in memory; the heavy half of a place (keypoints,
cloud) is read when it is asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt

from condense_ros.errors import CondenseError, MapError, StorageFull
from condense_ros.geometry import Array, check_se3
from condense_ros.places.keypoints import KeypointConfig
from condense_ros.places.observation import Observation
from condense_ros.places.place import (
    HEAVY_COLUMNS,
    LIGHT_COLUMNS,
    MapHeader,
    Place,
    observation_from_row,
    to_table,
)

_TABLE = "places"
_CACHED_PLACES = 256


@dataclass(frozen=True)
class MapInfo:
    """What a map holds, for `condense map info`."""

    path: Path
    places: int
    sessions: dict[str, int]
    header: MapHeader
    bytes: int
    version: int


#: below this many places the spread of descriptors over the map is not known well enough
_STANDARDISE_FROM = 16


class _Index:
    """Standardised descriptors of the places at one moment."""

    def __init__(self, ids: npt.NDArray[np.int64], descriptors: npt.NDArray[np.float32]) -> None:
        self.ids = ids
        size = descriptors.shape[1]
        self.mean, self.scale = np.zeros(size, np.float32), np.ones(size, np.float32)
        if len(ids) >= _STANDARDISE_FROM:
            self.mean = descriptors.mean(axis=0)
            deviation = descriptors.std(axis=0)
            # entries that hardly vary must not be blown up
            self.scale = 1 / np.maximum(deviation + 0.01 * deviation.mean(), 1e-9)
        self.rows = self._standardised(descriptors)

    def _standardised(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        rows = (rows - self.mean) * self.scale
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(norms, 1e-12), np.float32)

    def similarity(self, descriptor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self.rows @ self._standardised(descriptor[None])[0]


class PlaceMap:
    """A map of places. Safe to query from one thread while another adds and saves.

    Made by `PlaceMap.create` or `PlaceMap.open`; `save` writes what was added since. A map without
    a folder lives in memory until `save_as`.
    """

    def __init__(self, folder: Path | None, header: MapHeader) -> None:
        self.folder = folder
        self.header = header
        self._lock = threading.RLock()
        self._saving = threading.Lock()
        self._table: Any = None
        self._ids = np.zeros(0, np.int64)
        self._descriptors = np.zeros((0, header.descriptor_size), np.float32)
        self._poses = np.zeros((0, 4, 4))
        self._stamps: list[int] = []
        self._sessions: list[str] = []
        self._names: list[str] = []
        self._index: _Index | None = None
        self._row_of: dict[int, int] = {}
        self._unsaved: OrderedDict[int, Place] = OrderedDict()
        self._cache: OrderedDict[int, Observation] = OrderedDict()

    @classmethod
    def create(cls, folder: Path | str, header: MapHeader, *, overwrite: bool = False) -> PlaceMap:
        """A new, empty map; nothing is written before `save`.

        Raises:
            MapError: the folder holds a map already (unless `overwrite`) or other files.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise MapError(f"{folder} is a file", "name a folder for the map")
        if _has_table(folder) and not overwrite:
            raise MapError(f"{folder} holds a map already", "name another folder, or open it")
        others = (
            [p.name for p in folder.iterdir() if p.suffix != ".lance"] if folder.is_dir() else []
        )
        if others:
            raise MapError(f"{folder} holds other files ({others[0]}, ...)", "name a new folder")
        return cls(folder, header)

    @classmethod
    def open(cls, folder: Path | str) -> PlaceMap:
        """Opens a stored map.

        Raises:
            MapError: no map there, a damaged one, one of other software, or of a newer version.
        """
        folder = Path(folder)
        if not folder.is_dir() or not _has_table(folder):
            raise MapError(f"no place map at {folder}", "make one with `condense map build`")
        try:
            table = lancedb.connect(str(folder)).open_table(_TABLE)
            header = MapHeader.from_metadata(table.schema.metadata, str(folder))
            rows = table.search().select(list(LIGHT_COLUMNS)).limit(None).to_arrow()
            place_map = cls(folder, header)
            place_map._table = table
            place_map._ids = rows["id"].to_numpy().astype(np.int64)
            count = len(place_map._ids)
            place_map._descriptors = _stack(rows["descriptor"], np.float32).reshape(
                count, header.descriptor_size
            )
            place_map._poses = _stack(rows["pose"], np.float64).reshape(count, 4, 4)
            place_map._stamps = rows["stamp_ns"].to_pylist()
            place_map._sessions = rows["session"].to_pylist()
            place_map._names = rows["name"].to_pylist()
            place_map._row_of = {int(id): row for row, id in enumerate(place_map._ids)}
            for id, pose in zip(place_map._ids, place_map._poses, strict=True):
                check_se3(pose, f"pose of place {id}")
            return place_map
        except MapError:
            raise
        # Lance raises bare ValueError, OSError and RuntimeError for damage of any kind
        except (ValueError, KeyError, OSError, RuntimeError, CondenseError) as error:
            raise MapError(
                f"the map {folder} is damaged ({_first_line(error)})", "build the map again"
            ) from error

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def unsaved(self) -> int:
        """Places added since the last `save`."""
        return len(self._unsaved)

    def check_query(
        self, backbone: str, descriptor_kind: str, keypoints: KeypointConfig | None = None
    ) -> None:
        """Refuses descriptors of other weights or of another kind, and keypoints taken otherwise.

        Args:
            keypoints: how the query takes keypoints; None for the defaults, as in `observe`.

        Raises:
            MapError: naming both.
        """
        if backbone != self.header.backbone:
            raise MapError(
                f"the map {self.folder} holds descriptors of backbone {self.header.backbone}, "
                f"this checkpoint is {backbone}",
                "load the checkpoint the map was built with, or build the map again",
            )
        if descriptor_kind != self.header.descriptor_kind:
            raise MapError(
                f"the map {self.folder} holds {self.header.descriptor_kind!r} descriptors, the "
                f"query is {descriptor_kind!r}",
                "use the same descriptor, or build the map again",
            )
        keypoints = keypoints or KeypointConfig()
        if keypoints != self.header.keypoints:
            raise MapError(
                f"the map {self.folder} holds keypoints taken with {self.header.keypoints}, the "
                f"query takes them with {keypoints}",
                "take keypoints as the map does, or build the map again",
            )

    def add(self, place: Place) -> int:
        """Adds a place and returns its number; it is found at once and stored by `save`.

        Raises:
            MapError: a descriptor of another length, or not finite.
        """
        descriptor = np.asarray(place.observation.descriptor, np.float32)
        if descriptor.shape != (self.header.descriptor_size,) or not np.isfinite(descriptor).all():
            raise MapError(
                f"a descriptor of shape {descriptor.shape} does not fit a map of "
                f"{self.header.descriptor_size} finite values",
                "make it with the backbone the map was built with",
            )
        with self._lock:
            id = int(self._ids.max()) + 1 if len(self._ids) else 0
            # new arrays rather than writes in place: a query running now keeps the old ones
            self._descriptors = np.concatenate([self._descriptors, descriptor[None]])
            self._poses = np.concatenate([self._poses, place.T_map_lidar[None]])
            self._row_of[id] = len(self._ids)
            self._ids = np.append(self._ids, id)
            self._stamps.append(place.stamp_ns)
            self._sessions.append(place.session)
            self._names.append(place.name)
            self._unsaved[id] = place.numbered(id)
            self._index = None
        return id

    def nearest(
        self, descriptor: npt.NDArray[np.float32], count: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Numbers and similarities of the `count` most similar places, best first.

        Exact. Similarity is the cosine of descriptors standardised over the map: what all places
        of a town have in common says nothing about which of them this is.
        """
        with self._lock:
            if self._index is None:
                self._index = _Index(self._ids, self._descriptors)
            index = self._index
        ids = index.ids
        if not len(ids):
            return ids, np.zeros(0, np.float32)
        similarity = index.similarity(np.asarray(descriptor, np.float32))
        count = min(count, len(ids))
        top = np.argpartition(-similarity, count - 1)[:count]
        top = top[np.argsort(-similarity[top], kind="stable")]
        return ids[top], similarity[top]

    def label(self, id: int) -> str:
        """What a place is called: its name, or its number where it has none."""
        with self._lock:
            return self._names[self._row(id)] or str(id)

    def pose(self, id: int) -> Array:
        """(4, 4) T_map_lidar of a place."""
        with self._lock:
            return self._poses[self._row(id)]

    def poses(self) -> tuple[npt.NDArray[np.int64], Array]:
        """Numbers (N,) and poses (N, 4, 4) of all places."""
        with self._lock:
            return self._ids, self._poses

    def place(self, id: int) -> Place:
        """A place with its keypoints and cloud, read from the store where necessary.

        Raises:
            MapError: no such place, or one that cannot be read.
        """
        with self._lock:
            row = self._row(id)
            if id in self._unsaved:
                return self._unsaved[id]
            pose, descriptor = self._poses[row], self._descriptors[row]
            stamp, session, name = self._stamps[row], self._sessions[row], self._names[row]
            observation = self._cache.get(id)
            if observation is not None:
                self._cache.move_to_end(id)
        if observation is None:
            observation = observation_from_row(self._read(id), descriptor, str(self.folder))
            with self._lock:
                self._cache[id] = observation
                while len(self._cache) > _CACHED_PLACES:
                    self._cache.popitem(last=False)
        return Place(observation, pose, stamp, session, name, id)

    def save(self) -> int:
        """Writes the places added since the last save, all or none; returns how many.

        Raises:
            MapError: the folder cannot be written.
            StorageFull: no room left; the stored map is unchanged.
        """
        if self.folder is None:
            raise MapError("the map has no folder yet", "name one: it was made in memory")
        with self._saving:
            with self._lock:
                pending = list(self._unsaved.values())
                table = self._table
            if not pending and table is not None:
                return 0
            rows = to_table(pending, self.header)
            try:
                if table is None:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    database = lancedb.connect(str(self.folder))
                    # overwriting is one commit too, and clears what a killed first save left
                    table = database.create_table(_TABLE, rows, mode="overwrite")
                else:
                    table.add(rows)
            except (ValueError, OSError, RuntimeError) as error:
                if "No space left" in str(error) or "os error 28" in str(error):
                    raise StorageFull(
                        f"no room left for the map {self.folder}",
                        "free some space and save again; the map is as it was",
                    ) from error
                raise MapError(
                    f"the map {self.folder} cannot be written ({_first_line(error)})",
                    "check the folder and its permissions; the map is as it was",
                ) from error
            with self._lock:
                self._table = table
                for place in pending:
                    self._unsaved.pop(place.id, None)
                    self._cache[place.id] = place.observation
                while len(self._cache) > _CACHED_PLACES:
                    self._cache.popitem(last=False)
            return len(pending)

    def save_as(self, folder: Path | str) -> PlaceMap:
        """Writes all places to a new map in another folder and returns it.

        Raises:
            MapError: the folder holds a map or other files already, or cannot be written.
            StorageFull: no room left.
        """
        copy = PlaceMap.create(folder, self.header)
        for id in self.poses()[0]:
            copy.add(self.place(int(id)))
        copy.save()
        return copy

    def info(self) -> MapInfo:
        """What the map holds."""
        with self._lock:
            names, counts = np.unique(np.array(self._sessions, dtype=object), return_counts=True)
            folder = self.folder or Path()
            files = self.folder.rglob("*") if self.folder else ()
            size = sum(file.stat().st_size for file in files if file.is_file())
            return MapInfo(
                folder,
                len(self),
                {str(name): int(count) for name, count in zip(names, counts, strict=True)},
                self.header,
                size,
                int(self._table.version) if self._table is not None else 0,
            )

    def _row(self, id: int) -> int:
        if id not in self._row_of:
            raise MapError(f"the map {self.folder} has no place {id}", "query again")
        return self._row_of[id]

    def _read(self, id: int) -> dict[str, Any]:
        try:
            found = (
                self._table.search().where(f"id = {id}").select(list(HEAVY_COLUMNS)).to_arrow()
            ).to_pylist()
        except (ValueError, OSError, RuntimeError) as error:
            raise MapError(
                f"place {id} of the map {self.folder} cannot be read ({_first_line(error)})",
                "build the map again",
            ) from error
        if len(found) != 1:
            raise MapError(
                f"place {id} of the map {self.folder} is stored {len(found)} times",
                "build the map again",
            )
        return dict(found[0])


def map_info(path: Path | str) -> MapInfo:
    """Facts of a stored map.

    Raises:
        MapError: see `PlaceMap.open`.
    """
    return PlaceMap.open(path).info()


def _has_table(folder: Path) -> bool:
    versions = folder / f"{_TABLE}.lance" / "_versions"
    return versions.is_dir() and any(versions.iterdir())


def _stack(column: Any, dtype: type) -> npt.NDArray[Any]:
    return np.asarray(column.combine_chunks().flatten().to_numpy(zero_copy_only=False), dtype)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
