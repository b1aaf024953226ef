"""A ROS domain per worker, processes that always end, and a small robot that sends messages."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("condense_msgs", reason="the interface workspace is not built: `make env`")

from condense_ros import wire
from condense_ros.cli._processes import NodeProcess, running
from condense_ros.geometry import R_OPTICAL_BODY, CameraModel, se3
from condense_ros.transport import use_profile
from condense_ros.wire import Header, StampedTransform

use_profile()  # before this process opens its first participant
os.environ.setdefault("HOME", "/tmp")

SECOND = 10**9
IMAGE, INFO, POINTS = "/camera/front/image/compressed", "/camera/front/camera_info", "/points"
CAMERA = CameraModel(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), 64, 48)


@pytest.fixture
def domain(worker_domain: int) -> int:
    return worker_domain


@pytest.fixture(scope="session")
def worker_domain() -> int:
    """A domain of one's own per parallel test worker: 30 to 37, or from CONDENSE_TEST_DOMAIN on."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return int(os.environ.get("CONDENSE_TEST_DOMAIN", "30")) + int(worker[2:]) % 8


@pytest.fixture(scope="session")
def domain_apart(worker_domain: int) -> int:
    """A second domain, for tests beside a node that lives in the first."""
    return worker_domain + 8


class Session:
    """Runs nodes as processes and reads what they leave."""

    def __init__(self, folder: Path, domain: int) -> None:
        self.folder, self.domain = folder, domain

    def running(self, node: str, **parameters: Any) -> Any:
        """Context manager of a node process; its report goes to NODE.json."""
        parameters.setdefault("report_path", str(self.folder / f"{node}.json"))
        return running(node, parameters, self.folder / f"{node}.log", self.domain)

    def report(self, node: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{node}.json").read_text())

    def log(self, node: str) -> str:
        return (self.folder / f"{node}.log").read_text(errors="replace")


@pytest.fixture
def session(tmp_path: Path, domain: int) -> Session:
    return Session(tmp_path, domain)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Polls; fails the test when nothing has come of it in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Robot:
    """Publishes serialised messages and listens, in this process."""

    def __init__(self, domain: int, name: str = "robot") -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._publishers: dict[str, Any] = {}
        self._heard: set[str] = set()

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def publisher(self, topic: str, type_name: str, qos: Any) -> Any:
        from condense_ros.nodes import _common

        if topic not in self._publishers:
            self._publishers[topic] = _common.advertise(self.node, type_name, topic, qos)
        return self._publishers[topic]

    def forget(self, topic: str) -> None:
        """Ends the publisher of a topic; the next message makes a new one."""
        self.node.destroy_publisher(self._publishers.pop(topic))
        self._heard.discard(topic)

    def send(self, topic: str, type_name: str, raw: bytes) -> None:
        """Sends once somebody listens."""
        from condense_ros.nodes import _common

        latched = type_name == wire.CAMERA_INFO or topic == "/tf_static"
        publisher = self.publisher(
            topic, type_name, _common.STATIC_QOS if latched else _common.STATE_QOS
        )
        wait_until(lambda: publisher.get_subscription_count() > 0)
        if topic not in self._heard:
            # the other end may learn of us later than we of it, and best effort does not wait
            time.sleep(0.5)
            self._heard.add(topic)
        publisher.publish(raw)
        time.sleep(0.02)

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = 20.0) -> Any:
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout_s)
        future = client.call_async(request)
        self.executor.spin_until_future_complete(future, timeout_s)
        return future.result()

    # what a small robot has

    def statics(self) -> None:
        T = se3(R_OPTICAL_BODY.T, [0.2, 0, 0])
        transforms = [
            StampedTransform(1, "base_link", "lidar", np.eye(4)),
            StampedTransform(1, "lidar", "cam", T),
        ]
        self.send("/tf_static", wire.TF, wire.encode_tf(transforms))

    def camera_info(self) -> None:
        raw = wire.encode_camera_info(Header(SECOND, "cam"), CAMERA)
        self.send(INFO, wire.CAMERA_INFO, raw)

    def frame(self, stamp_ns: int, *, image: bytes | None = None, points: bytes | None = None):
        """Odometry transform, image and cloud of one moment."""
        pose = StampedTransform(stamp_ns, "odom", "base_link", np.eye(4))
        self.send("/tf", wire.TF, wire.encode_tf([pose]))
        self.send(IMAGE, wire.COMPRESSED_IMAGE, image or jpeg(stamp_ns))
        self.send(POINTS, wire.POINT_CLOUD, points or cloud(stamp_ns))


def jpeg(stamp_ns: int) -> bytes:
    picture = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    return wire.encode_compressed_image(Header(stamp_ns, "cam"), picture)


def cloud(stamp_ns: int, fields: str = "xyz", count: int = 50) -> bytes:
    values = np.linspace(1, 9, count, dtype=np.float32)
    return wire.encode_cloud(Header(stamp_ns, "lidar"), dict.fromkeys(fields, values))


@pytest.fixture
def robot(domain: int) -> Iterator[Robot]:
    out = Robot(domain)
    yield out
    out.close()


def ready(process: NodeProcess, words: str) -> None:
    """Waits until the node has said some words."""

    def said() -> bool:
        process.check()
        return words in process.log.read_text(errors="replace")

    wait_until(said)


def closes(report: dict[str, Any]) -> None:
    """Checks every identity of a capture's account."""
    for count in report["topics"].values():
        dropped = sum(count["dropped"].values())
        assert count["received"] == count["matched"] + dropped + count["waiting"]
    for count in report["context"].values():
        assert count["received"] == count["kept"] + sum(count["dropped"].values())
    for count in report["recorder"].values():
        dropped = sum(count["dropped"].values())
        assert count["accepted"] == count["written"] + dropped + count["queued"]
