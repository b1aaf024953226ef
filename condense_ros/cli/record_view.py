"""The account of a recording, as a table and as a line."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

#: rates are taken over this time
_WINDOW_S = 3.0


class RecordView:
    """What `condense record` shows of a `PairStatus` and the node's diagnostics."""

    def __init__(self) -> None:
        self._status: Any = None
        self._values: Mapping[str, str] = {}
        # (time, received by topic, bytes written)
        self._past: deque[tuple[float, dict[str, int], int]] = deque()

    def update(self, status: Any, values: Mapping[str, str], now_s: float) -> None:
        """Takes the newest status (None before the first) and diagnostic values."""
        self._values = values
        if status is None or status is self._status:
            return
        self._status = status
        received = {topic.topic: int(topic.received) for topic in status.topics}
        self._past.append((now_s, received, int(status.bytes_written)))
        while len(self._past) > 2 and self._past[1][0] < now_s - _WINDOW_S:
            self._past.popleft()

    def rate_hz(self, topic: str) -> float | None:
        """Messages per second of late; None before two reports."""
        if len(self._past) < 2:
            return None
        (first_s, first, _), (last_s, last, _) = self._past[0], self._past[-1]
        return (last.get(topic, 0) - first.get(topic, 0)) / (last_s - first_s)

    def _disk(self) -> str:
        status = self._status
        text = f"{status.bytes_written / 1e6:.1f} MB written"
        if len(self._past) >= 2:
            (first_s, _, before), (last_s, _, now) = self._past[0], self._past[-1]
            text += f" ({max(0, now - before) / 1e6 / (last_s - first_s):.1f} MB/s)"
        if status.recording:
            text += f", {status.free_disk_bytes / 1e9:.1f} GB free"
        return text

    def _title(self, seconds: float) -> str:
        text = f"{seconds:.0f} s, {self._status.pairs} pairs, {self._disk()}"
        return text if self._status.recording else f"{text}, not recording yet"

    def line(self, seconds: float) -> str:
        """The account in one line, without control characters."""
        if self._status is None:
            return f"{seconds:.0f} s: waiting for capture_node"
        topics = []
        for topic in self._status.topics:
            if topic.context:
                continue
            rate = self.rate_hz(topic.topic)
            lost = dropped(topic)
            topics.append(
                topic.topic
                + (f" {rate:.1f} Hz" if rate is not None else "")
                + f" {topic.matched} matched"
                + (f", dropped {lost}" if lost else "")
            )
        return "; ".join([self._title(seconds), *topics])

    def table(self, seconds: float) -> Any:
        """The account as a rich table, or a line before the first report."""
        from rich.table import Table

        if self._status is None:
            return f"{seconds:.0f} s: waiting for capture_node"
        rows = Table(title=self._title(seconds), title_justify="left")
        rows.add_column("topic", overflow="fold")
        for heading in ("Hz", "received", "matched or kept", "waiting", "offset"):
            rows.add_column(heading, justify="right")
        rows.add_column("dropped")
        for topic in self._status.topics:
            rate = self.rate_hz(topic.topic)
            offset = self._values.get(f"{topic.topic} offset_ms", "")
            rows.add_row(
                topic.topic,
                "" if rate is None else f"{rate:.1f}",
                *map(str, (topic.received, topic.matched, topic.waiting)),
                f"{float(offset):+.1f} ms" if offset else "",
                dropped(topic),
            )
        return rows


def dropped(topic: Any) -> str:
    """Drops of a TopicCount by reason: "3 no_partner, 1 queue_full"."""
    reasons = zip(topic.drop_reasons, topic.dropped, strict=True)
    return ", ".join(f"{count} {reason}" for reason, count in reasons if count)


def troubles(log: str, node: str, since_s: float = 0.0, last: int = 2) -> list[Any]:
    """The last warnings and errors in a node's log after a system time, for below the table."""
    from rich.text import Text

    found = []
    for line in log.splitlines():
        match = re.match(rf"\[(?:WARN|ERROR)\] \[([\d.]+)\] \[{node}\]: (.*)", line)
        if match and float(match[1]) >= since_s:
            found.append(match[2])
    return [Text(text, style="yellow") for text in found[-last:]]
