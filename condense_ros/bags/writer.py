"""`BagWriter`: records messages into a rosbag2 folder (MCAP) and accounts for every one."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from condense_ros.bags.config import MIB, RecordConfig
from condense_ros.bags.counts import RecordCount, Tally
from condense_ros.bags.latched import Latched
from condense_ros.bags.metadata import FileStats, metadata_text
from condense_ros.bags.pairs import PAIR_TOPIC, PAIR_TYPE, PairRecord
from condense_ros.bags.segment import Segment
from condense_ros.errors import BagError, CondenseError, StorageFull
from condense_ros.files import NO_ROOM, sync_folder, write_atomically
from condense_ros.wire import cdr

_log = logging.getLogger(__name__)
#: room beyond the queue's bound for messages too small to fill it: pairs, calibration, tf
_SMALL, _RESERVE = 8192, MIB


class BagWriter:
    """Writes the original bytes of messages, on a thread of its own.

    Files are NAME_0.mcap, NAME_1.mcap, ... with metadata.yaml; a killed recording can be read up to
    the last chunk written. Every file begins with the last camera_info of each topic and every
    static transform, so each can be used alone. While the disk is full messages are dropped and
    counted, `problem` says so, and recording resumes when there is room again.

    Args:
        folder: created here; must not exist, or be empty.
        config: see `RecordConfig`.

    Raises:
        BagError: the folder is in use by another recorder, holds something, or cannot be written.
        StorageFull: no room to begin.
    """

    def __init__(self, folder: Path | str, config: RecordConfig | None = None) -> None:
        self.folder = Path(folder)
        self.config = config or RecordConfig()
        self._cond = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._tallies: dict[str, Tally] = {}
        self._schemas: dict[str, tuple[str, str, str]] = {}
        self._sequences: dict[str, int] = {}
        self._latched = Latched()
        self._files: list[FileStats] = []
        self._segment: Segment | None = None
        self._split_asked = False
        self._flush_asked = False
        self._closing = False
        self._closed = False
        self._retry_at = 0.0
        self._sync_pool = ThreadPoolExecutor(1, "bag-sync")
        self._syncing: Future[bool] = self._sync_pool.submit(lambda: True)
        #: what keeps messages from being written at present, or None
        self.problem: CondenseError | None = None
        #: bytes in the files so far
        self.bytes_written = 0
        self.pairs = 0
        self._lock_fd = _claim(self.folder)
        self._finished_bytes = 0
        try:
            self._guard()
            self._open_segment()
            self._write_metadata()
        except (OSError, StorageFull) as error:
            os.close(self._lock_fd)
            raise self._typed(error) from error
        self._thread = threading.Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    # the caller's side

    def write(
        self,
        topic: str,
        type_name: str,
        raw: cdr.Bytes,
        stamp_ns: int,
        log_ns: int,
        *,
        definition: str | None = None,
        block: bool = False,
    ) -> bool:
        """Queues one message; never waits for the disk unless `block`.

        Args:
            topic: full topic name; all its messages must be of one type.
            type_name: "package/msg/Name".
            raw: CDR bytes, stored as they are.
            stamp_ns: header stamp, or `log_ns` where there is none.
            log_ns: time of reception, nanoseconds.
            definition: ros2msg text, needed once for types `wire.cdr` does not know.
            block: wait for room in the queue (offline use).

        Returns:
            False if it was dropped at once (`queue_full`).

        Raises:
            BagError: closed, or another type than before.
            WireError: unknown type without a definition.
        """
        item = _Item(topic, bytes(raw), max(0, stamp_ns), max(0, log_ns))
        with self._cond:
            self._check_open()
            self._check_type(topic, type_name, definition)
            tally = self._tallies[topic]
            limit = self.config.queue_mib * MIB
            while block and self._queued_bytes and self._queued_bytes + len(item.raw) > limit:
                self._cond.wait(0.1)
                self._check_open()
            tally.accepted += 1
            tally.queued += 1
            room = limit + (_RESERVE if len(item.raw) <= _SMALL else 0)
            if not block and self._queued_bytes + len(item.raw) > room:
                tally.drop("queue_full")
                return False
            self._queued_bytes += len(item.raw)
            self._queue.append(item)
            self._cond.notify_all()
        return True

    def pair(self, record: PairRecord, log_ns: int | None = None) -> bool:
        """Queues a pair record as a condense_msgs/Pair on `PAIR_TOPIC`; see `write`."""
        log_ns = record.stamp_ns if log_ns is None else log_ns
        taken = self.write(PAIR_TOPIC, PAIR_TYPE, record.encode(), record.stamp_ns, log_ns)
        self.pairs += taken
        return taken

    def accounting(self) -> dict[str, RecordCount]:
        """The account of every topic, taken at one instant."""
        with self._cond:
            return {topic: tally.frozen() for topic, tally in self._tallies.items()}

    def split(self) -> None:
        """Starts a new file as soon as what is queued now has been written."""
        with self._cond:
            self._check_open()
            self._split_asked = True
            self._cond.notify_all()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until everything queued before is acknowledged.

        Returns:
            False if the time was not enough or the disk is full.
        """
        deadline = time.monotonic() + timeout_s
        with self._cond:
            self._check_open()
            self._flush_asked = True
            self._cond.notify_all()
            while self._flush_asked and time.monotonic() < deadline and self.problem is None:
                self._cond.wait(0.05)
            return not self._flush_asked and self.problem is None

    def close(self) -> None:
        """Writes what is queued, finishes the file and metadata.yaml. Twice is harmless.

        Raises:
            StorageFull: messages had to be left out; they are counted, the rest is intact.
            BagError: the disk failed.
        """
        with self._cond:
            if self._closed:
                return
            self._closing = True
            self._cond.notify_all()
        self._thread.join()
        self._sync_pool.shutdown()
        self._closed = True
        os.close(self._lock_fd)
        if self.problem is not None:
            raise self.problem

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closing or self._closed:
            raise BagError(f"the recording {self.folder} is closed", "start another one")

    def _check_type(self, topic: str, type_name: str, definition: str | None) -> None:
        known = self._schemas.get(topic)
        if known is None:
            text = cdr.definition(type_name) if definition is None else definition
            type_hash = "" if definition is not None else cdr.type_hash(type_name)
            self._schemas[topic] = (type_name, text, type_hash)
            self._tallies[topic] = Tally()
        elif known[0] != type_name:
            raise BagError(
                f"topic {topic} is recorded as {known[0]}, now came {type_name}",
                "publish one type per topic",
            )

    # the writer thread's side

    def _run(self) -> None:
        flush_at = time.monotonic() + self.config.flush_interval_s
        split_at = self._next_split()
        try:
            while True:
                with self._cond:
                    while not (
                        self._queue or self._closing or self._split_asked or self._flush_asked
                    ):
                        wait = min(flush_at, split_at) - time.monotonic()
                        if wait <= 0 or not self._cond.wait(wait):
                            break
                    batch = self._take()
                    closing, split, flush = self._closing, self._split_asked, self._flush_asked
                    last = not self._queue
                for item in batch:
                    self._put(item)
                    if self._too_big():
                        self._split()
                        split_at = self._next_split()
                now = time.monotonic()
                if last and closing:
                    break
                if now >= split_at or (last and split):
                    self._split()
                    split_at = self._next_split()
                if now >= flush_at or (last and flush):
                    if last and flush:
                        self._sync()
                    else:
                        self._sync_beside()
                    flush_at = time.monotonic() + self.config.flush_interval_s
                    with self._cond:
                        if last and flush:
                            self._flush_asked = False
                        self._cond.notify_all()
            self._finish()
        # a bug must not leave the account open or the caller without a word
        except Exception as error:
            _log.exception("the recorder stopped")
            self._fail(error)

    def _take(self) -> list[_Item]:
        """At most a chunk's worth of the queue, so that flushes and splits come on time."""
        batch: list[_Item] = []
        size = 0
        while self._queue and size < 4 * MIB:
            item = self._queue.popleft()
            size += len(item.raw)
            batch.append(item)
        self._queued_bytes -= size
        if batch:
            self._cond.notify_all()
        return batch

    def _put(self, item: _Item) -> None:
        if not self._ready():
            with self._cond:
                self._tallies[item.topic].drop(self._reason())
            return
        schema = self._schemas[item.topic]
        sequence = self._sequences[item.topic] = self._sequences.get(item.topic, 0) + 1
        self._latched.note(item.topic, schema[0], item.raw, item.stamp_ns, sequence)
        assert self._segment is not None
        self._segment.add(
            item.topic, schema, item.raw, item.stamp_ns, item.log_ns, sequence & 0xFFFFFFFF
        )
        self._drain()

    def _ready(self) -> bool:
        """Whether messages can be written now; retries from time to time while they cannot."""
        if self.problem is None:
            return True
        return self._retry_due() and self._sync()

    def _drain(self) -> bool:
        assert self._segment is not None
        try:
            written = self._segment.drain()
        except OSError as error:
            self._report(error)
            return False
        finally:
            self.bytes_written = self._finished_bytes + self._segment.log.tell()
        with self._cond:
            for topic in written:
                tally = self._tallies[topic]
                tally.queued -= 1
                tally.written += 1
        return True

    def _sync(self) -> bool:
        """Finishes the chunk and waits for the disk; then all that was written is acknowledged."""
        wait([self._syncing])
        written = self._hand_over()
        if written is None or not self._wait_for_disk(written):
            return False
        with self._cond:
            if self.problem is not None:
                _log.warning("recording to %s resumes", self.folder)
            self.problem = None
        return True

    def _sync_beside(self) -> None:
        """The same, but writing goes on while the disk works; skipped while it still does."""
        written = self._hand_over() if self.problem is None or self._retry_due() else None
        if written is not None and self._syncing.done():
            if self.problem is not None:
                self._sync()
            else:
                self._syncing = self._sync_pool.submit(self._wait_for_disk, written)

    def _hand_over(self) -> dict[str, int] | None:
        """Everything taken goes to the operating system; returns the written counts, or None."""
        try:
            self._guard()
            if self._segment is None:
                self._open_segment()
            assert self._segment is not None
            self._segment.finish_chunk()
        except OSError as error:
            self._report(error)
            return None
        if not self._drain():
            return None
        with self._cond:
            return {topic: tally.written for topic, tally in self._tallies.items()}

    def _wait_for_disk(self, written: dict[str, int]) -> bool:
        assert self._segment is not None
        try:
            self._segment.log.sync()
        except OSError as error:
            self._report(error)
            return False
        with self._cond:
            for topic, count in written.items():
                self._tallies[topic].acknowledged = count
        return True

    def _retry_due(self) -> bool:
        return time.monotonic() >= self._retry_at

    def _guard(self) -> None:
        status = os.statvfs(self.folder)
        if status.f_bavail * status.f_frsize < self.config.min_free_mib * MIB:
            raise OSError(errno.ENOSPC, "less than min_free_mib is free")

    def _too_big(self) -> bool:
        limit = self.config.split_mib * MIB
        return bool(limit) and self._segment is not None and self._segment.log.tell() >= limit

    def _next_split(self) -> float:
        return time.monotonic() + self.config.split_s if self.config.split_s else float("inf")

    def _split(self) -> None:
        """Ends the file and opens the next; put off while the disk is full."""
        if not self._sync():
            return
        with self._cond:
            self._split_asked = False
        assert self._segment is not None
        if not self._segment.stats.messages:
            return
        segment, self._segment = self._segment, None
        self._finished_bytes += segment.log.tell()
        try:
            segment.end()
            self._open_segment()
            self._write_metadata()
        except (OSError, StorageFull) as error:
            self._report(error)

    def _open_segment(self) -> None:
        path = self.folder / f"{self.folder.absolute().name}_{len(self._files)}.mcap"
        segment = Segment(path, round(self.config.chunk_mib * MIB))
        self._files.append(segment.stats)
        self._segment = segment
        try:
            segment.log.drain()
            sync_folder(self.folder)
        finally:  # also on a full disk: this file is the one that goes on when there is room
            log_ns = max((file.end_ns for file in self._files), default=0)
            for topic, raw, stamp_ns, sequence in self._latched.messages():
                schema, number = self._schemas[topic], sequence & 0xFFFFFFFF
                segment.add(topic, schema, raw, stamp_ns, log_ns, number, counted=False)

    def _write_metadata(self) -> None:
        with self._cond:
            types = {topic: (schema[0], schema[2]) for topic, schema in self._schemas.items()}
        write_atomically(self.folder / "metadata.yaml", metadata_text(self._files, types))

    def _finish(self) -> None:
        if self._sync():
            segment, self._segment = self._segment, None
            assert segment is not None
            try:
                segment.end()
                self._write_metadata()
            except (OSError, StorageFull) as error:
                self._report(error)
            return
        if self._segment is not None:
            segment, self._segment = self._segment, None
            with self._cond:
                for topic in segment.unwritten():
                    self._tallies[topic].drop(self._reason())
            try:
                segment.log.close()
            except OSError as error:
                self._report(error)
        try:
            self._write_metadata()
        except (OSError, StorageFull) as error:
            _log.error("metadata.yaml of %s could not be written: %s", self.folder, error)

    def _reason(self) -> str:
        return "storage_full" if isinstance(self.problem, StorageFull) else "io_error"

    def _report(self, error: OSError | StorageFull) -> None:
        if self.problem is None:
            _log.error("recording to %s is interrupted: %s", self.folder, error)
        self.problem = self._typed(error)
        self._retry_at = time.monotonic() + self.config.retry_s

    def _typed(self, error: OSError | StorageFull) -> CondenseError:
        if isinstance(error, StorageFull) or error.errno in NO_ROOM:
            return StorageFull(
                f"no room on the disk of {self.folder} (at least {self.config.min_free_mib:g} MiB "
                "must stay free)",
                "free space or record elsewhere; recording resumes by itself",
            )
        return BagError(
            f"{self.folder} cannot be written: {error.strerror or error}",
            "check the disk and the permissions of the folder",
        )

    def _fail(self, error: Exception) -> None:
        with self._cond:
            self.problem = BagError(f"the recorder of {self.folder} failed: {error!r}", "report it")
            self._closing = True
            self._queue.clear()
            self._queued_bytes = 0
            for tally in self._tallies.values():
                while tally.queued:
                    tally.drop("io_error")
            self._cond.notify_all()


class _Item:
    """One queued message."""

    __slots__ = ("log_ns", "raw", "stamp_ns", "topic")

    def __init__(self, topic: str, raw: bytes, stamp_ns: int, log_ns: int) -> None:
        self.topic, self.raw, self.stamp_ns, self.log_ns = topic, raw, stamp_ns, log_ns


def _claim(folder: Path) -> int:
    """Creates the folder and locks it against other recorders until the handle is closed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BagError(
            f"the bag folder {folder} cannot be made: {error.strerror}",
            "choose a folder you may write to",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise BagError(
            f"another recorder is writing to {folder}", "stop it or choose another folder"
        ) from error
    if any(folder.iterdir()):
        os.close(handle)
        raise BagError(f"the bag folder {folder} is not empty", "choose a new folder")
    if not os.access(folder, os.W_OK):
        os.close(handle)
        raise BagError(f"the bag folder {folder} is read-only", "choose a folder you may write to")
    return handle
