"""One file of a bag while it is written."""

from __future__ import annotations

from pathlib import Path

from condense_ros.bags.chunks import ChunkWriter
from condense_ros.bags.kinds import TopicKind
from condense_ros.bags.logfile import LogFile
from condense_ros.bags.metadata import FileStats
from condense_ros.files import sync_folder


class Segment:
    """MCAP records into a `LogFile`, and what has reached the file so far.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path, chunk_bytes: int) -> None:
        self.log = LogFile(path)
        self.stats = FileStats(path.name)
        self._mcap = ChunkWriter(self.log, chunk_bytes)
        self._named = False
        self._schemas: dict[tuple[str, str, str], int] = {}
        self._channels: dict[str, int] = {}
        # messages of which the chunk is not in the file yet: (topic, log_ns, counted)
        self._unwritten: list[tuple[str, int, bool]] = []
        #: counted messages in the file
        self.counted = 0

    def add(
        self,
        topic: str,
        kind: TopicKind,
        raw: bytes,
        stamp_ns: int,
        log_ns: int,
        sequence: int,
        *,
        counted: bool = True,
    ) -> None:
        """Takes one message; full chunks go to the log, which still has to be drained.

        Args:
            counted: False for a repeated message, which is in the file but in no account.
        """
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._register(topic, kind)
        self._unwritten.append((topic, log_ns, counted))
        self._mcap.add(channel, raw, stamp_ns, log_ns, sequence & 0xFFFFFFFF)

    def _register(self, topic: str, kind: TopicKind) -> int:
        schema = kind.type_name, kind.schema_encoding, kind.definition
        if schema not in self._schemas:
            name, encoding, text = schema
            self._schemas[schema] = self._mcap.schema(name, encoding, text.encode())
        metadata = {"offered_qos_profiles": kind.qos, "topic_type_hash": kind.type_hash}
        return self._mcap.channel(topic, kind.encoding, self._schemas[schema], metadata)

    def finish_chunk(self) -> None:
        """Ends the chunk in progress, so that `drain` puts all messages into the file."""
        if self._unwritten:
            self._mcap.finish_chunk()

    def drain(self) -> list[str]:
        """Writes finished chunks; returns the topic of every counted message now in the file.

        Raises:
            OSError: the disk is full or broken; call again to go on.
        """
        if not self.log.pending:
            return []
        self.log.drain()
        # a chunk is finished by the message that fills it, so all of them are in
        done, self._unwritten = self._unwritten, []
        for topic, log_ns, _ in done:
            self.stats.add(topic, log_ns)
        written = [topic for topic, _, counted in done if counted]
        self.counted += len(written)
        return written

    def unwritten(self) -> list[str]:
        """Topic of every counted message that is not in the file."""
        return [topic for topic, _, counted in self._unwritten if counted]

    def sync(self) -> None:
        """Waits until what is in the file is on the disk, and the first time its name as well.

        Raises:
            OSError: the disk is full or broken.
        """
        if not self._named:
            sync_folder(self.log.path.parent)
            self._named = True
        self.log.sync()

    def end(self) -> None:
        """Writes index and footer, syncs and closes.

        Raises:
            OSError: no room for them; the file stays readable as an unfinished one.
        """
        try:
            if not self._unwritten:
                self._mcap.finish()
                self.log.drain()
                self.sync()
        finally:
            self.log.close()
