"""Builds a place map from a drive with poses: `condense map build`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from condense_ros.datasets import Dataset, open_dataset
from condense_ros.errors import ConfigError, DatasetError
from condense_ros.geometry import Array
from condense_ros.perception.perceiver import Perceiver, PerceptionConfig
from condense_ros.places.place import MapHeader, Place
from condense_ros.places.place_map import MapInfo, PlaceMap


def map_header(perceiver: Perceiver, map_frame: str = "map", sensor_frame: str = "") -> MapHeader:
    """Header of a map whose places this perceiver describes."""
    return MapHeader(
        perceiver.backbone_id,
        perceiver.config.descriptor,
        perceiver.descriptor_size,
        map_frame,
        sensor_frame or "lidar",
    )


def build_map(
    source: Dataset | Path | str,
    checkpoint: Perceiver | Path | str,
    out: Path | str,
    *,
    spacing_m: float = 3.0,
    session: str = "",
    overwrite: bool = False,
    config: PerceptionConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MapInfo:
    """Stores a place every `spacing_m` metres of a drive.

    Args:
        source: a data set, or a path that `open_dataset` reads (a bag, a simulated folder, ...);
            its frames need poses. The map frame is the frame of those poses.
        checkpoint: a checkpoint, or a perceiver that has loaded it.
        out: folder of the map.
        session: name of the drive, by default the data set's.
        progress: called with (frames looked at, frames in all).

    Raises:
        DatasetError: no frames, or frames without poses.
        MapError: `out` holds a map already (unless `overwrite`), or cannot be written.
        CheckpointError, FrameError, PerceptionError: as `Perceiver`.
    """
    if not spacing_m > 0:
        raise ConfigError(f"spacing_m is {spacing_m}", "give a distance above 0 m")
    dataset = open_dataset(source) if isinstance(source, (str, Path)) else source
    if not len(dataset):
        raise DatasetError(f"{dataset.name} has no frames", "name another bag or folder")
    perceiver = checkpoint if isinstance(checkpoint, Perceiver) else Perceiver(checkpoint, config)
    place_map: PlaceMap | None = None
    last: Array | None = None
    poses = dataset.poses
    for row in range(len(dataset)):
        if progress:
            progress(row, len(dataset))
        if poses is not None and last is not None and not _apart(poses[row], last, spacing_m):
            continue
        frame = dataset[row]
        pose = frame.T_world_lidar
        if pose is None:
            raise DatasetError(
                f"frame {row} of {dataset.name} has no pose",
                "record odometry or tf with the clouds, or use a data set with poses",
            )
        if last is not None and not _apart(pose, last, spacing_m):
            continue
        if place_map is None:
            header = map_header(perceiver, sensor_frame=frame.cloud.frame_id)
            place_map = PlaceMap.create(out, header, overwrite=overwrite)
        observation = perceiver.perceive(frame).observation
        place_map.add(Place(observation, pose, frame.stamp_ns, session or dataset.name))
        last = pose
    assert place_map is not None
    place_map.save()
    if progress:
        progress(len(dataset), len(dataset))
    return place_map.info()


def _apart(pose: Array, last: Array, spacing_m: float) -> bool:
    return bool(np.linalg.norm(pose[:3, 3] - last[:3, 3]) >= spacing_m)
