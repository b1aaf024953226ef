"""The exact policy: messages of equal stamps, as cameras with one trigger send them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import Any

Entry = tuple[int, Any]
_NEVER = -(1 << 62)


class Exact:
    """Matching state. Calls `emit(set)` and `drop(topic index, entry, reason)`.

    A set is published with its last message. Older messages that still wait then have lost their
    partners (topics deliver in order), as in the ExactTime policy of ROS.

    Args:
        topics: number of topics.
        limits: messages held per topic; read at every use.
    """

    def __init__(
        self,
        topics: int,
        limits: Sequence[int],
        emit: Callable[[list[Entry]], None],
        drop: Callable[[int, Entry, str], None],
    ) -> None:
        self._limits = limits
        self._topics = topics
        self._emit, self._drop = emit, drop
        self._stamps: list[list[int]] = [[] for _ in range(topics)]
        self._sets: dict[int, dict[int, Entry]] = {}
        self._last_ns = _NEVER

    def waiting(self, topic: int) -> list[Entry]:
        """The messages of a topic that are neither matched nor dropped, oldest first."""
        return [self._sets[stamp][topic] for stamp in self._stamps[topic]]

    def add(self, topic: int, entry: Entry) -> None:
        """Takes one message; stamps may be out of order, each comes once."""
        stamp = entry[0]
        if stamp <= self._last_ns:
            self._drop(topic, entry, "too_late")
            return
        found = self._sets.setdefault(stamp, {})
        found[topic] = entry
        insort(self._stamps[topic], stamp)
        if len(found) == self._topics:
            for older in range(self._topics):
                self._drop_before(older, stamp, "no_partner")
                del self._stamps[older][0]
            del self._sets[stamp]
            self._last_ns = stamp
            self._emit([found[i] for i in range(self._topics)])
            return
        stamps = self._stamps[topic]
        if len(stamps) > (limit := self._limits[topic]):
            self._drop_before(topic, stamps[len(stamps) - limit], "queue_full")

    def finish(self) -> None:
        """Nothing: every set was published when its last message came."""

    def clear(self, reason: str) -> None:
        """Drops everything that waits and forgets the past."""
        for topic in range(self._topics):
            self._drop_before(topic, 1 << 62, reason)
        self._last_ns = _NEVER

    def _drop_before(self, topic: int, stamp: int, reason: str) -> None:
        stamps = self._stamps[topic]
        old = stamps[: bisect_left(stamps, stamp)]
        del stamps[: len(old)]
        for gone in old:
            members = self._sets[gone]
            entry = members.pop(topic)
            if not members:
                del self._sets[gone]
            self._drop(topic, entry, reason)
