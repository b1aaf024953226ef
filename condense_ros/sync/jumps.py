"""Tells jumps of a clock from messages that are merely out of order."""

from __future__ import annotations

from enum import Enum

#: after a jump, other topics' messages of the old time may still be under way for this long
_UNDER_WAY_S = 1.0
_UNDER_WAY_NS = 2 * 10**9


class Jump(Enum):
    """What a stamp says about its clock."""

    NONE = "none"
    BACK = "back"
    AHEAD = "ahead"
    #: a message of the time before a jump back that was still under way
    STRAGGLER = "straggler"


class JumpWatch:
    """Watches the stamps of all topics.

    A jump back is told once, by the first topic that shows it. Messages of the other topics that
    were under way then still carry the old time; they are named so, and do not make a second jump.

    Args:
        topics: number of topics.
        back_ns: a stamp this far before its topic's newest is a jump back.
        ahead_ns: a stamp this far after it, without as much time having passed, is a jump ahead.
    """

    def __init__(self, topics: int, back_ns: int, ahead_ns: int) -> None:
        self._back_ns, self._ahead_ns = back_ns, ahead_ns
        self.newest: list[int | None] = [None] * topics
        #: how far the last jump went, nanoseconds (negative: back), and its topic
        self.last_ns = 0
        self.last_topic = 0
        self._arrived_s = [0.0] * topics
        # while a jump back goes through the topics: those that are still in the old time
        self._old: set[int] = set()
        self._jumper = 0
        self._old_ns = self._new_ns = 0
        self._until_s = 0.0

    def check(self, topic: int, stamp_ns: int, arrival_s: float) -> Jump:
        """Judges a stamp, and takes it as its topic's newest unless it is a straggler."""
        if self._old and self._straggles(topic, stamp_ns, arrival_s):
            return Jump.STRAGGLER
        newest = self.newest[topic]
        jump = Jump.NONE
        if newest is not None:
            step_ns = stamp_ns - newest
            passed_s = arrival_s - self._arrived_s[topic]
            if step_ns < -self._back_ns:
                jump = Jump.BACK
                self._begin(topic, stamp_ns, arrival_s)
                newest = None
            elif step_ns > self._ahead_ns and passed_s < 0.5e-9 * step_ns:
                jump = Jump.AHEAD
            if jump is not Jump.NONE:
                self.last_ns, self.last_topic = step_ns, topic
        self.newest[topic] = stamp_ns if newest is None else max(newest, stamp_ns)
        self._arrived_s[topic] = arrival_s
        return jump

    def restart(self) -> None:
        """Forgets all stamps."""
        self.newest = [None] * len(self.newest)
        self._old.clear()

    def _begin(self, topic: int, stamp_ns: int, arrival_s: float) -> None:
        self._old_ns = max(newest for newest in self.newest if newest is not None)
        self._new_ns = stamp_ns
        self._jumper = topic
        self._until_s = arrival_s + _UNDER_WAY_S
        self.newest = [None] * len(self.newest)
        self._old = set(range(len(self.newest))) - {topic}

    def _straggles(self, topic: int, stamp_ns: int, arrival_s: float) -> bool:
        middle_ns = (self._old_ns + self._new_ns) // 2
        of_old_time = stamp_ns >= max(middle_ns, self._old_ns - _UNDER_WAY_NS)
        if arrival_s > self._until_s:
            self._old.clear()
        elif topic not in self._old:
            if of_old_time and topic == self._jumper:
                # one wrong stamp, not a jump: everything goes on in the old time
                self._old.clear()
        elif of_old_time:
            return True
        else:
            self._old.discard(topic)
        return False
