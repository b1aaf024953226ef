"""perception_node over real DDS: segments, relocalises, stores, refuses, survives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("condense_msgs", reason="the interface workspace is not built: `make env`")

import torch
from condense_msgs.msg import PlaceMatch
from condense_msgs.srv import LoadMap, QueryText, SaveMap, StorePlace
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters

from condense_ros import sim, wire
from condense_ros.frame import PointCloud
from condense_ros.geometry import inverse, pose_error, se3
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
from condense_ros.perception import Observer, Perceiver
from condense_ros.places import Place, PlaceMap
from condense_ros.wire import Header, StampedTransform
from condense_ros.wire.status import ERROR, OK, WARN

from .conftest import Robot, ready, wait_until

pytestmark = pytest.mark.ros

NODE = "/perception_node"
T_BASE_LIDAR = se3(np.eye(3), (0.2, 0.0, 1.73))


@pytest.fixture
def domain() -> int:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return 50 + int(worker[2:]) % 8


@pytest.fixture(scope="module")
def town() -> tuple[sim.Simulator, np.ndarray]:
    world = sim.World(311, sim.WorldConfig(columns=3, rows=3))
    return sim.Simulator(world), sim.drive(world, 6.0, seed=311)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = BackboneConfig(InputSpec(0.5, 40.0), (4,) * 9, (1,) * 8)
    backbone = build_backbone(config)
    info = HeadInfo(sim.ontology, "random weights", backbone.out_channels)
    path = tmp_path_factory.mktemp("c") / "c.safetensors"
    return save_checkpoint(path, Checkpoint.of(backbone, {"segmentation": LinearHead(info)}))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, town: Any, checkpoint: Path) -> Path:
    """A map of the drive, a place every 4 m."""
    simulator, driven = town
    perceiver = Perceiver(checkpoint)
    folder = tmp_path_factory.mktemp("maps") / "town"
    place_map = PlaceMap.create(folder, Observer(perceiver).header())
    last = np.full(3, np.inf)
    for row, pose in enumerate(driven):
        if np.linalg.norm(pose[:3, 3] - last) < 4.0:
            continue
        last = pose[:3, 3]
        frame = simulator.frame(pose, row * 10**8, images=False)
        observation = perceiver.perceive(frame).observation
        place_map.add(Place(observation, frame.T_world_lidar, frame.stamp_ns, name=f"row{row}"))
    place_map.save()
    return folder


class Client:
    """What listens to the node and asks it things."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.segmented: list[bytes] = []
        self.poses: list[bytes] = []
        self.matches: list[PlaceMatch] = []
        self.diagnostics: list[bytes] = []
        self.debug: list[bytes] = []
        node = robot.node
        subscribe(
            node, wire.POINT_CLOUD, f"{NODE}/segmented_points", self.segmented.append, SENSOR_QOS
        )
        subscribe(
            node,
            "geometry_msgs/msg/PoseWithCovarianceStamped",
            f"{NODE}/pose",
            self.poses.append,
            STATE_QOS,
        )
        subscribe(node, wire.DIAGNOSTICS, "/diagnostics", self.diagnostics.append, STATE_QOS)
        subscribe(
            node,
            "std_msgs/msg/Float64",
            f"{NODE}/debug/processing_time_ms",
            self.debug.append,
            STATE_QOS,
        )
        node.create_subscription(PlaceMatch, f"{NODE}/place_match", self.matches.append, 10)

    def static(self, child: str = "lidar") -> None:
        raw = wire.encode_tf([StampedTransform(1, "base_link", child, T_BASE_LIDAR)])
        self.robot.send("/tf_static", wire.TF, raw)

    def send(self, cloud: PointCloud, stamp_ns: int | None = None, **fields: np.ndarray) -> int:
        stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
        raw = wire.encode_cloud(Header(stamp_ns, "lidar"), wire.cloud_fields(cloud) | fields)
        self.robot.send("/points", wire.POINT_CLOUD, raw)
        return stamp_ns

    def spin(self, until: Any, timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, "waited in vain"
            self.robot.executor.spin_once(timeout_sec=0.05)

    def status(self) -> Any:
        """The newest status of the node, waiting for a fresh one."""
        self.diagnostics.clear()
        self.spin(lambda: bool(self.diagnostics))
        return wire.decode_diagnostics(self.diagnostics[-1])[1][0]

    def set_parameter(self, name: str, value: float | str) -> Any:
        kind = (
            ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
            if isinstance(value, str)
            else ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        )
        request = SetParameters.Request(parameters=[Parameter(name=name, value=kind)])
        return self.robot.call(SetParameters, f"{NODE}/set_parameters", request).results[0]

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.robot.call(ChangeState, f"{NODE}/change_state", request, 60.0).success

    def state(self) -> str:
        answer = self.robot.call(GetState, f"{NODE}/get_state", GetState.Request())
        return str(answer.current_state.label)


@pytest.fixture
def client(robot: Robot) -> Client:
    return Client(robot)


@contextlib.contextmanager
def node(session: Any, **parameters: Any) -> Any:
    from condense_ros.cli._processes import running

    parameters.setdefault("report", str(session.folder / "report.json"))
    parameters.setdefault("threads", 1)
    log = session.folder / "perception_node.log"
    with running("perception_node", parameters, log, session.domain) as process:
        yield process


def finished_report(session: Any) -> dict[str, Any]:
    report = json.loads((session.folder / "report.json").read_text())
    clouds = report["clouds"]
    accounted = clouds["processed"] + sum(clouds["dropped"].values()) + clouds["waiting"]
    assert clouds["received"] == accounted
    assert clouds["waiting"] == 0
    return report


def test_segments_and_relocalises(session: Any, client: Client, town: Any, checkpoint: Path,
                                  stored: Path) -> None:  # fmt: skip
    simulator, driven = town
    rng = np.random.default_rng(0)
    beside = sim.poses_beside(simulator.world, driven[:50], 1, rng)[0]
    away = sim.poses_never_visited(simulator.world, driven, 1, rng)[0]
    options = {"checkpoint": str(checkpoint), "map": str(stored), "autostart": True}
    with node(session, **options, relocalise_every_s=0.0, max_age_s=5.0) as process:
        ready(process, "places")
        client.static()
        # put down beside the drive
        seen = simulator.frame(beside, 1, images=False).cloud
        stamp = client.send(seen, azimuth=np.arange(len(seen), dtype=np.uint16))
        client.spin(lambda: client.matches and client.poses and client.segmented)
        match = client.matches[-1]
        assert (match.status, match.map_frame, match.header.frame_id) == (
            "found",
            "map",
            "base_link",
        )
        assert match.place_id.startswith("row")
        header, T_map_base, covariance = wire.decode_pose(client.poses[-1])
        assert (header.frame_id, header.stamp_ns) == ("map", stamp)
        # the simulator's rig has its lidar elsewhere on the base than this robot
        truth = beside @ simulator.rig.lidar.T_base_lidar @ inverse(T_BASE_LIDAR)
        metres, degrees = pose_error(T_map_base, truth)
        assert metres < 0.3
        assert degrees < 2.0
        assert np.linalg.eigvalsh(covariance).min() > 0
        # every field of the input, then the labels
        labelled = wire.decode_cloud(client.segmented[-1])
        assert labelled.header == Header(stamp, "lidar")
        names = labelled.points.dtype.names
        assert names[-4:] == ("azimuth", "label", "confidence", "rgb")
        assert np.array_equal(labelled.xyz(), seen.xyz)
        assert np.array_equal(labelled.points["azimuth"], np.arange(len(seen)))
        colours = wire.unpack_rgb(labelled.points["rgb"])
        assert np.array_equal(colours, sim.ontology.colourise(labelled.points["label"]))
        # put down somewhere else
        client.matches.clear()
        client.poses.clear()
        client.send(simulator.frame(away, 2, images=False).cloud)
        client.spin(lambda: client.matches)
        assert client.matches[-1].status == "unknown"
        assert "scores" in client.matches[-1].reason
        assert not client.poses
        assert client.debug
        assert client.status().level == OK
    report = finished_report(session)
    assert report["answers"] == {"found": 1, "unknown": 1}
    assert report["located"][0]["stamp_ns"] == stamp
    for stage in ("decode_ms", "backbone_ms", "encode_ms", "processing_time_ms", "relocalise_ms"):
        assert report["latency_ms"][stage]["count"] == 2


def test_without_checkpoint_it_stays_unconfigured_and_says_why(
    session: Any, client: Client, tmp_path: Path
) -> None:
    with node(session, autostart=True) as process:
        ready(process, "not configured")
        status = client.status()
        assert status.level == ERROR
        assert "condense pretrain" in status.message
        assert client.state() == "unconfigured"
        answer = client.robot.call(LoadMap, f"{NODE}/load_map", LoadMap.Request(path="x"))
        assert not answer.success
        assert client.set_parameter("checkpoint", str(tmp_path / "absent.safetensors")).successful
        assert not client.change(Transition.TRANSITION_CONFIGURE)
        assert "absent.safetensors" in client.status().message
        assert client.state() == "unconfigured"
        # a launcher passes on the Ctrl-C that the terminal has sent already
        while process.process.poll() is None:
            process.process.send_signal(signal.SIGINT)
            time.sleep(0.02)
    assert process.process.returncode == 0


def test_without_map_it_segments_and_answers_unknown(
    session: Any, client: Client, town: Any, checkpoint: Path
) -> None:
    simulator, driven = town
    seen = simulator.frame(driven[0], 1, images=False).cloud
    options = {"checkpoint": str(checkpoint), "autostart": True, "relocalise_every_s": 0.0}
    with node(session, **options) as process:
        ready(process, "no map")
        # the first cloud may come before activation, or be too old once discovery is over
        for _ in range(8):
            client.send(seen)
            with contextlib.suppress(AssertionError):
                client.spin(lambda: client.matches and client.segmented, 5.0)
                break
        assert client.segmented
        assert (client.matches[-1].status, client.matches[-1].reason) == (
            "unknown", "no map is loaded",
        )  # fmt: skip
        answer = client.robot.call(
            QueryText, f"{NODE}/query_text", QueryText.Request(text="a red door")
        )
        assert not answer.success
        assert "text tower" in answer.message
        # parameters at run time: bad ones are refused with the reason
        refused = client.set_parameter("max_age_s", -1.0)
        assert not refused.successful
        assert "max_age_s" in refused.reason
        refused = client.set_parameter("relocalise_mode", "sometimes")
        assert not refused.successful
        assert "until_found" in refused.reason
        refused = client.set_parameter("device", "cuda")
        assert not refused.successful
        assert "unconfigured" in refused.reason
        assert client.set_parameter("relocalise_mode", "off").successful
        client.matches.clear()
        client.segmented.clear()
        client.send(seen)
        client.spin(lambda: client.segmented)
        assert not client.matches
    finished_report(session)


def test_bad_and_old_clouds_are_dropped_and_counted(
    session: Any, client: Client, town: Any, checkpoint: Path
) -> None:
    simulator, driven = town
    seen = simulator.frame(driven[0], 1, images=False).cloud
    with node(session, checkpoint=str(checkpoint), autostart=True, max_age_s=5.0) as process:
        ready(process, "no map")
        whole = wire.encode_cloud(Header(time.time_ns(), "lidar"), wire.cloud_fields(seen))

        def dropped(reason: str) -> bool:
            return int(client.status().values.get(f"dropped {reason}", "0")) == 1

        client.send(seen, time.time_ns() - 20 * 10**9)
        client.spin(lambda: dropped("too_old"))
        client.robot.send("/points", wire.POINT_CLOUD, whole[: len(whole) // 2])
        time.sleep(0.3)
        flat = wire.encode_cloud(Header(time.time_ns(), "lidar"), {"x": seen.xyz[:, 0]})
        client.robot.send("/points", wire.POINT_CLOUD, flat)
        client.spin(lambda: client.status().level == WARN)
        # simulated time in the stamps, wall time in the node: processed, with a warning
        client.send(seen, 5 * 10**9)
        client.spin(lambda: client.segmented)
        client.spin(lambda: "use_sim_time" in client.status().values.get("problem clock", ""))
        # the node is alive
        client.segmented.clear()
        client.send(seen)
        client.spin(lambda: client.segmented)
    report = finished_report(session)
    assert report["clouds"]["dropped"]["too_old"] == 1
    assert report["clouds"]["dropped"]["malformed"] >= 1
    assert report["clouds"]["processed"] == 2


def test_stores_saves_and_loads_places(
    session: Any, client: Client, town: Any, checkpoint: Path, tmp_path: Path
) -> None:
    from condense_ros.wire.poses import pose_to_message

    simulator, driven = town
    seen = simulator.frame(driven[0], 1, images=False).cloud
    store = f"{NODE}/store_place"
    options = {"checkpoint": str(checkpoint), "autostart": True, "relocalise_every_s": 0.0}
    with node(session, **options) as process:
        ready(process, "no map")
        answer = client.robot.call(StorePlace, store, StorePlace.Request())
        assert not answer.success
        assert "no cloud" in answer.message
        client.send(seen)
        client.spin(lambda: client.segmented)
        request = StorePlace.Request(place_id="gate", use_pose=True)
        at = se3(np.eye(3), (7.0, 8.0, 0.5))
        wanted = pose_to_message(at)
        for axis in "xyz":
            setattr(request.pose.position, axis, getattr(wanted.position, axis))
        for axis in "xyzw":
            setattr(request.pose.orientation, axis, getattr(wanted.orientation, axis))
        # where the lidar sits on the base is not known yet, and never guessed
        answer = client.robot.call(StorePlace, store, request)
        assert not answer.success
        assert "no transform" in answer.message
        client.static()
        time.sleep(0.5)
        answer = client.robot.call(StorePlace, store, request)
        assert answer.success, answer.message
        assert answer.place_id == "gate"
        answer = client.robot.call(StorePlace, store, StorePlace.Request())
        assert not answer.success
        assert "map -> base_link" in answer.message
        saved = client.robot.call(SaveMap, f"{NODE}/save_map", SaveMap.Request())
        assert not saved.success
        folder = tmp_path / "live"
        saved = client.robot.call(SaveMap, f"{NODE}/save_map", SaveMap.Request(path=str(folder)))
        assert (saved.success, saved.places) == (True, 1), saved.message
        # found where it was stored
        client.matches.clear()
        client.send(seen)
        client.spin(lambda: client.matches)
        assert (client.matches[-1].status, client.matches[-1].place_id) == ("found", "gate")
        assert client.matches[-1].pose.pose.position.x == pytest.approx(7.0, abs=0.05)
        bad = client.robot.call(LoadMap, f"{NODE}/load_map", LoadMap.Request(path=str(tmp_path)))
        assert not bad.success
        assert "no place map" in bad.message
        loaded = client.robot.call(LoadMap, f"{NODE}/load_map", LoadMap.Request(path=str(folder)))
        assert (loaded.success, loaded.places) == (True, 1)
    assert PlaceMap.open(folder).label(0) == "gate"
    assert PlaceMap.open(folder).pose(0)[:3, 3] == pytest.approx([7.2, 8.0, 2.23])


def test_life_cycle_and_the_newest_cloud_wins(
    session: Any, client: Client, town: Any, checkpoint: Path
) -> None:
    simulator, driven = town
    seen = simulator.frame(driven[0], 1, images=False).cloud
    with node(session, checkpoint=str(checkpoint), relocalise_mode="off", max_age_s=60.0):
        client.robot.call(GetState, f"{NODE}/get_state", GetState.Request(), 40.0)
        for _ in range(3):
            assert client.change(Transition.TRANSITION_CONFIGURE)
            assert client.change(Transition.TRANSITION_ACTIVATE)
            assert client.change(Transition.TRANSITION_DEACTIVATE)
            assert client.change(Transition.TRANSITION_CLEANUP)
            assert client.state() == "unconfigured"
        assert client.change(Transition.TRANSITION_CONFIGURE)
        assert client.change(Transition.TRANSITION_ACTIVATE)
        # faster than it can work: the newest is segmented, the rest is accounted for
        stamps = []
        for _ in range(40):
            stamps.append(client.send(seen))
            client.robot.executor.spin_once(timeout_sec=0.0)
        client.spin(
            lambda: (
                client.segmented
                and wire.decode_cloud(client.segmented[-1]).header.stamp_ns == stamps[-1]
            )
        )
        # ended in the middle of its work
        for _ in range(3):
            client.send(seen)
    report = finished_report(session)
    done = [wire.decode_cloud(raw).header.stamp_ns for raw in client.segmented]
    assert done == sorted(done)
    assert report["clouds"]["received"] >= 40
    assert set(report["clouds"]["dropped"]) <= {"superseded", "inactive"}


def test_sim_time_without_a_clock(session: Any, client: Client, checkpoint: Path) -> None:
    options = {"checkpoint": str(checkpoint), "autostart": True, "use_sim_time": True}
    with node(session, **options) as process:
        ready(process, "no map")
        wait_until(lambda: client.status().level == ERROR, 30.0)
        assert "/clock" in client.status().message
