"""What went wrong lately, in plain words."""

from __future__ import annotations

import time

#: what went wrong is reported for this long
_RECENT_S = 10.0


class Notes:
    """The newest text of each kind of problem; old ones and settled ones are not told."""

    def __init__(self) -> None:
        self._notes: dict[str, tuple[str, float]] = {}

    def add(self, what: str, text: str) -> None:
        """Takes the text in place of an earlier one of the same kind."""
        self._notes[what] = (text, time.monotonic())

    def settle(self, what: str) -> None:
        """A problem of this kind is over."""
        self._notes.pop(what, None)

    def recent(self) -> list[str]:
        """Texts of the last ten seconds."""
        since = time.monotonic() - _RECENT_S
        return [text for text, at in self._notes.values() if at >= since]
