"""`condense sim`: settings by name, rigs, folders of every kind of world, pictures; traffic."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from condense_ros import sim
from condense_ros.cli.app import main
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import ConfigError, SimulationError
from condense_ros.ontology import Ontology
from condense_ros.sim import picture
from condense_ros.sim.driving.motion import Motion
from condense_ros.sim.driving.traffic import clear_way
from condense_ros.sim.folders.settings import find_rig, shipped_rigs, simulation_config
from condense_ros.sim.indoors.building import BuildingWorld
from condense_ros.sim.indoors.classes_building import ontology as indoors
from condense_ros.sim.mesh import MeshBuilder, boxes, pose2d
from condense_ros.sim.open_country.classes_terrain import ontology as country
from condense_ros.sim.scenery import Mover, Trajectory

SMALL_RIG = """
cameras:
  - {name: front, width: 64, height: 48, fx: 40.0, fy: 40.0, cx: 31.5, cy: 23.5}
lidar: {beams: 8, azimuth_steps: 180}
"""


def test_dots_lead_into_sections() -> None:
    config = simulation_config(
        {
            "kind": "building",
            "drive.reverse": True,
            "odometry.scale_error": 0.05,
            "faults.drop": 0.1,
            "faults.offset_s.front": 0.03,
            "layout.corridors": 2,
            "layout": {"segments": 1},
            "rig": "kitti_like",
        }
    )
    assert config.drive.reverse
    assert config.odometry.scale_error == 0.05
    assert config.faults.of("drop", "lidar") == 0.1
    assert config.faults.of("offset_s", "front") == 0.03
    assert (config.layout.corridors, config.layout.segments) == (2, 1)  # type: ignore[attr-defined]
    assert config.rig == find_rig("kitti_like")
    assert simulation_config({}) == sim.SimulationConfig()


def test_parts_of_a_rig_are_changed_by_name() -> None:
    config = simulation_config(
        {
            "rig": "kitti_like",
            "rig.lidar.motion_distortion": True,
            "rig.cameras.*.rolling_shutter_s": 0.02,
            "rig.cameras.image_03.noise": 0.5,
        }
    )
    assert config.rig.lidar.motion_distortion
    assert [c.rolling_shutter_s for c in config.rig.cameras] == [0.02, 0.02]
    assert config.rig.cameras[1].noise == 0.5 != config.rig.cameras[0].noise
    assert config.rig.lidar.beams == find_rig("kitti_like").lidar.beams


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rig.cameras.rear.noise": 0.1}, "no rear"),
        ({"drive.revers": True}, "revers"),
        ({"drive": 3}, "no section"),
        ({"rate_hz": 1.0, "rate_hz.x": 2}, "which is a value"),
        ({"kind": "moon", "layout.size": 3}, "no world 'moon'"),
        ({"rig": "unicycle"}, "unicycle"),
        ({"faults.drop": 2.0}, "out of range"),
    ],
)
def test_slips_of_the_pen_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        simulation_config(values)


def test_what_cannot_be_simulated_is_refused() -> None:
    from condense_ros.sim.folders.plan import make_plan

    for values, words in (
        ({"image_format": "gif"}, "jpg or png"),
        ({"split": "validation"}, "train or test"),
        ({"rate_hz": 20.0}, "rig.lidar.period_s"),
        ({"rig": {"cameras": [{"name": "lidar"}]}}, "named lidar"),
        ({"rig": {"cameras": [{"name": f"c{k}"} for k in range(9)]}}, "9 cameras"),
        ({"kind": "moon"}, "moon"),
        ({"faults.drop.rear": 0.1, "layout.columns": 2, "layout.rows": 2}, "rear"),
    ):
        with pytest.raises((ConfigError, SimulationError), match=words):
            make_plan(simulation_config(values))


@pytest.mark.parametrize(
    ("kind", "layout", "classes"),
    [
        ("building", "layout.segments=1", indoors),
        ("terrain", "layout.radius_m=60", country),
    ],
)
def test_every_kind_of_world_from_the_command_line(
    kind: str, layout: str, classes: Ontology, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = tmp_path / "small.yaml"
    rig.write_text(SMALL_RIG)
    out = tmp_path / kind
    command = [
        "sim",
        "generate",
        "--world",
        kind,
        "--out",
        str(out),
        "--frames",
        "4",
        "--seed",
        "2",
    ]
    with pytest.raises(SystemExit) as end:
        main(
            [*command, "--rig", str(rig), "--workers", "2", "-p", layout, "-p", "pixel_truth=true"]
        )
    assert end.value.code == 0
    assert "GB free" in capsys.readouterr().err
    data = SimulatedFolder(out)
    assert len(data) == 4
    assert data.manifest["world"]["kind"] == kind
    assert data.manifest["world"]["assets"]
    assert data.classes == classes
    labels, visible = data[0].labels, data.visible(0)
    assert labels is not None
    assert labels.max() < len(data.classes)
    assert len(np.unique(data.instance(0))) > 3
    # the front camera sees some of the points, and not those behind
    behind = data[0].cloud.xyz[:, 0] < -1.0
    assert visible.any()
    assert not visible[behind].any()
    with pytest.raises(SystemExit):
        main(["sim", "info", str(out)])
    shown = capsys.readouterr().out
    assert kind in shown
    assert "4 samples" in shown


def test_rigs_that_come_along_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shipped_rigs()) >= 3
    with pytest.raises(SystemExit):
        main(["sim", "rigs"])
    shown = capsys.readouterr().out
    for name in shipped_rigs():
        assert name[:12] in shown


def test_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("_WIDTH", 160), ("_HEIGHT", 120), ("_FINER", 1)):
        monkeypatch.setattr(picture, name, value)
    out = tmp_path / "building.png"
    with pytest.raises(SystemExit) as end:
        main(["sim", "picture", "--world", "building", "--seed", "2", "--out", str(out)])
    assert end.value.code == 0
    image = cv2.imread(str(out))
    assert image is not None
    assert image.shape[0] == 120
    # ceilings are cut away: the observer sees rooms of many colours, not one roof
    assert image[:, :160].reshape(-1, 3).std(axis=0).min() > 15
    with pytest.raises(SimulationError, match=r"neither|no \.png"):
        picture.world_picture(BuildingWorld(2), tmp_path / "x.gif")


def mover(x: float, y: float, speed: float, instance: int) -> Mover:
    """A box of 4 m x 1.8 m that goes along x and, for the way back, jumps."""
    from condense_ros.sim.materials import Surface

    builder = MeshBuilder()
    for _ in range(instance):
        builder.begin()
    builder.add(boxes([-2, -0.9, 0], [2, 0.9, 1.5]), Surface(11, "plain", (0.5, 0.5, 0.5)))
    knots = np.array([pose2d(x + speed * t, y, 0.0 if speed >= 0 else np.pi) for t in range(100)])
    return Mover(builder.mesh(), Trajectory(100.0, knots))


def test_movers_that_would_meet_the_robot_are_taken_out() -> None:
    t = np.linspace(0, 20, 41)
    values = np.zeros((41, 6))
    values[:, 0] = 5 * t
    robot = Motion(t, values)
    crossing = mover(50.0, 0.0, 0.0, 1)  # stands in the lane
    oncoming = mover(100.0, 2.5, -5.0, 2)  # passes in the other lane
    ahead = mover(12.0, 0.0, 5.0, 3)  # goes before the robot, at its speed
    close = mover(4.7, 0.0, 5.0, 4)  # the same, but less than 3 m before it
    world = SimpleNamespace(kind="town", movers=(crossing, oncoming, ahead, close))
    cleared, removed = clear_way(world, robot, 0.0, 19.0)  # type: ignore[arg-type]
    assert removed == (1, 4)
    assert cleared.movers == (oncoming, ahead)
    assert world.movers == (crossing, oncoming, ahead, close)
    # one that is not there at that time is none
    assert clear_way(world, robot, 0.0, 5.0)[1] == (4,)  # type: ignore[arg-type]
