"""`BagPlayback`: the original messages of a bag, at the times of their stamps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from condense_ros import wire
from condense_ros.bags import PAIR_TYPE, BagReader
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
        static = {topic for topic in kinds if topic.rsplit("/", 1)[-1] == "tf_static"}
        played = {t for t, kind in kinds.items() if kind not in (PAIR_TYPE, wire.CLOCK)} - static
        self.topics = {topic: (kinds[topic], _KINDS.get(kinds[topic], SENSOR)) for topic in played}
        self.topics |= {topic: (kinds[topic], LATCHED) for topic in static}
        # rows of the reader's index
        self._static = self._reader.rows(static).tolist()
        rows = self._reader.rows(played)
        if not rows.size:
            raise BagError(
                f"{path} has no messages to play; its topics are {', '.join(kinds) or 'none'}",
                "give a bag with sensor messages in MCAP (convert sqlite3 bags first)",
            )
        stamps = self._reader.index["stamp_ns"]
        self._rows = rows[np.argsort(stamps[rows], kind="stable")]
        self._stamps = stamps[self._rows].astype(np.int64)

    @property
    def start_ns(self) -> int:
        return int(self._stamps[0])

    def __len__(self) -> int:
        return len(self._rows)

    def step_at(self, offset_s: float) -> int:
        return int(np.searchsorted(self._stamps, self.start_ns + round(offset_s * SECOND_NS)))

    def step(self, index: int) -> list[Outgoing]:
        return self._read(int(self._rows[index]))

    def latched(self) -> list[Outgoing]:
        return [message for row in self._static for message in self._read(row)]

    def _read(self, row: int) -> list[Outgoing]:
        message = self._reader.read(row)
        if message is None:
            return []
        type_name, kind = self.topics[message.topic]
        return [Outgoing(message.topic, type_name, message.stamp_ns, message.raw, kind)]
