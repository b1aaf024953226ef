"""Small messages: clock, diagnostics, and the records of condense_msgs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from condense_ros.errors import WireError
from condense_ros.wire import cdr
from condense_ros.wire.header import (
    Header,
    header_from_message,
    header_to_message,
    stamp_from_message,
    stamp_to_message,
)

CLOCK = "rosgraph_msgs/msg/Clock"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"

#: DiagnosticStatus levels
OK, WARN, ERROR, STALE = 0, 1, 2, 3


def encode_clock(stamp_ns: int) -> bytes:
    """A Clock message.

    Raises:
        WireError: a stamp that does not fit.
    """
    return cdr.serialize(CLOCK, cdr.message(CLOCK, clock=stamp_to_message(stamp_ns)))


def decode_clock(raw: cdr.Bytes) -> int:
    """Nanoseconds of a Clock message.

    Raises:
        WireError: malformed bytes or stamp.
    """
    return stamp_from_message(cdr.deserialize(CLOCK, raw).clock)


@dataclass(frozen=True)
class Diagnostic:
    """One DiagnosticStatus: level OK, WARN, ERROR or STALE; values are shown as text."""

    name: str
    level: int
    message: str
    values: Mapping[str, object] = field(default_factory=dict)
    hardware_id: str = ""


def encode_diagnostics(header: Header, statuses: Iterable[Diagnostic]) -> bytes:
    """A DiagnosticArray.

    Raises:
        WireError: a level outside 0..3.
    """
    messages = []
    for status in statuses:
        if status.level not in (OK, WARN, ERROR, STALE):
            raise WireError(f"diagnostic level {status.level}", "use 0 (OK) to 3 (STALE)")
        values = [
            cdr.message("diagnostic_msgs/msg/KeyValue", key=key, value=str(value))
            for key, value in status.values.items()
        ]
        messages.append(
            cdr.message(
                "diagnostic_msgs/msg/DiagnosticStatus",
                level=status.level,
                name=status.name,
                message=status.message,
                hardware_id=status.hardware_id,
                values=values,
            )
        )
    array = cdr.message(DIAGNOSTICS, header=header_to_message(header), status=messages)
    return cdr.serialize(DIAGNOSTICS, array)


def decode_diagnostics(raw: cdr.Bytes) -> tuple[Header, list[Diagnostic]]:
    """Header and statuses of a DiagnosticArray.

    Raises:
        WireError: malformed bytes.
    """
    message = cdr.deserialize(DIAGNOSTICS, raw)
    statuses = [
        Diagnostic(
            status.name,
            int(status.level),
            status.message,
            {pair.key: pair.value for pair in status.values},
            status.hardware_id,
        )
        for status in message.status
    ]
    return header_from_message(message.header), statuses
