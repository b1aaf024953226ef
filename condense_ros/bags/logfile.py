"""An append-only file whose writes can fail and be taken up again without loss."""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from pathlib import Path

from condense_ros.wire.cdr import Bytes

#: buffers per system call; Linux takes 1024
_MOST = 512
#: a call writes up to the next multiple of this: several megabytes at an odd place can cost the
#: kernel many times more, as it looks for large pieces of memory to hold them
_BLOCK = 1 << 20


class LogFile:
    """Collects what is written and puts it into the file when told to, without copying it.

    A full disk interrupts `drain` between two bytes; what could not be written stays here and the
    next `drain` goes on exactly there. Who writes never sees the failure, so offsets stay right.

    Raises:
        OSError: the file exists or cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        self._pending: deque[memoryview] = deque()
        self._position = 0
        self._written = 0
        # end of the last record that is wholly in the file
        self._boundary = 0
        self._synced = 0

    def write(self, data: Bytes) -> None:
        """Takes bytes; nothing reaches the file before `drain`. They must not change any more."""
        view = memoryview(data).cast("B")
        if view.nbytes:
            self._pending.append(view)
            self._position += view.nbytes

    def tell(self) -> int:
        """Position after everything taken."""
        return self._position

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
            done = os.writev(self._fd, self._next())
            self._written += done
            while done:
                view = self._pending[0]
                if done < view.nbytes:
                    self._pending[0] = view[done:]
                    break
                done -= view.nbytes
                self._pending.popleft()
        self._boundary = self._position

    def _next(self) -> list[memoryview]:
        """What one system call writes."""
        room = _BLOCK - self._written % _BLOCK
        views = []
        for view in islice(self._pending, _MOST):
            views.append(view[:room])
            room -= view.nbytes
            if room <= 0:
                break
        return views

    @property
    def unsynced(self) -> int:
        """Bytes in the file that no `sync` has seen."""
        return self._boundary - self._synced

    def sync(self) -> None:
        """Waits until what is in the file is on the disk, and takes it out of the page cache.

        A recorder fills all memory with pages nobody reads again; given back at once, the same
        few are used over and over.

        Raises:
            OSError: the disk is full or broken; what was written since the last success may be
                lost even if a later call succeeds.
        """
        before, end = self._synced, self._boundary
        self._synced = end
        os.fdatasync(self._fd)
        os.posix_fadvise(self._fd, before, end - before, os.POSIX_FADV_DONTNEED)

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
