"""The nearest policy: each pivot message takes the nearest unused message of every other topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

Entry = tuple[int, Any]
_NEVER = -(1 << 62)


class Nearest:
    """Matching state. Calls `emit(set)` and `drop(topic index, entry, reason)`.

    A pivot is decided as soon as every other topic has a message at or after it, or when any
    topic is `latency_ns` past it; so the wait is bounded whatever the other topics do. Messages
    are used at most once and in order, hence a match never crosses an earlier one.
    """

    def __init__(
        self,
        topics: int,
        limits: Sequence[int],
        tolerance_ns: int,
        latency_ns: int,
        pivot: int,
        emit: Callable[[list[Entry]], None],
        drop: Callable[[int, Entry, str], None],
    ) -> None:
        self._limits = limits
        self._tolerance_ns = tolerance_ns
        self._latency_ns = latency_ns
        self._pivot = pivot
        self._others = [topic for topic in range(topics) if topic != pivot]
        self._emit, self._drop = emit, drop
        self._queues: list[deque[Entry]] = [deque() for _ in range(topics)]
        self._last_used = [_NEVER] * topics
        self._decided_ns = _NEVER
        self._newest = [_NEVER] * topics

    def waiting(self, topic: int) -> list[Entry]:
        """The messages of a topic that are neither matched nor dropped, oldest first."""
        return list(self._queues[topic])

    def add(self, topic: int, entry: Entry) -> None:
        """Takes one message; stamps may be out of order."""
        stamp = entry[0]
        # the next pivot comes after the last decided one, so this is the oldest of any use
        oldest = self._decided_ns - (0 if topic == self._pivot else self._tolerance_ns)
        if stamp < oldest or stamp <= self._last_used[topic]:
            self._drop(topic, entry, "too_late")
            return
        queue = self._queues[topic]
        place = len(queue)
        while place and queue[place - 1][0] > stamp:
            place -= 1
        queue.insert(place, entry)
        self._newest[topic] = max(self._newest[topic], stamp)
        self._decide()
        while len(queue) > self._limits[topic]:
            self._drop(topic, queue.popleft(), "queue_full")

    def finish(self) -> None:
        """Decides every waiting pivot with the messages that are there."""
        while self._queues[self._pivot]:
            self._match()

    def clear(self, reason: str) -> None:
        """Drops everything that waits and forgets the past."""
        for topic, queue in enumerate(self._queues):
            while queue:
                self._drop(topic, queue.popleft(), reason)
            self._last_used[topic] = self._newest[topic] = _NEVER
        self._decided_ns = _NEVER

    def _decide(self) -> None:
        pivots = self._queues[self._pivot]
        while pivots:
            stamp = pivots[0][0]
            complete = all(self._newest[topic] >= stamp for topic in self._others)
            if not complete and max(self._newest) < stamp + self._latency_ns:
                return
            self._match()

    def _match(self) -> None:
        """Decides the oldest waiting pivot: a set, or a drop."""
        entry = self._queues[self._pivot].popleft()
        stamp = self._decided_ns = entry[0]
        chosen: dict[int, int] = {}
        for topic in self._others:
            queue = self._queues[topic]
            while queue and queue[0][0] < stamp - self._tolerance_ns:
                self._drop(topic, queue.popleft(), "no_partner")
            best = self._tolerance_ns + 1
            for place, (other, _) in enumerate(queue):
                distance = abs(other - stamp)
                if distance < best:
                    best, chosen[topic] = distance, place
                if other > stamp:
                    break
        if len(chosen) < len(self._others):
            self._drop(self._pivot, entry, "no_partner")
            return
        found = {self._pivot: entry}
        for topic, place in chosen.items():
            queue = self._queues[topic]
            for _ in range(place):
                self._drop(topic, queue.popleft(), "no_partner")
            found[topic] = queue.popleft()
            self._last_used[topic] = found[topic][0]
        self._last_used[self._pivot] = stamp
        self._emit([found[topic] for topic in sorted(found)])
