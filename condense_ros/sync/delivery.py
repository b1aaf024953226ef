"""Calls user callbacks in order, outside any lock, and survives what they raise."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


class Delivery:
    """A queue of calls that one thread at a time works off.

    Attributes:
        errors: exceptions that callbacks raised.
        last_error: the newest of them.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._lock = threading.Lock()
        self._busy = False
        self.errors = 0
        self.last_error: Exception | None = None

    def put(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Queues a call."""
        self._calls.append((callback, arguments))

    def run(self) -> None:
        """Makes the queued calls, unless another thread or a caller further up does so already.

        Whoever comes first delivers for all, so callbacks keep their order and never nest.
        """
        while self._calls:
            with self._lock:
                if self._busy or not self._calls:
                    return
                self._busy = True
            try:
                while self._calls:
                    callback, arguments = self._calls.popleft()
                    self._call(callback, arguments)
            finally:
                with self._lock:
                    self._busy = False

    def _call(self, callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            self.errors += 1
            self.last_error = error
            _log.exception("a synchroniser callback raised; matching goes on")
