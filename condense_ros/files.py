"""Files that are either the old version or the new one, never half of each."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from condense_ros.errors import StorageFull

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a temporary file, syncs it and renames it over `path`.

    Raises:
        StorageFull: no room; `path` is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself survives a power cut
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _NO_ROOM:
            raise StorageFull(
                f"no room to write {path} ({len(content)} bytes)",
                "free space and run the same command again; what was written before is intact",
            ) from error
        raise
