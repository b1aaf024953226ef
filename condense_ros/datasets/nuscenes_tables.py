"""The tables of a nuScenes folder as arrays of its key frames, read once and kept in a cache.

`sample_data.json` and `ego_pose.json` of v1.0-trainval hold 2.6 million rows each. They are read as
streams, one row in memory at a time, of which only those of key frames of the LiDAR and the cameras
are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.datasets.base import require
from condense_ros.errors import DatasetError, StorageFull
from condense_ros.files import write_atomically
from condense_ros.geometry import Array

LIDAR = "LIDAR_TOP"
#: tables that are needed; `lidarseg` and `log` are read where they are
TABLES = ("scene", "sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose", "category")
_OPTIONAL = ("lidarseg", "log")
_FORMAT = 1
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)

Text = npt.NDArray[np.str_]
#: a quarter of the memory of `Text`
Bytes = npt.NDArray[np.bytes_]


def stream_rows(path: Path, chunk: int = _CHUNK) -> Iterator[dict[str, Any]]:
    """The objects of a JSON array, one after the other, in bounded memory.

    Args:
        chunk: characters read at once.

    Raises:
        DatasetError: missing, truncated, or no array of objects.
    """
    decoder = json.JSONDecoder()
    try:
        with open(path, encoding="utf-8") as file:
            text, at, inside = "", 0, False
            while True:
                more = file.read(chunk)
                text, at = text[at:] + more, 0
                while True:
                    while at < len(text) and text[at] in " \t\r\n,":
                        at += 1
                    if at == len(text):
                        break
                    if not inside:
                        if text[at] != "[":
                            raise ValueError("it is no array")
                        at, inside = at + 1, True
                        continue
                    if text[at] == "]":
                        return
                    if text[at] != "{":
                        raise ValueError(f"{text[at]!r} stands where a row should begin")
                    try:
                        row, at = decoder.raw_decode(text, at)
                    except json.JSONDecodeError:
                        if not more:
                            raise
                        break  # the row goes on in the next chunk
                    yield row
                if not more:
                    raise ValueError("it ends before its array does")
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is no table of nuScenes ({error})", "unpack the metadata again"
        ) from None


@dataclass(frozen=True, eq=False)
class KeyFrames:
    """What is needed of the tables, N key frames in the order of scenes and time.

    Attributes:
        scenes: (S,) names in the order of the table, whatever their number.
        locations: (S,) map each scene lies on, "" where log.json is missing.
        scene: (N,) int32 row in `scenes`.
        tokens: (N,) tokens of the samples, ASCII.
        cameras: (C,) channel names, sorted.
        files: (N, 1 + C) paths below the folder: LiDAR, then cameras; "" where there is none.
        stamps_us: (N, 1 + C) int64.
        ego: (N, 1 + C, 7) x y z of the vehicle in the world, and its rotation as w x y z.
        sensors: (N, 1 + C) int32 row in the calibration, -1 where there is none.
        mounting: (M, 7) x y z of the sensor on the vehicle, and its rotation as w x y z.
        intrinsics: (M, 3, 3) NaN for those that are not cameras.
        labels: (N,) paths of the label files, "" where there are none.
        categories: (256,) class name of each label id, "" where there is none.
    """

    scenes: Text
    locations: Text
    scene: npt.NDArray[np.int32]
    tokens: Bytes
    cameras: Text
    files: Bytes
    stamps_us: npt.NDArray[np.int64]
    ego: Array
    sensors: npt.NDArray[np.int32]
    mounting: Array
    intrinsics: Array
    labels: Bytes
    categories: Text

    def __len__(self) -> int:
        return len(self.scene)


def read_tables(folder: Path) -> KeyFrames:
    """Reads the tables of one version.

    Args:
        folder: `v1.0-mini`, `v1.0-trainval`, ...

    Raises:
        DatasetError: a table is missing or damaged, or refers to a row that is not there.
    """
    require((folder / f"{name}.json" for name in TABLES), f"nuScenes tables {folder.name}")
    try:
        return _read(folder)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DatasetError(
            f"the tables of {folder} do not fit together ({error!r})", "unpack the metadata again"
        ) from None


def _read(folder: Path) -> KeyFrames:
    scene_rows = list(stream_rows(folder / "scene.json"))
    scene_of = {row["token"]: number for number, row in enumerate(scene_rows)}
    samples = [
        (scene_of[row["scene_token"]], row["timestamp"], row["token"])
        for row in stream_rows(folder / "sample.json")
    ]
    samples.sort()
    row_of = {token: row for row, (_, _, token) in enumerate(samples)}

    channels = {row["token"]: row["channel"] for row in stream_rows(folder / "sensor.json")}
    calibrated = list(stream_rows(folder / "calibrated_sensor.json"))
    calibration_of = {row["token"]: number for number, row in enumerate(calibrated)}
    channel_of = [channels[row["sensor_token"]] for row in calibrated]
    cameras = sorted({name for name in channel_of if name.startswith("CAM_")})
    column_of = {LIDAR: 0, **{name: 1 + i for i, name in enumerate(cameras)}}

    shape = (len(samples), 1 + len(cameras))
    files = [[""] * shape[1] for _ in range(shape[0])]
    stamps, sensors = np.zeros(shape, np.int64), np.full(shape, -1, np.int32)
    place_of_ego: dict[str, int | list[int]] = {}
    sample_of_lidar: dict[str, int] = {}
    for entry in stream_rows(folder / "sample_data.json"):
        if not entry["is_key_frame"]:
            continue
        sensor = calibration_of[entry["calibrated_sensor_token"]]
        column = column_of.get(channel_of[sensor])
        if column is None:
            continue  # radar
        row = row_of[entry["sample_token"]]
        files[row][column] = entry["filename"]
        stamps[row, column], sensors[row, column] = entry["timestamp"], sensor
        _remember(place_of_ego, entry["ego_pose_token"], row * shape[1] + column)
        if column == 0:
            sample_of_lidar[entry["token"]] = row
    if (sensors[:, 0] < 0).any():
        row = int(np.argmin(sensors[:, 0]))
        raise ValueError(f"sample {samples[row][2]} has no {LIDAR}")

    flat = np.full((shape[0] * shape[1], 7), np.nan)
    for entry in stream_rows(folder / "ego_pose.json"):
        places = place_of_ego.get(entry["token"])
        if places is not None:
            flat[places] = (*entry["translation"], *entry["rotation"])
    ego = flat.reshape(*shape, 7)
    if not np.isfinite(ego[sensors >= 0]).all():
        raise ValueError("ego_pose.json lacks poses of key frames")

    return KeyFrames(
        scenes=np.array([row["name"] for row in scene_rows], dtype=np.str_),
        locations=_locations(folder, scene_rows),
        scene=np.array([scene for scene, _, _ in samples], np.int32),
        tokens=np.array([token for _, _, token in samples], dtype=np.bytes_),
        cameras=np.array(cameras, dtype=np.str_),
        files=np.array(files, dtype=np.bytes_).reshape(shape),
        stamps_us=stamps,
        ego=ego,
        sensors=sensors,
        mounting=np.array(
            [(*row["translation"], *row["rotation"]) for row in calibrated], np.float64
        ).reshape(-1, 7),
        intrinsics=_intrinsics(calibrated),
        labels=_label_files(folder, sample_of_lidar, shape[0]),
        categories=_categories(folder),
    )


def _remember(places: dict[str, int | list[int]], token: str, place: int) -> None:
    """Several files may share a pose; nearly always one has it alone."""
    known = places.get(token)
    if known is None:
        places[token] = place
    elif isinstance(known, list):
        known.append(place)
    else:
        places[token] = [known, place]


def _locations(folder: Path, scenes: list[dict[str, Any]]) -> Text:
    path = folder / "log.json"
    logs: dict[str, str] = {}
    if path.is_file():
        logs = {row["token"]: row["location"] for row in stream_rows(path)}
    return np.array([logs.get(row.get("log_token", ""), "") for row in scenes], dtype=np.str_)


def _intrinsics(calibrated: list[dict[str, Any]]) -> Array:
    empty = np.full((3, 3), np.nan)
    return np.array(
        [row["camera_intrinsic"] if row["camera_intrinsic"] else empty for row in calibrated],
        np.float64,
    ).reshape(-1, 3, 3)


def _label_files(folder: Path, sample_of_lidar: Mapping[str, int], count: int) -> Bytes:
    labels = [""] * count
    path = folder / "lidarseg.json"
    if path.is_file():
        for entry in stream_rows(path):
            row = sample_of_lidar.get(entry["sample_data_token"])
            if row is not None:
                labels[row] = entry["filename"]
    return np.array(labels, dtype=np.bytes_)


def _categories(folder: Path) -> Text:
    """Names by `index`, which category.json has where nuScenes-lidarseg is installed."""
    names = [""] * 256
    for row in stream_rows(folder / "category.json"):
        if "index" in row:
            names[row["index"]] = row["name"]
    return np.array(names, dtype=np.str_)


def cache_folder() -> Path:
    """Where indices lie: $XDG_CACHE_HOME or ~/.cache, then condense_ros/nuscenes."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "condense_ros" / "nuscenes"


def open_tables(folder: Path) -> KeyFrames:
    """`read_tables`, or what it found before in tables of the same sizes and times of change.

    Raises:
        DatasetError: as `read_tables`.
    """
    digest = hashlib.sha256(f"{_FORMAT} {folder.resolve()}".encode())
    for name in (*TABLES, *_OPTIONAL):
        path = folder / f"{name}.json"
        if path.is_file():
            stat = path.stat()
            digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    path = cache_folder() / f"{folder.name}-{digest.hexdigest()[:16]}.npz"
    known = _load(path)
    if known is not None:
        return known
    _log.info("reading the tables of %s once; their index is kept in %s", folder, path)
    frames = read_tables(folder)
    _save(frames, path)
    return frames


def _load(path: Path) -> KeyFrames | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return KeyFrames(**{field.name: archive[field.name] for field in fields(KeyFrames)})
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged and made anew (%s)", path, error)
        return None


def _save(frames: KeyFrames, path: Path) -> None:
    content = io.BytesIO()
    arrays: dict[str, Any] = {field.name: getattr(frames, field.name) for field in fields(frames)}
    np.savez_compressed(content, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except (OSError, StorageFull) as error:  # costs time, no result
        _log.warning("the index of %s is not kept: %s", path.stem, error)
