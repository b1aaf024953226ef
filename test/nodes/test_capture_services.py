"""Services and transport diagnostics of a capture node, over DDS."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pytest

from condense_ros.bags import BagReader, bag_info
from condense_ros.cli._processes import node_environment
from condense_ros.datasets import open_dataset
from condense_ros.errors import CondenseError
from condense_ros.transport import profile_path

from .conftest import IMAGE, POINTS, SECOND, Robot, Session
from .live import Live

pytestmark = pytest.mark.ros
TRANSPORT = "capture_node: transport"


@pytest.fixture
def live_of(tmp_path, domain):
    """Starts a node with parameters; ended with the test."""
    robot = Robot(domain)
    nodes = []

    def start(**parameters) -> Live:
        nodes.append(Live(Session(tmp_path, domain), robot, **parameters))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()
    robot.close()


def call(live: Live, name: str):
    from std_srvs.srv import Trigger

    return live.robot.call(Trigger, f"/capture_node/{name}", Trigger.Request())


def test_pairs_by_service_and_a_snapshot_of_the_last_seconds(live_of):
    live = live_of(**{"trigger.mode": "service", "ring.seconds": 60.0})
    live.pairs_come(4)
    bag = live.session.folder / "bag"
    for _ in range(2):
        before = live.count("untriggered") + live.count("pairs")
        answer = call(live, "trigger")
        assert (answer.success, answer.message) == (True, "the next pair will be recorded")
        live.pairs_come(2)
        live.until(lambda start=before: live.count("untriggered") + live.count("pairs") > start)
    account = live.account()
    assert account["pairs"] == 2
    assert account["untriggered"] == account["completed"] - 2
    # capture goes on while the ring is written
    answer = call(live, "snapshot")
    assert answer.success, answer.message
    shot = f"{bag}_snapshot_0"
    assert answer.message.startswith(shot)
    live.pairs_come(2)
    assert call(live, "snapshot").message.startswith(f"{bag}_snapshot_1")
    data = open_dataset(shot)
    assert len(data) >= 8
    assert data.incomplete == 0
    assert data[0].images[0].camera.K[0, 0] == 60.0
    live.close()
    assert len(BagReader(bag).pairs()) == 2
    assert open_dataset(bag).incomplete == 0
    assert bag_info(bag).pairs == 2


def test_requests_that_cannot_be_met_say_why(live_of):
    live = live_of()
    # the node sets its own profile where none is chosen; a full /dev/shm is a warning
    live.until(lambda: TRANSPORT in live._statuses)
    assert live.status(TRANSPORT).level in (b"\0", b"\1")
    assert "there is no ring buffer" in call(live, "snapshot").message
    assert "set ring.seconds" in call(live, "snapshot").message
    assert "every pair is recorded" in call(live, "trigger").message
    assert "already recording" in call(live, "start").message
    assert call(live, "stop").success
    refused = call(live, "split")
    assert (refused.success, "nothing is being recorded" in refused.message) == (False, True)
    live.pairs_come()


def test_the_calibration_watch_is_among_the_diagnostics(live_of):
    """The robot of these tests stands still in front of one picture: nothing can be told."""
    live = live_of(**{"calibration.every_s": 0.2})
    name = "capture_node: calibration"
    live.until_counted("completed", live.frame, 5)
    live.until(lambda: name in live._statuses and "cannot tell" in live.status(name).message)
    live.hears("calibration of front: cannot tell")
    assert live.status(name).level == b"\0"
    values = {value.key: value.value for value in live.status(name).values}
    assert int(values["looked_at"]) >= 1
    live.account()


def test_condense_record_is_clean_in_a_pipe(robot, tmp_path, domain):
    """Plain lines and a last table with rates and drops; no control characters."""
    command = [sys.executable, "-m", "condense_ros.cli", "record", str(tmp_path / "bag")]
    values = {"image_topics": f"[{IMAGE}]", "report_period_s": 0.2, "transform_wait_s": 0.2}
    for name, value in values.items():
        command += ["-p", f"{name}={value}"]
    process = subprocess.Popen(
        command,
        env=node_environment(domain),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        robot.statics()
        robot.camera_info()
        stamp, deadline = SECOND, time.monotonic() + 60.0
        while bag_pairs(tmp_path / "bag") < 5 and time.monotonic() < deadline:
            for _ in range(10):
                stamp += SECOND // 10
                robot.frame(stamp)
        # what the node has counted reaches the command a report later
        time.sleep(3.0)
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=60)[0].decode()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, shown
    assert "\x1b" not in shown
    (row,) = [line for line in shown.splitlines() if line.startswith(f"│ {POINTS} ")]
    assert int(row.split("│")[4]) >= 5
    assert "MB written" in shown
    assert "GB free" in shown
    assert re.search(r"bag: .*bag, \d+ messages, \d+ pairs", shown)


def bag_pairs(path) -> int:
    try:
        return len(BagReader(path).pairs())
    except CondenseError:
        return 0


def test_message_filters_is_named_where_it_is_missing(live_of, tmp_path, domain):
    try:
        import message_filters  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("message_filters is installed")
    session = Session(tmp_path, domain)
    values = {"image_topics": ["/a/image"], "sync.policy": "message_filters"}
    with session.running("capture_node", **values) as process:
        assert process.process.wait(40) == 1
    log = session.log("capture_node")
    assert "policy message_filters needs upstream's package" in log
    assert "set sync.policy to slop, which has the same semantics" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("fault", ["missing", "small"])
def test_the_transport_profile_is_diagnosed(live_of, monkeypatch, tmp_path, fault):
    """A profile that is absent or too small for images is an ERROR that names the way out."""
    path = tmp_path / "mine.xml"
    if fault == "small":
        text = profile_path().read_text()
        assert "67108864" in text
        path.write_text(text.replace("67108864", "524288"))
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(name, str(path))
    live = live_of()
    live.until(lambda: TRANSPORT in live._statuses)
    status = live.status(TRANSPORT)
    assert status.level == b"\2"
    words = "cannot be read" if fault == "missing" else "0.5 MiB of shared memory per node"
    assert str(path) in status.message
    assert words in status.message
    assert str(profile_path()) in status.message
    live.hears(words)


def test_a_shared_memory_too_small_is_an_error(monkeypatch):
    """What a container with 64 MB of /dev/shm gives; the words of the node's diagnostic."""
    from types import SimpleNamespace

    from condense_ros import transport
    from condense_ros.nodes._common import transport_status

    mib = 1024**2
    usage = SimpleNamespace(total=64 * mib, free=64 * mib)
    monkeypatch.setattr(transport, "shutil", SimpleNamespace(disk_usage=lambda _: usage))
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile_path()))
    status = transport_status("capture_node")
    assert status.level == 2
    assert "/dev/shm has 64 of 64 MiB free; 4 nodes take 256 MiB" in status.message
    assert "docker run --shm-size=1g" in status.message
    usage.total = usage.free = 1024 * mib
    assert transport_status("capture_node").level == 0
