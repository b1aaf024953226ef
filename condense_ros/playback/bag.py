"""`BagPlayback`: the original messages of a bag, at the times of their stamps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from condense_ros import wire
from condense_ros.bags import PAIR_TYPE, BagReader
from condense_ros.errors import BagError
from condense_ros.playback.messages import LATCHED, SENSOR, STATE, Outgoing
from condense_ros.wire.header import SECOND_NS

#: a stamp this far from where its neighbours put it is not the time of the message, seconds
_STRAY_S = 60.0
#: sensor messages that say how stamps and log times differ at a place in the bag
_NEIGHBOURS = 101

_KINDS = {wire.CAMERA_INFO: LATCHED, wire.TF: STATE, wire.ODOMETRY: STATE}


class BagPlayback:
    """One step per message, in the order of stamps; static transforms come first.

    Pair records are not played: they are the recorder's own. Messages in damaged chunks are left
    out and counted by the reader. A message whose stamp is missing or strays (more than 60 s) is
    sent when it was logged.

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
        sensors = {topic for topic, (_, kind) in self.topics.items() if kind == SENSOR}
        index = self._reader.index
        times, strays = _times(
            index["stamp_ns"][rows].astype(np.int64),
            index["log_ns"][rows].astype(np.int64),
            np.isin(rows, self._reader.rows(sensors)),
        )
        if strays:
            self.notes += (f"{strays} messages without a sensible stamp are sent as logged",)
        order = np.argsort(times, kind="stable")
        self._rows, self._times = rows[order], times[order]

    @property
    def start_ns(self) -> int:
        return int(self._times[0])

    def __len__(self) -> int:
        return len(self._rows)

    def step_at(self, offset_s: float) -> int:
        return int(np.searchsorted(self._times, self.start_ns + round(offset_s * SECOND_NS)))

    def step(self, index: int, *, late: bool = False) -> list[Outgoing]:
        return self._read(int(self._rows[index]), int(self._times[index]))

    def latched(self) -> list[Outgoing]:
        return [message for row in self._static for message in self._read(row)]

    def close(self) -> None:
        """Files are open only while they are read."""

    def _read(self, row: int, time_ns: int | None = None) -> list[Outgoing]:
        message = self._reader.read(row)
        if message is None:
            return []
        type_name, kind = self.topics[message.topic]
        time_ns = message.stamp_ns if time_ns is None else time_ns
        return [Outgoing(message.topic, type_name, time_ns, message.raw, kind)]


def _times(
    stamps: npt.NDArray[np.int64], logs: npt.NDArray[np.int64], sensor: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], int]:
    """When messages are due: their stamps, but for those that stray.

    Stamps of simulated time are far from the log times, and the distance changes when the
    simulation is slower than real time; so it is taken as the median around each message.

    Args:
        stamps, logs: (N,) nanoseconds, in order of writing.
        sensor: (N,) which messages tell the distance; all do where none is set.

    Returns:
        (N,) nanoseconds; number of strays.
    """
    known = np.flatnonzero((stamps > 0) & (sensor | ~sensor.any()))
    if not known.size:
        known = np.flatnonzero(stamps > 0)
    if not known.size:
        return logs, len(logs)
    # seconds, as float: exact to a microsecond, which is enough for a message without a stamp
    offset_s = median_filter((stamps - logs)[known] / SECOND_NS, _NEIGHBOURS, mode="reflect")
    near = np.clip(np.searchsorted(known, np.arange(len(stamps))), 0, len(known) - 1)
    expected = logs + np.round(offset_s[near] * SECOND_NS).astype(np.int64)
    stray = (stamps <= 0) | (np.abs(stamps - expected) > _STRAY_S * SECOND_NS)
    return np.where(stray, expected, stamps), int(stray.sum())
