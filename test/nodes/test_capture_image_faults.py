"""Fault 21, images that are unusual or none, through a capture node that pairs them with depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from condense_ros import wire
from condense_ros.datasets import open_dataset
from condense_ros.wire import Header, StampedTransform

from .conftest import CAMERA, SECOND, Robot, Session
from .live import Live
from .test_capture_message_faults import FLUSH, changed, info, recorded

pytestmark = pytest.mark.ros

DEPTH_TOPIC, DEPTH_INFO = "/camera/depth/image", "/camera/depth/camera_info"
RAW, RAW_INFO = "/camera/raw/image", "/camera/raw/camera_info"


class DepthRobot(Robot):
    """A robot whose camera has a depth image beside the colour image, both of one lens."""

    def camera_info(self) -> None:
        for topic in (RAW_INFO, DEPTH_INFO):
            self.send(topic, wire.CAMERA_INFO, info(SECOND))


class DepthLive(Live):
    """A node that matches raw images with depth images."""

    def frame(self, **changes: Any) -> None:
        stamp = self.step()
        pose = StampedTransform(stamp, "odom", "base_link", np.eye(4))
        self.robot.send("/tf", wire.TF, wire.encode_tf([pose]))
        picture = changes.get("image") or wire.encode_image(Header(stamp, "cam"), PICTURE)
        depth = changes.get("depth") or wire.encode_image(Header(stamp, "cam"), DEPTH, "16UC1")
        self.robot.send(RAW, wire.IMAGE, picture)
        self.robot.send(DEPTH_TOPIC, wire.IMAGE, depth)

    def account(self) -> dict[str, int]:
        self.fresh()
        values = {v.key: int(v.value) for v in self.status().values if v.value.isdigit()}
        for topic in (RAW, DEPTH_TOPIC):
            dropped = sum(n for key, n in values.items() if key.startswith(f"{topic} dropped "))
            found = values[f"{topic} matched"] + dropped + values[f"{topic} waiting"]
            assert values[f"{topic} received"] == found
        return values


PICTURE = np.full((48, 64, 3), (200, 90, 30), np.uint8)
DEPTH = np.full((48, 64), 2.5, np.float32)


@pytest.fixture(scope="module")
def depth_live(tmp_path_factory, worker_domain):
    robot = DepthRobot(worker_domain)
    topics = {"points_topic": "", "depth_topic": DEPTH_TOPIC, "image_topics": [RAW]}
    session = Session(tmp_path_factory.mktemp("images"), worker_domain)
    node = DepthLive(session, robot, **topics, **FLUSH)
    try:
        yield node
    finally:
        node.close()
        robot.close()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"step": 100}, ("rgb8 image of 64x48 has step 100 and 9216 bytes, needs a step of 192",)),
        ({"height": 49}, ()),
        ({"encoding": "h264"}, ("image encoding 'h264' is not supported", "use one of: rgb8")),
        ({"width": 0, "height": 0}, ("image is 0x0", "publish images of 1 to")),
        ({"width": 70_000, "height": 70_000}, ()),
    ],
    ids=["step", "rows", "encoding", "empty", "giant"],
)
def test_fault_21_images_that_are_none(depth_live, fields, words):
    depth_live.settle()
    raw = changed(
        wire.encode_image(Header(depth_live.now_ns, "cam"), PICTURE), wire.IMAGE, **fields
    )
    key = f"{RAW} dropped malformed"
    depth_live.until_counted(key, lambda: depth_live.robot.send(RAW, wire.IMAGE, raw))
    for text in words:
        depth_live.hears(text)
        assert f"{RAW}: " in depth_live.said()
    depth_live.pairs_come()
    depth_live.account()


@pytest.mark.parametrize("depth", ["16UC1", "32FC1"])
@pytest.mark.parametrize("encoding", ["bayer_grbg8", "bgra8"])
def test_fault_21_bayer_and_depth(depth_live, encoding, depth):
    """Kept as sent, decoded by what the encoding says."""
    depth_live.settle()
    stamp = depth_live.now_ns + SECOND // 10
    depth_live.frame(
        image=wire.encode_image(Header(stamp, "cam"), PICTURE, encoding),
        depth=wire.encode_image(Header(stamp, "cam"), DEPTH, depth),
    )
    depth_live.pairs_come(2)
    image = recorded(depth_live, stamp).images[0]
    np.testing.assert_array_equal(image.pixels, PICTURE)
    np.testing.assert_allclose(image.depth, DEPTH)
    depth_live.account()


def test_fault_21_an_image_of_8k(depth_live):
    depth_live.settle()
    camera = CAMERA.scaled(7680, 4320)
    depth_live.robot.send(RAW_INFO, wire.CAMERA_INFO, info(depth_live.step(), camera))
    large = np.zeros((4320, 7680), np.uint8)
    large[::500] = 7
    completed = depth_live.count("completed")
    stamps = []

    def send() -> None:
        stamps.append(depth_live.now_ns + SECOND // 10)
        raw = wire.encode_image(Header(stamps[-1], "cam"), large, "mono8")
        depth_live.frame(image=raw)
        depth_live.spin(0.5)

    depth_live.until_counted("completed", send)
    depth_live.robot.send(RAW_INFO, wire.CAMERA_INFO, info(depth_live.step()))
    depth_live.pairs_come(2)
    assert depth_live.account()["completed"] > completed
    data = open_dataset(depth_live.session.folder / "bag")
    kept = [p.stamp_ns for p in data._pairs if p.stamp_ns in stamps]
    assert kept
    image = recorded(depth_live, kept[0]).images[0]
    assert image.pixels.shape == (4320, 7680, 3)
    assert (image.pixels[1000] == 7).all()
