"""The recorder's account of every message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RecordCount:
    """Account of one topic: accepted == written + sum(dropped.values()) + queued, always.

    Attributes:
        accepted: messages given to `BagWriter.write`.
        written: handed to the operating system; they survive the death of this process.
        dropped: by reason: queue_full, storage_full, io_error.
        queued: in memory.
        acknowledged: written messages that survive a power loss: fdatasync has returned. Messages
            of which it failed never are; they may be in the file or not.
    """

    accepted: int
    written: int
    dropped: Mapping[str, int]
    queued: int
    acknowledged: int


@dataclass
class Tally:
    """The running numbers behind a `RecordCount`."""

    accepted: int = 0
    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    queued: int = 0
    acknowledged: int = 0
    #: written, but fdatasync failed
    doubtful: int = 0

    def drop(self, reason: str) -> None:
        """Moves one queued message to the dropped ones."""
        self.queued -= 1
        self.dropped[reason] += 1

    def frozen(self) -> RecordCount:
        return RecordCount(
            self.accepted, self.written, dict(self.dropped), self.queued, self.acknowledged
        )
