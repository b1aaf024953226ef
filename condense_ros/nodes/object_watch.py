"""What a node holds: memory, file handles, threads, Python objects, tensors; one line a period.

Switched on by the environment variable CONDENSE_OBJECT_LOG, a file that lines of JSON are added to.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.node import Node

VARIABLE = "CONDENSE_OBJECT_LOG"


def holdings() -> dict[str, Any]:
    """Resident memory in bytes, open files, threads, live Python objects and tensors."""
    gc.collect()
    objects = gc.get_objects()
    torch = sys.modules.get("torch")
    tensors = 0
    if torch is not None:
        tensors = sum(1 for item in objects if type(item) is torch.Tensor)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "time_s": round(time.monotonic(), 3),
        "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "open_files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(objects),
        "tensors": tensors,
    }


def watch_objects(
    node: Node, timer: Callable[[Node, float, Callable[[], None]], None], period_s: float = 10.0
) -> None:
    """Starts writing where the environment asks for it; needs /proc, that is Linux."""
    path = os.environ.get(VARIABLE)
    if not path:
        return

    def write() -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(holdings()) + "\n")

    timer(node, period_s, write)
