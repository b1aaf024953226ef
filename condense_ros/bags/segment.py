"""One MCAP file of a bag while it is written."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

from mcap.writer import CompressionType, Writer

from condense_ros.bags.logfile import LogFile
from condense_ros.bags.metadata import FileStats, qos_text


class Segment:
    """MCAP records into a `LogFile`, and what has reached the file so far.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path, chunk_bytes: int) -> None:
        self.log = LogFile(path)
        self.stats = FileStats(path.name)
        # the writer needs write, tell and flush of a stream, which is what LogFile has
        stream = cast(IO[Any], self.log)
        self._mcap = Writer(stream, chunk_size=chunk_bytes, compression=CompressionType.NONE)
        self._mcap.start(profile="ros2", library="condense_ros")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        # messages of which the chunk is not in the file yet: (topic, log_ns, counted)
        self._unwritten: list[tuple[str, int, bool]] = []

    def add(
        self,
        topic: str,
        schema: tuple[str, str, str],
        raw: bytes,
        stamp_ns: int,
        log_ns: int,
        sequence: int,
        *,
        counted: bool = True,
    ) -> None:
        """Takes one message; full chunks go to the log, which still has to be drained.

        Args:
            schema: type name, definition, RIHS01 hash.
            counted: False for a repeated message, which is in the file but in no account.
        """
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._register(topic, schema)
        self._unwritten.append((topic, log_ns, counted))
        self._mcap.add_message(channel, log_ns, raw, stamp_ns, sequence)

    def _register(self, topic: str, schema: tuple[str, str, str]) -> int:
        type_name, definition, type_hash = schema
        if type_name not in self._schemas:
            self._schemas[type_name] = self._mcap.register_schema(
                type_name, "ros2msg", definition.encode()
            )
        metadata = {"offered_qos_profiles": qos_text(topic), "topic_type_hash": type_hash}
        return self._mcap.register_channel(topic, "cdr", self._schemas[type_name], metadata)

    def finish_chunk(self) -> None:
        """Ends the chunk in progress, so that `drain` puts all messages into the file."""
        if self._unwritten:
            self._mcap.flush()

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
        return [topic for topic, _, counted in done if counted]

    def unwritten(self) -> list[str]:
        """Topic of every counted message that is not in the file."""
        return [topic for topic, _, counted in self._unwritten if counted]

    def end(self) -> None:
        """Writes index and footer, syncs and closes.

        Raises:
            OSError: no room for them; the file stays readable as an unfinished one.
        """
        try:
            if not self._unwritten:
                self._mcap.finish()
                self.log.drain()
                self.log.sync()
        finally:
            self.log.close()
