"""How fast the recorder writes, beside what the disk itself takes in the same run.

    python benchmarks/bench_record.py [--json F] [--folder DIR] [--seconds 10]

The load is six 1600x900 cameras at 12 Hz and a 32-beam LiDAR at 20 Hz (about 312 MB/s), from
memory, as fast as the recorder takes it and then paced at its true rate. The disk's own rate is
plain sequential writing in 1 MiB blocks with fdatasync every second, before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from condense_ros.bags import BagWriter, RecordConfig

MIB = 1 << 20
IMAGE_BYTES = 1600 * 900 * 3 + 60
CLOUD_BYTES = 32 * 1084 * 16 + 200


def disk_rate(folder: Path, total: int) -> float:
    """MB/s of sequential writes of `total` bytes with fdatasync every second and at the end."""
    block = np.random.default_rng(0).bytes(MIB)
    path = folder / "sequential.bin"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    start = synced = time.perf_counter()
    try:
        for _ in range(total // MIB):
            os.write(handle, block)
            if time.perf_counter() - synced > 1.0:
                os.fdatasync(handle)
                synced = time.perf_counter()
        os.fdatasync(handle)
        return total / (time.perf_counter() - start) / 1e6
    finally:
        os.close(handle)
        path.unlink()


def copy_rate() -> float:
    """MB/s of a memory copy of one image."""
    # of many images, so that the cache does not hold them
    source = np.random.default_rng(0).integers(0, 256, (40, IMAGE_BYTES), dtype=np.uint8)
    target = np.ones_like(source)
    times = []
    for image, copy in zip(source, target, strict=True):
        start = time.perf_counter()
        copy[:] = image
        times.append(time.perf_counter() - start)
    return IMAGE_BYTES / statistics.median(times) / 1e6


def load(seconds: float) -> list[tuple[float, str, int]]:
    """(time, topic, which payload) of the cameras and the LiDAR, in order."""
    events = [
        (k / 12 + c / 72, f"/camera_{c}/image_raw", 0)
        for c in range(6)
        for k in range(round(seconds * 12))
    ]
    events += [(k / 20, "/points", 1) for k in range(round(seconds * 20))]
    return sorted(events)


def record(folder: Path, seconds: float, *, paced: bool) -> dict[str, float]:
    """Records the load; MB/s from the first write to the return of close."""
    random = np.random.default_rng(0)
    payloads = [random.bytes(IMAGE_BYTES), random.bytes(CLOUD_BYTES)]
    types = ["sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"]
    events = load(seconds)
    size = sum(len(payloads[which]) for _, _, which in events)
    writer = BagWriter(folder / "bag", RecordConfig())
    cpu, start = time.process_time(), time.perf_counter()
    for at, topic, which in events:
        if paced:
            time.sleep(max(0.0, start + at - time.perf_counter()))
        stamp = round(at * 1e9) + 1
        writer.write(topic, types[which], payloads[which], stamp, stamp, block=not paced)
    fed = time.perf_counter() - start
    writer.close()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    counts = writer.accounting().values()
    dropped = sum(sum(count.dropped.values()) for count in counts)
    shutil.rmtree(folder / "bag")
    return {
        "bytes": size,
        "offered_mb_s": size / fed / 1e6,
        "rate_mb_s": size / wall / 1e6,
        "cpu_s": cpu,
        "wall_s": wall,
        "messages": len(events),
        "dropped": dropped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the load")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        size = sum([IMAGE_BYTES, CLOUD_BYTES][which] for _, _, which in load(arguments.seconds))
        before = disk_rate(folder, size)
        fast = record(folder, arguments.seconds, paced=False)
        between = disk_rate(folder, size)
        paced = record(folder, arguments.seconds, paced=True)
        after = disk_rate(folder, size)
    finally:
        shutil.rmtree(folder)
    disk = statistics.median([before, between, after])
    result = {
        "disk_mb_s": {"median": disk, "runs": [before, between, after]},
        "copy_mb_s": copy_rate(),
        "from_memory": fast,
        "paced": paced,
        "share_of_disk": fast["rate_mb_s"] / ((before + between) / 2),
    }
    print(f"disk alone          {disk:8.1f} MB/s  ({before:.1f}, {between:.1f}, {after:.1f})")
    print(f"memory copy         {result['copy_mb_s']:8.1f} MB/s")
    print(
        f"recorder, unpaced   {fast['rate_mb_s']:8.1f} MB/s  = {result['share_of_disk']:.2f} of "
        f"the disk, {fast['cpu_s']:.1f} CPU s in {fast['wall_s']:.1f} s"
    )
    print(
        f"recorder, paced     {paced['rate_mb_s']:8.1f} MB/s of {paced['offered_mb_s']:.1f} "
        f"offered, {paced['dropped']} of {paced['messages']} dropped"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
