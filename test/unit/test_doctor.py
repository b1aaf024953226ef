"""`condense doctor`: each fault of a machine is found and comes with its fix."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from condense_ros.cli.app import app
from condense_ros.cli.checks import calibration, clocks, live, machine, ros, shared_memory
from condense_ros.cli.checks.finding import Finding
from condense_ros.sparse import native_library
from condense_ros.transport import profile_path

MIB = 1024**2


def only(findings: list[Finding], status: str) -> list[Finding]:
    return [item for item in findings if item.status == status]


def test_a_fault_without_a_fix_is_refused() -> None:
    with pytest.raises(ValueError, match="without a fix"):
        Finding("disk", "error", "full")


def test_python_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.python().status == "ok"
    monkeypatch.setattr(machine.sys, "version_info", (3, 9, 18))
    found = machine.python()
    assert found.status == "error"
    assert "3.10" in found.fix


def test_sparse_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.sparse().status == ("ok" if native_library.library() else "warning")
    monkeypatch.setattr(native_library, "_loaded", None)
    monkeypatch.setattr(native_library, "_problem", "the compiled part is not there")
    found = machine.sparse()
    assert found.status == "warning"
    assert "several times slower: the compiled part is not there" in found.found
    assert "C++ compiler" in found.fix


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = machine.compiler()[0]
    assert (found.status, "no-such-compiler" in found.found) == ("warning", True)
    assert "apt-get install g++" in found.fix


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert machine.processor().fix == "export OMP_NUM_THREADS=2"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert machine.processor().status == "ok"
    monkeypatch.setattr(machine, "available_cores", lambda: 1.0)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert machine.processor().status == "warning"


@pytest.mark.parametrize(("free_gib", "status"), [(0.5, "error"), (5, "warning"), (50, "ok")])
def test_disk(
    free_gib: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=free_gib * 1024**3, total=100 * 1024**3)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    assert machine.disk(tmp_path / "not" / "yet").status == status


def test_environment_that_stops_rclpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setenv("ROS_DOMAIN_ID", "500")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    found = {item.subject: item for item in ros.environment()}
    assert found["HOME"].status == "error"
    assert "unset _ROS_WHEELS_BOOTSTRAP_COMPLETE" in found["library path"].fix
    assert found["ROS domain"].status == "error"
    assert found["middleware"].status == "note"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> str:
        return "" if module == "rclpy" else f"ModuleNotFoundError: {module}"

    monkeypatch.setattr(ros, "_import", absent)
    errors = only(ros.imports(), "error")
    assert [item.subject for item in errors] == ["condense_msgs", "tf2_msgs"]
    assert all("make env" in item.fix and "colcon build" in item.fix for item in errors)


def test_sourced_ros_and_wheels_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros.importlib.metadata, "version", lambda name: "7.1.6")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert ros.distribution().found.startswith("jazzy")
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert ros.distribution().status == "warning"


def test_profile_of_the_package_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shared_memory.PROFILE_VARIABLE, str(profile_path()))
    finding, profile = shared_memory.profile()
    assert finding.status == "ok"
    assert profile is not None
    assert (profile.segment_bytes, profile.udp, profile.builtin) == (64 * MIB, True, False)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (">67108864<", ">524288<", "0.5 MiB"),
        ("Transports>false<", "Transports>true<", "built-in"),
        ("<transport_id>condense_udp</transport_id>\n        </user", "</user", "UDPv4"),
        ('is_default_profile="true"', "", "no default participant"),
        ("</dds>", "", "no XML"),
    ],
)
def test_profiles_that_lose_messages(
    old: str, new: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = profile_path().read_text()
    assert old in text
    path = tmp_path / "profile.xml"
    path.write_text(text.replace(old, new))
    monkeypatch.setenv(shared_memory.PROFILE_VARIABLE, str(path))
    finding, _ = shared_memory.profile()
    assert finding.status in ("warning", "error")
    assert word in finding.found
    assert str(profile_path()) in finding.fix


def test_profile_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shared_memory.PROFILE_VARIABLE, str(tmp_path / "none.xml"))
    finding, profile = shared_memory.profile()
    assert (finding.status, profile) == ("error", None)


@pytest.mark.parametrize(
    ("total", "free", "status"), [(64, 64, "error"), (1024, 100, "warning"), (1024, 900, "ok")]
)
def test_shared_memory_against_the_segments(
    total: int, free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=total * MIB, free=free * MIB)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: usage)
    assert shared_memory.shared_memory(64 * MIB, tmp_path).status == status
    assert shared_memory.shared_memory(64 * MIB, tmp_path / "none").status == "error"


def test_clock_in_the_past() -> None:
    assert clocks.system_clock().status == "ok"
    found = clocks.system_clock(now_s=0.0)
    assert (found.status, "1970-01-01" in found.found) == ("error", True)


def test_clock_that_is_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clocks.steadiness(0.02).status == "ok"
    start = time.time()
    times = iter([start, start + 3600.0])
    monkeypatch.setattr(clocks.time, "time", lambda: next(times))
    found = clocks.steadiness(0.02)
    assert (found.status, "+3599" in found.found or "+3600" in found.found) == ("warning", True)


def test_calibration_of_real_data(data_dir: Path) -> None:
    found = calibration.calibration(data_dir / "kitti_jam_camlidar")
    assert [item.status for item in found] == ["ok"]
    assert "1242x375" in found[0].found


def test_calibration_missing(tmp_path: Path, data_dir: Path) -> None:
    assert calibration.calibration(tmp_path / "none")[0].status == "error"
    copy = tmp_path / "kitti"
    shutil.copytree(data_dir / "kitti_jam_camlidar", copy)
    for path in copy.glob("calib*"):
        path.unlink()
    (found,) = calibration.calibration(copy)
    assert found.status == "error"
    assert "calib" in found.found
    assert found.fix


def graph(**changes: object) -> SimpleNamespace:
    values = {
        "nodes": ("/camera", "/viewer"),
        "types": {"/image": ("sensor_msgs/msg/Image",)},
        "publishers": {"/image": ("/camera",)},
        "subscriptions": {"/image": ("/viewer",)},
        "mismatches": (),
        "sim_time": {"/camera": False, "/viewer": False},
        "clock_publishers": 0,
        "clashes": (),
    }
    return SimpleNamespace(**{**values, **changes})


def test_healthy_graph() -> None:
    assert [item.status for item in live.judge(graph())] == ["ok"]
    assert live.judge(graph(nodes=()))[0].status == "warning"


@pytest.mark.parametrize(
    ("changes", "subject", "status", "word"),
    [
        (
            {"mismatches": (SimpleNamespace(
                topic="/image", publisher="/camera", subscription="/viewer",
                reason="Best effort publisher and reliable subscription",
            ),)},
            "QoS of /image", "error", "Best effort",
        ),
        ({"clashes": ("/camera",)}, "node /camera", "error", "more than once"),
        ({"sim_time": {"/viewer": True}}, "use_sim_time", "error", "nobody publishes /clock"),
        (
            {"clock_publishers": 1, "publishers": {"/clock": ("/player",)}},
            "use_sim_time", "warning", "/viewer",
        ),
        ({"clock_publishers": 2, "sim_time": {}}, "/clock", "error", "2 publishers"),
        (
            {"types": {"/image": ("sensor_msgs/msg/Image", "std_msgs/msg/String")}},
            "type of /image", "error", "std_msgs",
        ),
        (
            {"publishers": {"/image": ("/camera", "/other")}},
            "publishers of /image", "note", "/other",
        ),
    ],
)  # fmt: skip
def test_sick_graphs(changes: dict[str, object], subject: str, status: str, word: str) -> None:
    found = {item.subject: item for item in live.judge(graph(**changes))}
    assert found[subject].status == status
    assert word in found[subject].found
    assert found[subject].fix


def test_json_and_exit_status(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["doctor", "--json", str(tmp_path / "no data")])
    findings = json.loads(result.stdout)
    assert result.exit_code == 1
    assert {"subject", "status", "found", "fix"} == set(findings[0])
    last = findings[-1]
    assert (last["subject"], last["status"]) == ("calibration", "error")
    assert "does not exist" in last["found"]
