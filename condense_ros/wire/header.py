"""Stamps and headers: integer nanoseconds outside, (sec, nanosec) on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from condense_ros.errors import WireError
from condense_ros.wire import cdr

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Header:
    """When and in which frame: `stamp_ns` nanoseconds, `frame_id` without a leading slash."""

    stamp_ns: int
    frame_id: str = ""


def stamp_from_message(time: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time.

    Raises:
        WireError: negative seconds, or nanoseconds of a second or more.
    """
    if time.sec < 0 or time.nanosec >= SECOND_NS:
        raise WireError(
            f"stamp is sec {time.sec}, nanosec {time.nanosec}",
            "publish stamps with sec >= 0 and nanosec < 1000000000",
        )
    return int(time.sec) * SECOND_NS + int(time.nanosec)


def stamp_to_message(stamp_ns: int) -> Any:
    """builtin_interfaces/Time of nanoseconds.

    Raises:
        WireError: negative, or after the year 2038 (sec is a 32-bit integer).
    """
    sec, nanosec = divmod(int(stamp_ns), SECOND_NS)
    if not 0 <= sec < 2**31:
        raise WireError(
            f"stamp of {stamp_ns} ns does not fit a ROS time", "use 0 <= stamp_ns < 2**31 seconds"
        )
    return cdr.message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header_from_message(header: Any) -> Header:
    """`Header` of a std_msgs/Header; a leading slash, as ROS 1 wrote it, is removed.

    Raises:
        WireError: invalid stamp.
    """
    return Header(stamp_from_message(header.stamp), header.frame_id.lstrip("/"))


def header_to_message(header: Header) -> Any:
    """std_msgs/Header of a `Header`.

    Raises:
        WireError: invalid stamp.
    """
    return cdr.message(
        "std_msgs/msg/Header", stamp=stamp_to_message(header.stamp_ns), frame_id=header.frame_id
    )


def read_header(raw: cdr.Bytes) -> Header:
    """The header at the start of any stamped message, without decoding what follows.

    Raises:
        WireError: too short, malformed, or an invalid stamp.
    """
    view = memoryview(raw)
    if view.nbytes < 17 or view[0] != 0 or view[1] not in (0, 1):
        raise WireError(
            f"{view.nbytes} bytes begin with no std_msgs/Header",
            "check the message type of the topic",
        )
    order = "little" if view[1] else "big"
    words = [
        int.from_bytes(view[start : start + 4], order, signed=start == 4)  # type: ignore[arg-type]
        for start in (4, 8, 12)
    ]
    end = 16 + words[2]
    if words[2] < 1 or end > view.nbytes or view[end - 1] != 0:
        raise WireError(
            f"frame_id of {words[2]} bytes in a message of {view.nbytes} bytes",
            "check the message type of the topic, and that the bag or network did not cut it short",
        )
    try:
        frame_id = bytes(view[16 : end - 1]).decode()
    except UnicodeDecodeError as error:
        raise WireError("frame_id is not UTF-8", "name frames in UTF-8") from error
    time = cdr.message("builtin_interfaces/msg/Time", sec=words[0], nanosec=words[1])
    return header_from_message(cdr.message("std_msgs/msg/Header", stamp=time, frame_id=frame_id))
