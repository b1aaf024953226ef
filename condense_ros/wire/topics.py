"""Names of topics that follow from an image topic, as image_transport forms them."""

from __future__ import annotations

#: last parts of topics that image_transport plug-ins add
TRANSPORTS = ("compressed", "compressedDepth", "theora", "zstd", "ffmpeg")


def camera_info_topic(image_topic: str) -> str:
    """Where image_transport puts the camera_info of an image topic: beside it."""
    return "/".join([*_without_transport(image_topic)[:-1], "camera_info"])


def camera_name(image_topic: str) -> str:
    """The part of a topic that names the camera: /camera/front/image/compressed is "front"."""
    parts = [part for part in _without_transport(image_topic) if part]
    return parts[-2] if len(parts) > 1 else parts[-1]


def _without_transport(topic: str) -> list[str]:
    parts = topic.split("/")
    return parts[:-1] if parts[-1] in TRANSPORTS else parts
