"""The calibration watch on real pairs, and through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from condense_ros.calibration import CalibrationConfig, CalibrationWatch
from condense_ros.calibration.solve import Guess
from condense_ros.cli.app import app
from condense_ros.datasets import open_dataset
from condense_ros.errors import FrameError
from condense_ros.frame import Frame
from condense_ros.geometry import inverse

CONFIG = CalibrationConfig(edge_frames=10, edge_period_s=0.7)


def watched(folder: Path, degrees: tuple[float, float, float]) -> CalibrationWatch:
    """A watch over a real drive whose given mounting is wrong by a rotation."""
    E = Guess(np.eye(4)).moved(np.array([*np.radians(degrees), 0, 0, 0, 0])).T_cam_lidar
    dataset, watch = open_dataset(folder), CalibrationWatch(CONFIG)
    for k in range(len(dataset)):
        frame = dataset[k]
        image = replace(frame.images[0], T_cam_lidar=inverse(E) @ frame.images[0].T_cam_lidar)
        watch.add(replace(frame, images=(image,)))
    return watch


def test_kitti_as_given_is_good_and_a_degree_off_is_seen(data_dir: Path) -> None:
    folder = data_dir / "kitti_jam_camlidar"
    watch = watched(folder, (0, 0, 0))
    assert watch.diagnostics()[1] == "no estimate yet"
    good = watch.estimate()
    assert good.verdict == "good", good.to_dict()
    assert watch.diagnostics()[0] == 0
    # a traffic jam: no axis of time can be seen
    assert good.axes["time_offset"].status == "unobservable"
    wrong = watched(folder, (0, 1.0, 0))
    off = wrong.estimate()
    assert off.verdict == "off"
    assert off.axes["rotation_y"].status == "off"
    found = off.axes["rotation_y"].value - good.axes["rotation_y"].value
    assert found == pytest.approx(1.0, abs=0.15)
    level, message, values = wrong.diagnostics()
    assert level == 1
    assert "condense calib refine" in message
    assert "off" in values["rotation_y"]


def test_single_frames_say_what_they_can(data_dir: Path) -> None:
    dataset, watch = open_dataset(data_dir / "kitti_object3"), CalibrationWatch(CONFIG)
    for k in range(len(dataset)):
        frame = dataset[k]
        # three places, three cameras' worth of intrinsics: their mountings differ by millimetres
        image = replace(frame.images[0], T_cam_lidar=dataset[0].images[0].T_cam_lidar)
        watch.add(replace(frame, images=(image,)))
    estimate = watch.estimate()
    assert estimate.verdict in ("good", "cannot tell")
    assert not [a for a in estimate.axes.values() if a.status == "off"]


def test_a_standing_empty_scene_cannot_tell(data_dir: Path) -> None:
    watch = CalibrationWatch(CONFIG)
    with pytest.raises(FrameError, match="has seen no frame"):
        watch.estimate()
    frame: Frame = open_dataset(data_dir / "kitti_jam_camlidar")[0]
    image = replace(frame.images[0], pixels=np.full_like(frame.images[0].pixels, 90))
    for k in range(4):
        watch.add(replace(frame, stamp_ns=frame.stamp_ns + k * 10**9, images=(image,)))
    assert watch.estimate().verdict == "cannot tell"
    other = CalibrationWatch(CONFIG, camera="image_03")
    with pytest.raises(FrameError, match="no image 'image_03'"):
        other.add(frame)


def test_check_and_refine_from_the_command_line(data_dir: Path, tmp_path: Path) -> None:
    folder = str(data_dir / "kitti_jam_camlidar")
    settings = ["-p", "edge_frames=6", "-p", "edge_period_s=0.8", "--frames", "14"]
    result = CliRunner().invoke(
        app, ["calib", "check", folder, "--json", str(tmp_path / "e.json"), *settings]
    )
    assert result.exit_code in (0, 5), result.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert result.exit_code == {"good": 0, "off": 4, "cannot tell": 5}[found["verdict"]]
    assert set(found["axes"]) >= {"rotation_x", "translation_z", "time_offset"}
    before = (data_dir / "kitti_jam_camlidar" / "calib.txt").read_bytes()
    result = CliRunner().invoke(
        app, ["calib", "refine", folder, "--out", str(tmp_path / "out"), *settings]
    )
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("calibration.yaml", "report.json", "intervals.png", "cost_curves.png"),
        *("overlay_given.png", "overlay_proposed.png"),
    }
    proposal = yaml.safe_load((tmp_path / "out" / "calibration.yaml").read_text())
    assert (
        proposal["T_cam_lidar"]
        == np.round(
            json.loads((tmp_path / "out" / "report.json").read_text())["T_cam_lidar_proposed"], 9
        ).tolist()
    )
    assert proposal["axes"]["time_offset"]["changed_by"] == 0.0
    assert (data_dir / "kitti_jam_camlidar" / "calib.txt").read_bytes() == before
