"""Frames as WebDataset shards: .tar files whose members share a sample's key up to the first dot.

Format: https://github.com/webdataset/webdataset#the-webdataset-format
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.datasets.base import Dataset
from condense_ros.datasets.export import (
    Export,
    Progress,
    begin,
    end,
    frame_range,
    image_bytes,
    readable,
)
from condense_ros.errors import DatasetError, StorageFull
from condense_ros.files import NO_ROOM, sync_folder
from condense_ros.frame import Frame, calibration_id


def export_webdataset(
    dataset: Dataset,
    out: Path,
    *,
    shard_frames: int = 64,
    images: str = "png",
    frames: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Export:
    """Writes frames into shard-000000.tar, shard-000001.tar, ... in `out`.

    Members of a sample: KEY.xyz.npy (N, 3) float32 metres, KEY.intensity.npy (N,) float32 and
    KEY.labels.npy (N,) uint8 where there are any, KEY.CAMERA.png or .jpg, and KEY.json with stamps,
    intrinsics, extrinsics and pose. A shard appears when it is whole; an interrupted export goes on
    with the first one missing. The same frames give the same bytes.

    Args:
        out: new folder, or one of the same export.
        shard_frames: frames per shard.
        images: "png" (lossless) or "jpg".
        frames: (first, end).

    Raises:
        DatasetError: `out` holds something else, or no frame can be read.
        ConfigError: no such frames.
        StorageFull: no room; run it again to go on.
    """
    indices = frame_range(dataset, frames)
    export = Export()
    settings = {
        "format": "webdataset",
        "source": dataset.name,
        "frames": [indices.start, indices.stop],
        "shard_frames": shard_frames,
        "images": images,
    }
    begin(out, settings)
    for number, start in enumerate(range(indices.start, indices.stop, shard_frames)):
        part = range(start, min(start + shard_frames, indices.stop))
        shard = out / f"shard-{number:06d}.tar"
        if shard.exists():
            there = _samples(shard)
            export.frames += len(there)
            for index in sorted(set(part) - there):
                export.skipped[index] = "left out by an earlier run"
        else:
            written = _write_shard(shard, dataset, part, images, export)
            export.frames += written
            export.fresh += written
        if progress is not None:
            progress(part.stop - indices.start, len(indices))
    if not export.frames:
        why = next(iter(export.skipped.values()), "there are none")
        raise DatasetError(f"no frame of {dataset.name} can be exported: {why}", "")
    end(out, settings, export)
    return export


def _write_shard(path: Path, dataset: Dataset, part: range, images: str, export: Export) -> int:
    """Writes a shard beside its place, syncs it, gives it its name; returns its samples."""
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with open(partial, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for index, frame in readable(dataset, part, export):
                    key = f"{_plain(dataset.name)}_{index:06d}"
                    for name, content in _members(frame, images):
                        info = tarfile.TarInfo(f"{key}.{name}")
                        info.size = len(content)
                        tar.addfile(info, BytesIO(content))
                    count += 1
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise StorageFull(
                f"no room to write {path}", "free space and run the same command again"
            ) from error
        raise
    sync_folder(path.parent)
    return count


def _samples(shard: Path) -> set[int]:
    """Indices of the frames in a shard."""
    try:
        with tarfile.open(shard) as tar:
            names = [name for name in tar.getnames() if name.endswith(".json")]
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(
            f"{shard} is damaged ({error})", "remove it and run the same command again"
        ) from error
    return {int(name.removesuffix(".json").rpartition("_")[2]) for name in names}


def _members(frame: Frame, suffix: str) -> Iterator[tuple[str, bytes]]:
    cloud = frame.cloud
    yield "xyz.npy", _npy(cloud.xyz)
    if cloud.intensity is not None:
        yield "intensity.npy", _npy(cloud.intensity)
    if frame.labels is not None:
        yield "labels.npy", _npy(frame.labels)
    for image in frame.images:
        yield f"{_plain(image.name)}.{suffix}", image_bytes(image.pixels, suffix)
    yield "json", json.dumps(_facts(frame), sort_keys=True).encode()


def _facts(frame: Frame) -> dict[str, Any]:
    cameras = {
        _plain(image.name): {
            "stamp_ns": image.stamp_ns,
            "width": image.camera.width,
            "height": image.camera.height,
            "model": image.camera.model,
            "K": image.camera.K.tolist(),
            "D": image.camera.D.tolist(),
            "T_cam_lidar": image.T_cam_lidar.tolist(),
            "ego_motion": None if image.ego_motion is None else image.ego_motion.tolist(),
        }
        for image in frame.images
    }
    return {
        "stamp_ns": frame.stamp_ns,
        "sequence": frame.sequence,
        "index": frame.index,
        "calibration_id": calibration_id(frame.images),
        "T_world_lidar": None if frame.T_world_lidar is None else frame.T_world_lidar.tolist(),
        "cameras": cameras,
        "notes": list(frame.notes),
    }


def _npy(values: npt.NDArray[Any]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _plain(name: str) -> str:
    """A name without dots and slashes: a reader takes what follows the first dot as the suffix."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
