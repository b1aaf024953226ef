"""Files that are either the old version or the new one, never half of each."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

from condense_ros.errors import StorageFull

#: what the operating system says when a device, a quota or a file size limit is exhausted
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(
    path: Path,
    content: bytes | str,
    *,
    fix: str = "free space and run the same command again; what was written before is intact",
) -> None:
    """Writes a temporary file, syncs it and renames it over `path`.

    Args:
        content: text is stored as UTF-8.
        fix: what the error advises when there is no room.

    Raises:
        StorageFull: no room; `path` is as it was before.
        OSError: the folder does not exist or cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise StorageFull(f"no room to write {path} ({len(data)} bytes)", fix) from error
        raise
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically; folders above it are made.

    Raises:
        StorageFull: no room; `path` is as it was before.
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder survive a power loss.

    Raises:
        OSError: the folder cannot be opened.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
