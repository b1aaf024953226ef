"""What the machine itself can do, to compare other rates with: memory copy and disk writes."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import numpy as np

MIB = 1 << 20


def disk_rate(folder: Path, total: int) -> float:
    """MB/s of sequential writes of `total` bytes in blocks of 1 MiB, fdatasync every second.

    The last fdatasync is part of the time. The file is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    block = np.random.default_rng(0).bytes(MIB)
    path = folder / "sequential.bin"
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    start = synced = time.perf_counter()
    try:
        for _ in range(total // MIB):
            os.write(handle, block)
            if time.perf_counter() - synced > 1.0:
                os.fdatasync(handle)
                synced = time.perf_counter()
        os.fdatasync(handle)
        return total // MIB * MIB / (time.perf_counter() - start) / 1e6
    finally:
        os.close(handle)
        path.unlink()


def copy_rate(size: int) -> float:
    """MB/s of memory copies of `size` bytes, from and to places that no cache holds."""
    source = np.random.default_rng(0).integers(0, 256, (40, size), dtype=np.uint8)
    target = np.ones_like(source)
    times = []
    for one, copy in zip(source, target, strict=True):
        start = time.perf_counter()
        copy[:] = one
        times.append(time.perf_counter() - start)
    return size / statistics.median(times) / 1e6
