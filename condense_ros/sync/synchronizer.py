"""`Synchronizer`: matches messages of several topics and accounts for every one of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condense_ros.errors import ConfigError
from condense_ros.sync.approximate import Approximate
from condense_ros.sync.config import SyncConfig
from condense_ros.sync.diagnose import TopicState, diagnose
from condense_ros.sync.nearest import Nearest
from condense_ros.sync.offsets import StampTrack

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stamped:
    """One message as it was given to `Synchronizer.add`."""

    topic: str
    stamp_ns: int
    item: Any


@dataclass(frozen=True)
class TopicCount:
    """Account of one topic: received == matched + sum(dropped.values()) + waiting, always."""

    received: int
    matched: int
    dropped: Mapping[str, int]
    waiting: int


class Synchronizer:
    """Matches messages by their stamps.

    Thread-safe. Callbacks run outside the lock, one at a time and in order, so they may call
    `add`; one that raises is counted (`callback_errors`), logged, and changes nothing else.

    Drop reasons: `no_partner` (no set within the tolerance contains it), `too_late` (older than
    what was already matched), `queue_full`, `duplicate_stamp`, `invalid_stamp` (zero or negative),
    `clock_jump_back`, `end_of_stream`, and those given to `reset`.

    Args:
        topics: names, each once, at least two.
        config: see `SyncConfig`.
        on_match: gets {topic: Stamped} with every topic.
        on_drop: gets (topic, stamp_ns, reason).

    Raises:
        ConfigError: topics, pivot or offsets that do not fit together.
    """

    def __init__(
        self,
        topics: Sequence[str],
        config: SyncConfig,
        on_match: Callable[[dict[str, Stamped]], None],
        on_drop: Callable[[str, int, str], None] | None = None,
    ) -> None:
        self.topics = tuple(topics)
        self.config = config
        _check(self.topics, config)
        self._index = {topic: i for i, topic in enumerate(self.topics)}
        self._on_match, self._on_drop = on_match, on_drop
        offsets = config.offsets_s or (0.0,) * len(self.topics)
        self._offsets_ns = [round(offset * 1e9) for offset in offsets]
        self._reference = self._index[config.pivot] if config.pivot else 0
        self._jump_back_ns = round(config.jump_back_s * 1e9)
        self._policy = self._build_policy()
        self._lock = threading.Lock()
        self._outbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._delivering = False
        self._received = [0] * len(self.topics)
        self._matched = [0] * len(self.topics)
        self._dropped: list[Counter[str]] = [Counter() for _ in self.topics]
        # stamps still waiting or recently seen, to tell duplicates
        self._seen: list[dict[int, None]] = [{} for _ in self.topics]
        self._newest: list[int | None] = [None] * len(self.topics)
        self._tracks = [StampTrack() for _ in self.topics]
        self._arrival = [time.monotonic()] * len(self.topics)
        #: matches made, resets by reason, and exceptions raised by callbacks
        self.matches = 0
        self.resets: Counter[str] = Counter()
        self.callback_errors = 0
        self.last_error: Exception | None = None

    def _build_policy(self) -> Approximate | Nearest:
        config, count = self.config, len(self.topics)
        tolerance_ns = round(config.tolerance_s * 1e9)
        if config.policy == "nearest":
            latency_ns = round(config.latency_s * 1e9)
            return Nearest(
                count,
                config.queue_size,
                tolerance_ns,
                latency_ns,
                self._reference,
                self._emit,
                self._drop,
            )
        return Approximate(
            count, config.queue_size, tolerance_ns, config.age_penalty, self._emit, self._drop
        )

    def add(self, topic: str, stamp_ns: int, item: Any, *, arrival_s: float | None = None) -> None:
        """Takes one message; calls back for every match and drop that follows from it.

        Args:
            topic: one of the topics.
            stamp_ns: header stamp, nanoseconds, before offset compensation.
            item: anything; handed on untouched.
            arrival_s: `time.monotonic()` of reception, for `diagnose`; now, if None.

        Raises:
            ConfigError: an unknown topic.
        """
        i = self._index.get(topic)
        if i is None:
            raise ConfigError(
                f"topic {topic!r} is not synchronised", f"use one of: {', '.join(self.topics)}"
            )
        entry = (stamp_ns + self._offsets_ns[i], Stamped(topic, stamp_ns, item))
        with self._lock:
            self._received[i] += 1
            self._arrival[i] = time.monotonic() if arrival_s is None else arrival_s
            self._take(i, entry)
        self._deliver()

    def _take(self, i: int, entry: tuple[int, Stamped]) -> None:
        if entry[1].stamp_ns <= 0:
            self._drop(i, entry, "invalid_stamp")
            return
        stamp, newest = entry[0], self._newest[i]
        if newest is not None and stamp < newest - self._jump_back_ns:
            self._reset("clock_jump_back")
            newest = None
        seen = self._seen[i]
        if stamp in seen:
            self._drop(i, entry, "duplicate_stamp")
            return
        seen[stamp] = None
        if len(seen) > 2 * self.config.queue_size + 16:
            del seen[next(iter(seen))]
        self._newest[i] = stamp if newest is None else max(newest, stamp)
        gap_s = self._arrival[i] - self._arrival[self._reference]
        self._tracks[i].add(stamp, self._newest[self._reference], round(gap_s * 1e9))
        self._policy.add(i, entry)

    def finish(self) -> None:
        """Ends the stream: matches what can be matched, drops the rest as `end_of_stream`."""
        with self._lock:
            self._policy.finish()
            self._reset("end_of_stream", count=False)
        self._deliver()

    def reset(self, reason: str) -> None:
        """Drops everything that waits, counted under `reason`; matching starts afresh."""
        with self._lock:
            self._reset(reason)
        self._deliver()

    def _reset(self, reason: str, count: bool = True) -> None:
        self._policy.clear(reason)
        self._newest = [None] * len(self.topics)
        for seen, track in zip(self._seen, self._tracks, strict=True):
            seen.clear()
            track.clear()
        if count:
            self.resets[reason] += 1

    def accounting(self) -> dict[str, TopicCount]:
        """The account of every topic, taken at one instant."""
        with self._lock:
            return {
                topic: TopicCount(
                    self._received[i],
                    self._matched[i],
                    dict(self._dropped[i]),
                    len(self._policy.waiting(i)),
                )
                for i, topic in enumerate(self.topics)
            }

    def diagnose(self, now_s: float | None = None) -> list[str]:
        """Plain-word warnings: silent topics, clocks or offsets that keep topics from matching.

        Args:
            now_s: `time.monotonic()` of the question; now, if None.
        """
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            states = [
                TopicState(
                    topic,
                    self._received[i],
                    self._matched[i],
                    dict(self._dropped[i]),
                    now_s - self._arrival[i],
                    self._tracks[i],
                )
                for i, topic in enumerate(self.topics)
            ]
            return diagnose(states, self._reference, self.config)

    def _emit(self, found: list[tuple[int, Any]]) -> None:
        self.matches += 1
        for i in range(len(self.topics)):
            self._matched[i] += 1
        self._outbox.append((self._on_match, ({s.topic: s for _, s in found},)))

    def _drop(self, i: int, entry: tuple[int, Any], reason: str) -> None:
        self._dropped[i][reason] += 1
        if self._on_drop is not None:
            self._outbox.append((self._on_drop, (entry[1].topic, entry[1].stamp_ns, reason)))

    def _deliver(self) -> None:
        # whoever comes first delivers for all, so callbacks keep their order and never nest
        while True:
            with self._lock:
                if self._delivering or not self._outbox:
                    return
                self._delivering = True
                batch = list(self._outbox)
                self._outbox.clear()
            try:
                for callback, arguments in batch:
                    self._call(callback, arguments)
            finally:
                with self._lock:
                    self._delivering = False

    def _call(self, callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            self.callback_errors += 1
            self.last_error = error
            _log.exception("a synchroniser callback raised; matching goes on")


def _check(topics: tuple[str, ...], config: SyncConfig) -> None:
    if len(topics) < 2 or len(set(topics)) != len(topics):
        raise ConfigError(
            f"cannot synchronise {list(topics)}", "give at least two topics, each once"
        )
    if config.pivot and config.pivot not in topics:
        raise ConfigError(
            f"SyncConfig.pivot = {config.pivot!r} is not among the topics",
            f"choose one of: {', '.join(topics)}",
        )
    if config.offsets_s and len(config.offsets_s) != len(topics):
        raise ConfigError(
            f"SyncConfig.offsets_s has {len(config.offsets_s)} values for {len(topics)} topics",
            "give one offset per topic, in their order, or none",
        )
