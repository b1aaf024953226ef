"""Finds the messages of an MCAP file, also of one that was never finished or is damaged.

Layout: https://mcap.dev/spec. Nothing depends on the summary at the end of the file: records are
walked from the start, and where the walk meets bytes that are no record it goes on at the next
chunk whose header is consistent and whose CRC is right.
"""

from __future__ import annotations

import mmap
import re
import struct
from array import array
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from isal import isal_zlib
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode
from mcap.records import Channel, Header, Schema
from mcap.writer import MCAP0_MAGIC

from condense_ros.bags.compression import decompress
from condense_ros.errors import BagError

Buffer = bytes | memoryview | mmap.mmap
_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQII")
#: bytes of a chunk record before its records: fixed part, compression name, size
_CHUNK_FIXED = _CHUNK.size + 8
_TOPIC = re.compile(r"/?[\w/]+")
# chunk records with plausible sizes, either uncompressed or with a known compression
_CHUNK_HEADER = re.compile(
    rb"\x06.{5}\x00{3}.{16}.{5}\x00{3}.{4}(?:\x00{4}|\x04\x00{3}zstd|\x03\x00{3}lz4).{5}\x00{3}",
    re.DOTALL,
)


@dataclass(frozen=True)
class ChunkRef:
    """Where a chunk's records lie in the file.

    Attributes:
        offset, length: of the (possibly compressed) records, bytes.
        whole: False for the last chunk of a file that ends within it; it has no usable CRC.
    """

    offset: int
    length: int
    compression: str
    size: int
    crc: int
    whole: bool


@dataclass
class FileIndex:
    """Everything known of a file without having read its messages.

    Attributes:
        messages: seven numbers per message, see `table`.
        damaged: stretches that could not be read as records.
        bad_chunks: numbers of chunks already known not to match their CRC.
        finished: the file has its footer.
        cut: it ends within a record of its data, of which the rest is lost.
        library: who wrote it, as its header says.
    """

    path: Path
    channels: dict[int, Channel] = field(default_factory=dict)
    schemas: dict[int, Schema] = field(default_factory=dict)
    chunks: list[ChunkRef] = field(default_factory=list)
    messages: array[int] = field(default_factory=lambda: array("Q"))
    damaged: int = 0
    bad_chunks: set[int] = field(default_factory=set)
    finished: bool = False
    cut: bool = False
    library: str = ""

    def table(self) -> npt.NDArray[np.uint64]:
        """(N, 7) uint64, a row per message in order of writing.

        Columns: channel, sequence, log_ns, stamp_ns, chunk, offset, length. `chunk` counts from 1
        and 0 means "outside chunks"; the offset is that in the chunk's records, or in the file.
        """
        return np.frombuffer(self.messages, dtype=np.uint64).reshape(-1, 7)


def scan_file(path: Path) -> FileIndex:
    """Indexes an MCAP file.

    Raises:
        BagError: it cannot be opened, or nothing in it is MCAP.
    """
    index = FileIndex(path)
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, 2)
            if size == 0:
                return index
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _Scan(index, data, size).run()
    except OSError as error:
        raise BagError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    return index


def _declaration(opcode: int, raw: bytes) -> Schema | Channel:
    stream = _stream(raw)
    return Schema.read(stream) if opcode == Opcode.SCHEMA else Channel.read(stream)


def _stream(raw: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(raw))


class _Scan:
    def __init__(self, index: FileIndex, data: mmap.mmap, size: int) -> None:
        self.index, self.data, self.size = index, data, size
        # declarations from damaged chunks and the cut one, for want of better ones
        self._doubtful: list[Schema | Channel] = []
        self._data_ended = False

    def run(self) -> None:
        head = self.data[: len(MCAP0_MAGIC)]
        position = len(MCAP0_MAGIC)
        if not MCAP0_MAGIC.startswith(head):
            found = self._resync(0)
            if found == self.size:
                raise BagError(f"{self.index.path} is no MCAP file", "give a bag or an .mcap file")
            position = found
        self.index.cut = self.size < len(MCAP0_MAGIC)
        while position < self.size and not self.index.finished:
            position = self._record(position)
        # what follows the data repeats them: index and summary
        self.index.cut &= not self._data_ended
        # zeros of a lost sector are a declaration too, of nothing
        used = set(self.index.table()[:, 0].tolist())
        for item in self._doubtful:
            if isinstance(item, Schema) or (
                item.id in used and item.message_encoding and _TOPIC.fullmatch(item.topic)
            ):
                self._declare(item)

    def _record(self, position: int) -> int:
        """Takes in the record at a position; returns where the next one is."""
        start = position + _RECORD.size
        if start > self.size:
            self.index.cut = True
            return self.size
        opcode, length = _RECORD.unpack_from(self.data, position)
        end = start + length
        plausible = 1 <= opcode <= 0x0F or opcode >= 0x80
        if not plausible or end > self.size:
            found = self._resync(position + 1)
            if found < self.size:
                return found
            # nothing after it: the file ends within this record
            self.index.cut = True
            if opcode == Opcode.CHUNK:
                self._chunk(start, self.size, whole=False)
            return self.size
        try:
            self._take(opcode, start, end)
        except (ValueError, struct.error, BagError, EndOfFile):
            found = self._resync(position + 1)
            self.index.cut |= found == self.size
            return found
        return end

    def _take(self, opcode: int, start: int, end: int) -> None:
        if opcode == Opcode.CHUNK:
            self._chunk(start, end, whole=True)
        elif opcode == Opcode.MESSAGE:
            self._message(self.data, start, end, -1, 0)
        elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            self._declare(_declaration(opcode, self.data[start:end]))
        elif opcode == Opcode.HEADER:
            self.index.library = Header.read(_stream(self.data[start:end])).library
        elif opcode == Opcode.DATA_END:
            self._data_ended |= end - start == 4
        elif opcode == Opcode.FOOTER:
            self.index.finished = end + len(MCAP0_MAGIC) <= self.size

    def _chunk(self, start: int, end: int, *, whole: bool) -> None:
        if start + _CHUNK_FIXED > end:
            if whole:
                raise ValueError("chunk too short")
            return
        _, _, size, crc, name_length = _CHUNK.unpack_from(self.data, start)
        records = start + _CHUNK_FIXED + name_length
        if name_length > 16 or records > end:
            if whole:
                raise ValueError("chunk header out of its record")
            return
        name = self.data[start + _CHUNK.size : start + _CHUNK.size + name_length].decode()
        (length,) = struct.unpack_from("<Q", self.data, records - 8)
        if whole and records + length > end:
            raise ValueError("chunk larger than its record")
        length = min(length, end - records)
        chunk = ChunkRef(records, length, name, size, crc, whole)
        if name:
            # a compressed chunk has to be opened to be indexed
            data = self.data[records : records + length]
            try:
                content: Buffer = decompress(data, name, size, whole=whole)
            except BagError:
                if whole:
                    raise
                return
            first, last = 0, len(content)
        else:
            content, first, last = self.data, records, records + length
        number = len(self.index.chunks)
        self.index.chunks.append(chunk)
        declared, complete = self._walk(content, first, last, number)
        # most chunks are checked when they are read; what names the topics is needed now
        if not whole:
            self._doubtful += declared
            return
        if declared or not complete:
            sound = complete and (crc == 0 or isal_zlib.crc32(content[first:last]) == crc)
            if not sound:
                self.index.bad_chunks.add(number)
                self._doubtful += declared
                return
        for item in declared:
            self._declare(item)

    def _walk(
        self, content: Buffer, position: int, end: int, chunk: int
    ) -> tuple[list[Schema | Channel], bool]:
        """Takes in the messages of a chunk; its declarations, and whether all of it was records."""
        base = position
        declared: list[Schema | Channel] = []
        while position + _RECORD.size <= end:
            opcode, length = _RECORD.unpack_from(content, position)
            start = position + _RECORD.size
            position = start + length
            if position > end or opcode not in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
                return declared, False
            if opcode == Opcode.MESSAGE:
                self._message(content, start, position, chunk, base)
                continue
            try:
                declared.append(_declaration(opcode, bytes(content[start:position])))
            except (ValueError, struct.error, EndOfFile):
                return declared, False
        return declared, position == end

    def _message(self, content: Buffer, start: int, end: int, chunk: int, base: int) -> None:
        if end - start < _MESSAGE.size:
            return
        channel, sequence, log_ns, stamp_ns = _MESSAGE.unpack_from(content, start)
        offset = start + _MESSAGE.size
        row = (channel, sequence, log_ns, stamp_ns, chunk + 1, offset - base, end - offset)
        self.index.messages.extend(row)

    def _declare(self, item: Schema | Channel) -> None:
        if isinstance(item, Schema):
            self.index.schemas.setdefault(item.id, item)
        else:
            self.index.channels.setdefault(item.id, item)

    def _resync(self, position: int) -> int:
        """Start of the next sound chunk, or the end of the file; counts the damage before it."""
        for match in _CHUNK_HEADER.finditer(self.data, position):
            start = match.start() + _RECORD.size
            _, length = _RECORD.unpack_from(self.data, match.start())
            first_ns, last_ns, _, crc, name_length = _CHUNK.unpack_from(self.data, start)
            records = start + _CHUNK_FIXED + name_length
            (size,) = struct.unpack_from("<Q", self.data, records - 8)
            sound = first_ns <= last_ns and size + records - start == length
            if sound and records + size <= self.size:
                # compressed chunks are checked when they are opened; their CRC is of the content
                content = self.data[records : records + size]
                if name_length or crc == 0 or isal_zlib.crc32(content) == crc:
                    self.index.damaged += 1
                    return match.start()
        return self.size
