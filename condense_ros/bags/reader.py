"""`BagReader`: messages and pairs of finished, killed and damaged bags."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from condense_ros.bags.chunks import LIBRARY
from condense_ros.bags.compression import decompress
from condense_ros.bags.files import bag_files
from condense_ros.bags.kinds import TopicKind
from condense_ros.bags.messages import BagMessage, BagTopic, kind_of
from condense_ros.bags.pairs import PAIR_TYPE, PairRecord
from condense_ros.bags.scan import ChunkRef, FileIndex, scan_file
from condense_ros.bags.sqlite import sqlite_messages, sqlite_topics
from condense_ros.errors import BagError, CondenseError
from condense_ros.wire import CAMERA_INFO

#: decoded chunks kept for random access, bytes
_CACHE_BYTES = 64 << 20


#: a row of `BagReader.index`; chunk counts from 1, 0 = outside chunks
_INDEX = np.dtype(
    [
        ("topic", np.int32),
        ("file", np.int32),
        ("chunk", np.int64),
        ("log_ns", np.uint64),
        ("stamp_ns", np.uint64),
        ("offset", np.uint64),
        ("length", np.uint64),
    ]
)


class BagReader:
    """Reads a bag folder, one .mcap file, or an sqlite3 bag of rosbag2.

    Files are taken in order of their numbers, messages in order of writing. What cannot be read is
    skipped and counted in `damaged` (a file of several that is no MCAP counts as one part); chunks
    are checked against their CRC when they are read.

    Args:
        path: the folder, or one .mcap or .db3 file.

    Attributes:
        topics: topic name to `BagTopic`.
        index: structured array, a row per message in order of writing, with `stamp_ns`, `log_ns`
            and `length`; pick rows with `rows`, read them with `read`. Empty for sqlite3.
        finished: whether every file was closed properly.

    Raises:
        BagError: nothing there that is a bag.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.files, self._sqlite = bag_files(self.path)
        self._bad_pairs = self._no_bags = 0
        self._indices: list[FileIndex] = []
        # chunks that do not match their CRC, and those with messages of undeclared channels
        self._bad: set[tuple[int, int]] = set()
        self._undeclared: set[tuple[int, int]] = set()
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cached_bytes = 0
        self.index = np.empty(0, _INDEX)
        if self._sqlite:
            found = sqlite_topics(self.path).items()
            self.topics = {topic: BagTopic(*kind) for topic, kind in found}
            self.finished = True
            return
        for file in self.files:
            try:
                self._indices.append(scan_file(file))
            except BagError:
                # a file begun right before a power loss may hold nothing but zeros
                self._no_bags += 1
                if self._no_bags == len(self.files):
                    raise
        for number, index in enumerate(self._indices):
            self._bad.update((number, chunk) for chunk in index.bad_chunks)
        self.finished = not self._no_bags and all(index.finished for index in self._indices)
        self.topics = self._collect()
        self._names = list(self.topics)

    def _collect(self) -> dict[str, BagTopic]:
        """Fills `index`; messages repeated at the start of later files are left out."""
        kinds: dict[str, TopicKind] = {}
        ours = any(index.library == LIBRARY for index in self._indices)
        parts = []
        seen: dict[str, npt.NDArray[np.uint64]] = {}
        for number, index in enumerate(self._indices):
            topic_of = np.full(1 << 16, -1, np.int32)
            for channel in index.channels.values():
                schema = index.schemas.get(channel.schema_id)
                kinds.setdefault(channel.topic, kind_of(channel, schema))
                topic_of[channel.id] = list(kinds).index(channel.topic)
            table = index.table()
            topic = topic_of[table[:, 0].astype(np.int64)]
            lost = np.unique(table[topic < 0, 4]).tolist()
            self._undeclared.update((number, int(chunk) - 1) for chunk in lost)
            keep = topic >= 0
            # other recorders count in their own ways, so only in our files a number tells
            if ours and len(self._indices) > 1:
                keep &= ~self._repeats(table[:, 1], topic, kinds, seen)
            part = np.empty(int(keep.sum()), _INDEX)
            part["topic"], part["file"] = topic[keep], number
            for column, name in enumerate(("log_ns", "stamp_ns", "chunk", "offset", "length"), 2):
                part[name] = table[keep, column]
            parts.append(part)
        self.index = np.concatenate(parts)
        counts = np.bincount(self.index["topic"], minlength=len(kinds)).tolist()
        return {
            topic: BagTopic(
                kind.type_name,
                kind.definition,
                counts[row],
                kind.type_hash,
                kind.qos,
                kind.encoding,
                kind.schema_encoding,
            )
            for row, (topic, kind) in enumerate(kinds.items())
        }

    def _repeats(
        self,
        sequence: npt.NDArray[np.uint64],
        topic: npt.NDArray[np.int32],
        kinds: Mapping[str, TopicKind],
        seen: dict[str, npt.NDArray[np.uint64]],
    ) -> npt.NDArray[np.bool_]:
        """Which messages of a file an earlier file holds: a repeated one keeps its sequence."""
        repeated = np.zeros(len(sequence), bool)
        for row, (name, kind) in enumerate(kinds.items()):
            if kind.type_name == CAMERA_INFO or name.endswith("tf_static"):
                # 0 means "not counted" in MCAP; ours count from 1
                mine = (topic == row) & (sequence > 0)
                before = seen.get(name, np.empty(0, np.uint64))
                repeated |= mine & np.isin(sequence, before)
                seen[name] = np.concatenate([before, sequence[mine]])
        return repeated

    @property
    def damaged(self) -> int:
        """Damaged stretches, chunks and pair records found so far; reading finds more."""
        stretches = sum(index.damaged for index in self._indices)
        chunks = len(self._bad | self._undeclared)
        return stretches + chunks + self._bad_pairs + self._no_bags

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
        for row in self.rows(topics):
            message = self.read(int(row))
            if message is not None:
                yield message

    def rows(self, topics: Collection[str] | None = None) -> npt.NDArray[np.int64]:
        """The rows of `index` that belong to some topics (all, if None), in order of writing."""
        if topics is None:
            return np.arange(len(self.index))
        numbers = [row for row, name in enumerate(self._names) if name in topics]
        return np.nonzero(np.isin(self.index["topic"], numbers))[0]

    def topic(self, row: int) -> str:
        """The topic of a row of `index`."""
        return self._names[self.index["topic"][row]]

    def read(self, row: int) -> BagMessage | None:
        """The message of a row of `index`, or None if its chunk is damaged."""
        entry = self.index[row]
        file, chunk = int(entry["file"]), int(entry["chunk"]) - 1
        offset, length = int(entry["offset"]), int(entry["length"])
        verified = True
        if chunk < 0:
            raw = _read(self._indices[file].path, offset, length)
        else:
            place = self._indices[file].chunks[chunk]
            records = self._records(file, chunk, place)
            if records is None:
                return None
            raw, verified = records[offset : offset + length], place.whole
        topic = self._names[entry["topic"]]
        kind = self.topics[topic].type_name
        stamp_ns, log_ns = int(entry["stamp_ns"]), int(entry["log_ns"])
        return BagMessage(topic, kind, raw, stamp_ns, log_ns, verified)

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
            records = decompress(data, chunk.compression, chunk.size, whole=chunk.whole)
            if chunk.whole and chunk.crc and isal_zlib.crc32(records) != chunk.crc:
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
        return {index.path: index.cut for index in self._indices if not index.finished}


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    except OSError as error:
        raise BagError(f"{path} cannot be read: {error.strerror}", "check the disk") from error
