"""Faults through the public door: bad messages arrive over DDS, the account and the log tell."""

from __future__ import annotations

import re
import signal
import time

import pytest

from condense_ros import wire
from condense_ros.datasets import open_dataset

from .conftest import IMAGE, INFO, POINTS, SECOND, closes, cloud, jpeg, ready

pytestmark = pytest.mark.ros

FIXED = {"image_topics": [IMAGE], "transform_wait_s": 0.2}


def start(session, **more):
    return session.running("capture_node", bag=str(session.folder / "bag"), **FIXED, **more)


def settle(recorder):
    """Lets the last messages arrive, then ends the node in order."""
    time.sleep(1.5)
    recorder.stop()
    recorder.check()


def at(k):
    return SECOND * 100 + k * SECOND // 10


def test_bad_messages_are_dropped_counted_and_said(session, robot):
    with start(session) as recorder:
        ready(recorder, "matching")
        robot.statics()
        robot.camera_info()
        robot.frame(at(0))
        robot.frame(at(1), points=cloud(at(1), fields="xy"))
        robot.frame(at(2), points=cloud(at(2), count=0))
        robot.frame(at(3), image=jpeg(at(3))[:-40])
        whole = wire.cdr.deserialize(wire.COMPRESSED_IMAGE, jpeg(at(4)))
        whole.data = whole.data[:-40]
        robot.frame(at(4), image=wire.cdr.serialize(wire.COMPRESSED_IMAGE, whole))
        for k in range(5, 10):
            robot.frame(at(k))
        settle(recorder)
    report = session.report("capture_node")
    closes(report)
    points, image = report["topics"][POINTS], report["topics"][IMAGE]
    assert (points["dropped"]["malformed"], points["dropped"]["empty_cloud"]) == (1, 1)
    assert image["dropped"]["malformed"] == 2
    assert points["received"] == image["received"] == 10
    assert report["pairs"] == 6
    log = session.log("capture_node")
    assert "has no field z; its fields are x, y" in log
    assert "JPEG" in log
    assert len(open_dataset(session.folder / "bag")) == 6


def test_no_camera_info_then_recovery(session, robot):
    with start(session) as recorder:
        ready(recorder, "matching")
        robot.statics()
        for k in range(5):
            robot.frame(at(k))
        ready(recorder, f"no camera_info on {INFO}")
        robot.camera_info()
        time.sleep(0.5)
        for k in range(5, 10):
            robot.frame(at(k))
        settle(recorder)
    report = session.report("capture_node")
    closes(report)
    assert report["topics"][IMAGE]["dropped"]["no_camera_info"] >= 4
    assert report["pairs"] == 10 - report["topics"][IMAGE]["dropped"]["no_camera_info"] >= 5
    assert "never guessed" in session.log("capture_node")


def test_terminated_twice_the_bag_is_closed(session, robot):
    with start(session) as recorder:
        ready(recorder, "matching")
        robot.statics()
        robot.camera_info()
        for k in range(5):
            robot.frame(at(k))
        time.sleep(1.0)
        recorder.process.send_signal(signal.SIGTERM)
        recorder.process.send_signal(signal.SIGTERM)
        assert recorder.wait(20)
    assert session.report("capture_node")["pairs"] == 5
    assert (session.folder / "bag" / "metadata.yaml").is_file()


@pytest.mark.parametrize(
    ("node", "parameters", "words"),
    [
        ("replay_node", {"path": "EMPTY"}, "holds no data set this project reads"),
        ("replay_node", {"path": "EMPTY/nowhere"}, "does not exist"),
        ("replay_node", {"path": "EMPTY", "rate": -1.0}, "PlaybackConfig.rate = -1.0 is out of"),
        ("capture_node", {"points_topic": ""}, "neither points_topic nor depth_topic"),
    ],
)
def test_refuses_to_start(session, node, parameters, words):
    """Exit status of its own and one line that names the fix; no traceback."""
    empty = session.folder / "empty"
    empty.mkdir()
    values = {
        name: value.replace("EMPTY", str(empty)) if isinstance(value, str) else value
        for name, value in parameters.items()
    }
    with session.running(node, **values) as process:
        assert process.process.wait(30) in (1, 2)
    log = session.log(node)
    assert re.search(rf"error: .*{re.escape(words)}.*Fix: ", log, re.DOTALL)
    assert "Traceback" not in log
