"""`BagOutput`: the files of a bag as the writer's thread sees them, with a disk that may fail."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from condense_ros.bags.config import MIB, RecordConfig
from condense_ros.bags.kinds import TopicKind
from condense_ros.bags.latched import Latched
from condense_ros.bags.metadata import FileStats, metadata_text
from condense_ros.bags.queue import Item, MessageQueue
from condense_ros.bags.segment import Segment
from condense_ros.bags.threads import name_this_thread
from condense_ros.errors import BagError, CondenseError, StorageFull
from condense_ros.files import NO_ROOM, write_atomically

_log = logging.getLogger(__name__)


class BagOutput:
    """Puts messages into NAME_0.mcap, NAME_1.mcap, ... and sees to it that they reach the disk.

    One thread calls the methods. A second one, in here, waits for the disk, so that writing goes on
    meanwhile; it works in order, so what it settles is settled in order.

    Args:
        kinds: of the topics; grows while recording.

    Raises:
        StorageFull, BagError: the first file cannot be begun.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        config: RecordConfig,
        queue: MessageQueue,
        kinds: dict[str, TopicKind],
    ) -> None:
        self._folder, self._name, self._config = folder, name, config
        self._queue, self._kinds = queue, kinds
        self._latched = Latched()
        self._sequences: dict[str, int] = {}
        self._files: list[FileStats] = []
        self._finished_bytes = 0
        self._retry_at = 0.0
        # a sync failed: the kernel may have thrown the pages away, and says so only once
        self._torn = False
        #: what keeps messages from being written at present, or None
        self.problem: CondenseError | None = None
        #: bytes in the files so far
        self.bytes_written = 0
        self._segment: Segment | None = None
        try:
            self._guard()
            self._open().sync()
            self._write(self._metadata())
        except (OSError, StorageFull) as error:
            raise self._typed(error) from error
        self._disk = ThreadPoolExecutor(
            1, "bag-sync", initializer=name_this_thread, initargs=("bag-sync",)
        )
        self._syncing: Future[bool] = self._submit(lambda: True)

    @property
    def syncing(self) -> bool:
        """Whether the disk is still at work for an earlier sync."""
        return not self._syncing.done()

    @property
    def sync_due(self) -> bool:
        """Whether the disk is idle though there is `sync_mib` for it."""
        much = self._segment is not None and (
            self._segment.log.unsynced >= self._config.sync_mib * MIB
        )
        return much and not self.syncing and self.problem is None

    @property
    def too_big(self) -> bool:
        """Whether the file has reached `split_mib`."""
        limit = self._config.split_mib * MIB
        return bool(limit) and self._segment is not None and self._segment.log.tell() >= limit

    def put(self, item: Item) -> None:
        """Writes a message, or drops it if the disk will not take it."""
        if self.problem is not None and not (self._retry_due() and self.sync()):
            self._queue.drop([item.topic], self._reason())
            return
        kind = self._kinds[item.topic]
        sequence = self._sequences[item.topic] = self._sequences.get(item.topic, 0) + 1
        self._latched.note(item.topic, kind.type_name, item.raw, item.stamp_ns, sequence)
        assert self._segment is not None
        self._segment.add(item.topic, kind, item.raw, item.stamp_ns, item.log_ns, sequence)
        self._drain()

    def sync(self) -> bool:
        """Hands everything over and waits for the disk; then all that was written is settled."""
        written = self._hand_over()
        if written is None or not self._sync_later(written).result() or self._torn:
            return False
        if self.problem is not None:
            _log.warning("recording to %s resumes", self._folder)
        self.problem = None
        return True

    def sync_beside(self) -> None:
        """The same, but writing goes on while the disk works. Not to be called while `syncing`."""
        if self.problem is not None:
            if self._retry_due():
                self.sync()
            return
        written = self._hand_over()
        if written is not None:
            self._syncing = self._sync_later(written)

    def hand_over(self) -> None:
        """Everything taken goes to the operating system, so that it survives a kill."""
        if self.problem is None:
            self._hand_over()

    def split(self) -> bool:
        """Goes on in a new file; False (put off) while the disk is full."""
        if self.problem is not None and not (self._retry_due() and self.sync()):
            return False
        written = self._hand_over()
        if written is None:
            return False
        segment = self._segment
        assert segment is not None
        if not segment.stats.messages:
            return True
        self._leave()
        try:
            self._open()
        except OSError as error:
            self._report(error)
        # index, footer and the wait for the disk must not keep messages waiting
        metadata = self._metadata()
        self._syncing = self._submit(lambda: self._end(segment, written, metadata))
        return True

    def finish(self) -> None:
        """Ends the last file and writes metadata.yaml; what cannot be written is dropped."""
        if self.sync():
            last, self._segment = self._segment, None
            assert last is not None
            written, metadata = self._queue.written(), self._metadata()
            self._submit(lambda: self._end(last, written, metadata)).result()
            return
        self._syncing.exception()  # waits
        if self._segment is not None:
            segment, self._segment = self._segment, None
            self._queue.drop(segment.unwritten(), self._reason())
            try:
                segment.log.close()
            except OSError as error:
                self._report(error)
        try:
            self._write(self._metadata())
        except (OSError, StorageFull) as error:
            _log.error("metadata.yaml of %s could not be written: %s", self._folder, error)

    def close(self) -> None:
        """Ends the thread."""
        self._disk.shutdown()

    # writing

    def _drain(self) -> bool:
        assert self._segment is not None
        try:
            written = self._segment.drain()
        except OSError as error:
            self._report(error)
            return False
        finally:
            self.bytes_written = self._finished_bytes + self._segment.log.tell()
        if written:
            self._queue.wrote(written)
        return True

    def _hand_over(self) -> dict[str, int] | None:
        """Everything taken goes to the operating system; returns the written counts, or None."""
        try:
            self._guard()
            if self._torn:
                self._replace()
            if self._segment is None:
                self._open()
            assert self._segment is not None
            self._segment.finish_chunk()
        except OSError as error:
            self._report(error)
            return None
        return self._queue.written() if self._drain() else None

    def _open(self) -> Segment:
        path = self._folder / f"{self._name}_{len(self._files)}.mcap"
        segment = Segment(path, round(self._config.chunk_mib * MIB))
        self._files.append(segment.stats)
        self._segment = segment
        try:
            segment.log.drain()
        finally:  # also on a full disk: this file is the one that goes on when there is room
            log_ns = max((file.end_ns for file in self._files), default=0)
            for topic, raw, stamp_ns, sequence in self._latched.messages():
                kind = self._kinds[topic]
                segment.add(topic, kind, raw, stamp_ns, log_ns, sequence, counted=False)
        return segment

    def _leave(self) -> None:
        assert self._segment is not None
        self._finished_bytes += self._segment.log.tell()
        self._segment = None

    def _replace(self) -> None:
        """Leaves a file of which a sync has failed; what it holds beyond the last one is in doubt.

        A second fdatasync of it could succeed without the lost pages having been written.

        Raises:
            OSError: the new file cannot be begun.
        """
        if not self._syncing.done():
            self._syncing.exception()
        segment = self._segment
        if segment is not None:
            segment.finish_chunk()
            if not self._drain():
                self._queue.drop(segment.unwritten(), self._reason())
            self._queue.settle(self._queue.written(), safe=False)
            self._leave()
            try:
                segment.log.close()
                if not segment.counted:
                    segment.log.path.unlink()
                    self._files.remove(segment.stats)
            except OSError as error:
                _log.error("%s: %s", segment.log.path, error.strerror)
        self._torn = False
        self._open()

    # the disk's thread

    def _submit(self, work: Callable[[], bool]) -> Future[bool]:
        future = self._disk.submit(work)
        # who waits in `BagWriter.flush`, and the writer that put off a sync
        future.add_done_callback(lambda _: self._queue.wake())
        return future

    def _sync_later(self, written: dict[str, int]) -> Future[bool]:
        segment = self._segment
        assert segment is not None
        return self._submit(lambda: self._wait_for_disk(segment, written))

    def _wait_for_disk(self, segment: Segment, written: dict[str, int]) -> bool:
        if self._torn:
            return False
        try:
            segment.sync()
        except OSError as error:
            self._torn = True
            self._report(error)
            return False
        self._queue.settle(written, safe=True)
        return True

    def _end(self, segment: Segment, written: dict[str, int], metadata: str) -> bool:
        safe = False
        try:
            segment.end()
            safe = True
        except OSError as error:
            self._report(error)
        self._queue.settle(written, safe=safe)
        try:
            self._write(metadata)
        except (OSError, StorageFull) as error:
            self._report(error)
            return False
        return safe

    def _metadata(self) -> str:
        with self._queue.changed:
            kinds = dict(self._kinds)
        return metadata_text(self._files, kinds)

    def _write(self, metadata: str) -> None:
        write_atomically(self._folder / "metadata.yaml", metadata)

    # trouble

    def _retry_due(self) -> bool:
        return time.monotonic() >= self._retry_at

    def _guard(self) -> None:
        status = os.statvfs(self._folder)
        if status.f_bavail * status.f_frsize < self._config.min_free_mib * MIB:
            raise OSError(errno.ENOSPC, "less than min_free_mib is free")

    def _reason(self) -> str:
        return "storage_full" if isinstance(self.problem, StorageFull) else "io_error"

    def _report(self, error: OSError | StorageFull) -> None:
        if self.problem is None:
            _log.error("recording to %s is interrupted: %s", self._folder, error)
        self.problem = self._typed(error)
        self._retry_at = time.monotonic() + self._config.retry_s

    def _typed(self, error: OSError | StorageFull) -> CondenseError:
        if isinstance(error, StorageFull) or error.errno in NO_ROOM:
            return StorageFull(
                f"no room on the disk of {self._folder} (at least {self._config.min_free_mib:g} "
                "MiB must stay free)",
                "free space or record elsewhere; recording resumes by itself",
            )
        return BagError(
            f"{self._folder} cannot be written: {error.strerror or error}",
            "check the disk and the permissions of the folder",
        )
