"""How fast messages become arrays and back, beside what the machine's memory and disk do.

The cloud has 120,000 points of 22 bytes (x, y, z, intensity, ring, time), the images are 1280x720.
"""

from __future__ import annotations

import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros import wire
from condense_ros.cli.bench.machine import copy_rate, disk_rate
from condense_ros.wire import cdr

POINTS = 120_000
WIDTH, HEIGHT = 1280, 720
DISK_BYTES = 256 << 20
#: figures that have a limit, milliseconds
LIMITS_MS = {
    "cloud: view": 0.1,
    "cloud: contiguous xyz and intensity": 1.0,
    "image: RGB": 1.5,
    "image: encode RGB": 1.0,
}


def messages() -> dict[str, Any]:
    """The cloud, images and depth that are measured, as arrays and as bytes."""
    rng = np.random.default_rng(0)
    header = wire.Header(1_700_000_000_000_000_000, "sensor")
    cloud = {axis: rng.normal(0, 20, POINTS).astype(np.float32) for axis in "xyz"}
    cloud["intensity"] = rng.random(POINTS, dtype=np.float32)
    cloud["ring"] = (np.arange(POINTS) % 64).astype(np.uint16)
    cloud["time"] = np.linspace(0, 0.1, POINTS, dtype=np.float32)
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.dstack([u // 5, v // 3, (u + v) // 8]).astype(np.uint8)
    picture += rng.integers(0, 8, picture.shape, dtype=np.uint8)
    depth = (1 + u / 400 + v / 300).astype(np.float32)
    depth[::7, ::5] = 0
    return {
        "header": header,
        "cloud": cloud,
        "picture": picture,
        "raw cloud": wire.encode_cloud(header, cloud),
        "raw rgb8": wire.encode_image(header, picture),
        "raw bgr8": wire.encode_image(header, picture, "bgr8"),
        "raw bayer": wire.encode_image(header, picture, "bayer_rggb8"),
        "raw depth": wire.encode_image(header, depth, "16UC1"),
        "raw jpeg": wire.encode_compressed_image(header, picture),
        "raw png depth": wire.encode_compressed_depth(header, depth, "png"),
        "raw rvl depth": wire.encode_compressed_depth(header, depth, "rvl"),
    }


def ours(m: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """What is measured of this software."""
    return {
        "cloud: view": lambda: wire.decode_cloud(m["raw cloud"]).points,
        "cloud: contiguous xyz and intensity": lambda: _xyz_intensity(m["raw cloud"]),
        "cloud: all fields": lambda: wire.decode_cloud(m["raw cloud"]).cloud(),
        "cloud: encode": lambda: wire.encode_cloud(m["header"], m["cloud"]),
        "image: RGB": lambda: wire.decode_image(m["raw rgb8"]).pixels,
        "image: BGR": lambda: wire.decode_image(m["raw bgr8"]).pixels,
        "image: Bayer": lambda: wire.decode_image(m["raw bayer"]).pixels,
        "image: 16UC1 depth": lambda: wire.decode_image(m["raw depth"]).pixels,
        "image: JPEG": lambda: wire.decode_compressed_image(m["raw jpeg"]).pixels,
        "image: compressedDepth PNG": lambda: wire.decode_compressed_image(m["raw png depth"]),
        "image: compressedDepth RVL": lambda: wire.decode_compressed_image(m["raw rvl depth"]),
        "image: encode RGB": lambda: wire.encode_image(m["header"], m["picture"]),
        "image: encode JPEG": lambda: wire.encode_compressed_image(m["header"], m["picture"]),
        "header of an image": lambda: wire.read_header(m["raw rgb8"]),
    }


def _xyz_intensity(raw: bytes) -> tuple[Any, Any]:
    decoded = wire.decode_cloud(raw)
    return decoded.xyz(), np.ascontiguousarray(decoded.points["intensity"])


def others(m: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The same jobs by the libraries of the field that are installed here."""
    found: dict[str, Callable[[], object]] = {}
    store: Any = cdr.typestore()

    def by_rosbags(raw: bytes, kind: str, dtype: Any) -> np.ndarray[Any, Any]:
        return np.frombuffer(store.deserialize_cdr(raw, kind).data, dtype)

    layout = wire.decode_cloud(m["raw cloud"]).points.dtype
    found["rosbags + numpy: xyz and intensity"] = lambda: [
        np.ascontiguousarray(by_rosbags(m["raw cloud"], wire.POINT_CLOUD, layout)[name])
        for name in ("x", "y", "z", "intensity")
    ]
    found["rosbags + numpy: RGB"] = lambda: by_rosbags(m["raw rgb8"], wire.IMAGE, np.uint8).copy()
    try:
        deserialize = importlib.import_module("rclpy.serialization").deserialize_message
        types = importlib.import_module("sensor_msgs.msg")
    except ImportError:
        return found
    found["rclpy: PointCloud2"] = lambda: deserialize(m["raw cloud"], types.PointCloud2)
    found["rclpy: Image"] = lambda: deserialize(m["raw rgb8"], types.Image)
    found["rclpy + numpy: RGB"] = lambda: np.array(
        deserialize(m["raw rgb8"], types.Image).data
    ).reshape(HEIGHT, WIDTH, 3)
    try:
        read = importlib.import_module("sensor_msgs_py.point_cloud2").read_points_numpy
        found["rclpy + sensor_msgs_py: xyz and intensity"] = lambda: read(
            deserialize(m["raw cloud"], types.PointCloud2), ["x", "y", "z", "intensity"]
        )
    except ImportError:
        pass
    try:
        numpify = importlib.import_module("ros2_numpy").numpify
        found["rclpy + ros2_numpy: PointCloud2"] = lambda: numpify(
            deserialize(m["raw cloud"], types.PointCloud2)
        )
    except ImportError:
        pass
    return found


def milliseconds(job: Callable[[], object], seconds: float) -> dict[str, float]:
    """Median, fastest and slowest of the runs that fit the time (at least 5), after one more."""
    job()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 1000):
        start = time.perf_counter()
        job()
        times.append((time.perf_counter() - start) * 1e3)
    return {
        "median_ms": statistics.median(times),
        "fastest_ms": min(times),
        "p95_ms": sorted(times)[int(0.95 * (len(times) - 1))],
        "runs": len(times),
    }


def measure(seconds: float = 1.0, folder: Path | None = None) -> dict[str, Any]:
    """All figures; `seconds` per job.

    Raises:
        OSError: the folder cannot be written.
    """
    m = messages()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        disk = disk_rate(Path(scratch), DISK_BYTES)
    cloud_bytes, image_bytes = len(m["raw cloud"]), len(m["raw rgb8"])
    return {
        "cloud_bytes": cloud_bytes,
        "image_bytes": image_bytes,
        "machine": {
            "copy_mb_s": copy_rate(image_bytes),
            "write_mb_s": disk,
        },
        "ours": {name: milliseconds(job, seconds) for name, job in ours(m).items()},
        "others": {name: milliseconds(job, seconds) for name, job in others(m).items()},
        "limits_ms": LIMITS_MS,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The figures as text."""
    machine = result["machine"]
    out = [
        f"memory copy        {machine['copy_mb_s']:9.0f} MB/s "
        f"({result['image_bytes'] / machine['copy_mb_s'] / 1e3:.3f} ms for the image)",
        f"sequential write   {machine['write_mb_s']:9.0f} MB/s, fdatasync included",
        f"{'':44s}  median     p95  limit",
    ]
    for group in ("ours", "others"):
        for name, figures in result[group].items():
            limit = result["limits_ms"].get(name)
            row, verdict = f"{name:44s} {figures['median_ms']:7.3f} {figures['p95_ms']:7.3f} ", ""
            if limit is not None:
                verdict = f"{limit:7.1f} {'met' if figures['median_ms'] < limit else 'MISSED'}"
            out.append((row + verdict).rstrip())
    return out
