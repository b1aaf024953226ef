"""A mailbox of one: the newest item waits, older ones are dropped, and every item is accounted for.

Identity at all times: received = processed + sum(dropped) + waiting, where an item being worked on
counts as waiting.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class MailCount:
    """Account of a mailbox."""

    received: int
    processed: int
    dropped: dict[str, int]
    waiting: int


class Mailbox(Generic[Item]):
    """Hands the newest item from one thread to another.

    `take` gives an item out; the taker ends it with `done` or `drop`.
    """

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._item: tuple[Item, float] | None = None
        self._out = 0
        self._received = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._closed = False

    def put(self, item: Item) -> None:
        """Offers an item; one that still waits is dropped as "superseded"."""
        with self._ready:
            self._received += 1
            if self._closed:
                self._dropped["inactive"] += 1
                return
            if self._item is not None:
                self._dropped["superseded"] += 1
            self._item = (item, time.monotonic())
            self._ready.notify()

    def take(self, timeout_s: float) -> tuple[Item, float] | None:
        """The newest item and how long it has waited in seconds, or None after `timeout_s`."""
        with self._ready:
            if self._item is None and not self._closed:
                self._ready.wait(timeout_s)
            if self._item is None:
                return None
            (item, since), self._item = self._item, None
            self._out += 1
            return item, time.monotonic() - since

    def done(self) -> None:
        """The item taken last was processed."""
        with self._ready:
            self._out -= 1
            self._processed += 1

    def drop(self, reason: str) -> None:
        """The item taken last was dropped."""
        with self._ready:
            self._out -= 1
            self._dropped[reason] += 1

    def close(self) -> None:
        """Takes no more; what waits is dropped as "inactive"."""
        with self._ready:
            self._closed = True
            if self._item is not None:
                self._dropped["inactive"] += 1
                self._item = None
            self._ready.notify_all()

    def open(self) -> None:
        """Takes items again."""
        with self._ready:
            self._closed = False

    def count(self) -> MailCount:
        """The account at this moment."""
        with self._ready:
            waiting = self._out + (self._item is not None)
            return MailCount(self._received, self._processed, dict(self._dropped), waiting)
