"""Builds a place map from drives with poses: `condense map build`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from condense_ros.datasets import Dataset, open_dataset
from condense_ros.errors import ConfigError, DatasetError, MapError
from condense_ros.frame import Frame
from condense_ros.geometry import Array
from condense_ros.perception.observer import Observer
from condense_ros.perception.perceiver import Perceiver
from condense_ros.places.place import Place
from condense_ros.places.place_map import MapInfo, PlaceMap

Source = Dataset | Path | str


def build_map(
    sources: Source | Sequence[Source],
    observer: Observer | Perceiver,
    out: Path | str,
    *,
    spacing_m: float = 2.0,
    map_frame: str = "map",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> MapInfo:
    """Stores a place every `spacing_m` metres of each drive.

    Args:
        sources: data sets, or paths that `open_dataset` reads (bags, simulated folders, ...). Their
            frames need poses, all in one world frame. Each is a session of its name in the map.
        observer: makes the observations; `Observer()` works by geometry, without a checkpoint.
        out: folder of the map.
        spacing_m: 0 stores every frame.
        map_frame: name of the world frame.
        overwrite: replace a map that is there.
        progress: called with (frames looked at, frames in all).

    Raises:
        ConfigError: a negative spacing.
        DatasetError: no frames, or frames without poses.
        MapError: `out` holds a map already, or cannot be written; several drives of which one has
            its poses in odometry's frame, whose origin is another one in every drive.
        FrameError, PerceptionError: as `Observer`.
    """
    if not spacing_m >= 0:
        raise ConfigError(f"spacing_m is {spacing_m}", "give a distance of 0 m or more")
    if isinstance(sources, (str, Path, Dataset)):
        sources = [sources]
    drives = [open_dataset(s) if isinstance(s, (str, Path)) else s for s in sources]
    for drive in drives:
        if not len(drive):
            raise DatasetError(f"{drive.name} has no frames", "name another bag or folder")
    if not drives:
        raise DatasetError("no data to build a map from", "name a bag or a data set")
    _check_world_frames(drives)
    if isinstance(observer, Perceiver):
        observer = Observer(observer)
    place_map: PlaceMap | None = None
    done, total = 0, sum(len(drive) for drive in drives)
    for drive in drives:

        def report(row: int, before: int = done) -> None:
            if progress:
                progress(before + row, total)

        for frame, pose in _spaced(drive, spacing_m, report):
            if place_map is None:
                header = observer.header(map_frame, frame.cloud.frame_id)
                place_map = PlaceMap.create(out, header, overwrite=overwrite)
            place_map.add(Place(observer(frame), pose, frame.stamp_ns, drive.name))
        done += len(drive)
    assert place_map is not None  # the first frame of a drive is a place
    place_map.save()
    if progress:
        progress(total, total)
    return place_map.info()


def _check_world_frames(drives: Sequence[Dataset]) -> None:
    """Refuses to merge drives by odometry, which begins at an origin of its own in each."""
    # only recordings name the frame of their poses
    frames = {drive.name: getattr(drive, "world_frame", "") for drive in drives}
    if len(drives) > 1 and any(frame.rsplit("/", 1)[-1] == "odom" for frame in frames.values()):
        named = ", ".join(f"{name}: {frame or 'not named'}" for name, frame in frames.items())
        raise MapError(
            f"the poses of these drives share no origin, some are odometry ({named})",
            "record with -p world_frame:=map, or build one map per drive",
        )


def _spaced(
    drive: Dataset, spacing_m: float, report: Callable[[int], None]
) -> Iterator[tuple[Frame, Array]]:
    """Frames of a drive that are at least `spacing_m` from the one before, with T_world_lidar."""
    last: Array | None = None
    poses = drive.poses
    for row in range(len(drive)):
        report(row)
        # where poses are known beforehand, frames between the places are never read
        if poses is not None and last is not None and not _apart(poses[row], last, spacing_m):
            continue
        frame = drive[row]
        pose = frame.T_world_lidar
        if pose is None:
            raise DatasetError(
                f"frame {row} of {drive.name} has no pose",
                "record odometry or tf with the clouds, or use a data set with poses",
            )
        if last is None or _apart(pose, last, spacing_m):
            yield frame, pose
            last = pose


def _apart(pose: Array, last: Array, spacing_m: float) -> bool:
    return bool(np.linalg.norm(pose[:3, 3] - last[:3, 3]) >= spacing_m)
