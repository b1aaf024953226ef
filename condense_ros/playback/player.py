"""`Player`: sends the messages of a playback at their time, from a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from condense_ros.errors import CondenseError, ConfigError
from condense_ros.playback.messages import Outgoing, Playback, PlaybackConfig, restamped
from condense_ros.wire.header import SECOND_NS

_log = logging.getLogger(__name__)

#: time between two /clock messages while nothing else is sent, seconds
_CLOCK_S = 0.01
#: falling behind by more than this moves the schedule instead of sending a burst
_BEHIND_S = 0.1


@dataclass(frozen=True)
class PlayerReport:
    """What was sent.

    Attributes:
        sent: messages per topic.
        bytes: payload per topic.
        loops: how often the end was reached.
        seconds: wall-clock time since the first message.
        behind_s: time by which the schedule had to be moved because reading or encoding was slower
            than the rate.
        error: what ended the playback early, or "".
        left_out: samples per sensor that were not made because their time was over (`late` drop).
    """

    sent: Mapping[str, int]
    bytes: Mapping[str, int]
    loops: int
    seconds: float
    behind_s: float
    error: str
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Player:
    """Plays once `run` is called; the other methods may be called from any thread.

    Args:
        playback: what is played.
        config: rate, loop, part, restamp.
        publish: gets every message when its time has come; False: it was not sent.
        clock: gets the playback time in nanoseconds, at least every 10 ms; not with `restamp`.

    Raises:
        ConfigError: `late` is neither wait nor drop.
    """

    def __init__(
        self,
        playback: Playback,
        config: PlaybackConfig,
        publish: Callable[[Outgoing], bool],
        clock: Callable[[int], None] | None = None,
    ) -> None:
        if config.late not in ("wait", "drop"):
            raise ConfigError(f"late is {config.late!r}", "use wait or drop")
        self._playback = playback
        self._config = config
        self._publish, self._clock = publish, clock
        self._wake = threading.Condition()
        self._stopped = False
        self._paused = config.start_paused
        self._seek: int | None = None
        self._sent: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._loops = 0
        self._begun = self._seconds = 0.0
        self._behind_s = 0.0
        self._error = ""
        self._first = playback.step_at(config.start_s)
        self._last = len(playback)
        if config.duration_s:
            self._last = min(self._last, playback.step_at(config.start_s + config.duration_s))
        # playback time `_anchor_ns` is due at monotonic time `_anchor_s`
        self._anchor_ns, self._anchor_s = playback.start_ns, 0.0
        self._anchored = False
        self._now_ns = playback.start_ns
        self._wall_offset_ns = time.time_ns() - time.monotonic_ns()

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def now_ns(self) -> int:
        """The playback time."""
        return self._now_ns

    def pause(self, paused: bool) -> None:
        """Holds or resumes; what comes later keeps its distance in time."""
        with self._wake:
            if paused != self._paused:
                self._paused = paused
                self._anchor_ns, self._anchor_s = self._now_ns, time.monotonic()
            self._wake.notify_all()

    def seek(self, offset_s: float) -> bool:
        """Goes on at a time from the start; False if nothing is there."""
        index = self._playback.step_at(offset_s)
        if offset_s < 0 or not index < self._last:
            return False
        with self._wake:
            self._seek = index
            self._wake.notify_all()
        return True

    def stop(self) -> None:
        """Ends `run` soon."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()

    def report(self) -> PlayerReport:
        """What was sent so far."""
        seconds = self._seconds
        if not seconds and self._begun:
            seconds = time.monotonic() - self._begun
        return PlayerReport(
            dict(self._sent),
            dict(self._bytes),
            self._loops,
            round(seconds, 3),
            round(self._behind_s, 3),
            self._error,
            dict(getattr(self._playback, "left_out", {})),
        )

    def run(self) -> PlayerReport:
        """Sends everything (again and again with `loop`); returns at the end or after `stop`.

        Whatever goes wrong with a step ends the playback; `error` of the report says why.
        """
        self._begun = time.monotonic()
        start = self._first
        try:
            while not self._stopped:
                target = self._play(start)
                if target is None and not self._stopped:
                    self._loops += 1
                    if not self._config.loop:
                        break
                start = self._first if target is None else target
        except CondenseError as error:
            self._error = str(error)
        # a bug or a failing disk must not pass for the end of the recording
        except Exception as error:
            _log.exception("the playback failed")
            self._error = f"{type(error).__name__}: {error}"
        self._seconds = time.monotonic() - self._begun
        return self.report()

    def _play(self, start: int) -> int | None:
        """Plays from a step to the end; returns the step of a seek that came in between."""
        self._anchored = False
        for message in self._playback.latched():
            self._send(message)
        for messages in self._ahead(start):
            for message in messages:
                if not self._anchored:
                    self._anchor_ns, self._anchor_s = message.stamp_ns, time.monotonic()
                    self._now_ns = message.stamp_ns
                    self._anchored = True
                if not self._wait_until(message.stamp_ns):
                    with self._wake:
                        target, self._seek = self._seek, None
                    return target
                self._send(message)
        return None

    def _wait_until(self, stamp_ns: int) -> bool:
        """Waits for a playback time, sending /clock; False on stop and seek."""
        while True:
            with self._wake:
                if self._stopped or self._seek is not None:
                    return False
                now_s = time.monotonic()
                if self._paused:
                    self._wake.wait(0.1)  # `pause` sets the anchor anew
                    continue
                rate = self._config.rate
                due_s = self._anchor_s + (stamp_ns - self._anchor_ns) / SECOND_NS / rate
                remaining = due_s - now_s
                if remaining <= 0:
                    # not between messages of one moment: restamped, they must stay together
                    waits = self._config.late != "drop"
                    if waits and remaining < -_BEHIND_S and stamp_ns > self._now_ns:
                        self._behind_s -= remaining
                        self._anchor_s -= remaining
                    self._now_ns = max(stamp_ns, self._now_ns)
                    break
                reached = self._anchor_ns + int((now_s - self._anchor_s) * rate * SECOND_NS)
                self._now_ns = max(self._now_ns, min(reached, stamp_ns))
                tick_ns = self._now_ns
            self._tick(tick_ns)
            with self._wake:
                if not self._stopped and self._seek is None:
                    self._wake.wait(min(remaining, _CLOCK_S))
        self._tick(self._now_ns)
        return True

    def _tick(self, stamp_ns: int) -> None:
        if self._clock is not None and not self._config.restamp:
            self._clock(stamp_ns)

    def _wall_ns(self, stamp_ns: int) -> int:
        """When a playback time is due, by the wall clock; one mapping for all of one moment."""
        since_ns = (stamp_ns - self._anchor_ns) / self._config.rate
        # a header stamp of 0 would come before 1970 at a low rate
        return max(0, self._wall_offset_ns + round(self._anchor_s * SECOND_NS + since_ns))

    def _send(self, message: Outgoing) -> None:
        if self._config.restamp:
            message = restamped(message, self._wall_ns)
        if self._publish(message):
            self._sent[message.topic] += 1
            self._bytes[message.topic] += len(message.raw)

    def _ahead(self, start: int) -> Iterator[list[Outgoing]]:
        """The steps from `start`, read and encoded on another thread."""
        steps: queue.Queue[list[Outgoing] | Exception | None] = queue.Queue(self._config.prefetch)
        ended = threading.Event()

        def put(item: list[Outgoing] | Exception | None) -> bool:
            while not ended.is_set():
                try:
                    steps.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def read() -> None:
            try:
                for index in range(start, self._last):
                    if not put(self._playback.step(index, late=self._over(index))):
                        return
                put(None)
            except Exception as error:
                put(error)

        reader = threading.Thread(target=read, name="playback-reader", daemon=True)
        reader.start()
        try:
            while True:
                item = self._take(steps)
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            ended.set()
            reader.join()

    def _over(self, index: int) -> bool:
        """Whether the time of a step is over, where late ones are to be dropped."""
        if self._config.late != "drop" or not self._anchored or self._paused:
            return False
        running_s = (time.monotonic() - self._anchor_s) * self._config.rate
        now_ns = self._anchor_ns + int((running_s - _BEHIND_S) * SECOND_NS)
        return index < self._playback.step_at((now_ns - self._playback.start_ns) / SECOND_NS)

    def _take(self, steps: queue.Queue[list[Outgoing] | Exception | None]) -> Any:
        """The next step; None at the end, on stop and on seek."""
        while not self._stopped:
            try:
                return steps.get(timeout=0.05)
            except queue.Empty:
                continue
        return None
