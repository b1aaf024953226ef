"""`bag_info`: what is in a bag, and whether all of it can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from condense_ros.bags.pairs import PAIR_TYPE, PairRecord
from condense_ros.bags.reader import BagReader
from condense_ros.errors import CondenseError


@dataclass(frozen=True)
class TopicInfo:
    """One topic: type, messages that can be read, their bytes, and mean rate (0 below two)."""

    type_name: str
    count: int
    bytes: int
    rate_hz: float


@dataclass(frozen=True)
class BagInfo:
    """A bag at a glance.

    Attributes:
        files: storage files in order.
        bytes: their size together.
        start_ns, duration_s: of the times of reception.
        calibration_ids: of the pairs, with the number of pairs of each.
        damaged: stretches, chunks and pair records that cannot be read.
        finished: False after a kill, or while it is still recorded.
    """

    path: Path
    files: tuple[Path, ...]
    bytes: int
    topics: Mapping[str, TopicInfo]
    start_ns: int
    duration_s: float
    pairs: int
    calibration_ids: Mapping[str, int]
    damaged: int
    finished: bool

    @property
    def messages(self) -> int:
        return sum(topic.count for topic in self.topics.values())


class _Sum:
    def __init__(self) -> None:
        self.count = self.bytes = 0
        self.first = self.last = 0

    def add(self, size: int, log_ns: int) -> None:
        self.first = log_ns if not self.count else min(self.first, log_ns)
        self.last = log_ns if not self.count else max(self.last, log_ns)
        self.count += 1
        self.bytes += size

    def rate_hz(self) -> float:
        span = (self.last - self.first) / 1e9
        return (self.count - 1) / span if span > 0 else 0.0


def bag_info(path: Path | str, progress: Callable[[int, int], None] | None = None) -> BagInfo:
    """Reads the whole bag, checking every chunk.

    Args:
        progress: called with (messages done, messages in all).

    Raises:
        BagError: nothing there that is a bag.
    """
    reader = BagReader(path)
    sums = {topic: _Sum() for topic in reader.topics}
    ids: Counter[str] = Counter()
    bad_pairs = 0
    total = sum(topic.count for topic in reader.topics.values())
    for done, message in enumerate(reader.messages(), 1):
        if progress is not None:
            progress(done, total)
        sums[message.topic].add(len(message.raw), message.log_ns)
        if message.type_name == PAIR_TYPE:
            try:
                ids[PairRecord.decode(message.raw).calibration_id] += 1
            except CondenseError:
                bad_pairs += 1
    some = [entry for entry in sums.values() if entry.count]
    start = min((entry.first for entry in some), default=0)
    end = max((entry.last for entry in some), default=0)
    return BagInfo(
        path=reader.path,
        files=tuple(reader.files),
        bytes=sum(file.stat().st_size for file in reader.files),
        topics={
            topic: TopicInfo(reader.topics[topic].type_name, s.count, s.bytes, s.rate_hz())
            for topic, s in sums.items()
        },
        start_ns=start,
        duration_s=(end - start) / 1e9,
        pairs=sum(ids.values()),
        calibration_ids=dict(ids),
        damaged=reader.damaged + bad_pairs,
        finished=reader.finished,
    )
