"""The messages that every file of a bag needs at its start: calibration and static transforms."""

from __future__ import annotations

from collections.abc import Iterator

#: distinct /tf_static messages kept; beyond it the oldest give way
_MAX_STATIC = 256


class Latched:
    """Remembers the last camera_info per topic and every distinct static transform message."""

    def __init__(self) -> None:
        self._infos: dict[str, tuple[bytes, int, int]] = {}
        # by content, in order of their last arrival: a later message may correct an earlier one
        self._static: dict[tuple[str, bytes], tuple[int, int]] = {}

    def note(self, topic: str, type_name: str, raw: bytes, stamp_ns: int, sequence: int) -> None:
        """Keeps the message if it is one of those."""
        if type_name == "sensor_msgs/msg/CameraInfo":
            self._infos[topic] = (raw, stamp_ns, sequence)
        elif topic.rsplit("/", 1)[-1] == "tf_static":
            self._static.pop((topic, raw), None)
            self._static[topic, raw] = (stamp_ns, sequence)
            if len(self._static) > _MAX_STATIC:
                del self._static[next(iter(self._static))]

    def messages(self) -> Iterator[tuple[str, bytes, int, int]]:
        """(topic, raw, stamp_ns, sequence) of each."""
        for (topic, raw), (stamp_ns, sequence) in self._static.items():
            yield topic, raw, stamp_ns, sequence
        for topic, (raw, stamp_ns, sequence) in self._infos.items():
            yield topic, raw, stamp_ns, sequence
