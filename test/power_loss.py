"""What a disk may hold after a power loss: the recorder's own operations, replayed and torn.

A write is on the disk once an fdatasync or fsync of its file that began after it has returned; a
new, renamed or removed name once an fsync of its folder has. Of everything else any part may be
there: nothing, a prefix cut at any byte, any subset of sectors (the others zero or garbage), and
any subset of the changes of names.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

SECTOR = 512


@dataclass
class Operation:
    """One call: kind, path, and for syncs how many operations came before it began."""

    kind: str
    path: str
    offset: int = 0
    data: bytes = b""
    target: str = ""
    since: int = 0
    #: operations noted when it was over; a sync covers it only if it began after that
    over: int = 1 << 60
    #: what the recorder had acknowledged when the call was made
    acknowledged: dict[str, int] = field(default_factory=dict)


class WriteLog:
    """Notes every operation on files below a folder while it is installed."""

    def __init__(self, root: Path, acknowledged: Callable[[], dict[str, int]]) -> None:
        self.root = str(root)
        self.operations: list[Operation] = []
        self._acknowledged = acknowledged
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._before: dict[str, object] = {}

    def __enter__(self) -> WriteLog:
        for name in ("open", "writev", "fdatasync", "fsync", "replace", "rename", "mkdir"):
            self._before[name] = getattr(os, name)
            setattr(os, name, getattr(self, f"_{name}"))
        return self

    def __exit__(self, *error: object) -> None:
        for name, function in self._before.items():
            setattr(os, name, function)

    def _call(self, name: str, *arguments: object, **more: object) -> object:
        return self._before[name](*arguments, **more)  # type: ignore[operator]

    def _note(self, kind: str, path: str, **more: object) -> Operation:
        acknowledged = self._acknowledged()
        with self._lock:
            operation = Operation(kind, path, acknowledged=acknowledged, **more)  # type: ignore[arg-type]
            self.operations.append(operation)
        return operation

    def _mine(self, path: object) -> str | None:
        text = os.path.abspath(os.fspath(path))  # type: ignore[call-overload]
        return text if text.startswith(self.root) else None

    def _path(self, handle: int) -> str | None:
        return self._mine(os.readlink(f"/proc/self/fd/{handle}"))

    def _open(self, path: object, flags: int, *more: object, **named: object) -> object:
        mine = self._mine(path)
        if mine and flags & os.O_CREAT:
            self._note("create", mine)
        return self._call("open", path, flags, *more, **named)

    def _mkdir(self, path: object, *more: object, **named: object) -> object:
        done = self._call("mkdir", path, *more, **named)
        mine = self._mine(path)
        if mine:
            self._note("mkdir", mine)
        return done

    def _writev(self, handle: int, buffers: list[memoryview]) -> object:
        mine = self._path(handle)
        if mine:
            # noted before it happens: of a write under way any part may be there
            data = b"".join(buffers)
            offset = self._sizes.get(mine, 0)
            self._sizes[mine] = offset + len(data)
            operation = self._note("write", mine, offset=offset, data=data)
            done = self._call("writev", handle, buffers)
            operation.over = len(self.operations)
            assert done == len(data)
            return done
        return self._call("writev", handle, buffers)

    def _sync(self, name: str, handle: int) -> object:
        mine = self._path(handle)
        if not mine:
            return self._call(name, handle)
        folder = os.path.isdir(mine)
        if not folder and not any(op.path == mine for op in self.operations):
            # written with a file object: `files.write_atomically`
            self._note("create", mine)
            operation = self._note("write", mine, data=Path(mine).read_bytes())
            operation.over = len(self.operations)
        since = len(self.operations)
        done = self._call(name, handle)
        self._note("syncdir" if folder else "sync", mine, since=since)
        return done

    def _fdatasync(self, handle: int) -> object:
        return self._sync("fdatasync", handle)

    def _fsync(self, handle: int) -> object:
        return self._sync("fsync", handle)

    def _move(self, name: str, source: object, target: object) -> object:
        mine = self._mine(source)
        done = self._call(name, source, target)
        if mine:
            self._note("rename", mine, target=str(self._mine(target)))
        return done

    def _replace(self, source: object, target: object) -> object:
        return self._move("replace", source, target)

    def _rename(self, source: object, target: object) -> object:
        return self._move("rename", source, target)


def crash(
    log: list[Operation], at: int, rng: np.random.Generator, root: str, out: Path
) -> tuple[dict[str, int], str]:
    """Writes below `out` what a disk may hold when the power goes before operation `at`.

    Returns:
        what had been acknowledged by then, and how the unsynced part was treated.
    """
    done = log[:at]
    acknowledged = log[at].acknowledged if at < len(log) else log[-1].acknowledged
    mode = str(rng.choice(["dropped", "prefix", "sectors", "garbage", "kept"]))
    contents = _contents(done, rng, mode)
    # changes of names, in order; those not synced may be missing
    names: dict[str, str] = {}
    folders = {root}
    for number, operation in enumerate(done):
        if operation.kind not in ("create", "rename", "mkdir"):
            continue
        path = operation.target or operation.path
        parent = os.path.dirname(path)
        safe = any(op.kind == "syncdir" and op.path == parent and op.since > number for op in done)
        if not safe and (mode == "dropped" or (mode != "kept" and rng.random() < 0.5)):
            continue
        if operation.kind == "mkdir":
            folders.add(path)
        elif operation.kind == "create":
            names[path] = path
        else:
            source = operation.path
            names.pop(source, None)
            names[path] = source
    for path, inode in names.items():
        parent = os.path.dirname(path)
        if parent in folders:
            place = out / os.path.relpath(path, root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(contents.get(inode, b""))
    return acknowledged, mode


def _contents(done: list[Operation], rng: np.random.Generator, mode: str) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for path in {op.path for op in done if op.kind == "write"}:
        since = max((op.since for op in done if op.kind == "sync" and op.path == path), default=0)
        safe, rest = b"", b""
        for operation in done:
            if operation.kind == "write" and operation.path == path:
                if operation.over <= since:
                    safe += operation.data
                else:
                    rest += operation.data
        contents[path] = safe + _torn(rest, len(safe), rng, mode)
    return contents


def _torn(rest: bytes, start: int, rng: np.random.Generator, mode: str) -> bytes:
    if mode == "dropped" or not rest:
        return b""
    if mode == "kept":
        return rest
    if mode == "prefix":
        return rest[: int(rng.integers(len(rest) + 1))]
    torn = bytearray(rest)
    # sectors lie at multiples of 512 of the file, not of what was written last
    edges = [0, *range(-start % SECTOR or SECTOR, len(rest), SECTOR), len(rest)]
    keep = rng.random()
    for a, b in pairwise(edges):
        if rng.random() > keep:
            torn[a:b] = rng.bytes(b - a) if mode == "garbage" else bytes(b - a)
    return bytes(torn[: int(rng.integers(len(torn) + 1))] if rng.random() < 0.5 else torn)
