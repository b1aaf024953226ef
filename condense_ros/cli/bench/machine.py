"""What the machine itself can do, to compare other rates with: memory copy and disk writes."""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
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


def copy_rate(size: int, threads: int = 1) -> float:
    """MB/s of memory copies of `size` bytes, from and to places that no cache holds.

    Args:
        threads: that copy at the same time, each a part of the bytes; their rates add up.
    """
    source = np.random.default_rng(0).integers(0, 256, (40, size), dtype=np.uint8)
    target = np.ones_like(source)
    parts = [slice(size * k // threads, size * (k + 1) // threads) for k in range(threads)]
    times = []
    with ThreadPoolExecutor(threads) as pool:
        for one, copy in zip(source, target, strict=True):

            def move(part: slice, one: np.ndarray = one, copy: np.ndarray = copy) -> None:
                copy[part] = one[part]

            start = time.perf_counter()
            if threads == 1:
                copy[:] = one
            else:
                list(pool.map(move, parts))  # NumPy copies without the interpreter's lock
            times.append(time.perf_counter() - start)
    return size / statistics.median(times) / 1e6
