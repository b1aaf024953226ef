"""Generated folders: the same bytes however they came about, and their reader."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from condense_ros import sim
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import DatasetError, SimulationError
from condense_ros.geometry import inverse

CONFIG = {
    "world_seed": 4,
    "duration_s": 1.2,
    "semantic_images": True,
    "world": sim.WorldConfig(columns=2, rows=2, block_m=60.0),
    "rig": sim.Rig.from_dict(
        {
            "cameras": [
                {"width": 160, "height": 120, "fx": 105.0, "fy": 105.0, "cx": 79.5, "cy": 59.5},
                {"name": "rgbd", "width": 80, "height": 60, "fx": 60.0, "fy": 60.0, "cx": 39.5,
                 "cy": 29.5, "depth": True},
            ],
            "lidar": {"beams": 16, "azimuth_steps": 400},
        }
    ),
}  # fmt: skip
SCRIPT = """
import sys
sys.path.insert(0, {here!r})
if __name__ == "__main__":
    from test_sim_folder import CONFIG
    from condense_ros import sim
    sim.generate(sys.argv[1], sim.SimulationConfig(**CONFIG, workers=int(sys.argv[2])),
                 lambda done, total: print(done, flush=True))
"""


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim") / "set"
    return sim.generate(out, sim.SimulationConfig(**CONFIG, workers=1))  # type: ignore[arg-type]


def test_reader_gives_what_the_simulator_saw(folder: Path) -> None:
    data = SimulatedFolder(folder)
    config = sim.SimulationConfig(**CONFIG)  # type: ignore[arg-type]
    world = sim.World(config.world_seed, config.world)
    poses = sim.drive(world, config.duration_s)
    assert len(data) == 12
    assert data.period_s == pytest.approx(0.1)
    assert data.classes == sim.ontology
    assert SimulatedFolder.matches(folder)
    assert not SimulatedFolder.matches(folder.parent)
    np.testing.assert_array_equal(data.T_world_base, poses)
    np.testing.assert_array_equal(data.T_odom_base, sim.odometry_poses(poses, 0))
    frame = data[7]
    live = sim.Simulator(world, config.rig).frame(poses[7], frame.stamp_ns)
    assert frame.cloud.xyz.tobytes() == live.cloud.xyz.tobytes()
    np.testing.assert_array_equal(frame.labels, live.labels)
    for name in ("intensity", "ring", "time_s"):
        np.testing.assert_allclose(getattr(frame.cloud, name), getattr(live.cloud, name), atol=1e-6)
    np.testing.assert_array_equal(frame.T_world_lidar, live.T_world_lidar)
    for read, seen in zip(frame.images, live.images, strict=True):
        np.testing.assert_array_equal(read.T_cam_lidar, seen.T_cam_lidar)
        # JPEG at quality 95
        assert np.abs(read.pixels.astype(int) - seen.pixels).mean() < 4
    assert frame.images[0].depth is None
    read_depth, live_depth = frame.images[1].depth, live.images[1].depth
    assert read_depth is not None
    assert live_depth is not None
    near = live_depth < 65
    np.testing.assert_allclose(read_depth[near], live_depth[near], atol=6e-4)
    truth = sim.Simulator(world, config.rig).truth(poses[7])
    np.testing.assert_array_equal(data.semantic(7, "front"), truth["front"].semantic)
    np.testing.assert_allclose(
        inverse(data.T_base_cam["front"]) @ data.T_base_lidar, frame.images[0].T_cam_lidar
    )
    assert data[-1].index == 11
    with pytest.raises(IndexError):
        data[12]


def test_killed_in_the_middle_and_run_again_gives_the_same_bytes(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(out), "2"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 3:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with_frames = len(list((out / "clouds").glob("0*.npy")))
    assert with_frames >= 3
    time.sleep(1.5)  # the orphaned workers notice and end
    steady = len(list((out / "clouds").glob("0*.npy")))
    if steady < 12:
        with pytest.raises(DatasetError, match="lacks"):
            SimulatedFolder(out)
    seen: list[int] = []
    sim.generate(
        out,
        sim.SimulationConfig(**CONFIG, workers=1),  # type: ignore[arg-type]
        lambda done, total: seen.append(done),
    )
    assert seen[0] == steady
    assert seen[-1] == 12
    for left in out.rglob(".*"):
        assert left.name.count(".") >= 3  # half-written files of the killed run, never read
        left.unlink()
    assert digest(out) == digest(folder)


def test_another_simulation_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    other = sim.SimulationConfig(**{**CONFIG, "world_seed": 9})  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match="another simulation"):
        sim.generate(folder, other)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SimulationError, match="not empty"):
        sim.generate(tmp_path, other)
    with pytest.raises(SimulationError, match="jpg or png"):
        sim.generate(tmp_path / "x", sim.SimulationConfig(image_format="gif"))


def test_damage_is_named(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "clouds" / "000002.npy").write_bytes(b"short")
    (copy / "images" / "front" / "000003.jpg").write_bytes(b"")
    data = SimulatedFolder(copy)
    with pytest.raises(DatasetError, match="000002"):
        data[2]
    with pytest.raises(DatasetError, match="000003"):
        data[3]
    (copy / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(DatasetError, match=r"poses\.txt"):
        SimulatedFolder(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["ontology"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="damaged"):
        SimulatedFolder(copy)
    with pytest.raises(DatasetError, match="cannot read"):
        SimulatedFolder(tmp_path / "nowhere")
