"""What a playback hands out, its parameters, and stamps moved to another time."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from condense_ros import wire
from condense_ros.config import parameter
from condense_ros.wire import cdr
from condense_ros.wire.header import SECOND_NS, stamp_from_message, stamp_to_message

#: kinds of topics, which decide the quality of service
SENSOR, STATE, LATCHED = "sensor", "state", "latched"


@dataclass(frozen=True)
class Outgoing:
    """One message to be published.

    Attributes:
        stamp_ns: its time in the recording; the player sends it when that time has come.
        kind: SENSOR (images, clouds), STATE (tf, odometry) or LATCHED (camera_info, tf_static).
    """

    topic: str
    type_name: str
    stamp_ns: int
    raw: bytes
    kind: str = SENSOR


@dataclass(frozen=True)
class PlaybackConfig:
    """What is played, and how fast."""

    path: str = parameter("", "data set folder, simulated folder, bag, or cloud file")
    rate: float = parameter(1.0, "speed; 1 is real time", low=0.01, high=100.0)
    loop: bool = parameter(False, "start again at the end")
    start_s: float = parameter(0.0, "begin this long after the first message", low=0.0)
    duration_s: float = parameter(0.0, "stop after this time of the recording; 0: all", low=0.0)
    start_delay_s: float = parameter(
        1.0, "wait before the first message, so that subscribers find the topics", low=0.0, high=600
    )
    wait_for: tuple[str, ...] = parameter(
        (), "topics that must have a subscriber before the first message is sent"
    )
    wait_timeout_s: float = parameter(
        30.0, "longest wait for those subscribers; then it ends with an error", low=0.0, high=3600
    )
    start_paused: bool = parameter(False, "wait for ~/pause with false")
    restamp: bool = parameter(False, "stamp messages with the time they are sent; no /clock then")
    compressed: bool = parameter(False, "send images as JPEG on TOPIC/compressed")
    jpeg_quality: int = parameter(90, "of JPEG", low=1, high=100)
    labels: bool = parameter(
        False, "add true classes to clouds as a field label; simulated: instance, visible too"
    )
    truth: bool = parameter(
        False, "simulated: exact poses on /ground_truth/odom, and pixel truth where there is any"
    )
    delivery: bool = parameter(
        True, "simulated: losses, delays and duplicates that were injected take place"
    )
    late: str = parameter(
        "wait", "where reading or rendering is too slow: wait (time goes slower) or drop"
    )
    prefetch: int = parameter(4, "frames read ahead", low=1, high=1000)
    report_path: str = parameter("", "JSON file with what was sent; empty: none")


class Playback(Protocol):
    """Steps of messages in the order of their time.

    Attributes:
        name: of the recording.
        notes: what had to be assumed, for the log.
    """

    @property
    def name(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def topics(self) -> Mapping[str, tuple[str, str]]:
        """Topic -> (message type, kind) of what will be sent, as far as it is known now."""
        ...

    @property
    def start_ns(self) -> int:
        """Time of the first message."""
        ...

    def __len__(self) -> int: ...

    def step_at(self, offset_s: float) -> int:
        """First step at or after a time from the start; `len` past the end."""
        ...

    def step(self, index: int, *, late: bool = False) -> list[Outgoing]:
        """The messages of a step, by time.

        Args:
            late: its time is over; what is costly to make may be left out.

        Raises:
            CondenseError: a file is missing or damaged.
        """
        ...

    def latched(self) -> list[Outgoing]:
        """What is sent before everything else: static transforms."""
        ...

    def close(self) -> None:
        """Ends what works for this playback."""
        ...


def restamped(message: Outgoing, move: Callable[[int], int]) -> Outgoing:
    """The message with every header stamp moved; types without header come back unchanged.

    Raises:
        WireError: malformed bytes, or a time no ROS message can hold.
    """
    if message.type_name == wire.TF:
        tf = cdr.deserialize(wire.TF, message.raw)
        for stamped in tf.transforms:
            stamped.header.stamp = stamp_to_message(move(stamp_from_message(stamped.header.stamp)))
        return replace(message, raw=cdr.serialize(wire.TF, tf))
    if not cdr.has_header(message.type_name):
        return message
    stamp_ns = move(wire.read_header(message.raw).stamp_ns)
    stamp_to_message(stamp_ns)  # refuses what does not fit
    order = "<" if message.raw[1] else ">"
    raw = bytearray(message.raw)
    struct.pack_into(f"{order}iI", raw, 4, *divmod(stamp_ns, SECOND_NS))
    return replace(message, raw=bytes(raw))
