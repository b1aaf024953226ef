"""The slop policy: what the Python class message_filters.ApproximateTimeSynchronizer does.

A message is tried as it comes in: with the nearest waiting message of every other topic, then with
the next nearest ones, until a set lies within the tolerance. The first that fits is published, even
where a later message would have been nearer. The upper bound is strict (a spread equal to the
tolerance is no match), messages that find no partner wait until newer ones push them out, and a
second message of the same stamp takes the place of the first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from typing import Any

Entry = tuple[int, Any]


class Slop:
    """Matching state. Calls `emit(set)` and `drop(topic index, entry, reason)`.

    Args:
        topics: number of topics.
        limits: messages held per topic; read at every use.
        slop_ns: the spread of a set is less than this.
    """

    def __init__(
        self,
        topics: int,
        limits: Sequence[int],
        slop_ns: int,
        emit: Callable[[list[Entry]], None],
        drop: Callable[[int, Entry, str], None],
    ) -> None:
        self._limits = limits
        self._slop_ns = slop_ns
        self._emit, self._drop = emit, drop
        self._topics = topics
        # per topic: waiting stamps in order, and stamp -> (place in order of arrival, entry)
        self._stamps: list[list[int]] = [[] for _ in range(topics)]
        self._waiting: list[dict[int, tuple[int, Entry]]] = [{} for _ in range(topics)]
        self._arrivals = 0

    def waiting(self, topic: int) -> list[Entry]:
        """The messages of a topic that are neither matched nor dropped, oldest first."""
        return [self._waiting[topic][stamp][1] for stamp in self._stamps[topic]]

    def add(self, topic: int, entry: Entry) -> None:
        """Takes one message; stamps may be out of order."""
        stamp = entry[0]
        stamps, waiting = self._stamps[topic], self._waiting[topic]
        if stamp in waiting:
            place, older = waiting[stamp]
            waiting[stamp] = (place, entry)
            self._drop(topic, older, "duplicate_stamp")
        else:
            waiting[stamp] = (self._arrivals, entry)
            self._arrivals += 1
            insort(stamps, stamp)
        while len(stamps) > self._limits[topic]:
            self._drop(topic, self._take(topic, stamps[0]), "queue_full")
        if stamp not in waiting:
            return  # older than all that wait in a full queue
        found = self._search(topic, stamp)
        if found is not None:
            self._emit([self._take(other, found[other]) for other in range(self._topics)])

    def finish(self) -> None:
        """Nothing: every set that fits was published when its last message came."""

    def clear(self, reason: str) -> None:
        """Drops everything that waits."""
        for topic in range(self._topics):
            while self._stamps[topic]:
                self._drop(topic, self._take(topic, self._stamps[topic][0]), reason)

    def _take(self, topic: int, stamp: int) -> Entry:
        stamps = self._stamps[topic]
        del stamps[bisect_left(stamps, stamp)]
        return self._waiting[topic].pop(stamp)[1]

    def _near(self, topic: int, stamp: int) -> list[int]:
        """Waiting stamps within the slop, nearest first, of equally near ones the earlier come."""
        stamps, waiting = self._stamps[topic], self._waiting[topic]
        first = bisect_left(stamps, stamp - self._slop_ns)
        last = bisect_right(stamps, stamp + self._slop_ns)
        return sorted(stamps[first:last], key=lambda s: (abs(s - stamp), waiting[s][0]))

    def _search(self, topic: int, stamp: int) -> dict[int, int] | None:
        """{topic: stamp} of the first set that fits, in order of nearness; None without one."""
        others = [other for other in range(self._topics) if other != topic]
        near = []
        for other in others:
            candidates = self._near(other, stamp)
            if not candidates:
                return None
            near.append(candidates)
        if all(len(candidates) == 1 for candidates in near):
            stamps = [candidates[0] for candidates in near]
            if max(stamp, *stamps) - min(stamp, *stamps) >= self._slop_ns:
                return None
            return {topic: stamp, **dict(zip(others, stamps, strict=True))}
        ordered = [sorted(candidates) for candidates in near]
        if not self._possible(ordered, stamp, stamp):
            return None
        # every choice is checked against what is left, so no branch is followed in vain: trying
        # every combination in turn would take for ever where none fits
        chosen, low, high = {topic: stamp}, stamp, stamp
        for depth, other in enumerate(others):
            for candidate in near[depth]:
                lowest, highest = min(low, candidate), max(high, candidate)
                if self._possible(ordered[depth + 1 :], lowest, highest):
                    chosen[other], low, high = candidate, lowest, highest
                    break
        return chosen

    def _possible(self, rest: list[list[int]], low: int, high: int) -> bool:
        """Whether one stamp of every list fits with stamps from `low` to `high` already chosen."""
        if high - low >= self._slop_ns:
            return False
        # the earliest stamp of a set is `low`, or an earlier one of the rest
        starts = [low]
        for stamps in rest:
            begin = bisect_right(stamps, high - self._slop_ns)
            starts += stamps[begin : bisect_left(stamps, low)]
        return any(self._reaches(rest, start) for start in starts)

    def _reaches(self, rest: list[list[int]], start: int) -> bool:
        """Whether every list has a stamp in the slop that begins at `start`."""
        for stamps in rest:
            place = bisect_left(stamps, start)
            if place == len(stamps) or stamps[place] - start >= self._slop_ns:
                return False
        return True
