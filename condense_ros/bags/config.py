"""Parameters of the recorder."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter

MIB = 1 << 20


@dataclass(frozen=True)
class RecordConfig:
    """Parameters of `BagWriter`."""

    chunk_mib: float = parameter(
        1.0, "size at which a chunk is finished, MiB", low=0.001, high=1024.0
    )
    flush_interval_s: float = parameter(
        1.0,
        "a kill costs at most the messages of this time and the queue, a power loss those and what "
        "came in while the disk was syncing",
        low=0.01,
        high=3600.0,
    )
    sync_mib: float = parameter(
        32.0,
        "the disk is also told to store what it got whenever that is this much, MiB, so that it "
        "works while more comes in",
        low=0.01,
        high=1e6,
    )
    queue_mib: float = parameter(
        256.0, "memory for messages that wait to be written, MiB", low=0.01, high=1e6
    )
    split_mib: float = parameter(
        0.0, "start a new file at this size, MiB; 0: never", low=0.0, high=1e9
    )
    split_s: float = parameter(
        0.0, "start a new file after this time of recording; 0: never", low=0.0, high=1e9
    )
    min_free_mib: float = parameter(
        100.0, "stop writing while less than this is free on the disk, MiB", low=0.0, high=1e9
    )
    retry_s: float = parameter(
        0.5, "time between attempts while the disk is full", low=0.001, high=3600.0
    )
