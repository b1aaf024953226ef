"""Faults 39 to 48 of the recorder through capture_node and `condense record`."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from condense_ros import wire
from condense_ros.bags import BagReader, bag_info, recover
from condense_ros.cli._processes import node_environment

from .conftest import IMAGE, INFO, POINTS, SECOND, Robot, cloud, jpeg
from .live import RECORDER, Live

pytestmark = pytest.mark.ros

#: messages reach the disk soon, so that a test need not wait long
QUICK = {"record.flush_interval_s": 0.1, "record.chunk_mib": 0.01, "record.min_free_mib": 0.0}


@contextmanager
def living(session, robot, **more) -> Iterator[Live]:
    live = Live(session, robot, **{**QUICK, **more})
    try:
        yield live
    finally:
        live.close()


def recorded(live: Live) -> dict[str, dict[str, int]]:
    """The recorder's account by topic, after checking its identity."""
    live.fresh()
    found: dict[str, dict[str, int]] = {}
    for value in live.status(RECORDER).values:
        topic, _, what = value.key.partition(" ")
        if topic.startswith("/"):
            found.setdefault(topic, {})[what] = int(value.value)
    for counts in found.values():
        dropped = sum(n for what, n in counts.items() if what.startswith("dropped "))
        assert counts["accepted"] == counts["written"] + dropped + counts["queued"], counts
    return found


def stream(live: Live, frames: int, pause_s: float = 0.0) -> list[int]:
    """Sends frames without the pauses of `Robot.send`; returns their stamps."""
    stamps = []
    for _ in range(frames):
        stamp = live.step()
        for topic, raw in ((IMAGE, jpeg(stamp)), (POINTS, cloud(stamp, count=500))):
            live.robot._publishers[topic].publish(raw)
        stamps.append(stamp)
        time.sleep(pause_s)
    return stamps


def in_order(folder: Path, sent: list[int]) -> dict[str, list[int]]:
    """Stamps of images and clouds in a bag: a part of what was sent, in order, nothing twice."""
    found = {}
    for topic in (IMAGE, POINTS):
        stamps = [m.stamp_ns for m in BagReader(folder).messages([topic])]
        assert stamps == sorted(set(stamps))
        assert {stamp for stamp in stamps if stamp >= min(sent)} <= set(sent)
        found[topic] = stamps
    return found


def kill_once(session, rng: np.random.Generator, name: str) -> int:
    """Kills a node at a random time under load; what it had acknowledged must be in the bag."""
    bag = session.folder / name
    # a robot of its own: DDS takes its time to notice that a killed node is gone
    with (
        contextlib.closing(Robot(session.domain)) as robot,
        contextlib.nullcontext(_segments(os.getpid())) as before,
        living(session, robot, bag=str(bag), **{"record.split_mib": 0.3}) as live,
    ):
        live.settle()
        sent: list[int] = []
        kill_at = time.monotonic() + float(rng.uniform(0.1, 0.8))
        while time.monotonic() < kill_at:
            sent += stream(live, 3, 0.002)
            live.spin(0.002)
        told = {v.key: v.value for v in live.status(RECORDER).values}
        left = _segments(live.process.process.pid) - before
        live.process.process.kill()
        live.process.process.wait()
        for segment in left:
            segment.unlink(missing_ok=True)
    acknowledged = {t: int(told.get(f"{t} acknowledged", 0)) for t in (IMAGE, POINTS, "/tf")}
    reader = BagReader(bag)
    assert reader.damaged == 0
    found = in_order(bag, sent)
    for topic, count in acknowledged.items():
        assert reader.topics[topic].count >= count, (topic, count)
    recovery = recover(bag, session.folder / f"{name}_out")
    assert recovery.damaged == 0
    after = in_order(session.folder / f"{name}_out", sent)
    assert after == found
    _opens_everywhere(session.folder / f"{name}_out")
    shutil.rmtree(bag)
    shutil.rmtree(session.folder / f"{name}_out")
    return sum(acknowledged.values())


def _segments(pid: int) -> set[Path]:
    """Shared memory that a process has mapped; a killed one leaves its own behind."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split()[-1]) for line in lines if "/dev/shm/fastrtps_" in line}


def _opens_everywhere(folder: Path) -> None:
    from mcap.reader import make_reader
    from rosbags.rosbag2 import Reader

    with Reader(folder) as reader:
        count = sum(1 for _ in reader.messages())
    found = 0
    for file in folder.glob("*.mcap"):
        with open(file, "rb") as stream:
            found += sum(1 for _ in make_reader(stream, validate_crcs=True).iter_messages())
    assert found == count > 0


def test_fault_39_kill_nine(session):
    rng = np.random.default_rng(0)
    assert sum(kill_once(session, rng, f"bag{k}") for k in range(2)) > 20


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(1, 5))
def test_fault_39_kill_nine_two_hundred_times(session, seed):
    """Fifty kills for each seed."""
    rng = np.random.default_rng(seed)
    counts = [kill_once(session, rng, f"bag{k}") for k in range(50)]
    print(f"{len(counts)} kills, {sum(counts)} acknowledged messages, none lost")


def test_fault_40_disk_full_then_room_again(session, robot):
    with living(session, robot) as live:
        live.settle()
        stream(live, 5, 0.02)
        before = recorded(live)
        file = session.folder / "bag" / "bag_0.mcap"
        _limit(live, file.stat().st_size + 20_000)
        live.until(lambda: (stream(live, 1, 0.02), "is interrupted" in live.said())[1])
        live.until(lambda: "no room on the disk" in live.status(RECORDER).message)
        status = live.status(RECORDER)
        assert status.level == b"\x02"
        assert "free space or record elsewhere; recording resumes by itself" in status.message
        # what was acknowledged before is there, while the disk is full
        for topic, counts in before.items():
            assert BagReader(session.folder / "bag").topics[topic].count >= counts["acknowledged"]
        live.until(lambda: (stream(live, 1, 0.02), _dropped(live, "storage_full") > 5)[1])
        _limit(live, resource.RLIM_INFINITY)
        live.hears("resumes")
        live.until(lambda: live.status(RECORDER).level == b"\x00")
        last = stream(live, 5, 0.02)
        live.spin(1.0)
        counts = recorded(live)
        assert sum(c.get("dropped storage_full", 0) for c in counts.values()) > 5
    found = in_order(session.folder / "bag", last)
    assert found[POINTS][-5:] == last
    assert bag_info(session.folder / "bag").damaged == 0
    closes_recorder(session)


def _limit(live: Live, size: int) -> None:
    """The size a file may have for the node, as a full disk would set it."""
    resource.prlimit(
        live.process.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)
    )


def _dropped(live: Live, reason: str) -> int:
    found = live.status(RECORDER).values
    return sum(int(v.value) for v in found if v.key.endswith(f"dropped {reason}"))


def closes_recorder(session) -> None:
    """At the end the account of the recorder is that of the bag."""
    report = session.report("capture_node")
    reader = BagReader(session.folder / "bag")
    for topic, count in report["recorder"].items():
        dropped = sum(count["dropped"].values())
        assert count["accepted"] == count["written"] + dropped + count["queued"]
        assert count["queued"] == 0
        assert reader.topics[topic].count == count["written"] if count["written"] else True


@pytest.fixture
def read_only(tmp_path) -> Iterator[Path]:
    """A folder that this process may not write, whoever runs it."""
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("root may write anywhere, and may not mount here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_fault_41_read_only_folder(session, robot, read_only):
    """The node says so and ends; the command too, before it waits for sensors."""
    bag = read_only / "bag"
    with session.running("capture_node", bag=str(bag), image_topics=[IMAGE]) as node:
        assert node.process.wait(60) == 1
        assert f"the bag folder {bag} cannot be made: " in node.tail(1)
        assert "Fix: choose a folder you may write to" in node.tail(1)
    done = condense(session, "record", bag)
    assert done.returncode == 1
    assert f"error: no permission for {read_only}" in done.stderr
    assert "fix: choose a place that you may write to" in done.stderr
    # elsewhere the same command records
    with living(session, robot, bag=str(session.folder / "bag")) as live:
        live.pairs_come()


def test_fault_42_slow_disk_drops_are_counted_per_topic(session, robot, tmp_path, monkeypatch):
    """Writes take long while a flag is there; only what fills the queue is dropped."""
    flag = tmp_path / "slow"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(
        "import os, time\n"
        "write = os.writev\n"
        "def slow(handle, buffers):\n"
        f"    while os.path.exists({str(flag)!r}):\n"
        "        time.sleep(0.01)\n"
        "    return write(handle, buffers)\n"
        "os.writev = slow\n"
    )
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(hooks), os.environ.get("PYTHONPATH", "")])
    )
    with living(session, robot, **{"record.queue_mib": 0.1}) as live:
        live.settle()
        flag.touch()
        big = 3000  # points: 36 kB
        live.until(
            lambda: (
                [live.robot._publishers[POINTS].publish(cloud(live.step(), count=big))],
                live.robot._publishers[IMAGE].publish(jpeg(live.now_ns)),
                live.spin(0.02),
                _dropped(live, "queue_full") > 10,
            )[-1]
        )
        counts = recorded(live)
        assert counts[POINTS]["dropped queue_full"] > 10
        # small messages have room of their own
        assert "dropped queue_full" not in counts.get(IMAGE, {})
        flag.unlink()
        before = recorded(live)[POINTS]["written"]
        live.until(
            lambda: (stream(live, 1, 0.02), recorded(live)[POINTS]["written"] > before + 3)[1]
        )
        last = stream(live, 3, 0.05)
        live.spin(0.5)
    assert in_order(session.folder / "bag", last)[POINTS][-3:] == last
    closes_recorder(session)


def test_fault_43_split_under_load_loses_nothing(session, robot):
    from std_srvs.srv import Trigger

    with living(session, robot, **{"record.split_mib": 0.2}) as live:
        live.settle()
        sent = []
        for _ in range(4):
            sent += stream(live, 15, 0.01)
            answer = live.robot.call(Trigger, "/capture_node/split", Trigger.Request())
            assert (answer.success, answer.message) == (True, "going on in a new file")
        live.spin(1.0)
        counts = recorded(live)
        assert all(not [w for w in c if w.startswith("dropped")] for c in counts.values())
        report = live.account()
    files = list((session.folder / "bag").glob("*.mcap"))
    assert len(files) >= 5
    reader = BagReader(session.folder / "bag")
    for topic in (IMAGE, POINTS):
        # what came in is there, once, in order, across all boundaries
        assert reader.topics[topic].count == report[f"{topic} received"]
    in_order(session.folder / "bag", sent)
    for file in files:
        alone = BagReader(file)
        assert alone.finished
        if POINTS in alone.topics:
            assert {INFO, "/tf_static"} <= set(alone.topics), file
    closes_recorder(session)


def test_fault_46_two_recorders_on_one_path(session, robot):
    with living(session, robot) as live:
        live.settle()
        log = session.folder / "second"
        with session.running(
            "capture_node",
            bag=str(session.folder / "bag"),
            image_topics=[IMAGE],
            report_path=str(log.with_suffix(".json")),
        ) as second:
            live.until(lambda: second.process.poll() is not None)
            assert second.process.returncode == 1
            said = second.tail()
        assert f"another recorder is writing to {session.folder / 'bag'}" in said
        assert "stop it or choose another folder" in said
        live.pairs_come()
        done = condense(session, "record", session.folder / "bag", "--duration", "1")
        assert done.returncode == 1
        assert f"{session.folder / 'bag'} exists already" in done.stderr
        last = stream(live, 3, 0.05)
        live.spin(0.5)
    assert in_order(session.folder / "bag", last)[POINTS][-3:] == last


def condense(session, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "condense_ros.cli", *map(str, arguments)],
        env=node_environment(session.domain),
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def record_command(session, bag: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "condense_ros.cli", "record", str(bag)]
    for name, value in {"image_topics": f"[{IMAGE}]", **QUICK}.items():
        command += ["-p", f"{name}={value}"]
    process = subprocess.Popen(
        command,
        env=node_environment(session.domain),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a group of its own: a signal to the test runner's group is not meant for it
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def frames_until_recorded(robot, bag: Path) -> None:
    """Sends frames until the bag holds some."""
    robot.statics()
    robot.camera_info()
    deadline = time.monotonic() + 30
    k = 0
    while True:
        k += 1
        robot.frame(100 * SECOND + k * SECOND // 10)
        if k % 10 == 0 and len(BagReader(bag).pairs()) >= 3:
            return
        assert time.monotonic() < deadline


SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGTERM_twice": [signal.SIGTERM, signal.SIGTERM],
    "SIGINT_then_SIGTERM": [signal.SIGINT, signal.SIGTERM],
}


@pytest.mark.parametrize(
    "name",
    [
        "SIGINT",
        "SIGTERM_twice",
        pytest.param("SIGTERM", marks=pytest.mark.slow),
        pytest.param("SIGINT_then_SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_fault_47_signals_close_the_bag(session, robot, name):
    bag = session.folder / "bag"
    with record_command(session, bag) as process:
        frames_until_recorded(robot, bag)
        for number in SIGNALS[name]:
            process.send_signal(number)
            time.sleep(0.05)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "closing the bag" in err
    info = bag_info(bag)
    assert info.finished
    assert info.damaged == 0
    assert re.search(rf"bag: \S*bag, {info.messages} messages, {info.pairs} pairs", out)
    assert (bag / "metadata.yaml").exists()
    assert not _alive(bag)


def test_fault_47_the_node_does_not_outlive_a_killed_command(session, robot):
    bag = session.folder / "bag"
    with record_command(session, bag) as process:
        frames_until_recorded(robot, bag)
        assert _alive(bag)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while _alive(bag):
            assert time.monotonic() < deadline, "the node records on without anybody knowing"
            time.sleep(0.1)
    assert bag_info(bag).finished


def _alive(bag: Path) -> list[int]:
    """Capture nodes that write this bag."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if b"capture_node" in command and os.fsencode(bag) in command and not zombie:
                found.append(int(entry.name))
    return found


def test_fault_48_clock_moved_back_while_recording(session, robot):
    """Simulated time, which the times of reception are taken from, goes back by half an hour."""
    from condense_ros.nodes._common import STATE_QOS

    def tick(stamp_ns: int) -> None:
        clock.publish(wire.encode_clock(stamp_ns))

    clock = robot.publisher("/clock", "rosgraph_msgs/msg/Clock", STATE_QOS)
    with living(session, robot, use_sim_time=True) as live:
        for start in (10_000 * SECOND, 8_000 * SECOND):
            live.now_ns = start
            before = live.count("completed")
            deadline = time.monotonic() + 30
            while live.count("completed") < before + 5:
                tick(live.now_ns)
                live.frame()
                live.spin()
                assert time.monotonic() < deadline, live.said()
        live.hears("the clock went back")
        counts = recorded(live)
        assert all(not [w for w in c if w.startswith("dropped")] for c in counts.values())
    info = bag_info(session.folder / "bag")
    assert info.damaged == 0
    assert info.finished
    assert 2000 <= info.duration_s < 2100
    times = [m.log_ns for m in BagReader(session.folder / "bag").messages([POINTS])]
    assert min(times[-5:]) < min(times[:3])
    closes_recorder(session)
