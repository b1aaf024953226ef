"""Writes simulated drives as data set folders, in parallel and resumable.

    manifest.json                  format, configuration, world, names and number of samples
    rig.yaml                       sensors, their calibration as it is published
    lidar.txt                      per sweep: its stamp_ns
    cameras/NAME.txt               per image: its stamp_ns
    odometry.txt                   per message: stamp_ns, then T_odom_base row by row (12 numbers)
    imu.txt                        per message: stamp_ns, rad/s (3), m/s^2 (3); with `imu_hz` only
    clouds/000000.npy              structured array (N,), see `POINT`; points as the sensor sends
                                   them, with class, instance and visibility
    images/NAME/000000.jpg         or .png
    depth/NAME/000000.png          16 bit, millimetres, 0 = none; cameras with depth only
    truth/rig.yaml                 sensors as they are mounted
    truth/motion.npy               (K, 7) seconds since the world's epoch, x y z roll pitch yaw
    truth/lidar.txt                per sweep: true time in ns, T_world_base then (12 numbers)
    truth/cameras/NAME.txt         per image: the same
    truth/odometry.txt, imu.txt    per message: true time in ns
    truth/delivery/SENSOR.txt      per message: lost (0 or 1), delay in s, copies
    truth/semantic/NAME/000000.png 8 bit labels, 255 = sky; these three with `pixel_truth` only
    truth/instance/NAME/000000.png 16 bit, 65535 = sky, 0 = the ground
    truth/depth/NAME/000000.tiff   float32 metres along z, 0 = sky

Every file appears whole or not at all, and depends on the configuration alone: neither on the
number of workers nor on interruptions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.errors import SimulationError, StorageFull
from condense_ros.files import write_atomically
from condense_ros.geometry import Array
from condense_ros.sim.driving.motion import Motion
from condense_ros.sim.folders.encode import POINT, cloud_bytes, picture_files
from condense_ros.sim.folders.faults import IMU, LIDAR, ODOMETRY
from condense_ros.sim.folders.plan import Plan, SimulationConfig, make_plan
from condense_ros.sim.folders.render import Renderer

FORMAT = "condense-simulated-2"
Progress = Callable[[int, int], None]
__all__ = ["FORMAT", "POINT", "DiskUse", "SimulationConfig", "disk_use", "generate"]


@dataclasses.dataclass(frozen=True)
class DiskUse:
    """What a folder will take, about: sizes of images depend on what is in them."""

    bytes_per_frame: int
    bytes: int
    free: int


def disk_use(out: Path, plan: Plan) -> DiskUse:
    """About what a plan's folder will take, and what is free where it will be."""
    c = plan.config
    rays = _rays(plan)
    # shares of rays that return, and bytes per pixel, are those of simulated towns
    cloud = int(0.8 * rays * POINT.itemsize)
    pictures = 0.0
    for camera in plan.rig.cameras if c.images else ():
        each = 0.45 if c.image_format == "jpg" else 2.0
        each += 0.6 if camera.depth else 0.0
        each += 0.9 if c.pixel_truth else 0.0
        pictures += each * camera.width * camera.height * len(plan.series[camera.name])
    frames = len(plan.series[LIDAR])
    texts = 260 * sum(len(series) for series in plan.series.values())
    growing = int(cloud * frames + pictures + texts)
    # the list of assets
    total = growing + 25 * len(plan.world.assets) + 5000
    there = next(path for path in [out, *out.absolute().parents] if path.exists())
    return DiskUse(growing // frames, total, shutil.disk_usage(there).free)


def _rays(plan: Plan) -> int:
    lidar = plan.rig.lidar
    if lidar.pattern != "depth_camera":
        return len(lidar.directions())
    camera = next(camera for camera in plan.rig.cameras if camera.name == lidar.camera)
    return camera.width * camera.height // lidar.pixel_stride**2


def generate(
    out: Path,
    config: SimulationConfig | None = None,
    progress: Progress | None = None,
    *,
    poses: Array | None = None,
    plan: Plan | None = None,
) -> Path:
    """Renders a drive into the folder `out`; run again, it goes on where it was stopped.

    Args:
        progress: called with (frames done, frames in all), also for those found done already.
        poses: (T, 4, 4) base_link poses to render instead of a drive.
        plan: that of `config` and `poses`, where it is at hand already.

    Returns:
        `out`, which `condense_ros.datasets.simulated.SimulatedFolder` reads.

    Raises:
        SimulationError: `out` holds something else, or the configuration cannot be simulated.
        StorageFull: no room; frames written before are whole and are kept.
    """
    config, out = config or SimulationConfig(), Path(out)
    plan = plan or make_plan(config, poses=poses)
    _prepare(out, plan, poses)
    count = len(plan.series[LIDAR])
    todo = [i for i in range(count) if not _cloud_path(out, i).exists()]
    done = count - len(todo)
    if progress:
        progress(done, count)
    if not todo:
        return out
    _check_room(out, plan, len(todo))
    if config.workers == 1 or len(todo) == 1:
        _start_worker(out, plan)
        for i in todo:
            _render(i)
            done += 1
            if progress:
                progress(done, count)
        return out
    with workers(min(config.workers, len(todo)), _start_worker, (out, plan.for_workers())) as pool:
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
        except KeyboardInterrupt:
            # files appear whole or not at all, so nothing is worth waiting for
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return out


def workers(
    count: int, start: Callable[..., None], arguments: tuple[Any, ...]
) -> ProcessPoolExecutor:
    """Processes that end with their parent, each begun by `start(*arguments)`."""
    # a fresh interpreter each: forking a process that has threads (torch, DDS) may hang it
    return ProcessPoolExecutor(
        count,
        multiprocessing.get_context("spawn"),
        initializer=_start_pool_worker,
        initargs=(start, arguments),
    )


def _check_room(out: Path, plan: Plan, frames: int) -> None:
    use = disk_use(out, plan)
    if use.bytes_per_frame * frames > use.free:
        raise StorageFull(
            f"{frames} frames of about {use.bytes_per_frame / 1e6:.1f} MB need "
            f"{use.bytes_per_frame * frames / 1e9:.1f} GB, {out} has {use.free / 1e9:.1f} GB free",
            "free some space, choose another disk, or simulate less",
        )


def _prepare(out: Path, plan: Plan, poses: Array | None) -> None:
    text = json.dumps(_manifest(plan, poses), indent=1, sort_keys=True) + "\n"
    path = out / "manifest.json"
    if path.exists():
        if path.read_text() != text:
            raise SimulationError(
                f"{out} holds another simulation", "give an empty folder, or delete this one"
            )
        # written last, so all that comes before it is there
        (out / _BEGUN).unlink(missing_ok=True)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not _unfinished(out):
        raise SimulationError(f"{out} is not empty", "give an empty folder")
    try:
        for name in ["clouds", "cameras", "truth/cameras", "truth/delivery", *_folders(plan)]:
            (out / name).mkdir(parents=True, exist_ok=True)
        (out / _BEGUN).touch()
    except OSError as error:
        raise SimulationError(f"cannot write {out}: {error}", "choose a writable folder") from error
    _write(out / "rig.yaml", plan.published.to_yaml().encode())
    _write(out / "truth" / "rig.yaml", plan.rig.to_yaml().encode())
    for sensor, series in plan.series.items():
        if sensor not in (ODOMETRY, IMU):
            name = "lidar" if sensor == LIDAR else f"cameras/{sensor}"
            _write(out / f"{name}.txt", _rows(series.stamp_ns))
            _write(out / "truth" / f"{name}.txt", _rows(series.true_ns, _flat(plan.poses(sensor))))
        else:
            _write(out / "truth" / f"{sensor}.txt", _rows(series.true_ns))
        d = series.delivery
        _write(
            out / "truth" / "delivery" / f"{sensor}.txt",
            _rows(d.lost.astype(np.int64), np.column_stack([d.delay_s, d.copies])),
        )
    _write(out / "odometry.txt", _rows(plan.series[ODOMETRY].stamp_ns, _flat(plan.T_odom_base)))
    if IMU in plan.series:
        _write(out / "imu.txt", _rows(plan.series[IMU].stamp_ns, plan.imu))
    if isinstance(plan.motion, Motion):
        samples = np.column_stack([plan.motion.time_s, plan.motion.samples])
        _write(out / "truth" / "motion.npy", npy_bytes(samples))
    _write(path, text.encode())
    (out / _BEGUN).unlink(missing_ok=True)


#: stands in a folder until its manifest does
_BEGUN = "unfinished"


def _unfinished(out: Path) -> bool:
    return (out / _BEGUN).exists()


def _manifest(plan: Plan, poses: Array | None) -> dict[str, Any]:
    world = plan.world
    motion = plan.motion.samples if isinstance(plan.motion, Motion) else poses
    assert motion is not None
    return {
        "format": FORMAT,
        "name": plan.name,
        "frames": len(plan.series[LIDAR]),
        "period_s": 1.0 / plan.config.rate_hz,
        "cameras": list(plan.cameras),
        "samples": {sensor: len(series) for sensor, series in plan.series.items()},
        "ontology": world.ontology.to_dict(),
        "world": {
            "kind": world.kind,
            "seed": world.seed,
            "session": world.session,
            "split": world.split,
            "light": dataclasses.asdict(world.light),
            "assets": sorted(world.assets),
            "movers": len(world.movers),
            "removed_movers": list(plan.removed),
        },
        "config": plan.config.to_dict(),
        "motion_sha256": hashlib.sha256(np.ascontiguousarray(motion).tobytes()).hexdigest(),
    }


def _flat(poses: Array) -> Array:
    return poses[:, :3].reshape(-1, 12)


def _rows(stamps: npt.NDArray[np.int64], values: Array | None = None) -> bytes:
    """Text of a whole number per row, followed by numbers that are read back exactly."""
    lines = [str(stamp) for stamp in stamps.tolist()]
    if values is not None:
        lines = [
            " ".join([line, *map(repr, row)])
            for line, row in zip(lines, values.tolist(), strict=True)
        ]
    return ("\n".join(lines) + "\n").encode()


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as a .npy file; zip containers would carry the time of writing."""
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _folders(plan: Plan) -> list[str]:
    names = []
    for camera in plan.rig.cameras if plan.config.images else ():
        names.append(f"images/{camera.name}")
        if camera.depth:
            names.append(f"depth/{camera.name}")
        if plan.config.pixel_truth:
            names += [f"truth/{kind}/{camera.name}" for kind in ("semantic", "instance", "depth")]
    return names


def _cloud_path(out: Path, index: int) -> Path:
    # the cloud is written last: where it is, the images of its frame are
    return out / "clouds" / f"{index:06d}.npy"


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data, fix="free some space and run again; it will go on from here")
    except OSError as error:
        raise SimulationError(f"cannot write {path}: {error}", "check the folder") from error


class _Job:
    """What a worker process holds between frames."""

    out: Path
    renderer: Renderer


def _start_worker(out: Path, plan: Plan) -> None:
    _Job.out, _Job.renderer = out, Renderer(plan)


def _start_pool_worker(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)
    parent = os.getppid()

    def follow() -> None:
        # a killed parent cannot say good-bye to its workers
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    start(*arguments)


def _render(index: int) -> int:
    out, renderer = _Job.out, _Job.renderer
    config = renderer.plan.config
    for camera, number in renderer.images_of(index):
        picture = renderer.picture(camera, number, truth=config.pixel_truth)
        for path, data in picture_files(picture, f"{number:06d}", config.image_format):
            _write(out / path, data)
    sweep = renderer.sweep(index)
    _write(_cloud_path(out, index), cloud_bytes(sweep))
    return index
