"""`BagReader`: messages and pairs of finished, killed and damaged bags."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from condense_ros.bags.files import bag_files
from condense_ros.bags.pairs import PAIR_TYPE, PairRecord
from condense_ros.bags.scan import ChunkRef, FileIndex, MessageRef, decompress, scan_file
from condense_ros.bags.sqlite import sqlite_messages, sqlite_topics
from condense_ros.errors import BagError, CondenseError

#: decoded chunks kept for random access, bytes
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: type name, ros2msg definition ("" where not stored), message count."""

    type_name: str
    definition: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """One message with its original bytes.

    Attributes:
        stamp_ns: publish time as stored (the header stamp in our own bags).
        log_ns: time of reception.
        verified: False where the file was cut within the chunk, so that no checksum covers it.
    """

    topic: str
    type_name: str
    raw: bytes
    stamp_ns: int
    log_ns: int
    verified: bool = True


@dataclass(frozen=True)
class Entry:
    """A message of the index: file number and place in it; read with `BagReader.read`."""

    topic: str
    file: int
    ref: MessageRef

    @property
    def stamp_ns(self) -> int:
        return self.ref.stamp_ns

    @property
    def log_ns(self) -> int:
        return self.ref.log_ns


class BagReader:
    """Reads a bag folder, one .mcap file, or an sqlite3 bag of rosbag2.

    Files are taken in order of their numbers, messages in order of writing. What cannot be read is
    skipped and counted in `damaged`; chunks are checked against their CRC when they are read.

    Args:
        path: the folder, or one .mcap or .db3 file.

    Attributes:
        topics: topic name to `BagTopic`.
        finished: whether every file was closed properly.

    Raises:
        BagError: nothing there that is a bag.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.files, self._sqlite = bag_files(self.path)
        self._bad_pairs = 0
        self._indices: list[FileIndex] = []
        # chunks that do not match their CRC, and those with messages of undeclared channels
        self._bad: set[tuple[int, int]] = set()
        self._undeclared: set[tuple[int, int]] = set()
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cached_bytes = 0
        self.entries: list[Entry] = []
        if self._sqlite:
            found = sqlite_topics(self.path).items()
            self.topics = {topic: BagTopic(*kind) for topic, kind in found}
            self.finished = True
            return
        for file in self.files:
            self._indices.append(scan_file(file))
        for number, index in enumerate(self._indices):
            self._bad.update((number, chunk) for chunk in index.bad_chunks)
        self.finished = all(index.finished for index in self._indices)
        self._types: dict[tuple[int, int], tuple[str, str]] = {}
        self.topics = self._collect()

    def _collect(self) -> dict[str, BagTopic]:
        """Fills `entries`; messages repeated at the start of later files are left out."""
        seen: set[tuple[str, int]] = set()
        counts: dict[str, int] = {}
        kinds: dict[str, tuple[str, str]] = {}
        for number, index in enumerate(self._indices):
            names: dict[int, str] = {}
            for channel in index.channels.values():
                schema = index.schemas.get(channel.schema_id)
                text = schema.data.decode(errors="replace") if schema else ""
                kinds.setdefault(channel.topic, (schema.name if schema else "", text))
                counts.setdefault(channel.topic, 0)
                names[channel.id] = channel.topic
            for ref in index.messages:
                topic = names.get(ref.channel)
                if topic is None:
                    self._undeclared.add((number, ref.chunk))
                    continue
                # sequence 0 is "not counted"; ours count from 1, and a repeat keeps its number
                if number and ref.sequence and (topic, ref.sequence) in seen:
                    continue
                if ref.sequence and len(self._indices) > 1 and _repeatable(topic, kinds[topic][0]):
                    seen.add((topic, ref.sequence))
                counts[topic] += 1
                self.entries.append(Entry(topic, number, ref))
        return {topic: BagTopic(*kinds[topic], counts[topic]) for topic in kinds}

    @property
    def damaged(self) -> int:
        """Damaged stretches, chunks and pair records found so far; reading finds more."""
        stretches = sum(index.damaged for index in self._indices)
        return stretches + len(self._bad | self._undeclared) + self._bad_pairs

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """The messages of some topics (all, if None), in order of writing.

        Raises:
            BagError: a topic that is not in the bag.
        """
        unknown = sorted(set(topics or ()) - set(self.topics))
        if unknown:
            raise BagError(
                f"{self.path} has no topic {', '.join(unknown)}",
                f"use some of: {', '.join(self.topics) or '(it has none)'}",
            )
        if self._sqlite:
            for topic, raw, log_ns in sqlite_messages(self.path, topics):
                yield BagMessage(topic, self.topics[topic].type_name, raw, log_ns, log_ns)
            return
        for entry in self.entries:
            if topics is None or entry.topic in topics:
                message = self.read(entry)
                if message is not None:
                    yield message

    def read(self, entry: Entry) -> BagMessage | None:
        """The message of an index entry, or None if its chunk is damaged."""
        ref = entry.ref
        index = self._indices[entry.file]
        if ref.chunk < 0:
            raw, verified = _read(index.path, ref.offset, ref.length), True
        else:
            chunk = index.chunks[ref.chunk]
            records = self._records(entry.file, ref.chunk, chunk)
            if records is None:
                return None
            raw, verified = records[ref.offset : ref.offset + ref.length], chunk.whole
        kind = self.topics[entry.topic].type_name
        return BagMessage(entry.topic, kind, raw, ref.stamp_ns, ref.log_ns, verified)

    def _records(self, file: int, number: int, chunk: ChunkRef) -> bytes | None:
        key = (file, number)
        if key in self._bad:
            return None
        records = self._cache.get(key)
        if records is not None:
            self._cache.move_to_end(key)
            return records
        try:
            data = _read(self._indices[file].path, chunk.offset, chunk.length)
            records = decompress(data, chunk)
            if chunk.whole and chunk.crc and zlib.crc32(records) != chunk.crc:
                raise BagError("a chunk does not match its CRC")
        except BagError:
            self._bad.add(key)
            return None
        self._cache[key] = records
        self._cached_bytes += len(records)
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])
        return records

    def pairs(self) -> list[PairRecord]:
        """The pair records, in order; undecodable ones are counted as damaged."""
        topics = {topic for topic, kind in self.topics.items() if kind.type_name == PAIR_TYPE}
        records = []
        for message in self.messages(topics):
            try:
                records.append(PairRecord.decode(message.raw))
            except CondenseError:
                self._bad_pairs += 1
        return records

    def unfinished(self) -> Mapping[Path, bool]:
        """Files without a footer (killed or still being recorded): path to "ends in a record"."""
        return {index.path: index.truncated for index in self._indices if not index.finished}


def _repeatable(topic: str, type_name: str) -> bool:
    return type_name == "sensor_msgs/msg/CameraInfo" or topic.endswith("tf_static")


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    except OSError as error:
        raise BagError(f"{path} cannot be read: {error.strerror}", "check the disk") from error
