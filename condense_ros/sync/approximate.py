"""The ApproximateTime policy of ROS, after its published description and C++ behaviour.

http://wiki.ros.org/message_filters/ApproximateTime: a set holds one message per topic; the
pivot is the latest message of the first possible set; among all sets that contain the pivot the
one with the smallest interval is published, an earlier one being preferred by the age penalty;
sets do not overlap in time order and no message is used twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

# one waiting message: (effective stamp in ns, Stamped)
Entry = tuple[int, Any]


class Approximate:
    """Matching state. Calls `emit(set)` and `drop(topic index, entry, reason)`.

    Args:
        topics: number of topics.
        limits: messages held per topic, those of the running search included; read at every use.
        tolerance_ns: largest interval of a set.
        age_penalty: see `SyncConfig.age_penalty`.
    """

    def __init__(
        self,
        topics: int,
        limits: Sequence[int],
        tolerance_ns: int,
        age_penalty: float,
        emit: Callable[[list[Entry]], None],
        drop: Callable[[int, Entry, str], None],
    ) -> None:
        self._limits = limits
        self._tolerance_ns = tolerance_ns
        self._weight = 1.0 + age_penalty
        self._emit, self._drop = emit, drop
        self._range = range(topics)
        self._queues: list[deque[Entry]] = [deque() for _ in self._range]
        # messages the search has stepped over but may still have to give back
        self._past: list[list[Entry]] = [[] for _ in self._range]
        self._has_dropped = [False] * topics
        self._last_used = [-(1 << 62)] * topics
        self._candidate: list[Entry] | None = None
        self._pivot = -1
        self._pivot_ns = self._start_ns = self._end_ns = 0

    def waiting(self, topic: int) -> list[Entry]:
        """The messages of a topic that are neither matched nor dropped, oldest first."""
        return self._past[topic] + list(self._queues[topic])

    def add(self, topic: int, entry: Entry) -> None:
        """Takes one message; stamps may be out of order."""
        queue, past = self._queues[topic], self._past[topic]
        if entry[0] <= self._last_used[topic]:
            self._drop(topic, entry, "too_late")
            return
        newest = queue[-1] if queue else past[-1] if past else None
        if newest is not None and entry[0] < newest[0]:
            self._insert(topic, entry)
        else:
            queue.append(entry)
            if len(queue) == 1:
                self._process()
        while len(queue) + len(past) > self._limits[topic]:
            searching = self._candidate is not None
            self._cancel()
            self._drop(topic, queue.popleft(), "queue_full")
            self._has_dropped[topic] = True
            if searching:
                self._process()

    def finish(self) -> None:
        """Publishes what can be matched without waiting for later messages."""
        while self._candidate is not None:
            self._publish()
            self._process()

    def clear(self, reason: str) -> None:
        """Drops everything that waits and forgets the past."""
        self._cancel()
        for topic in self._range:
            while self._queues[topic]:
                self._drop(topic, self._queues[topic].popleft(), reason)
            self._has_dropped[topic] = False
            self._last_used[topic] = -(1 << 62)

    def _insert(self, topic: int, entry: Entry) -> None:
        """Puts an out-of-order message in its place; the search starts again from there."""
        self._cancel()
        queue = self._queues[topic]
        place = len(queue)
        while place and queue[place - 1][0] > entry[0]:
            place -= 1
        queue.insert(place, entry)
        self._process()

    def _recover(self) -> None:
        for queue, past in zip(self._queues, self._past, strict=True):
            queue.extendleft(reversed(past))
            past.clear()

    def _cancel(self) -> None:
        self._recover()
        self._candidate = None
        self._pivot = -1

    def _make_candidate(self, start_ns: int, end_ns: int) -> None:
        self._candidate = [queue[0] for queue in self._queues]
        self._start_ns, self._end_ns = start_ns, end_ns
        # what was stepped over before a better set can no longer be part of any
        for topic in self._range:
            for entry in self._past[topic]:
                self._drop(topic, entry, "no_partner")
            self._past[topic].clear()

    def _publish(self) -> None:
        candidate = self._candidate
        assert candidate is not None
        self._cancel()
        for topic in self._range:
            self._last_used[topic] = self._queues[topic].popleft()[0]
        self._emit(candidate)

    def _optimal(self, end_ns: int, start_ns: int) -> bool:
        """No set that starts at or before `start_ns` and ends at or after `end_ns` is better."""
        return (end_ns - self._end_ns) * self._weight >= start_ns - self._start_ns

    def _process(self) -> None:
        queues = self._queues
        while all(queues):
            stamps = [queue[0][0] for queue in queues]
            start_ns, end_ns = min(stamps), max(stamps)
            start = stamps.index(start_ns)
            end = len(stamps) - 1 - stamps[::-1].index(end_ns)
            for topic in self._range:
                if topic != end:
                    self._has_dropped[topic] = False
            if self._candidate is None:
                # a topic that lost messages may have lost the better partner
                if end_ns - start_ns > self._tolerance_ns or self._has_dropped[end]:
                    self._drop(start, queues[start].popleft(), "no_partner")
                    continue
                self._pivot, self._pivot_ns = end, end_ns
                self._make_candidate(start_ns, end_ns)
            elif not self._optimal(end_ns, start_ns):
                self._make_candidate(start_ns, end_ns)
            self._past[start].append(queues[start].popleft())
            exhausted = start == self._pivot or self._optimal(end_ns, self._pivot_ns)
            if exhausted or (not queues[start] and self._proven()):
                self._publish()

    def _proven(self) -> bool:
        """Whether no message still to come can improve the candidate.

        A topic that has run dry is taken as optimistically as possible: its next message could
        come exactly at the pivot's time (or at its own last stamp, if that is later).
        """
        ahead = [
            [entry[0] for entry in queue] or [max(past[-1][0], self._pivot_ns)]
            for queue, past in zip(self._queues, self._past, strict=True)
        ]
        at = [0] * len(ahead)
        while True:
            stamps = [times[i] for times, i in zip(ahead, at, strict=True)]
            start_ns, end_ns = min(stamps), max(stamps)
            if self._optimal(end_ns, self._pivot_ns):
                return True
            if not self._optimal(end_ns, start_ns):
                return False
            step = stamps.index(start_ns)
            at[step] += 1
            if at[step] == len(ahead[step]):
                ahead[step].append(max(ahead[step][-1], self._pivot_ns))
