"""Faults 26 to 38, transforms, calibration and the graph, through a capture node over DDS."""

from __future__ import annotations

import re
import shutil
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from condense_ros import wire
from condense_ros.geometry import R_OPTICAL_BODY, se3
from condense_ros.wire import Header, StampedTransform

from .conftest import CAMERA, IMAGE, INFO, POINTS, SECOND, Robot, Session, cloud, jpeg, ready
from .live import GRAPH, Live

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def live(tmp_path_factory, worker_domain):
    robot = Robot(worker_domain)
    session = Session(tmp_path_factory.mktemp("live"), worker_domain)
    node = Live(session, robot)
    try:
        yield node
    finally:
        node.close()
        robot.close()


@pytest.fixture
def second(worker_domain):
    """Another robot, in a DDS participant of its own."""
    out = Robot(worker_domain, "second_robot")
    yield out
    out.close()


def cloud_in(stamp_ns: int, frame: str) -> bytes:
    values = np.linspace(1, 9, 50, dtype=np.float32)
    return wire.encode_cloud(Header(stamp_ns, frame), dict.fromkeys("xyz", values))


def mounting(frame: str, x: float) -> bytes:
    return wire.encode_tf([StampedTransform(1, "base_link", frame, se3(np.eye(3), [x, 0, 0]))])


# transforms and calibration


def test_fault_26_transform_missing(live):
    """No pair, no identity: dropped, counted, and the frame is named."""
    live.settle()
    before = live.account()
    key = f"{POINTS} dropped no_transform"
    live.until_counted(
        key, lambda: live.frame(points=cloud_in(live.now_ns + SECOND // 10, "nowhere")), every_s=8.0
    )
    live.hears("frame 'nowhere' appears in no transform")
    assert "it is never assumed" in live.said()
    assert live.account()["calibration_ids"] == before["calibration_ids"]
    live.pairs_come()
    live.recovers()
    live.account()


def test_fault_27_transform_late(live):
    """The pair waits for it, and is complete when it comes."""
    live.settle()
    before = live.account()
    live.frame(points=cloud_in(live.now_ns + SECOND // 10, "late_lidar"))
    live.until(lambda: live.count(f"{POINTS} waiting") == 1)
    assert live.count("completed") == before["completed"]
    live.robot.send("/tf_static", wire.TF, mounting("late_lidar", 0.0))
    live.until(lambda: live.count("completed") == before["completed"] + 1)
    after = live.account()
    key = f"{POINTS} dropped no_transform"
    assert after.get(key, 0) == before.get(key, 0)


def test_fault_28_static_transform_republished_differently(live):
    live.settle()
    before = live.account()["calibration_ids"]

    def publish(x):
        T = se3(R_OPTICAL_BODY.T, [x, 0, 0])
        raw = wire.encode_tf([StampedTransform(1, "lidar", "cam", T)])
        live.robot.send("/tf_static", wire.TF, raw)

    publish(0.25)
    live.pairs_come()
    live.hears("the calibration changed: its id is now ")
    assert re.search(r"its id is now [0-9a-f]{8,}", live.said())
    assert live.account()["calibration_ids"] == before + 1
    live.mark()
    publish(0.25)  # the same again is no change
    live.pairs_come()
    assert live.account()["calibration_ids"] == before + 1
    assert "the calibration changed" not in live.said()


@pytest.mark.parametrize("value", [np.nan, 0.5], ids=["nan", "not of length 1"])
def test_fault_29_quaternion_that_is_none(live, value):
    live.settle()
    message = wire.cdr.deserialize(
        wire.TF, wire.encode_tf([StampedTransform(live.now_ns, "base_link", "arm", np.eye(4))])
    )
    message.transforms[0].transform.rotation.w = value
    raw = wire.cdr.serialize(wire.TF, message)
    live.until_counted("/tf dropped malformed", lambda: live.robot.send("/tf", wire.TF, raw))
    live.hears("/tf: ")
    assert re.search(r"/tf: .*quaternion.*Fix: ", live.said())
    live.pairs_come()
    live.account()


def test_fault_30_camera_info_for_another_image_size(live):
    live.settle()
    other = wire.encode_camera_info(Header(live.now_ns, "cam"), CAMERA.scaled(128, 96))
    live.robot.send(INFO, wire.CAMERA_INFO, other)
    # the pairs of a moment wait for the one before, so few are sent
    live.until_counted(f"{IMAGE} dropped no_camera_info", live.frame, every_s=8.0)
    live.hears(f"{INFO} is for 128x96, the image is 64x48")
    right = wire.encode_camera_info(Header(live.now_ns, "cam"), CAMERA)
    live.robot.send(INFO, wire.CAMERA_INFO, right)
    live.pairs_come()
    live.recovers()
    live.account()


def test_fault_30_damaged_calibration_file(data_dir, tmp_path):
    """The command line refuses it with the file's name; the undamaged one is read again."""
    from condense_ros.cli.app import app

    copy = tmp_path / "kitti"
    shutil.copytree(data_dir / "kitti_jam_camlidar", copy)
    (path,) = copy.rglob("calib*.txt")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3] + b"\0\xff 1e999 nonsense\n")
    result = CliRunner().invoke(app, ["doctor", str(copy), "--json"])
    assert result.exit_code == 1
    assert path.name in result.output
    assert "Traceback" not in result.output
    path.write_bytes(whole)
    result = CliRunner().invoke(app, ["doctor", str(copy), "--json"])
    assert '"camera' in result.output


# quality of service and the graph


def test_fault_31_quality_of_service_does_not_fit(tmp_path, domain_apart):
    """Both sides are named with their settings; calibration is then heard as it is published."""
    from condense_ros.nodes._common import STATE_QOS

    robot = Robot(domain_apart)
    try:
        robot.publisher(INFO, wire.CAMERA_INFO, STATE_QOS)  # volatile, as many drivers do
        live = Live(Session(tmp_path, domain_apart), robot)
        try:
            live.hears(f"{INFO} is now heard as it is published")
            told = re.search(rf"{INFO}: quality of service does not fit.*", live.said())[0]
            assert "publishers: robot (reliable, volatile)" in told
            assert "subscriptions: capture_node (reliable, transient_local)" in told
            live.until_counted(f"{INFO} kept", robot.camera_info)
            live.pairs_come()
            live.account()
        finally:
            live.close()
    finally:
        robot.close()


def test_fault_32_best_effort_publishers_that_lose_messages(live, second):
    """1 to 30 % lost: what arrives of both is paired, the rest is dropped without a partner."""
    from condense_ros.nodes._common import SENSOR_QOS

    live.settle()
    rng = np.random.default_rng(0)
    publishers = {
        topic: second.publisher(topic, kind, SENSOR_QOS)
        for topic, kind in ((IMAGE, wire.COMPRESSED_IMAGE), (POINTS, wire.POINT_CLOUD))
    }
    live.until(lambda: all(p.get_subscription_count() for p in publishers.values()))
    before = live.account()
    live.spin(0.5)
    both = lost = 0
    for share in np.linspace(0.01, 0.3, 60):
        stamp = live.step()
        pose = StampedTransform(stamp, "odom", "base_link", np.eye(4))
        live.robot.send("/tf", wire.TF, wire.encode_tf([pose]))
        image_lost, cloud_lost = rng.random(2) < share
        if not image_lost:
            publishers[IMAGE].publish(jpeg(stamp))
        if not cloud_lost:
            publishers[POINTS].publish(cloud(stamp))
        both += not (image_lost or cloud_lost)
        lost += image_lost + cloud_lost
        live.spin(0.03)
    live.pairs_come()
    after = live.account()
    assert lost >= 10
    came = after["completed"] - before["completed"]
    # best effort may lose some more on a loaded machine, and the last frames are good ones
    assert both - 6 <= came - 3 <= both + 6
    dropped = sum(n - before.get(k, 0) for k, n in after.items() if " dropped no_partner" in k)
    assert dropped >= 5


def test_fault_33_a_late_joiner_gets_the_calibration(tmp_path, domain_apart):
    """Static transforms and camera_info were sent once, long before the node was started."""
    from condense_ros.nodes._common import STATIC_QOS

    robot = Robot(domain_apart)
    try:
        for topic, kind in (("/tf_static", wire.TF), (INFO, wire.CAMERA_INFO)):
            robot.publisher(topic, kind, STATIC_QOS)
        T = se3(R_OPTICAL_BODY.T, [0.2, 0, 0])
        statics = [
            StampedTransform(1, "base_link", "lidar", np.eye(4)),
            StampedTransform(1, "lidar", "cam", T),
        ]
        robot.publisher("/tf_static", wire.TF, None).publish(wire.encode_tf(statics))
        info = wire.encode_camera_info(Header(SECOND, "cam"), CAMERA)
        robot.publisher(INFO, wire.CAMERA_INFO, None).publish(info)
        time.sleep(1.0)
        live = Live(Session(tmp_path, domain_apart), robot, calibrated=True)
        try:
            live.pairs_come()
            account = live.account()
            assert account[f"{INFO} kept"] == account["/tf_static kept"] == 1
            assert "dropped" not in " ".join(k for k in account if k.startswith(INFO))
        finally:
            live.close()
    finally:
        robot.close()


def test_fault_34_the_publisher_restarts(live):
    live.settle()
    for topic in (POINTS, IMAGE):
        live.robot.forget(topic)
    live.pairs_come(5)
    live.recovers()
    live.account()


def test_fault_35_two_publishers_on_one_topic(live, second):
    from condense_ros.nodes._common import STATE_QOS

    live.settle()
    second.publisher(POINTS, wire.POINT_CLOUD, STATE_QOS)
    live.hears(f"{POINTS}: 2 publishers (/robot, /second_robot)")
    assert "End one of them, or remap it" in live.said()
    live.until(lambda: live.status(GRAPH).level == b"\1")
    live.pairs_come()  # it goes on meanwhile
    second.forget(POINTS)
    live.hears(f"over: {POINTS}: 2 publishers")
    live.until(lambda: live.status(GRAPH).level == b"\0")
    live.account()


def test_fault_36_node_name_clash(live, tmp_path):
    live.settle()
    other = Session(tmp_path, live.session.domain)
    with other.running("capture_node", image_topics=["/other/image"]) as process:
        ready(process, "the node name /capture_node is in use 2 times")
        live.hears("the node name /capture_node is in use 2 times")
        assert "--ros-args -r __node:=NAME" in live.said()
    live.hears("over: the node name /capture_node")
    # the other one reports under the same name: only now is every report ours
    live.pairs_come()
    live.account()


def test_fault_37_twenty_subscribers(live):
    """Nobody starves: every subscription hears the clouds, and pairs go on."""
    from condense_ros.nodes._common import SENSOR_QOS, subscribe

    live.settle()
    heard = [0] * 20
    subscriptions = []
    for k in range(20):

        def take(_, k=k):
            heard[k] += 1

        subscriptions.append(subscribe(live.robot.node, wire.POINT_CLOUD, POINTS, take, SENSOR_QOS))
    before = live.account()
    deadline = time.monotonic() + 40.0
    while min(heard) < 5 or live.count("completed") < before["completed"] + 5:
        assert time.monotonic() < deadline, (heard, live.said())
        live.frame()
        live.spin(0.1)
    for subscription in subscriptions:
        live.robot.node.destroy_subscription(subscription)
    live.account()


def test_fault_38_type_mismatch_on_a_topic(live, second):
    from condense_ros.nodes._common import STATE_QOS

    live.settle()
    second.publisher(POINTS, wire.IMAGE, STATE_QOS)
    live.hears(
        f"{POINTS}: /second_robot publishes {wire.IMAGE}, but capture_node expects "
        f"{wire.POINT_CLOUD}; no message of it arrives"
    )
    assert "Remap that publisher to another topic" in live.said()
    live.pairs_come()
    second.forget(POINTS)
    live.hears(f"over: {POINTS}: /second_robot publishes")
    live.account()


def test_images_of_the_other_kind_are_heard_as_they_are_published(tmp_path, domain_apart):
    """`image_topics` names a topic nobody publishes yet; then it comes compressed."""
    robot = Robot(domain_apart)
    topic = "/camera/front/picture"
    try:
        session = Session(tmp_path, domain_apart)
        with session.running("capture_node", image_topics=[topic], report_period_s=0.2) as process:
            ready(process, "matching")
            robot.send(topic, wire.COMPRESSED_IMAGE, jpeg(SECOND))
            ready(process, f"{topic} is published as {wire.COMPRESSED_IMAGE}; heard as such")
    finally:
        robot.close()
