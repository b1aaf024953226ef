"""Writes simulated drives as data set folders, in parallel and resumable.

    manifest.json               format, configuration, rig, ontology, names and number of frames
    rig.yaml                    the rig again, for people and other tools
    poses.txt                   per frame: stamp_ns, then T_world_base row by row (12 numbers)
    odometry.txt                per frame: stamp_ns, then T_odom_base row by row
    clouds/000000.npy           structured array (N,): x y z time f4; intensity ring label u1
    images/NAME/000000.jpg      or .png
    depth/NAME/000000.png       16 bit, millimetres, 0 = none; cameras with depth only
    semantic/NAME/000000.png    8 bit labels, 255 = sky; with `semantic_images` only

Every file appears whole or not at all, and depends on the configuration alone: neither on the
number of workers nor on interruptions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from condense_ros.config import parameter
from condense_ros.errors import SimulationError
from condense_ros.files import write_atomically
from condense_ros.frame import Frame
from condense_ros.geometry import Array
from condense_ros.sim.classes import ontology
from condense_ros.sim.motion import drive
from condense_ros.sim.odometry import OdometryConfig, odometry_poses
from condense_ros.sim.rig import Rig
from condense_ros.sim.simulator import Simulator
from condense_ros.sim.world import World, WorldConfig, shared_world

FORMAT = "condense-simulated-1"
#: how one point lies in a cloud file; intensity is 0 .. 255 for 0 .. 1
POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("time", "<f4"),
        ("intensity", "u1"),
        ("ring", "u1"),
        ("label", "u1"),
    ]
)
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class SimulationConfig:
    """What to simulate. The same values give the same bytes."""

    world_seed: int = parameter(0, "seed of the town", low=0)
    drive_seed: int = parameter(0, "seed of the drive and of its odometry", low=0)
    duration_s: float = parameter(60.0, "length of the drive", low=0.01)
    rate_hz: float = parameter(10.0, "frames per second", low=0.01, high=100)
    speed_m_s: float = parameter(7.0, "mean speed", low=0.01, high=40)
    start_s: int = parameter(1_700_000_000, "stamp of the first frame, seconds", low=1)
    images: bool = parameter(True, "render the cameras, not the LiDAR alone")
    semantic_images: bool = parameter(False, "also write the class of every pixel")
    image_format: str = parameter("jpg", "jpg (quality 95) or png")
    workers: int = parameter(2, "processes; has no influence on the result", low=1, high=256)
    world: WorldConfig = parameter(WorldConfig(), "size and density of the town")  # noqa: RUF009
    rig: Rig = parameter(Rig(), "sensors")  # noqa: RUF009
    odometry: OdometryConfig = parameter(OdometryConfig(), "errors of the odometry")  # noqa: RUF009

    def to_dict(self) -> dict[str, Any]:
        """All that determines the result, as plain values."""
        values = dataclasses.asdict(self)
        values["rig"] = self.rig.to_dict()
        del values["workers"]
        return values


def generate(
    out: Path,
    config: SimulationConfig | None = None,
    progress: Progress | None = None,
    *,
    poses: Array | None = None,
) -> Path:
    """Renders a drive into the folder `out`; run again, it goes on where it was stopped.

    Args:
        progress: called with (frames done, frames in all), also for those found done already.
        poses: (T, 4, 4) base_link poses to render instead of a drive.

    Returns:
        `out`, which `condense_ros.datasets.simulated.SimulatedFolder` reads.

    Raises:
        SimulationError: `out` holds something else, or the configuration cannot be simulated.
        StorageFull: no room left; frames written before are whole and are kept.
    """
    config, out = config or SimulationConfig(), Path(out)
    if config.image_format not in ("jpg", "png"):
        raise SimulationError(f"image_format is {config.image_format!r}", "choose jpg or png")
    if config.rig.lidar.beams > 256:
        raise SimulationError(f"{config.rig.lidar.beams} beams", "a folder holds up to 256")
    world = shared_world(config.world_seed, config.world)
    name = f"town_{config.world_seed}_" + ("places" if poses is not None else "")
    if poses is None:
        poses = drive(world, config.duration_s, config.rate_hz, config.drive_seed, config.speed_m_s)
        name += f"drive_{config.drive_seed}"
    count = len(poses)
    step_ns = round(1e9 / config.rate_hz)
    stamps = [config.start_s * 10**9 + i * step_ns for i in range(count)]
    manifest = {
        "format": FORMAT,
        "name": name,
        "frames": count,
        "period_s": 1.0 / config.rate_hz,
        "cameras": [camera.name for camera in config.rig.cameras] if config.images else [],
        "ontology": ontology.to_dict(),
        "config": config.to_dict(),
        "poses_sha256": hashlib.sha256(np.ascontiguousarray(poses).tobytes()).hexdigest(),
    }
    _prepare(out, manifest, config, stamps, poses)
    todo = [i for i in range(count) if not _finished(out, config, i)]
    done = count - len(todo)
    if progress:
        progress(done, count)
    if not todo:
        return out
    jobs = (out, config, poses, stamps, world)
    if config.workers == 1 or len(todo) == 1:
        _start_worker(*jobs)
        for i in todo:
            _render(i)
            done += 1
            if progress:
                progress(done, count)
        return out
    # a fresh interpreter per worker: forking a process that has threads (torch, DDS) may hang it
    pool = ProcessPoolExecutor(
        min(config.workers, len(todo)),
        multiprocessing.get_context("spawn"),
        initializer=_start_pool_worker,
        initargs=jobs,
    )
    try:
        for future in as_completed([pool.submit(_render, i) for i in todo]):
            future.result()
            done += 1
            if progress:
                progress(done, count)
    except BrokenProcessPool as error:
        raise SimulationError(
            "a worker process ended on its own, perhaps for lack of memory",
            "run again with workers=1; finished frames are kept",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return out


def _prepare(
    out: Path, manifest: dict[str, Any], config: SimulationConfig, stamps: list[int], poses: Array
) -> None:
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    path = out / "manifest.json"
    if path.exists():
        if path.read_text() != text:
            raise SimulationError(
                f"{out} holds another simulation", "give an empty folder, or delete this one"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SimulationError(f"{out} is not empty", "give an empty folder")
    try:
        for folder in [out / "clouds", *_image_folders(out, config)]:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(f"cannot write {out}: {error}", "choose a writable folder") from error
    _write(out / "rig.yaml", config.rig.to_yaml().encode())
    _write(out / "poses.txt", _pose_lines(stamps, poses))
    drifted = odometry_poses(poses, config.drive_seed, config.odometry)
    _write(out / "odometry.txt", _pose_lines(stamps, drifted))
    _write(path, text.encode())


def _pose_lines(stamps: list[int], poses: Array) -> bytes:
    rows = [
        " ".join([str(stamp), *(repr(v) for v in T[:3].ravel().tolist())])
        for stamp, T in zip(stamps, poses, strict=True)
    ]
    return ("\n".join(rows) + "\n").encode()


def _image_folders(out: Path, config: SimulationConfig) -> list[Path]:
    folders = []
    for camera in config.rig.cameras if config.images else ():
        folders.append(out / "images" / camera.name)
        if camera.depth:
            folders.append(out / "depth" / camera.name)
        if config.semantic_images:
            folders.append(out / "semantic" / camera.name)
    return folders


def _finished(out: Path, config: SimulationConfig, index: int) -> bool:
    # the cloud is written last: where it is, the frame's images are
    return (out / "clouds" / f"{index:06d}.npy").exists()


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data, fix="free some space and run again; it will go on from here")
    except OSError as error:
        raise SimulationError(f"cannot write {path}: {error}", "check the folder") from error


class _Job:
    """What a worker process holds between frames."""

    out: Path
    config: SimulationConfig
    poses: Array
    stamps: list[int]
    simulator: Simulator


def _start_worker(
    out: Path, config: SimulationConfig, poses: Array, stamps: list[int], world: World
) -> None:
    _Job.out, _Job.config, _Job.poses, _Job.stamps = out, config, poses, stamps
    _Job.simulator = Simulator(world, config.rig)


def _start_pool_worker(
    out: Path, config: SimulationConfig, poses: Array, stamps: list[int], world: World
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)
    parent = os.getppid()

    def follow() -> None:
        # a killed parent cannot say good-bye to its workers
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _start_worker(out, config, poses, stamps, world)


def _render(index: int) -> int:
    config, out, name = _Job.config, _Job.out, f"{index:06d}"
    T_world_base = _Job.poses[index]
    frame = _Job.simulator.frame(T_world_base, _Job.stamps[index], images=config.images)
    for image in frame.images:
        bgr = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2BGR)
        options = {
            "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
            "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
        }[config.image_format]
        path = out / "images" / image.name / f"{name}.{config.image_format}"
        _write(path, cv2.imencode(path.suffix, bgr, options)[1].tobytes())
        if image.depth is not None:
            millimetres = np.round(image.depth * 1000)
            millimetres = np.where(millimetres > 65535, 0, millimetres).astype(np.uint16)
            _write_png(out / "depth" / image.name / f"{name}.png", millimetres)
    if config.images and config.semantic_images:
        for camera, truth in _Job.simulator.truth(T_world_base).items():
            _write_png(out / "semantic" / camera / f"{name}.png", truth.semantic)
    _write(out / "clouds" / f"{name}.npy", _cloud_bytes(frame))
    return index


def _write_png(path: Path, array: Any) -> None:
    _write(path, cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())


def _cloud_bytes(frame: Frame) -> bytes:
    cloud, points = frame.cloud, np.empty(len(frame.cloud), POINT)
    points["x"], points["y"], points["z"] = cloud.xyz.T
    assert cloud.intensity is not None
    points["intensity"] = np.round(cloud.intensity * 255)
    points["time"], points["ring"], points["label"] = cloud.time_s, cloud.ring, frame.labels
    # a plain header and the raw bytes: zip containers would carry the time of writing
    buffer = BytesIO()
    np.save(buffer, points, allow_pickle=False)
    return buffer.getvalue()
