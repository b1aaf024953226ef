"""Reading of rosbag2's sqlite3 bags, through `rosbags`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condense_ros.errors import BagError


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    from rosbags.rosbag2 import Reader

    folder = path if path.is_dir() else path.parent
    try:
        reader = Reader(folder)
        reader.open()
    # rosbags lets the errors of yaml and sqlite3 through beside its own
    except Exception as error:
        raise BagError(
            f"{path} cannot be read as an sqlite3 bag: {error}",
            "repair it with `ros2 bag reindex -s sqlite3`",
        ) from error
    try:
        yield reader
    finally:
        reader.close()


def sqlite_topics(path: Path) -> dict[str, tuple[str, str, int]]:
    """Topic to (type name, definition, message count).

    Raises:
        BagError: unreadable.
    """
    with _reader(path) as reader:
        return {
            connection.topic: (connection.msgtype, connection.msgdef.data, connection.msgcount)
            for connection in reader.connections
        }


def sqlite_messages(path: Path, topics: Collection[str] | None) -> Iterator[tuple[str, bytes, int]]:
    """(topic, raw, log_ns) in order of time.

    Raises:
        BagError: unreadable.
    """
    with _reader(path) as reader:
        wanted = [c for c in reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        try:
            for connection, log_ns, raw in reader.messages(wanted):
                yield connection.topic, bytes(raw), log_ns
        except Exception as error:
            raise BagError(
                f"{path} is damaged: {error}", "repair it with `ros2 bag reindex -s sqlite3`"
            ) from error
