"""Names of threads as the operating system shows them (`top -H`)."""

from __future__ import annotations

import ctypes
import sys

_LIBC = ctypes.CDLL(None)


def name_this_thread(name: str) -> None:
    """Names the calling thread; 15 characters are kept. Does nothing where there is no prctl."""
    if sys.platform == "linux":
        _LIBC.prctl(15, name.encode()[:15], 0, 0, 0)  # PR_SET_NAME
