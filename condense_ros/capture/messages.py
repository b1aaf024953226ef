"""Raw messages on their way through a capture, and those that every bag needs at its start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from condense_ros import wire
from condense_ros.capture.calibration import ImageFacts
from condense_ros.errors import WireError
from condense_ros.wire.cdr import Bytes

#: distinct latched messages kept for the start of a recording
MAX_LATCHED = 256


@dataclass(frozen=True)
class Message:
    """One message as it came; `static` marks those of /tf_static."""

    topic: str
    type_name: str
    raw: bytes
    stamp_ns: int
    log_ns: int
    static: bool = False

    @property
    def latched(self) -> bool:
        """Whether later messages of the bag depend on it: calibration, static transforms."""
        return self.static or self.type_name == wire.CAMERA_INFO


class Latched:
    """Keeps the newest camera_info of each topic and every distinct static transform message."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], Message] = {}

    def note(self, message: Message) -> None:
        """Keeps a message if it is one of those; the oldest give way beyond `MAX_LATCHED`."""
        if not message.latched:
            return
        key = (message.topic, message.raw if message.static else b"")
        self._kept.pop(key, None)
        self._kept[key] = message
        if len(self._kept) > MAX_LATCHED:
            del self._kept[next(iter(self._kept))]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._kept.values())


def sensor_facts(type_name: str, raw: Bytes) -> ImageFacts:
    """Header and size of a sensor message that can be decoded later.

    The size of a cloud is 1 x points; where no point has finite coordinates, the width is 0.

    Raises:
        WireError: malformed, unsupported, or a cloud without x, y and z.
    """
    if type_name == wire.POINT_CLOUD:
        cloud = wire.decode_cloud(raw)
        header, width, height = cloud.header, int(cloud.any_finite()), len(cloud.points)
    elif type_name == wire.COMPRESSED_IMAGE:
        header, width, height = wire.check_compressed_image(raw)
    elif type_name == wire.IMAGE:
        header, width, height = wire.check_image(raw)
    else:
        raise WireError(
            f"{type_name} is no sensor message that can be matched",
            "give topics of type PointCloud2, Image or CompressedImage",
        )
    return ImageFacts(header.frame_id, header.stamp_ns, width, height)
