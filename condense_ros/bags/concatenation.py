"""`concatenate`: several bags into one, in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from condense_ros.bags.messages import BagMessage
from condense_ros.bags.new_bag import NewBag
from condense_ros.bags.reader import BagReader
from condense_ros.bags.recovery import Progress
from condense_ros.errors import BagError, WireError
from condense_ros.wire import CAMERA_INFO, decode_tf


@dataclass(frozen=True)
class Concatenation:
    """What came of it: messages copied, calibration repeated before its bag, parts unreadable."""

    messages: int
    repeated: int
    damaged: int


def concatenate(
    paths: Sequence[Path | str], out: Path | str, progress: Progress | None = None
) -> Concatenation:
    """Copies the messages of all bags, in order of their times of reception.

    Where a bag heard its calibration only after its first messages, that is repeated at its start:
    behind another bag those messages would fall under the other one's. Calibration ids of pairs
    stay what they are.

    Raises:
        BagError: a bag cannot be read or is named twice, a topic has two types, two bags with
            different calibration overlap in time, or `out` exists.
        StorageFull: no room; nothing is left at `out`.
    """
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise BagError("a bag is named twice", "name each bag once")
    readers = [BagReader(path) for path in paths]
    _check_types(readers)
    _check_overlap(readers)
    total = sum(topic.count for reader in readers for topic in reader.topics.values())
    with NewBag(out, readers) as bag:
        for reader in readers:
            bag.topics_of(reader)
        repeated = 0
        for _, first, message in heapq.merge(*map(_in_time, readers), key=lambda entry: entry[0]):
            if first is not None:
                for early in _calibration(first, message.log_ns):
                    bag.add(early)
                    repeated += 1
            bag.add(message)
            if progress is not None:
                progress(bag.written - repeated, total)
    damaged = sum(reader.damaged for reader in readers)
    return Concatenation(bag.written - repeated, repeated, damaged)


def _in_time(reader: BagReader) -> Iterator[tuple[int, BagReader | None, BagMessage]]:
    """(time, the reader at its first message, message) in order of time."""
    first: BagReader | None = reader
    for message in in_time(reader):
        yield message.log_ns, first, message
        first = None


def in_time(reader: BagReader) -> Iterator[BagMessage]:
    """The readable messages in order of their times of reception."""
    if not len(reader.index):
        yield from reader.messages()  # sqlite3 keeps that order itself
        return
    for row in np.argsort(reader.index["log_ns"], kind="stable").tolist():
        message = reader.read(row)
        if message is not None:
            yield message


def _calibration(reader: BagReader, start_ns: int) -> Iterator[BagMessage]:
    """The first calibration of a bag that was heard after its start, as if heard then."""
    known: set[str] = set()
    topics = [
        topic
        for topic, kind in reader.topics.items()
        if kind.type_name == CAMERA_INFO or topic.endswith("tf_static")
    ]
    for message in reader.messages(topics) if topics else ():
        names = {message.topic}
        if message.type_name != CAMERA_INFO:
            try:
                names = {transform.child for transform in decode_tf(message.raw)}
            except WireError:
                continue
        if not names <= known and message.log_ns > start_ns:
            yield replace(message, log_ns=start_ns, stamp_ns=min(message.stamp_ns, start_ns))
        known |= names


def _check_types(readers: Sequence[BagReader]) -> None:
    seen: dict[str, tuple[str, Path]] = {}
    for reader in readers:
        for topic, kind in reader.topics.items():
            type_name, path = seen.setdefault(topic, (kind.type_name, reader.path))
            if type_name != kind.type_name:
                raise BagError(
                    f"topic {topic} is {type_name} in {path} and {kind.type_name} in {reader.path}",
                    "leave one of the two out",
                )


def _check_overlap(readers: Sequence[BagReader]) -> None:
    """Bags that overlap must agree on calibration, or pairs would fall under the wrong one."""
    spans = []
    for reader in readers:
        pairs = reader.pairs()
        if pairs:
            stamps = [pair.stamp_ns for pair in pairs]
            ids = {pair.calibration_id for pair in pairs}
            topics = {topic for pair in pairs for topic, _ in pair.messages.values()}
            spans.append((min(stamps), max(stamps), ids, topics, reader.path))
    for a, b in combinations(spans, 2):
        if a[0] <= b[1] and b[0] <= a[1] and a[2] != b[2] and a[3] & b[3]:
            raise BagError(
                f"{a[4]} and {b[4]} overlap in time, share {', '.join(sorted(a[3] & b[3]))} and "
                "have different calibration",
                "keep them apart",
            )
