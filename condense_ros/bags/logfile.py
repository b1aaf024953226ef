"""An append-only file whose writes can fail and be taken up again without loss."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path


class LogFile:
    """Collects what is written and puts it into the file when told to.

    A full disk interrupts `drain` between two bytes; what could not be written stays here and the
    next `drain` goes on exactly there. The MCAP writer above never sees the failure, so its
    offsets stay right.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        self._pending: deque[memoryview] = deque()
        self._position = 0
        # end of the last record that is wholly in the file
        self._boundary = 0

    def write(self, data: bytes) -> int:
        """Takes bytes; nothing reaches the file before `drain`."""
        if data:
            self._pending.append(memoryview(data))
            self._position += len(data)
        return len(data)

    def tell(self) -> int:
        """Position after everything taken."""
        return self._position

    def flush(self) -> None:
        """Nothing: `drain` decides when to write."""

    @property
    def pending(self) -> bool:
        """Whether something taken is not in the file yet."""
        return bool(self._pending)

    def drain(self) -> None:
        """Writes everything taken.

        Raises:
            OSError: the disk is full or broken; call again to go on.
        """
        while self._pending:
            view = self._pending[0]
            done = os.write(self._fd, view)
            if done == len(view):
                self._pending.popleft()
            else:
                self._pending[0] = view[done:]
        self._boundary = self._position

    def sync(self) -> None:
        """Waits until what is in the file is on the disk.

        Raises:
            OSError: the disk is full or broken.
        """
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Closes the file; a record that could not be written wholly is cut off.

        Raises:
            OSError: the disk is broken.
        """
        try:
            if self._pending:
                self._pending.clear()
                os.ftruncate(self._fd, self._boundary)
                os.fdatasync(self._fd)
        finally:
            os.close(self._fd)
