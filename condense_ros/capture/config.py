"""Parameters of a capture."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_ros.wire.topics import camera_name


@dataclass(frozen=True)
class CaptureConfig:
    """Which topics are matched and recorded, and what a pair must have."""

    points_topic: str = parameter("/points", "PointCloud2 topic; empty: depth_topic is matched")
    depth_topic: str = parameter("", "depth image topic (16UC1, 32FC1 or compressedDepth)")
    image_topics: tuple[str, ...] = parameter(
        (), "Image or CompressedImage topics; empty: every one that has a camera_info beside it"
    )
    odometry_topic: str = parameter("/odom", "Odometry topic, recorded as it is; empty: none")
    world_frame: str = parameter(
        "odom", "fixed frame of the pose of a pair; empty: pairs without pose"
    )
    base_frame: str = parameter("base_link", "frame of which the pose is recorded")
    transform_wait_s: float = parameter(
        1.0, "longest wait of a pair for its transforms and camera_info", low=0.0, high=60.0
    )
    tf_cache_s: float = parameter(10.0, "transforms are kept this long", low=0.1, high=3600.0)

    def __post_init__(self) -> None:
        names = [*filter(None, [self.points_topic, self.depth_topic]), *self.image_topics]
        if not self.points_topic and not self.depth_topic:
            raise ConfigError(
                "CaptureConfig has neither points_topic nor depth_topic",
                "name the topic of the lidar, or of a depth camera",
            )
        if len(set(names)) != len(names):
            raise ConfigError(f"topics are named twice: {names}", "name each topic once")

    @property
    def pivot_topic(self) -> str:
        """The topic whose stamp is that of a pair: the cloud's, or the depth image's."""
        return self.points_topic or self.depth_topic


def roles(config: CaptureConfig) -> dict[str, str]:
    """Matched topic -> role: points, depth, image/NAME.

    Raises:
        ConfigError: no image topic, or two of the same camera.
    """
    if not config.image_topics:
        raise ConfigError("no image topic to capture", "set image_topics")
    images = {topic: f"image/{camera_name(topic)}" for topic in config.image_topics}
    if len(set(images.values())) != len(images):
        raise ConfigError(
            f"two of the image topics {', '.join(images)} name the same camera",
            "put the camera's name before the last part: /camera/NAME/image",
        )
    clouds = {config.points_topic: "points", config.depth_topic: "depth"}
    return {topic: role for topic, role in clouds.items() if topic} | images
