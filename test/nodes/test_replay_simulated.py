"""A world simulated live through real DDS: what is recorded is what was rendered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from condense_ros.datasets import open_dataset
from condense_ros.errors import CondenseError
from condense_ros.playback import LiveConfig
from condense_ros.sim.folders.plan import make_plan
from condense_ros.sim.folders.render import Renderer

from .conftest import closes

pytestmark = pytest.mark.ros

RIG = """
cameras:
  - {name: front, width: 64, height: 48, fx: 40.0, fy: 40.0, cx: 31.5, cy: 23.5}
lidar: {beams: 8, azimuth_steps: 180}
"""
FRAMES = 6


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    path = tmp_path / "rig.yaml"
    path.write_text(RIG)
    return path


def live(rig: Path, *settings: str) -> dict[str, object]:
    return {
        "simulate.world": "building",
        "simulate.seed": 2,
        "simulate.frames": FRAMES,
        "simulate.rig": str(rig),
        "simulate.workers": 1,
        "simulate.settings": ["layout.segments=1", *settings],
    }


def test_a_building_is_simulated_recorded_and_read_again(session, rig) -> None:
    bag = session.folder / "bag"
    with session.running("capture_node", bag=str(bag)) as recorder:
        with session.running(
            "replay_node", wait_for=["/points"], start_delay_s=0.5, truth=True, **live(rig)
        ) as player:
            assert player.wait(120)
        recorder.stop()
        recorder.check()
    sent, report = session.report("replay_node")["sent"], session.report("capture_node")
    closes(report)
    # odometry at its own 50 Hz
    assert sent["/points"] == sent["/camera/front/image"] == FRAMES
    assert sent["/odom"] == sent["/ground_truth/odom"] == 5 * FRAMES
    assert report["pairs"] == FRAMES
    frames = open_dataset(bag)
    config = LiveConfig("building", 2, frames=FRAMES, rig=str(rig), settings=("layout.segments=1",))
    renderer = Renderer(make_plan(config.simulation()))
    for i in (0, FRAMES - 1):
        np.testing.assert_array_equal(frames[i].cloud.xyz, renderer.sweep(i).cloud.xyz)
        picture = renderer.picture("front", i).image
        np.testing.assert_array_equal(frames[i].images[0].pixels, picture.pixels)
        np.testing.assert_allclose(frames[i].images[0].T_cam_lidar, picture.T_cam_lidar, atol=1e-7)


def test_faults_of_transport_and_a_world_that_is_not_there(session, rig) -> None:
    faults = ("faults.drop.lidar=1.0", "faults.duplicate.front=1.0", "faults.delay_s.front=0.05")
    with session.running("replay_node", start_delay_s=0.0, **live(rig, *faults)) as player:
        assert player.wait(120)
    sent = session.report("replay_node")["sent"]
    assert "/points" not in sent
    assert sent["/camera/front/image"] == 2 * FRAMES
    wrong = {**live(rig), "simulate.world": "moon"}
    with (
        pytest.raises(CondenseError, match="no world 'moon'"),
        session.running("replay_node", **wrong) as player,
    ):
        player.wait(60)
