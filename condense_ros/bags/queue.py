"""The bounded queue between who records and the thread that writes, with its account."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from condense_ros.bags.config import MIB
from condense_ros.bags.counts import RecordCount, Tally

#: room beyond the bound for messages too small to fill it: pairs, calibration, tf
_SMALL, _RESERVE = 8192, MIB


@dataclass(slots=True)
class Item:
    """One queued message."""

    topic: str
    raw: bytes
    stamp_ns: int
    log_ns: int


class MessageQueue:
    """Messages on their way to the disk, and the account of every one; safe for threads.

    Args:
        limit: bytes that may wait.

    Attributes:
        changed: condition of everything in here; wake with `wake`.
    """

    def __init__(self, limit: float) -> None:
        self.changed = threading.Condition()
        self._limit = limit
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._tallies: dict[str, Tally] = {}

    def __len__(self) -> int:
        return len(self._items)

    def wake(self) -> None:
        """Wakes whoever waits for a change."""
        with self.changed:
            self.changed.notify_all()

    # callers hold `changed` for these two

    def declare(self, topic: str) -> None:
        """Opens the account of a topic."""
        self._tallies.setdefault(topic, Tally())

    def put(self, item: Item, block: bool, check: Callable[[], None]) -> bool:
        """Takes a message; False if there was no room.

        Args:
            block: wait for room instead, calling `check` from time to time.
        """
        size = len(item.raw)
        while block and self._bytes and self._bytes + size > self._limit:
            self.changed.wait(0.1)
            check()
        tally = self._tallies[item.topic]
        tally.accepted += 1
        tally.queued += 1
        room = self._limit + (_RESERVE if size <= _SMALL else 0)
        if not block and self._bytes + size > room:
            tally.drop("queue_full")
            return False
        self._bytes += size
        self._items.append(item)
        self.changed.notify_all()
        return True

    def take(self, most: int = 4 * MIB) -> list[Item]:
        """About `most` bytes of the queue, so that flushes and splits come on time."""
        batch: list[Item] = []
        size = 0
        with self.changed:
            while self._items and size < most:
                item = self._items.popleft()
                size += len(item.raw)
                batch.append(item)
            self._bytes -= size
            if batch:
                self.changed.notify_all()
        return batch

    def drop(self, topics: Iterable[str], reason: str) -> None:
        """Messages taken before that will not be written."""
        with self.changed:
            for topic in topics:
                self._tallies[topic].drop(reason)

    def drop_all(self, reason: str) -> None:
        """Everything that is not written yet."""
        with self.changed:
            self._items.clear()
            self._bytes = 0
            for tally in self._tallies.values():
                while tally.queued:
                    tally.drop(reason)
            self.changed.notify_all()

    def wrote(self, topics: Iterable[str]) -> None:
        """Messages now with the operating system."""
        with self.changed:
            for topic in topics:
                tally = self._tallies[topic]
                tally.queued -= 1
                tally.written += 1

    def written(self) -> dict[str, int]:
        """Messages with the operating system, by topic."""
        with self.changed:
            return {topic: tally.written for topic, tally in self._tallies.items()}

    def settle(self, written: Mapping[str, int], *, safe: bool) -> None:
        """The fate of the messages up to these counts is known: on the disk, or in doubt."""
        with self.changed:
            for topic, count in written.items():
                tally = self._tallies[topic]
                fresh = count - tally.acknowledged - tally.doubtful
                if safe:
                    tally.acknowledged += fresh
                else:
                    tally.doubtful += fresh

    def counts(self) -> dict[str, RecordCount]:
        """The account of every topic, taken at one instant."""
        with self.changed:
            return {topic: tally.frozen() for topic, tally in self._tallies.items()}
