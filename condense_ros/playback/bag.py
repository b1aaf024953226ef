"""`BagPlayback`: the original messages of a bag, at the times of their stamps."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

from condense_ros import wire
from condense_ros.bags import PAIR_TYPE, BagReader
from condense_ros.bags.reader import Entry
from condense_ros.errors import BagError
from condense_ros.playback.messages import LATCHED, SENSOR, STATE, Outgoing
from condense_ros.wire.header import SECOND_NS

_KINDS = {wire.CAMERA_INFO: LATCHED, wire.TF: STATE, wire.ODOMETRY: STATE}


class BagPlayback:
    """One step per message, in the order of stamps; static transforms come first.

    Pair records are not played: they are the recorder's own. Messages in damaged chunks are left
    out and counted by the reader.

    Raises:
        BagError: no bag, a bag without messages, or one in sqlite3.
    """

    def __init__(self, path: Path) -> None:
        self._reader = BagReader(path)
        self.name = path.name
        self.notes: tuple[str, ...] = ()
        if self._reader.damaged:
            self.notes = (f"{self._reader.damaged} damaged parts of the bag are left out",)
        kinds = {topic: found.type_name for topic, found in self._reader.topics.items()}
        self._kinds = kinds
        self._static: list[Entry] = []
        self._entries: list[Entry] = []
        for entry in self._reader.entries:
            if entry.topic.rsplit("/", 1)[-1] == "tf_static":
                self._static.append(entry)
            elif kinds[entry.topic] not in (PAIR_TYPE, wire.CLOCK):
                self._entries.append(entry)
        if not self._entries:
            raise BagError(
                f"{path} has no messages to play; its topics are {', '.join(kinds) or 'none'}",
                "give a bag with sensor messages in MCAP (convert sqlite3 bags first)",
            )
        self._entries.sort(key=lambda entry: entry.stamp_ns)
        self._stamps = [entry.stamp_ns for entry in self._entries]

    @property
    def start_ns(self) -> int:
        return self._stamps[0]

    def __len__(self) -> int:
        return len(self._entries)

    def step_at(self, offset_s: float) -> int:
        return bisect_left(self._stamps, self.start_ns + round(offset_s * SECOND_NS))

    def step(self, index: int) -> list[Outgoing]:
        return self._read(self._entries[index], None)

    def latched(self) -> list[Outgoing]:
        return [message for entry in self._static for message in self._read(entry, LATCHED)]

    def _read(self, entry: Entry, kind: str | None) -> list[Outgoing]:
        message = self._reader.read(entry)
        if message is None:
            return []
        type_name = message.type_name
        kind = kind or _KINDS.get(type_name, SENSOR)
        return [Outgoing(entry.topic, type_name, entry.stamp_ns, message.raw, kind)]
