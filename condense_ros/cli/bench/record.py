"""How fast the recorder writes, beside what the disk itself takes in the same run.

The load is six 1600x900 cameras at 12 Hz and a 32-beam LiDAR at 20 Hz (about 323 MB/s), from
memory: as fast as the recorder takes it, and paced at its true rate.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros.bags import BagWriter, RecordConfig
from condense_ros.cli.bench.machine import copy_rate, disk_rate

IMAGE_BYTES = 1600 * 900 * 3 + 60
CLOUD_BYTES = 32 * 1084 * 16 + 200


def load(seconds: float) -> list[tuple[float, str, int]]:
    """(time, topic, which payload) of the cameras and the LiDAR, in order."""
    events = [
        (k / 12 + c / 72, f"/camera_{c}/image_raw", 0)
        for c in range(6)
        for k in range(round(seconds * 12))
    ]
    events += [(k / 20, "/points", 1) for k in range(round(seconds * 20))]
    return sorted(events)


def load_bytes(seconds: float) -> int:
    """Size of that load."""
    return sum((IMAGE_BYTES, CLOUD_BYTES)[which] for _, _, which in load(seconds))


def record_load(folder: Path, seconds: float, *, paced: bool) -> dict[str, float]:
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


def measure(parent: Path, seconds: float, rounds: int = 3) -> dict[str, Any]:
    """Disk alone and recorder in turns, so that both see the same machine.

    Args:
        parent: folder on the disk to measure; what is written there is removed.
        seconds: length of the load.
        rounds: how often disk and unpaced recorder are measured.
    """
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="bench_record_"))
    size = load_bytes(seconds)
    try:
        disk_rate(folder, size)  # the first writes after a pause are slower than those after them
        disk, fast = [], []
        for _ in range(rounds):
            disk.append(disk_rate(folder, size))
            fast.append(record_load(folder, seconds, paced=False))
        paced = record_load(folder, seconds, paced=True)
    finally:
        shutil.rmtree(folder)
    shares = [run["rate_mb_s"] / alone for run, alone in zip(fast, disk, strict=True)]
    return {
        "seconds": seconds,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "disk_mb_s": {"median": statistics.median(disk), "runs": disk},
        "copy_mb_s": copy_rate(IMAGE_BYTES),
        "from_memory": fast,
        "share_of_disk": {"median": statistics.median(shares), "runs": shares},
        "paced": paced,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The figures as text."""
    disk, fast, paced = result["disk_mb_s"], result["from_memory"], result["paced"]
    shares = result["share_of_disk"]
    return [
        f"disk alone          {disk['median']:8.1f} MB/s  {_list(disk['runs'])}",
        f"memory copy         {result['copy_mb_s']:8.1f} MB/s",
        f"recorder, unpaced   {statistics.median(r['rate_mb_s'] for r in fast):8.1f} MB/s  "
        f"{_list([r['rate_mb_s'] for r in fast])}",
        f"  share of the disk {shares['median']:8.2f}       "
        f"({', '.join(f'{share:.2f}' for share in shares['runs'])})",
        f"  CPU               {statistics.median(r['cpu_s'] / r['bytes'] * 1e9 for r in fast):8.2f}"
        " s per GB",
        f"recorder, paced     {paced['rate_mb_s']:8.1f} MB/s of {paced['offered_mb_s']:.1f} "
        f"offered, {paced['dropped']} of {paced['messages']} dropped, "
        f"{paced['cpu_s'] / paced['wall_s']:.2f} cores",
    ]


def _list(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in values) + ")"
