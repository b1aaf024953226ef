"""The launch files: checked statically anywhere, run where upstream's `launch` is importable."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NODES = ("capture_node", "replay_node", "perception_node")


def declared_arguments(path: Path) -> set[str]:
    """Names of the arguments a launch file declares."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "id", "")
            if called in ("DeclareLaunchArgument", "argument"):
                names.add(getattr(node.args[0], "value", None))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_file_describes_a_launch(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert "generate_launch_description" in {getattr(node, "name", "") for node in tree.body}
    text = path.read_text()
    for name in re.findall(r'"config", "([^"]+)"', text):
        assert (ROOT / "config" / name).is_file(), name
    for name in re.findall(r'"launch", "([^"]+)"', text):
        assert (ROOT / "launch" / name).is_file(), name
    for name in re.findall(r'executable="(\w+)"', text):
        assert name in (*NODES, "rviz2")


def test_arguments_of_the_perception_launch() -> None:
    declared = declared_arguments(ROOT / "launch/perception.launch.py")
    assert {"bag", "map", "checkpoint", "device", "rviz"} <= declared


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_configuration_used_is_declared(path: Path) -> None:
    used = set(re.findall(r'LaunchConfiguration\("(\w+)"\)', path.read_text()))
    used |= set(re.findall(r'\b(?:text|value)\("(\w+)"', path.read_text()))
    assert used <= declared_arguments(path)


def flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found


def node_dataclasses(node: str) -> list[tuple[str, type]]:
    """(prefix, dataclass) of a node's parameters."""
    from condense_ros.bags import RecordConfig
    from condense_ros.capture import CaptureConfig, RingConfig, TriggerConfig
    from condense_ros.playback import LiveConfig, PlaybackConfig
    from condense_ros.sync import SyncConfig

    if node == "perception_node":
        # beside the node, but it imports no ROS
        from condense_ros.nodes.perception_parameters import PerceptionParameters

        return [("", PerceptionParameters)]
    if node == "replay_node":
        return [("", PlaybackConfig), ("simulate.", LiveConfig)]
    return [
        ("", CaptureConfig),
        ("sync.", SyncConfig),
        ("record.", RecordConfig),
        ("trigger.", TriggerConfig),
        ("ring.", RingConfig),
    ]


@pytest.mark.parametrize("node", NODES)
def test_parameter_files_fit_the_nodes(node: str) -> None:
    from condense_ros.config import build

    content = yaml.safe_load((ROOT / "config" / f"{node.removesuffix('_node')}.yaml").read_text())
    assert list(content) == [node]
    values = flat(content[node]["ros__parameters"])
    assert values
    classes = node_dataclasses(node)
    prefixes = {prefix for prefix, _ in classes}
    for prefix, cls in classes:
        mine = {
            name.removeprefix(prefix): value
            for name, value in values.items()
            if name.startswith(prefix) and (prefix or name.split(".")[0] + "." not in prefixes)
        }
        build(cls, mine)


def test_rviz_layout_shows_what_the_nodes_publish() -> None:
    layout = yaml.safe_load((ROOT / "config/perception.rviz").read_text())
    displays = layout["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert {"/perception_node/segmented_points", "/perception_node/pose"} <= topics


# with upstream's launch

try:
    from launch import LaunchDescription  # noqa: F401  # the folder launch/ has no such name

    UPSTREAM = True
except ImportError:
    UPSTREAM = False
upstream = pytest.mark.skipif(not UPSTREAM, reason="needs upstream's launch (not on PyPI)")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prefix that looks like an installed workspace, with this checkout behind it."""
    prefix = tmp_path / "install"
    share = prefix / "share" / "condense_ros"
    share.mkdir(parents=True)
    index = prefix / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "condense_ros").touch()
    for name in ("launch", "config"):
        (share / name).symlink_to(ROOT / name)
    programs = prefix / "lib" / "condense_ros"
    programs.mkdir(parents=True)
    for node in NODES:
        program = programs / node
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m condense_ros.nodes.{node} "$@"\n')
        program.chmod(0o755)
    before = os.environ.get("AMENT_PREFIX_PATH") or sys.prefix
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}{os.pathsep}{before}")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("ROS_DOMAIN_ID", "43")
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    return prefix


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with a head, of random weights: the launch needs no better ones."""
    import torch

    from condense_ros.models import (
        Checkpoint,
        HeadInfo,
        LinearHead,
        build_backbone,
        preset,
        save_checkpoint,
    )
    from condense_ros.sim import ontology

    torch.manual_seed(0)
    backbone = build_backbone(preset("demo"))
    head = LinearHead(HeadInfo(ontology, "none: random weights", backbone.out_channels))
    path = tmp_path / "random.safetensors"
    return save_checkpoint(path, Checkpoint.of(backbone, {"segmentation": head}))


RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

path, arguments = sys.argv[1], [tuple(a.split(":=", 1)) for a in sys.argv[2:]]
service = LaunchService(argv=sys.argv[2:])
source = PythonLaunchDescriptionSource(path)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@pytest.fixture
def launched(installed: Path, tmp_path: Path) -> Iterator[object]:
    """Starts a launch file; what is still running at the end of the test is stopped."""
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> Path:
        output = tmp_path / f"{name}.out"
        path = installed / "share/condense_ros/launch" / name
        with output.open("wb") as sink:
            command = [sys.executable, "-c", RUN, str(path), *arguments]
            running.append(
                subprocess.Popen(
                    command, stdout=sink, stderr=sink, cwd=tmp_path, start_new_session=True
                )
            )
        return output

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def state_of(node: str, wanted: str, timeout_s: float) -> str:
    """The life cycle state of a node, asked until it is `wanted` or the time is over."""
    import rclpy
    from lifecycle_msgs.srv import GetState
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor

    context = Context()
    rclpy.init(context=context)
    asker = rclpy.create_node("state_asker", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(asker)
    client = asker.create_client(GetState, f"{node}/get_state")
    label = "unreachable"
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and label != wanted:
        if client.wait_for_service(timeout_sec=0.5):
            future = client.call_async(GetState.Request())
            executor.spin_until_future_complete(future, timeout_sec=2.0)
            if future.done() and future.result() is not None:
                label = future.result().current_state.label
        time.sleep(0.1)
    executor.shutdown()
    rclpy.shutdown(context=context)
    return label


@upstream
@pytest.mark.ros
def test_perception_is_configured_and_activated(launched, checkpoint: Path) -> None:  # type: ignore[no-untyped-def]
    output = launched("perception.launch.py", f"checkpoint:={checkpoint}", "device:=cpu")
    assert state_of("/perception_node", "active", 60.0) == "active", output.read_text()


@upstream
@pytest.mark.ros
def test_without_a_checkpoint_it_stays_unconfigured_and_says_so(launched) -> None:  # type: ignore[no-untyped-def]
    output = launched("perception.launch.py")
    deadline = time.monotonic() + 60.0
    while "stays unconfigured" not in output.read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    text = output.read_text()
    assert "stays unconfigured" in text
    assert "condense pretrain" in text
    assert state_of("/perception_node", "unconfigured", 10.0) == "unconfigured"


@upstream
@pytest.mark.ros
def test_a_bag_is_played_once_the_node_is_active(
    launched,  # type: ignore[no-untyped-def]
    checkpoint: Path,
    data_dir: Path,
) -> None:
    output = launched(
        "perception.launch.py",
        f"checkpoint:={checkpoint}",
        f"bag:={data_dir / 'kitti_jam_camlidar'}",
        "device:=cpu",
    )
    deadline = time.monotonic() + 90.0
    while "replay_node]: sent in" not in output.read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    text = output.read_text()
    assert "sent in" in text, text
    assert text.index("perception_node-1") < text.index("replay_node-2")


def test_perception_file_holds_the_defaults() -> None:
    """It says so of itself; a default that changes must change there too."""
    from condense_ros.nodes.perception_parameters import PerceptionParameters

    content = yaml.safe_load((ROOT / "config" / "perception.yaml").read_text())
    defaults = PerceptionParameters()
    values = content["perception_node"]["ros__parameters"]
    assert values == {name: getattr(defaults, name) for name in values}
