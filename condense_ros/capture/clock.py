"""Tells jumps of the sensors' clock, each in one line."""

from __future__ import annotations

import logging
import time

from condense_ros.sync import Synchronizer

_log = logging.getLogger(__name__)
#: a jump ahead shows in every topic; those as far and as late up to this are one
_ONE_JUMP_S = 2.0


class ClockLog:
    """Looks at the jumps that a synchroniser has counted; its user holds a lock around calls."""

    def __init__(self, sync: Synchronizer) -> None:
        self._sync = sync
        self._back = self._ahead = 0
        # how far the last jump ahead went, and when it was told
        self._told = (0.0, 0.0)

    def went_back(self) -> bool:
        """Tells what is new; True once for every jump back."""
        self._tell_ahead()
        back = self._sync.resets["clock_jump_back"]
        if back == self._back:
            return False
        self._back = back
        topic, jump_s = self._sync.last_jump
        _log.info(
            "%s: the clock went back by %.3f s; queues are cleared, capture goes on",
            topic,
            -jump_s,
        )
        return True

    def _tell_ahead(self) -> None:
        ahead = self._sync.jumps_ahead
        if ahead == self._ahead:
            return
        self._ahead = ahead
        topic, jump_s = self._sync.last_jump
        before_s, at = self._told
        now = time.monotonic()
        if now - at > _ONE_JUMP_S or abs(jump_s - before_s) > _ONE_JUMP_S:
            _log.info("%s: the clock went ahead by %.3f s; capture goes on", topic, jump_s)
        self._told = (jump_s, now)
