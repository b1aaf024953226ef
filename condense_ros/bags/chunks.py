"""`ChunkWriter`: MCAP records into a `LogFile` without copying the messages.

Layout: https://mcap.dev/spec. The records of a chunk are handed on as a list of buffers for one
`writev`; the `mcap` library, which would copy each message four times, writes the rest.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from isal import isal_zlib
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.writer import MCAP0_MAGIC

from condense_ros.bags.logfile import LogFile
from condense_ros.wire.cdr import Bytes

#: how our files name their writer; readers recognise our repeated messages by it
LIBRARY = "condense_ros"
_MESSAGE = struct.Struct("<BQHIQQ")
#: chunk record without compression: opcode, length, times, size, CRC, "" and size again
_CHUNK = struct.Struct("<BQQQQIIQ")
_FOOTER = struct.Struct("<BQQQ")
#: messages up to this size are gathered, larger ones handed on as they are
_SMALL = 4096


@dataclass
class _Chunk:
    """The chunk in progress."""

    buffers: list[Bytes] = field(default_factory=list)
    #: what follows the last buffer
    tail: bytearray = field(default_factory=bytearray)
    size: int = 0
    crc: int = 0
    times: tuple[int, int] | None = None
    #: channel to log time and offset of its messages, alternating
    index: dict[int, list[int]] = field(default_factory=dict)

    def append(self, head: bytes, body: Bytes = b"") -> None:
        self.size += len(head) + len(body)
        self.tail += head
        if len(body) <= _SMALL:
            self.tail += body
            return
        self.close()
        self.crc = isal_zlib.crc32(body, self.crc)
        self.buffers.append(body)

    def close(self) -> None:
        if self.tail:
            self.crc = isal_zlib.crc32(self.tail, self.crc)
            self.buffers.append(self.tail)
            self.tail = bytearray()


class ChunkWriter:
    """Writes one MCAP file.

    Args:
        log: takes the records; the caller drains it.
        chunk_bytes: a chunk is finished when it is larger than this.
    """

    def __init__(self, log: LogFile, chunk_bytes: int) -> None:
        self._log = log
        self._chunk_bytes = chunk_bytes
        self._chunk = _Chunk()
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._chunks: list[ChunkIndex] = []
        self._counts: dict[int, int] = {}
        log.write(MCAP0_MAGIC)
        log.write(_record(Header("ros2", LIBRARY)))

    def schema(self, name: str, encoding: str, text: bytes) -> int:
        """Declares a schema; returns its id."""
        schema = Schema(id=len(self._schemas) + 1, data=text, encoding=encoding, name=name)
        self._schemas.append(schema)
        self._chunk.append(_record(schema))
        return schema.id

    def channel(self, topic: str, encoding: str, schema: int, metadata: dict[str, str]) -> int:
        """Declares a channel; returns its id."""
        number = len(self._channels) + 1
        channel = Channel(number, topic, encoding, metadata, schema)
        self._channels.append(channel)
        self._chunk.append(_record(channel))
        return number

    def add(self, channel: int, raw: Bytes, stamp_ns: int, log_ns: int, sequence: int) -> None:
        """Adds a message; finishes the chunk when it is full."""
        chunk = self._chunk
        chunk.index.setdefault(channel, []).extend((log_ns, chunk.size))
        first, last = chunk.times or (log_ns, log_ns)
        chunk.times = min(first, log_ns), max(last, log_ns)
        length = _MESSAGE.size - 9 + len(raw)
        head = _MESSAGE.pack(Opcode.MESSAGE, length, channel, sequence, log_ns, stamp_ns)
        chunk.append(head, raw)
        self._counts[channel] = self._counts.get(channel, 0) + 1
        if chunk.size > self._chunk_bytes:
            self.finish_chunk()

    def finish_chunk(self) -> None:
        """Hands the chunk in progress to the log; one without messages stays."""
        chunk = self._chunk
        if chunk.times is None:
            return
        chunk.close()
        self._chunk = _Chunk()
        log, start = self._log, self._log.tell()
        length = _CHUNK.size - 9 + chunk.size
        first, last = chunk.times
        head = (Opcode.CHUNK, length, first, last, chunk.size, chunk.crc, 0, chunk.size)
        log.write(_CHUNK.pack(*head))
        for buffer in chunk.buffers:
            log.write(buffer)
        indexed = log.tell()
        offsets = {}
        for channel, entries in chunk.index.items():
            offsets[channel] = log.tell()
            size = 8 * len(entries)
            record = struct.Struct(f"<BQHI{len(entries)}Q")
            log.write(record.pack(Opcode.MESSAGE_INDEX, 6 + size, channel, size, *entries))
        self._chunks.append(
            ChunkIndex(
                chunk_length=indexed - start,
                chunk_start_offset=start,
                compression="",
                compressed_size=chunk.size,
                message_end_time=last,
                message_index_length=log.tell() - indexed,
                message_index_offsets=offsets,
                message_start_time=first,
                uncompressed_size=chunk.size,
            )
        )

    def finish(self) -> None:
        """Hands the last chunk, the summary and the footer to the log."""
        self.finish_chunk()
        self._log.write(_record(DataEnd(0)))
        start = self._log.tell()
        summary = RecordBuilder()
        offsets = []
        for opcode, records in (
            (Opcode.SCHEMA, self._schemas),
            (Opcode.CHANNEL, self._channels),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, self._chunks),
        ):
            begin = summary.count
            for record in records:
                record.write(summary)
            if summary.count > begin:
                offsets.append(SummaryOffset(opcode, start + begin, summary.count - begin))
        offsets_start = start + summary.count
        for offset in offsets:
            offset.write(summary)
        data = summary.end()
        # the checksum goes up to itself: over the first fields of the footer too
        footer = _FOOTER.pack(Opcode.FOOTER, 20, start, offsets_start)
        self._log.write(data)
        self._log.write(_record(Footer(start, offsets_start, zlib.crc32(data + footer))))
        self._log.write(MCAP0_MAGIC)

    def _statistics(self) -> Statistics:
        chunks = self._chunks
        return Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=len(chunks),
            message_count=sum(self._counts.values()),
            metadata_count=0,
            message_start_time=min((c.message_start_time for c in chunks), default=0),
            message_end_time=max((c.message_end_time for c in chunks), default=0),
            schema_count=len(self._schemas),
        )


def _record(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())
