"""Faults 12 to 19 and 25, clouds, through one perception node that lives through all of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")

import torch

from condense_ros import sim, wire
from condense_ros.frame import IGNORE
from condense_ros.models import (
    BackboneConfig,
    Checkpoint,
    HeadInfo,
    InputSpec,
    LinearHead,
    build_backbone,
    save_checkpoint,
)
from condense_ros.nodes._common import SENSOR_QOS, STATE_QOS, subscribe
from condense_ros.wire import Header

from .conftest import POINTS, Robot, ready

pytestmark = pytest.mark.ros


def checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(InputSpec(0.5, 40.0), (4,) * 9, (1,) * 8))
    head = LinearHead(HeadInfo(sim.ontology, "random weights", backbone.out_channels))
    made = Checkpoint.of(backbone, {"segmentation": head})
    return save_checkpoint(folder / "c.safetensors", made)


class Node:
    """The node's account and outputs, and a robot that sends clouds."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.labelled: dict[int, Any] = {}
        self._status: Any = None
        self._reports = 0
        subscribe(
            robot.node, wire.POINT_CLOUD, "/perception_node/segmented_points", self._take,
            SENSOR_QOS,
        )  # fmt: skip
        subscribe(robot.node, wire.DIAGNOSTICS, "/diagnostics", self._hear, STATE_QOS)

    def _take(self, raw: bytes) -> None:
        message = wire.decode_cloud(raw)
        self.labelled[message.header.stamp_ns] = message

    def _hear(self, raw: bytes) -> None:
        self._status, self._reports = wire.decode_diagnostics(raw)[1][0], self._reports + 1

    def until(self, condition: Any, timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; {self._status}"
            self.robot.executor.spin_once(timeout_sec=0.05)

    def account(self) -> dict[str, Any]:
        """Values of a fresh report in which the account closes."""
        before = self._reports
        self.until(lambda: self._reports >= before + 2)
        values = dict(self._status.values)
        dropped = sum(int(n) for key, n in values.items() if key.startswith("dropped "))
        assert int(values["received"]) == (
            int(values["processed"]) + dropped + int(values["waiting"])
        )
        return values

    def send(self, raw: bytes) -> None:
        self.robot.send(POINTS, wire.POINT_CLOUD, raw)

    def labels(self, xyz: np.ndarray, timeout_s: float = 40.0) -> Any:
        """The labelled cloud that comes back for a good one."""
        stamp = time.time_ns()
        values = {axis: xyz[:, i] for i, axis in enumerate("xyz")}
        self.send(wire.encode_cloud(Header(stamp, "lidar"), values))
        self.until(lambda: stamp in self.labelled, timeout_s)
        return self.labelled[stamp]

    def recovers(self) -> None:
        points = self.labels(XYZ).points
        assert (points["label"] != IGNORE).all()


XYZ = np.random.default_rng(0).uniform(-20, 20, (500, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from condense_ros.cli._processes import running

    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    domain = int(os.environ.get("CONDENSE_TEST_DOMAIN", "58")) + int(worker[2:]) % 4
    folder = tmp_path_factory.mktemp("perception")
    parameters = {
        "checkpoint": str(checkpoint(folder)),
        "autostart": True,
        "threads": 1,
        "max_age_s": 60.0,
        "max_points": 20_000,
        "report": str(folder / "report.json"),
    }
    robot = Robot(domain)
    try:
        with running("perception_node", parameters, folder / "log", domain) as process:
            out = Node(robot)
            ready(process, "no map")
            yield out
            process.check()
    finally:
        robot.close()


def test_fault_12_an_empty_cloud_comes_back_empty(node: Node) -> None:
    assert len(node.labels(XYZ[:0]).points) == 0
    node.recovers()
    node.account()


def test_fault_13_points_without_coordinates_have_no_label(node: Node) -> None:
    before = node.account()
    labelled = node.labels(np.full((300, 3), np.nan, np.float32))
    assert (labelled.points["label"] == IGNORE).all()
    values = node.account()
    assert node._status.level == wire.status.WARN
    assert values["problem cloud"] == (
        "none of the 300 points of a cloud is finite. Fix: check the lidar"
    )
    key = "points left out non_finite"
    assert int(values[key]) - int(before.get(key, 0)) == 300
    node.recovers()


@pytest.mark.parametrize("fault", ["14", "15", "17", "25"])
def test_fault_14_15_17_25_malformed_clouds_are_dropped_and_told(node: Node, fault: str) -> None:
    before = node.account()
    stamp = time.time_ns()
    raw = wire.encode_cloud(Header(stamp, "lidar"), dict.fromkeys("xyz", XYZ[:, 0]))
    message = wire.cdr.deserialize(wire.POINT_CLOUD, raw)
    if fault == "14":
        message.width += 1
    elif fault == "17":
        message.fields[0].datatype = 77
    bad = wire.cdr.serialize(wire.POINT_CLOUD, message)
    bad = {"15": raw[:-40], "25": b"\0\1\0\0" + np.random.default_rng(5).bytes(200)}.get(fault, bad)
    words = {
        "14": "has 6000 bytes",
        "15": "are no sensor_msgs/msg/PointCloud2",
        "17": "has datatype 77",
        "25": "are no sensor_msgs/msg/PointCloud2",
    }[fault]
    node.send(bad)
    node.until(lambda: words in dict(node._status.values).get("problem cloud", ""))
    key = "dropped malformed"
    assert int(node.account()[key]) - int(before.get(key, 0)) == 1
    node.recovers()


def large_cloud(points: int) -> np.ndarray:
    """Far from the nearest range that the checkpoint takes, near its farthest."""
    rng = np.random.default_rng(19)
    direction = rng.normal(size=(points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return (direction * rng.uniform(3, 38, (points, 1))).astype(np.float32)


def test_fault_19_a_million_points_lose_the_farthest(node: Node) -> None:
    """Over the declared capacity of 20,000: the nearest keep their labels, the rest is counted."""
    before = node.account()
    xyz = large_cloud(1_000_000)
    labelled = node.labels(xyz)
    assert len(labelled.points) == 1_000_000
    known = labelled.points["label"] != IGNORE
    assert known.sum() == 20_000
    distance = np.linalg.norm(xyz, axis=1)
    assert distance[known].max() <= distance[~known].min()
    values = node.account()
    assert values["problem capacity"].startswith(
        "a cloud of 1000000 points is over max_points = 20000: its farthest 980000 points"
    )
    key = "points left out over_capacity"
    assert int(values[key]) - int(before.get(key, 0)) == 980_000
    node.recovers()


@pytest.mark.slow
def test_fault_19_five_million_points_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same without the network between: what is left out is told, the rest has labels."""
    from condense_ros.cli.app import main

    xyz = large_cloud(5_000_000)
    np.save(tmp_path / "large.npy", xyz)
    arguments = ["segment", str(tmp_path / "large.npy"), "--checkpoint", str(checkpoint(tmp_path))]
    arguments += ["--out", str(tmp_path / "out"), "--suffix", ".npz", "-p", "max_points=20000"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "4980000 points left out: over_capacity" in capsys.readouterr().out
    [path] = (tmp_path / "out").rglob("*.npz")
    label = np.load(path)["label"]
    assert len(label) == 5_000_000
    distance = np.linalg.norm(xyz, axis=1)
    known = label != IGNORE
    assert known.sum() == 20_000
    assert distance[known].max() <= distance[~known].min()
