"""The topics of a capture: finds the cameras, subscribes, watches who publishes what."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from condense_ros import wire
from condense_ros.capture import Capture, CaptureConfig
from condense_ros.nodes._common import LATCHED_QOS, SENSOR_QOS, STATE_QOS, STATIC_QOS, subscribe
from condense_ros.nodes.graph_watch import graph_problems, published_types
from condense_ros.wire.topics import TRANSPORTS, camera_info_topic

IMAGES = (wire.IMAGE, wire.COMPRESSED_IMAGE)
#: cameras are looked for until the same ones were found this often
_SETTLED = 3


class CameraSearch:
    """Looks for image topics that have a camera_info topic beside them, until they are settled."""

    def __init__(self, node: Node, config: CaptureConfig, warn: Callable[[str], None]) -> None:
        self._node, self._config, self._warn = node, config, warn
        self._found: tuple[tuple[str, ...], int] = ((), 0)

    def look(self) -> tuple[str, ...]:
        """The cameras once they are settled; until then nothing."""
        topics = self._cameras()
        before, times = self._found
        self._found = (topics, times + 1 if topics == before else 1)
        if topics and self._found[1] >= _SETTLED:
            return topics
        if not topics and self._found[1] > 2 * _SETTLED:
            self._warn(
                "no camera found yet: no Image or CompressedImage topic has a camera_info topic "
                "beside it. Start the cameras, or set image_topics"
            )
        return ()

    def _cameras(self) -> tuple[str, ...]:
        """Image topics with a publisher and a camera_info topic beside them; raw ones first."""
        kinds = dict(self._node.get_topic_names_and_types())
        found: dict[str, str] = {}
        for topic in sorted(kinds, key=lambda topic: (topic.endswith(TRANSPORTS), topic)):
            if not set(IMAGES) & set(kinds[topic]):
                continue
            info = camera_info_topic(topic)
            depth = topic == self._config.depth_topic or "depth" in topic.lower()
            if depth or info in found or wire.CAMERA_INFO not in kinds.get(info, ()):
                continue
            if self._node.count_publishers(topic):
                found[info] = topic
        return tuple(sorted(found.values()))


class CaptureInputs:
    """Hands every message of the topics of a capture to it.

    Args:
        warn: says a text, not too often.
    """

    def __init__(self, node: Node, capture: Capture, warn: Callable[[str], None]) -> None:
        self._node, self._capture, self._warn = node, capture, warn
        self._subscriptions: dict[str, Subscription] = {}
        self._types: dict[str, str] = {}
        for topic, role in capture.topics.items():
            kind = wire.POINT_CLOUD if role == "points" else self._image_type(topic)
            self._listen(kind, topic, self._sensor(topic, kind), SENSOR_QOS)
        for info in sorted(set(capture.info_topics.values())):
            self._listen(wire.CAMERA_INFO, info, self._camera_info(info), LATCHED_QOS)
        self._listen(wire.TF, "/tf_static", self._transforms("/tf_static", True), STATIC_QOS)
        self._listen(wire.TF, "/tf", self._transforms("/tf", False), STATE_QOS)
        odometry = capture.config.odometry_topic
        if odometry:
            self._listen(wire.ODOMETRY, odometry, self._odometry(odometry), SENSOR_QOS)

    def problems(self) -> list[str]:
        """What is wrong with the publishers; an image topic of the other kind is heard as such."""
        for topic, kind in list(self._types.items()):
            published = published_types(self._node, topic)
            if kind in IMAGES and len(published) == 1 and published != {kind}:
                (other,) = published
                if other in IMAGES:
                    self._listen(other, topic, self._sensor(topic, other), SENSOR_QOS)
                    self._node.get_logger().info(f"{topic} is published as {other}; heard as such")
        # several nodes may publish tf
        own = {topic: kind for topic, kind in self._types.items() if kind != wire.TF}
        return graph_problems(self._node, own)

    def _image_type(self, topic: str) -> str:
        published = published_types(self._node, topic)
        for kind in IMAGES:
            if kind in published:
                return kind
        return wire.COMPRESSED_IMAGE if topic.endswith(TRANSPORTS) else wire.IMAGE

    def _listen(
        self, type_name: str, topic: str, callback: Callable[[bytes], None], qos: QoSProfile
    ) -> None:
        def unfit() -> None:
            if qos is not SENSOR_QOS:
                self._listen(type_name, topic, callback, SENSOR_QOS)
                self._warn(f"{topic} is now heard as it is published; a late start may miss it")

        before = self._subscriptions.pop(topic, None)
        if before is not None:
            self._node.destroy_subscription(before)
        self._types[topic] = type_name
        self._subscriptions[topic] = subscribe(self._node, type_name, topic, callback, qos, unfit)

    def _log_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _sensor(self, topic: str, type_name: str) -> Callable[[bytes], None]:
        return lambda raw: self._capture.add_sensor(topic, type_name, raw, self._log_ns())

    def _camera_info(self, topic: str) -> Callable[[bytes], None]:
        return lambda raw: self._capture.add_camera_info(topic, raw, self._log_ns())

    def _transforms(self, topic: str, static: bool) -> Callable[[bytes], None]:
        return lambda raw: self._capture.add_tf(topic, raw, self._log_ns(), static)

    def _odometry(self, topic: str) -> Callable[[bytes], None]:
        return lambda raw: self._capture.add_odometry(topic, raw, self._log_ns())
