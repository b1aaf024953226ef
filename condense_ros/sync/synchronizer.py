"""`Synchronizer`: matches messages of several topics and accounts for every one of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condense_ros.errors import ConfigError
from condense_ros.sync.config import SyncConfig
from condense_ros.sync.delivery import Delivery
from condense_ros.sync.diagnose import TopicState, diagnose
from condense_ros.sync.jumps import Jump, JumpWatch
from condense_ros.sync.lateness import QueueSizer
from condense_ros.sync.offsets import StampTrack, offset_ns
from condense_ros.sync.policies import TAKES_DUPLICATES, PolicyFactory, build_policy


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
        factory: makes the policy `message_filters`, which needs ROS; see `policies`.

    Raises:
        ConfigError: topics, pivot or offsets that do not fit together.
    """

    def __init__(
        self,
        topics: Sequence[str],
        config: SyncConfig,
        on_match: Callable[[dict[str, Stamped]], None],
        on_drop: Callable[[str, int, str], None] | None = None,
        *,
        factory: PolicyFactory | None = None,
    ) -> None:
        self.topics = tuple(topics)
        self.config = config
        _check(self.topics, config)
        count = len(self.topics)
        self._index = {topic: i for i, topic in enumerate(self.topics)}
        self._on_match, self._on_drop = on_match, on_drop
        offsets = config.offsets_s or (0.0,) * count
        self._offsets_ns = [round(offset * 1e9) for offset in offsets]
        self._reference = self._index[config.pivot] if config.pivot else 0
        tolerance_ns = round(config.tolerance_s * 1e9)
        self._sizer = QueueSizer(count, config.queue_size, tolerance_ns, config.queue_memory_mib)
        self._policy = build_policy(
            count, self._sizer.limits, config, self._reference, self._emit, self._drop, factory
        )
        self._takes_duplicates = config.policy in TAKES_DUPLICATES
        self._jumps = JumpWatch(
            count, round(config.jump_back_s * 1e9), round(config.jump_ahead_s * 1e9)
        )
        self._lock = threading.Lock()
        self._delivery = Delivery()
        self._received = [0] * count
        self._matched = [0] * count
        self._since_match = [0] * count
        self._dropped: list[Counter[str]] = [Counter() for _ in self.topics]
        # stamps still waiting or recently seen, to tell duplicates
        self._seen: list[dict[int, None]] = [{} for _ in self.topics]
        self._tracks = [StampTrack() for _ in self.topics]
        self._arrival = [time.monotonic()] * count
        # when the last message was dropped for its stamp, and for a full queue
        self._invalid_at: list[float | None] = [None] * count
        self._full_at: list[float | None] = [None] * count
        #: matches made; resets by reason; jumps ahead of any topic's clock
        self.matches = 0
        self.resets: Counter[str] = Counter()
        self.jumps_ahead = 0

    @property
    def callback_errors(self) -> int:
        """Exceptions that callbacks raised."""
        return self._delivery.errors

    @property
    def last_error(self) -> Exception | None:
        """The newest of them."""
        return self._delivery.last_error

    @property
    def last_jump(self) -> tuple[str, float]:
        """Topic that told the last clock jump, and how far it went, seconds (negative: back)."""
        return self.topics[self._jumps.last_topic], self._jumps.last_ns / 1e9

    def add(
        self,
        topic: str,
        stamp_ns: int,
        item: Any,
        *,
        size_bytes: int = 0,
        arrival_s: float | None = None,
    ) -> None:
        """Takes one message; calls back for every match and drop that follows from it.

        Args:
            topic: one of the topics.
            stamp_ns: header stamp, nanoseconds, before offset compensation.
            item: anything; handed on untouched.
            size_bytes: memory that `item` keeps while it waits, for the bound of the queues.
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
            self._since_match[i] += 1
            self._arrival[i] = time.monotonic() if arrival_s is None else arrival_s
            self._take(i, entry, size_bytes)
        self._delivery.run()

    def _take(self, i: int, entry: tuple[int, Stamped], size_bytes: int) -> None:
        stamp = entry[0]
        if entry[1].stamp_ns <= 0:
            self._invalid_at[i] = self._arrival[i]
            self._drop(i, entry, "invalid_stamp")
            return
        jump = self._jumps.check(i, stamp, self._arrival[i])
        if jump is Jump.STRAGGLER:
            self._drop(i, entry, "clock_jump_back")
            return
        if jump is Jump.BACK:
            self._forget("clock_jump_back")
            self.resets["clock_jump_back"] += 1
        elif jump is Jump.AHEAD:
            self.jumps_ahead += 1
            # what was measured before says nothing of the offset now
            for k, track in enumerate(self._tracks):
                if i in (k, self._reference):
                    track.clear()
        if not self._takes_duplicates and self._is_duplicate(i, stamp):
            self._drop(i, entry, "duplicate_stamp")
            return
        gap_s = self._arrival[i] - self._arrival[self._reference]
        self._tracks[i].add(stamp, self._jumps.newest[self._reference], round(gap_s * 1e9))
        self._sizer.add(i, stamp, size_bytes)
        self._policy.add(i, entry)

    def _is_duplicate(self, i: int, stamp: int) -> bool:
        seen = self._seen[i]
        if stamp in seen:
            return True
        seen[stamp] = None
        if len(seen) > 2 * self._sizer.limits[i] + 16:
            del seen[next(iter(seen))]
        return False

    def finish(self) -> None:
        """Ends the stream: matches what can be matched, drops the rest as `end_of_stream`."""
        with self._lock:
            self._policy.finish()
            self._forget("end_of_stream")
            self._jumps.restart()
        self._delivery.run()

    def reset(self, reason: str) -> None:
        """Drops everything that waits, counted under `reason`; matching starts afresh."""
        with self._lock:
            self._forget(reason)
            self._jumps.restart()
            self.resets[reason] += 1
        self._delivery.run()

    def _forget(self, reason: str) -> None:
        self._policy.clear(reason)
        self._sizer.restart()
        for seen, track in zip(self._seen, self._tracks, strict=True):
            seen.clear()
            track.clear()

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

    def queue_limits(self) -> dict[str, int]:
        """Messages held per topic at most, at present."""
        with self._lock:
            return dict(zip(self.topics, self._sizer.limits, strict=True))

    def offsets_s(self) -> dict[str, float | None]:
        """Measured offset of each topic's stamps to the pivot's; positive is ahead.

        None where too little has come to tell.
        """
        with self._lock:
            reference = self._tracks[self._reference]
            measured = [offset_ns(track, reference) for track in self._tracks]
        return {
            topic: None if ns is None else ns / 1e9
            for topic, ns in zip(self.topics, measured, strict=True)
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
                    self._since_match[i],
                    dict(self._dropped[i]),
                    now_s - self._arrival[i],
                    None if (at := self._invalid_at[i]) is None else now_s - at,
                    None if (at := self._full_at[i]) is None else now_s - at,
                    self._tracks[i],
                    self._sizer.limits[i],
                    i in self._sizer.bounded,
                )
                for i, topic in enumerate(self.topics)
            ]
            return diagnose(states, self._reference, self.config)

    def _emit(self, found: list[tuple[int, Any]]) -> None:
        self.matches += 1
        for i in range(len(self.topics)):
            self._matched[i] += 1
            self._since_match[i] = 0
        self._delivery.put(self._on_match, {s.topic: s for _, s in found})

    def _drop(self, i: int, entry: tuple[int, Any], reason: str) -> None:
        self._dropped[i][reason] += 1
        if reason == "queue_full":
            self._full_at[i] = self._arrival[i]
        if self._on_drop is not None:
            self._delivery.put(self._on_drop, entry[1].topic, entry[1].stamp_ns, reason)


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
