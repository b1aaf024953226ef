"""The last seconds of everything, kept in memory and saved when somebody asks for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condense_ros.bags import BagWriter, PairRecord, RecordConfig
from condense_ros.capture.messages import Latched, Message
from condense_ros.config import parameter

_MIB = 1024**2


@dataclass(frozen=True)
class RingConfig:
    """How much of the past is kept for `~/snapshot`."""

    seconds: float = parameter(
        0.0, "keep the messages of this time in memory; 0: no ring buffer", low=0.0, high=3600.0
    )
    memory_mib: float = parameter(
        512.0, "bound of that memory, MiB; the oldest messages give way", low=1.0, high=1e6
    )


@dataclass(frozen=True)
class RingState:
    """How much the ring holds: messages, bytes, seconds; `full` where memory is the limit."""

    messages: int
    bytes: int
    seconds: float
    full: bool


@dataclass(frozen=True)
class Snapshot:
    """A bag made of a ring: messages and pairs in it, seconds from the first to the last."""

    folder: Path
    messages: int
    pairs: int
    seconds: float


class RingBuffer:
    """Messages and pairs of the last seconds by time of arrival; no bytes are copied."""

    def __init__(self, config: RingConfig) -> None:
        self.config = config
        self._messages: deque[tuple[float, Message]] = deque()
        self._pairs: deque[tuple[float, PairRecord, int]] = deque()
        self._bytes = 0
        self._full = False
        # the calibration in force where the ring begins
        self._before = Latched()

    def add(self, message: Message, now_s: float | None = None) -> None:
        """Takes a message.

        Args:
            now_s: `time.monotonic()`; now, if None.
        """
        if not self.config.seconds:
            return
        now_s = time.monotonic() if now_s is None else now_s
        self._messages.append((now_s, message))
        self._bytes += len(message.raw)
        limit = self.config.memory_mib * _MIB
        while self._messages:
            arrived_s, oldest = self._messages[0]
            expired = arrived_s < now_s - self.config.seconds
            if not expired and self._bytes <= limit:
                break
            self._full = not expired
            self._messages.popleft()
            self._bytes -= len(oldest.raw)
            self._before.note(oldest)
        first_s = self._messages[0][0] if self._messages else now_s
        while self._pairs and self._pairs[0][0] < first_s:
            self._pairs.popleft()

    def add_pair(self, record: PairRecord, log_ns: int, now_s: float | None = None) -> None:
        """Takes a pair; it is saved if all of its messages are."""
        if self.config.seconds:
            self._pairs.append((time.monotonic() if now_s is None else now_s, record, log_ns))

    def state(self) -> RingState:
        """How much there is."""
        spans = self._messages[-1][0] - self._messages[0][0] if self._messages else 0.0
        return RingState(len(self._messages), self._bytes, spans, self._full)

    def content(self) -> tuple[list[Message], list[tuple[PairRecord, int]]]:
        """Latched messages of before, then all messages; and the pairs among them."""
        messages = [message for _, message in self._messages]
        held = {(message.topic, message.stamp_ns) for message in messages}
        pairs = [
            (record, log_ns)
            for _, record, log_ns in self._pairs
            if all(part in held for part in record.messages.values())
        ]
        return [*self._before, *messages], pairs


def save(
    folder: Path | str,
    messages: Sequence[Message],
    pairs: Sequence[tuple[PairRecord, int]],
    config: RecordConfig,
) -> Snapshot:
    """Writes what `RingBuffer.content` gave as a bag; waits for the disk.

    Raises:
        BagError: the folder is in use, or cannot be written.
        StorageFull: no room.
    """
    times = [message.log_ns for message in messages if not message.latched and message.log_ns > 0]
    begin_ns = min(times, default=0)
    with BagWriter(folder, config) as writer:
        for message in messages:
            # what was latched long ago would make the bag begin with a long pause
            log_ns = max(message.log_ns, begin_ns) if message.latched else message.log_ns
            writer.write(
                message.topic,
                message.type_name,
                message.raw,
                message.stamp_ns,
                log_ns if log_ns > 0 else message.stamp_ns,
                block=True,
            )
        for record, log_ns in pairs:
            writer.pair(record, log_ns)
    span_s = (max(times, default=0) - begin_ns) / 1e9
    return Snapshot(writer.folder, len(messages), len(pairs), span_s)
