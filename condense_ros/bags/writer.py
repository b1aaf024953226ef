"""`BagWriter`: records messages into a rosbag2 folder (MCAP) and accounts for every one."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from types import TracebackType

from condense_ros.bags.claim import claim
from condense_ros.bags.config import MIB, RecordConfig
from condense_ros.bags.counts import RecordCount
from condense_ros.bags.kinds import TopicKind, check_same, known_kind
from condense_ros.bags.output import BagOutput
from condense_ros.bags.pairs import PAIR_TOPIC, PAIR_TYPE, PairRecord
from condense_ros.bags.queue import Item, MessageQueue
from condense_ros.bags.threads import name_this_thread
from condense_ros.errors import BagError, CondenseError
from condense_ros.wire import cdr

_log = logging.getLogger(__name__)


class BagWriter:
    """Writes the original bytes of messages, on a thread of its own.

    Files are NAME_0.mcap, NAME_1.mcap, ... with metadata.yaml; a killed recording can be read up to
    the last chunk written. Every file begins with the last camera_info of each topic and every
    static transform, so each can be used alone. While the disk is full messages are dropped and
    counted, `problem` says so, and recording resumes when there is room again.

    What can be lost: with I = `flush_interval_s` and D the time an fdatasync takes, everything is
    with the operating system (and survives a kill) at most I after it left the queue, and on the
    disk (and survives a power loss) at most max(I, D) + D after it. The queue is empty as long as
    the disk is faster than the sensors; it holds at most `queue_mib`. `RecordCount.acknowledged`
    counts what a power loss cannot take.

    Args:
        folder: created here; must not exist, or be empty.
        config: see `RecordConfig`.
        name: of the files; that of the folder if empty.

    Raises:
        BagError: the folder is in use by another recorder, holds something, or cannot be written.
        StorageFull: no room to begin.
    """

    def __init__(
        self, folder: Path | str, config: RecordConfig | None = None, *, name: str = ""
    ) -> None:
        self.folder = Path(folder)
        self.config = config or RecordConfig()
        self.pairs = 0
        self._queue = MessageQueue(self.config.queue_mib * MIB)
        self._kinds: dict[str, TopicKind] = {}
        self._split_asked = False
        self._flush_asked = False
        self._closing = False
        self._closed = False
        self._failure: CondenseError | None = None
        self._lock_fd = claim(self.folder)
        name = name or self.folder.absolute().name
        try:
            self._output = BagOutput(self.folder, name, self.config, self._queue, self._kinds)
        except CondenseError:
            os.close(self._lock_fd)
            raise
        self._thread = threading.Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> CondenseError | None:
        """What keeps messages from being written at present, or None."""
        return self._failure or self._output.problem

    @property
    def bytes_written(self) -> int:
        """Bytes in the files so far."""
        return self._output.bytes_written

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
        item = Item(topic, bytes(raw), max(0, stamp_ns), max(0, log_ns))
        with self._queue.changed:
            self._check_open()
            known = self._kinds.get(topic)
            if known is None:
                self._declare(topic, known_kind(topic, type_name, definition))
            else:
                check_same(topic, known.type_name, type_name)
            return self._queue.put(item, block, self._check_open)

    def declare(self, topic: str, kind: TopicKind) -> None:
        """Says in advance how a topic is stored, where `write` could not know.

        Raises:
            BagError: closed, or declared before as another type.
        """
        with self._queue.changed:
            self._check_open()
            known = self._kinds.get(topic)
            if known is None:
                self._declare(topic, kind)
            else:
                check_same(topic, known.type_name, kind.type_name)

    def pair(self, record: PairRecord, log_ns: int | None = None) -> bool:
        """Queues a pair record as a condense_msgs/Pair on `PAIR_TOPIC`; see `write`."""
        log_ns = record.stamp_ns if log_ns is None else log_ns
        taken = self.write(PAIR_TOPIC, PAIR_TYPE, record.encode(), record.stamp_ns, log_ns)
        self.pairs += taken
        return taken

    def accounting(self) -> dict[str, RecordCount]:
        """The account of every topic, taken at one instant."""
        return self._queue.counts()

    def split(self) -> None:
        """Starts a new file as soon as what is queued now has been written."""
        with self._queue.changed:
            self._check_open()
            self._split_asked = True
            self._queue.changed.notify_all()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until everything queued before is acknowledged.

        Returns:
            False if the time was not enough or the disk is full.
        """
        deadline = time.monotonic() + timeout_s
        with self._queue.changed:
            self._check_open()
            self._flush_asked = True
            self._queue.changed.notify_all()
            while self._flush_asked and time.monotonic() < deadline and self.problem is None:
                self._queue.changed.wait(0.05)
            return not self._flush_asked and self.problem is None

    def close(self) -> None:
        """Writes what is queued, finishes the file and metadata.yaml. Twice is harmless.

        Raises:
            StorageFull: messages had to be left out; they are counted, the rest is intact.
            BagError: the disk failed.
        """
        with self._queue.changed:
            if self._closed:
                return
            self._closing = True
            self._queue.changed.notify_all()
        self._thread.join()
        self._output.close()
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

    def _declare(self, topic: str, kind: TopicKind) -> None:
        self._kinds[topic] = kind
        self._queue.declare(topic)

    # the writer thread's side

    def _run(self) -> None:
        name_this_thread("bag-writer")
        try:
            self._loop()
        # a bug must not leave the account open or the caller without a word
        except Exception as error:
            _log.exception("the recorder stopped")
            with self._queue.changed:
                self._failure = BagError(
                    f"the recorder of {self.folder} failed: {error!r}", "report it"
                )
                self._closing = True
            self._queue.drop_all("io_error")

    def _loop(self) -> None:
        output, config = self._output, self.config
        flush_at = time.monotonic() + config.flush_interval_s
        split_at = self._next_split()
        # a flush was due while the disk was busy with the one before
        late = False
        while True:
            self._wait(min(flush_at, split_at), late)
            batch = self._queue.take()
            with self._queue.changed:
                closing, split, flush = self._closing, self._split_asked, self._flush_asked
                last = not self._queue
            for item in batch:
                output.put(item)
                if output.too_big:
                    output.split()
                    split_at = self._next_split()
            if last and closing:
                break
            now = time.monotonic()
            if now >= split_at or (last and split):
                done = output.split()
                split_at = self._next_split()
                if split and done:
                    with self._queue.changed:
                        self._split_asked = False
            if last and flush:
                output.sync()
                with self._queue.changed:
                    self._flush_asked = False
                    self._queue.changed.notify_all()
            elif now >= flush_at or output.sync_due or (late and not output.syncing):
                late = output.syncing
                if late:
                    output.hand_over()
                else:
                    output.sync_beside()
                flush_at = time.monotonic() + config.flush_interval_s
        output.finish()

    def _wait(self, until: float, late: bool) -> None:
        """Until there is something to do."""
        with self._queue.changed:
            while not (
                self._queue
                or self._closing
                or (self._split_asked and self.problem is None)
                or self._flush_asked
                or (late and not self._output.syncing)
            ):
                wait = until - time.monotonic()
                if wait <= 0 or not self._queue.changed.wait(wait):
                    return

    def _next_split(self) -> float:
        split_s = self.config.split_s
        return time.monotonic() + split_s if split_s else float("inf")
