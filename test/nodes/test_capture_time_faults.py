"""Faults 1 to 11, time and synchronisation, through a capture node over DDS."""

from __future__ import annotations

import re
import struct
import time

import numpy as np
import pytest

from condense_ros import wire
from condense_ros.sync import SyncConfig, Synchronizer

from .conftest import IMAGE, POINTS, SECOND, Robot, Session, cloud, jpeg
from .live import Live

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


def stamped(raw: bytes, sec: int, nanosec: int) -> bytes:
    """The message with another header stamp, valid or not."""
    return raw[:4] + struct.pack("<iI", sec, nanosec) + raw[12:]


def test_fault_01_clock_jumps_back(live):
    live.settle()
    live.image(live.step())  # waits for its cloud when the clock jumps
    live.step(-60.0)
    before = live.account()
    for _ in range(10):
        live.frame()
    live.until(lambda: live.count("completed") >= before["completed"] + 9)
    after = live.account()
    # output resumed within a second: nine of ten frames at 10 Hz are pairs
    assert after["completed"] - before["completed"] in (9, 10)
    assert after[f"{IMAGE} dropped clock_jump_back"] >= 1
    assert live.said().count("the clock went back by") == 1
    assert re.search(r"\[INFO\].*went back by \d+\.\d+ s; queues are cleared", live.said())
    live.step(120.0)


def test_fault_02_clock_jumps_ahead_by_an_hour(live):
    live.settle()
    before = live.account()
    live.step(3600.0)
    for _ in range(10):
        live.frame()
    live.until(lambda: live.count("completed") >= before["completed"] + 9)
    assert live.said().count("the clock went ahead by 3600") == 1
    live.account()


def test_fault_03_sim_time_without_a_clock(tmp_path, domain_apart):
    """The node stays up, and its clock diagnostic is an error that names the cause."""
    robot = Robot(domain_apart)
    try:
        live = Live(Session(tmp_path, domain_apart), robot, use_sim_time=True)
        try:
            live.until(lambda: "capture_node: clock" in live._statuses)
            status = live.status("capture_node: clock")
            assert status.level == b"\2"
            assert "use_sim_time is true, but nothing has come on /clock for" in status.message
            assert "set use_sim_time to false" in status.message
            live.pairs_come()
            robot.send("/clock", wire.CLOCK, wire.encode_clock(live.now_ns))
            live.until_counted("completed", live.frame)
            live._statuses.clear()
            live.until_counted(
                "completed",
                lambda: (
                    robot.send("/clock", wire.CLOCK, wire.encode_clock(live.now_ns)),
                    live.frame(),
                ),
            )
            live.fresh()
            live._statuses.clear()
            live.fresh()
            assert "capture_node: clock" not in live._statuses
        finally:
            live.close()
    finally:
        robot.close()


def test_fault_04_stamps_that_are_zero(live):
    live.settle()
    key = f"{IMAGE} dropped invalid_stamp"
    live.until_counted(key, lambda: live.robot.send(IMAGE, wire.COMPRESSED_IMAGE, jpeg(0)), 3)
    live.hears("messages have a zero or negative stamp and were dropped. Make the driver fill")
    assert f"{IMAGE}: " in live.said()
    live.pairs_come()
    live.account()


def test_fault_05_two_time_domains(live):
    """Clouds in wall time, images in simulated time: both values are told."""
    live.settle()
    wall = time.time_ns() // SECOND * SECOND + 10 * 86_400 * SECOND
    for k in range(15):
        live.cloud(wall + k * SECOND // 10)
        live.image(live.step())
    live.hears("run on two different clocks")
    told = re.search(r"newest stamps are ([\d.]+) s and ([\d.]+) s", live.said())
    values = sorted(float(text) for text in told.groups())
    assert values[1] == pytest.approx(wall / SECOND, abs=5)
    assert values[0] < 1e6
    assert "use_sim_time" in live.said()
    live.pairs_come()
    live.account()


def test_fault_06_offset_larger_than_the_tolerance(live):
    live.settle()
    before = live.account()["completed"]
    live.step(2.0)
    for _ in range(14):
        live.cloud(live.step(1.0))
        live.image(live.now_ns + 3 * SECOND // 10)
    live.hears(f"{IMAGE} never matches")
    told = re.search(r"its stamps are ([\d.]+) s (ahead of|behind) (\S+) \(median\)", live.said())
    assert float(told[1]) == pytest.approx(0.3, abs=0.05)
    assert (told[2], told[3]) == ("ahead of", POINTS)
    assert re.search(rf"set offsets_s of {IMAGE} to -0\.3", live.said())
    assert live.account()["completed"] == before
    live.pairs_come()


def test_fault_07_out_of_order_and_duplicate_stamps(live):
    live.settle()
    before = live.account()
    start = live.step(1.0)
    times = [start + k * SECOND // 10 for k in range(12)]
    pose = [wire.StampedTransform(t, "odom", "base_link", np.eye(4)) for t in times]
    live.robot.send("/tf", wire.TF, wire.encode_tf(pose))
    for k in range(0, 12, 2):
        # neighbours change places, every second cloud comes twice
        for stamp in (times[k + 1], times[k], times[k]):
            live.cloud(stamp)
    for stamp in times:
        live.image(stamp)
    live.step(1.2)
    live.until(lambda: live.count("completed") >= before["completed"] + 12)
    after = live.account()
    assert after["completed"] - before["completed"] == 12
    doubled = f"{POINTS} dropped duplicate_stamp"
    assert after[doubled] - before.get(doubled, 0) == 6


def test_fault_08_one_topic_is_silent(live):
    live.settle()
    before = live.account()
    for _ in range(60):
        live.cloud(live.step())
        live.spin(0.05)
    live.hears(f"{IMAGE}: no message for")
    said = live.said()
    assert f"ros2 topic hz {IMAGE}" in said
    assert f"Matching approximate, within 0.05 s: {POINTS} (" in said
    assert f"{IMAGE} (silent)" in said
    assert "Hz, newest stamp" in said
    # one line in ten seconds, not one a second
    assert said.count(f"{IMAGE}: no message for") <= 2
    live.pairs_come()
    live.recovers()
    after = live.account()
    lost = sum(after[k] - before.get(k, 0) for k in after if k.startswith(f"{POINTS} dropped"))
    assert lost >= 50


def test_fault_09_rates_of_one_hundred_and_ten_hertz(live):
    live.settle()
    before = live.account()
    live.step(1.0)
    start = live.now_ns
    pose = [
        wire.StampedTransform(start + k * SECOND // 10, "odom", "base_link", np.eye(4))
        for k in range(12)
    ]
    live.robot.send("/tf", wire.TF, wire.encode_tf(pose))
    for k in range(101):
        if k % 10 == 0:
            live.cloud(start + k * SECOND // 100)
        live.image(start + k * SECOND // 100 + 3_000_000)
    live.step(1.2)
    live.until(lambda: live.count("completed") >= before["completed"] + 10)
    live.pairs_come()  # the next frames settle what waited
    after = live.account()
    alone = f"{IMAGE} dropped no_partner"
    assert after[alone] - before.get(alone, 0) >= 85
    assert after[f"{POINTS} received"] - before[f"{POINTS} received"] == (
        after["completed"] - before["completed"]
    )


def test_fault_10_the_users_callback_raises(domain_apart):
    """A user's synchroniser behind real subscriptions goes on after its callback has raised."""
    from condense_ros.nodes._common import SENSOR_QOS, subscribe

    robot = Robot(domain_apart)
    seen = []

    def broken(match):
        seen.append(match[POINTS].stamp_ns)
        raise RuntimeError("user code")

    sync = Synchronizer([POINTS, IMAGE], SyncConfig(), broken)
    kinds = {POINTS: wire.POINT_CLOUD, IMAGE: wire.COMPRESSED_IMAGE}
    for topic, kind in kinds.items():

        def take(raw, topic=topic):
            sync.add(topic, wire.read_header(raw).stamp_ns, raw)

        subscribe(robot.node, kind, topic, take, SENSOR_QOS)

    def send(stamp):
        robot.send(POINTS, wire.POINT_CLOUD, cloud(stamp))
        robot.send(IMAGE, wire.COMPRESSED_IMAGE, jpeg(stamp))

    stamp, deadline = SECOND, time.monotonic() + 30.0
    while len(seen) < 5:
        assert time.monotonic() < deadline, "the synchroniser fell silent"
        stamp += SECOND // 10
        send(stamp)
        for _ in range(4):
            robot.executor.spin_once(timeout_sec=0.05)
    assert sync.callback_errors == len(seen)
    assert str(sync.last_error) == "user code"
    for count in sync.accounting().values():
        assert count.received == count.matched + sum(count.dropped.values()) + count.waiting
    robot.close()


@pytest.mark.parametrize(
    ("sec", "nanosec"), [(-5, 0), (100, 1_500_000_000)], ids=["negative", "nanoseconds"]
)
def test_fault_11_stamps_outside_the_definition(live, sec, nanosec):
    live.settle()
    key = f"{POINTS} dropped malformed"
    live.until_counted(
        key,
        lambda: live.robot.send(
            POINTS, wire.POINT_CLOUD, stamped(cloud(live.now_ns), sec, nanosec)
        ),
    )
    live.hears(f"stamp is sec {sec}, nanosec {nanosec}")
    assert "publish stamps with sec >= 0 and nanosec < 1000000000" in live.said()
    live.pairs_come()
    live.account()
