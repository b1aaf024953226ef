"""Sizes the queues: how many messages of a topic must wait until the latest topic has come."""

from __future__ import annotations

from math import ceil

#: messages held per topic before anything was measured, and at least
START = 50
#: what the account of one waiting message takes beside the message itself, bytes
OVERHEAD = 1024
#: a topic further behind than this runs on another clock; no queue can bridge that
_OTHER_CLOCK_NS = 60 * 10**9
#: messages of a topic between two looks at its rate and size
_EVERY = 32
MIB = 1024**2


class QueueSizer:
    """Messages to hold per topic: 1.5 times lateness times rate, within a bound of memory.

    The lateness of a topic is how far its stamps are behind the newest stamp of any topic as they
    come in; the largest seen so far counts. The bound is shared evenly by the topics and holds for
    the largest message of each.

    Args:
        topics: number of topics.
        fixed: size of every queue; 0 measures it.
        tolerance_ns: time that messages wait beside the lateness.
        memory_mib: bound of all queues together, MiB.

    Attributes:
        limits: messages held per topic at present; changed in place.
        bounded: topics whose queue the memory bound keeps shorter than they need.
    """

    def __init__(self, topics: int, fixed: int, tolerance_ns: int, memory_mib: float) -> None:
        self.limits = [fixed or START] * topics
        self.bounded: set[int] = set()
        self._fixed = bool(fixed)
        self._tolerance_ns = tolerance_ns
        self._share = memory_mib * MIB / topics
        self._front_ns = 0
        self._behind_ns = [0] * topics
        self._largest = [0] * topics
        self._first_ns = [0] * topics
        self._last_ns = [0] * topics
        self._count = [0] * topics

    def add(self, topic: int, stamp_ns: int, size_bytes: int) -> None:
        """Takes the stamp and size of a message as it comes in."""
        if self._fixed:
            return
        if not self._count[topic] or stamp_ns > self._last_ns[topic] + _OTHER_CLOCK_NS:
            self._first_ns[topic] = stamp_ns
            self._count[topic] = 0
        self._count[topic] += 1
        self._last_ns[topic] = max(self._last_ns[topic], stamp_ns)
        self._front_ns = max(self._front_ns, stamp_ns)
        behind_ns = self._front_ns - stamp_ns
        later = self._behind_ns[topic] * 1.1 < behind_ns < _OTHER_CLOCK_NS
        if later:
            self._behind_ns[topic] = behind_ns
        larger = size_bytes > self._largest[topic]
        if larger:
            self._largest[topic] = size_bytes
        if later or larger or self._count[topic] % _EVERY == 0:
            self._resize()

    def restart(self) -> None:
        """Forgets stamps, as after a jump of the clock; what was measured stays."""
        self._front_ns = 0
        for topic in range(len(self._count)):
            self._count[topic] = self._last_ns[topic] = 0

    def period_ns(self, topic: int) -> float:
        """Mean time between the stamps of a topic; 0 with fewer than two."""
        steps = self._count[topic] - 1
        return (self._last_ns[topic] - self._first_ns[topic]) / steps if steps > 0 else 0.0

    def _resize(self) -> None:
        self.bounded.clear()
        for topic, size in enumerate(self._largest):
            others = [ns for other, ns in enumerate(self._behind_ns) if other != topic]
            period_ns = self.period_ns(topic)
            needed = START
            if period_ns > 0:
                needed = max(START, ceil(1.5 * (max(others) + self._tolerance_ns) / period_ns))
            affordable = max(2, int(self._share // (size + OVERHEAD)))
            # what was needed once may be needed again: queues shrink for memory alone
            needed = max(needed, min(self.limits[topic], affordable))
            self.limits[topic] = min(needed, affordable)
            # START is a guess, not a need
            if affordable < needed and needed > START:
                self.bounded.add(topic)
