"""Frames as a KITTI odometry sequence: velodyne/, image_2/, calib.txt, poses.txt, times.txt."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

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
from condense_ros.errors import ConfigError, DatasetError
from condense_ros.files import write_atomically
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, CameraModel, inverse


def export_kitti(
    dataset: Dataset,
    out: Path,
    *,
    cameras: tuple[str, ...] = (),
    frames: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Export:
    """Writes frames so that KITTI tools, and `KittiSequence`, read them back.

    KITTI has one rectified colour camera per calibration, so images are undistorted, and with
    several cameras each gets a sequence of its own (`out`/NAME) with the same scans. An interrupted
    export goes on where it was.

    Args:
        out: new folder, or one of the same export.
        cameras: names; empty: all.
        frames: (first, end).

    Raises:
        DatasetError: `out` holds something else, or the calibration changes within the frames.
        ConfigError: no such camera or frames.
        StorageFull: no room; run it again to go on.
    """
    indices = frame_range(dataset, frames)
    export = Export()
    settings = {
        "format": "kitti",
        "source": dataset.name,
        "frames": [indices.start, indices.stop],
        "cameras": list(cameras),
    }
    begin(out, settings)
    sequences: dict[str, _Sequence] = {}
    for index, frame in readable(dataset, indices, export):
        if not sequences:
            sequences = _sequences(out, frame, cameras, export)
        fresh = [sequence.add(index, frame) for sequence in sequences.values()]
        export.frames += 1
        export.fresh += any(fresh)
        if progress is not None:
            progress(index - indices.start + 1, len(indices))
    if not sequences:
        why = next(iter(export.skipped.values()), "there are none")
        raise DatasetError(f"no frame of {dataset.name} can be exported: {why}", "")
    for sequence in sequences.values():
        sequence.end(export)
    end(out, settings, export)
    return export


def _sequences(
    out: Path, frame: Frame, cameras: tuple[str, ...], export: Export
) -> dict[str, _Sequence]:
    found = {image.name: image for image in frame.images}
    unknown = sorted(set(cameras) - set(found))
    if unknown:
        raise ConfigError(
            f"there is no camera {', '.join(unknown)}", f"use some of: {', '.join(found) or '-'}"
        )
    names = cameras or tuple(found)
    if any(found[name].ego_motion is not None for name in names):
        export.notes.append("the motion between scan and image is not in this format")
    if not names:
        return {"": _Sequence(out, None, None)}
    if len(names) == 1:
        return {names[0]: _Sequence(out, found[names[0]], None)}
    first = out / names[0]
    return {
        name: _Sequence(out / name, found[name], first if out / name != first else None)
        for name in names
    }


class _Sequence:
    """One camera, or none, with the scans."""

    def __init__(self, folder: Path, image: CameraImage | None, scans: Path | None) -> None:
        self._folder, self._image, self._scans = folder, image, scans
        self._rows: list[tuple[int, Array | None]] = []
        (folder / "velodyne").mkdir(parents=True, exist_ok=True)
        if image is not None:
            (folder / "image_2").mkdir(exist_ok=True)
            write_atomically(folder / "calib.txt", _calibration(image))

    def add(self, index: int, frame: Frame) -> bool:
        """Writes what is not there yet; whether anything was."""
        self._rows.append((frame.stamp_ns, frame.T_world_lidar))
        image = self._find(frame, index)
        scan = self._folder / "velodyne" / f"{index:06d}.bin"
        fresh = not scan.exists()
        if fresh and not self._link(scan):
            write_atomically(scan, _scan(frame.cloud))
        if image is not None:
            picture = self._folder / "image_2" / f"{index:06d}.png"
            if not picture.exists():
                write_atomically(picture, image_bytes(_rectified(image), "png"))
                fresh = True
        return fresh

    def _link(self, scan: Path) -> bool:
        """The same scan under a second name, where the file system knows hard links."""
        if self._scans is None:
            return False
        try:
            os.link(self._scans / "velodyne" / scan.name, scan)
        except OSError:
            return False
        return True

    def _find(self, frame: Frame, index: int) -> CameraImage | None:
        first = self._image
        if first is None:
            return None
        for image in frame.images:
            if image.name == first.name:
                break
        else:
            raise DatasetError(f"frame {index} has no image {first.name}", "leave it out")
        same = _same_camera(image.camera, first.camera) and np.allclose(
            image.T_cam_lidar, first.T_cam_lidar, rtol=0, atol=1e-9
        )
        if not same:
            raise DatasetError(
                f"from frame {index} on {first.name} has another calibration, and a KITTI sequence "
                "has one",
                f"export the frames before and from {index} separately, with --frames",
            )
        return image

    def end(self, export: Export) -> None:
        """Writes poses and times, which need all frames."""
        start = self._rows[0][0]
        times = "".join(f"{(stamp - start) / 1e9:.9f}\n" for stamp, _ in self._rows)
        write_atomically(self._folder / "times.txt", times)
        stamps = "".join(f"{stamp}\n" for stamp, _ in self._rows)
        write_atomically(self._folder / "stamps_ns.txt", stamps)
        poses = [pose for _, pose in self._rows if pose is not None]
        if len(poses) < len(self._rows):
            note = f"{len(self._rows) - len(poses)} frames have no pose, so there is no poses.txt"
            if note not in export.notes:
                export.notes.append(note)
            return
        name = "poses_lidar.txt"
        if self._image is not None:
            # KITTI's poses are those of the camera, in axes like the camera's
            name, T = "poses.txt", self._image.T_cam_lidar
            poses = [T @ pose @ inverse(T) for pose in poses]
        rows = (" ".join(f"{value:.12e}" for value in pose[:3].ravel()) for pose in poses)
        write_atomically(self._folder / name, "".join(row + "\n" for row in rows))


def _scan(cloud: PointCloud) -> bytes:
    columns = np.zeros((len(cloud), 4), np.float32)
    columns[:, :3] = cloud.xyz
    if cloud.intensity is not None:
        columns[:, 3] = cloud.intensity
    return columns.tobytes()


def _calibration(image: CameraImage) -> str:
    P = " ".join(f"{value:.12e}" for value in np.c_[image.camera.K, np.zeros(3)].ravel())
    Tr = " ".join(f"{value:.12e}" for value in image.T_cam_lidar[:3].ravel())
    return "".join(f"P{k}: {P}\n" for k in range(4)) + f"Tr: {Tr}\n"


def _same_camera(a: CameraModel, b: CameraModel) -> bool:
    same = (a.width, a.height, a.model) == (b.width, b.height, b.model)
    return same and np.array_equal(a.K, b.K) and np.array_equal(a.D, b.D)


def _rectified(image: CameraImage) -> npt.NDArray[np.uint8]:
    """The image as a camera without distortion and with the same K would have seen it."""
    camera = image.camera
    if camera.model == "pinhole" and not camera.D.any():
        return image.pixels
    import cv2

    key = camera.K.tobytes(), camera.D.tobytes(), camera.model, camera.width, camera.height
    u, v = _rectification(*key)
    return np.asarray(cv2.remap(image.pixels, u, v, cv2.INTER_LINEAR), dtype=np.uint8)


@lru_cache(maxsize=16)
def _rectification(
    K: bytes, D: bytes, model: str, width: int, height: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Where in the distorted image each pixel of the rectified one is; -1 where it is not."""
    matrix = np.frombuffer(K).reshape(3, 3)
    lens = CameraModel(matrix, width, height, np.frombuffer(D), model)
    # `rays` of a fisheye are of unit length, which `project` does not mind
    uv, _, inside = lens.project(CameraModel(matrix, width, height).rays())
    uv[~inside] = -1
    maps = uv.astype(np.float32).reshape(height, width, 2)
    return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
