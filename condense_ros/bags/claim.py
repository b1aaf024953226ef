"""The folder of a new bag: made, made to last, and held against other recorders."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from condense_ros.errors import BagError
from condense_ros.files import sync_folder


def claim(folder: Path) -> int:
    """Creates the folder and locks it until the returned handle is closed.

    The lock dies with its process, so a killed recorder leaves nothing behind that hinders.

    Raises:
        BagError: in use by another recorder, not empty, or it cannot be made or written.
    """
    try:
        _make(folder)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BagError(
            f"the bag folder {folder} cannot be made: {error.strerror}",
            "choose a folder you may write to",
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BagError(
                f"another recorder is writing to {folder}", "stop it or choose another folder"
            ) from error
        if any(folder.iterdir()):
            raise BagError(f"the bag folder {folder} is not empty", "choose a new folder")
        if not os.access(folder, os.W_OK):
            raise BagError(
                f"the bag folder {folder} is read-only", "choose a folder you may write to"
            )
    except BagError:
        os.close(handle)
        raise
    return handle


def _make(folder: Path) -> None:
    """Makes folder and parents; their names survive a power loss."""
    missing = []
    path = folder.absolute()
    while not path.exists():
        missing.append(path)
        path = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)
