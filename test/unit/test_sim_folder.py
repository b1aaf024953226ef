"""Generated folders: the same bytes however they came about, and their reader."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from condense_ros import sim
from condense_ros.datasets import open_dataset
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import DatasetError, SimulationError, StorageFull
from condense_ros.geometry import inverse
from condense_ros.sim.folders.plan import make_plan
from condense_ros.sim.folders.render import Renderer
from condense_ros.sim.folders.writer import disk_use

CONFIG = {
    "world_seed": 4,
    "duration_s": 1.2,
    "pixel_truth": True,
    "layout": sim.WorldConfig(columns=2, rows=2, block_m=60.0),
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
    plan = make_plan(config)
    poses = sim.drive(plan.world, config.duration_s)
    assert len(data) == 12
    assert data.period_s == pytest.approx(0.1)
    assert data.classes == plan.world.ontology
    assert SimulatedFolder.matches(folder)
    assert not SimulatedFolder.matches(folder.parent)
    np.testing.assert_allclose(data.T_world_base, poses, atol=1e-12)
    np.testing.assert_allclose(data.truth.base_poses(data.stamps_ns), poses, atol=1e-12)
    renderer = Renderer(plan)
    frame, sweep = data[7], renderer.sweep(7)
    assert frame.cloud.xyz.tobytes() == sweep.cloud.xyz.tobytes()
    np.testing.assert_array_equal(frame.labels, sweep.labels)
    np.testing.assert_array_equal(data.instance(7), sweep.instance)
    np.testing.assert_array_equal(data.visible(7), sweep.visible)
    for name in ("intensity", "ring", "time_s"):
        read, seen = getattr(frame.cloud, name), getattr(sweep.cloud, name)
        np.testing.assert_allclose(read, seen, atol=2e-3)
    np.testing.assert_allclose(
        frame.T_world_lidar, poses[7] @ config.rig.lidar.T_base_lidar, atol=1e-12
    )
    for number, name in enumerate(("front", "rgbd")):
        read, picture = frame.images[number], renderer.picture(name, 7, truth=True)
        np.testing.assert_array_equal(read.T_cam_lidar, picture.image.T_cam_lidar)
        # JPEG at quality 95
        assert np.abs(read.pixels.astype(int) - picture.image.pixels).mean() < 4
        assert picture.truth is not None
        np.testing.assert_array_equal(data.semantic(7, name), picture.truth.semantic)
        np.testing.assert_array_equal(data.instance_image(7, name), picture.truth.instance)
        np.testing.assert_array_equal(data.depth_truth(7, name), picture.truth.depth)
        if name == "front":
            assert read.depth is None
        else:
            assert read.depth is not None
            near = picture.truth.depth < 65
            np.testing.assert_allclose(read.depth[near], picture.truth.depth[near], atol=6e-4)
    np.testing.assert_allclose(
        inverse(data.T_base_cam["front"]) @ data.T_base_lidar, frame.images[0].T_cam_lidar
    )
    assert data[-1].index == 11
    with pytest.raises(IndexError):
        data[12]
    with pytest.raises(DatasetError, match="no camera"):
        data.semantic(0, "rear")


def test_odometry_has_its_own_rate_and_drifts(folder: Path) -> None:
    data = SimulatedFolder(folder)
    assert len(data.odometry) == 60
    np.testing.assert_array_equal(np.diff(data.odometry_ns), 20_000_000)
    exact = data.truth.base_poses(data.odometry_ns)
    expected = sim.odometry_poses(exact, 0)
    np.testing.assert_allclose(data.odometry, expected, atol=1e-9)
    np.testing.assert_allclose(data.T_odom_base, data.odometry[::5], atol=1e-12)


def test_cameras_have_their_own_rate_and_stamps(tmp_path: Path) -> None:
    config = sim.SimulationConfig(
        **{**CONFIG, "pixel_truth": False, "duration_s": 0.5, "camera_hz": 24.0, "imu_hz": 200.0},
        workers=1,
    )  # type: ignore[arg-type]
    data = SimulatedFolder(sim.generate(tmp_path / "set", config))
    stamps = data.camera_stamps_ns["front"]
    assert len(stamps) == 12
    np.testing.assert_allclose(np.diff(stamps) * 1e-9, 1 / 24, atol=1e-9)
    image = data[3].images[0]
    assert image.stamp_ns == stamps[np.abs(stamps - data.stamps_ns[3]).argmin()]
    assert image.stamp_ns != data.stamps_ns[3]
    # a point of the world seen at the sweep's stamp, and at the image's, from where each was
    T_lidar, T_later = data.truth.base_poses([data.stamps_ns[3], image.stamp_ns])
    point = np.array([10.0, 2.0, 1.0, 1.0])
    in_lidar = inverse(T_lidar @ data.T_base_lidar) @ point
    expected = inverse(T_later @ data.T_base_cam["front"]) @ point
    np.testing.assert_allclose(image.T_cam_cloud @ in_lidar, expected, atol=1e-9)
    imu = data.imu()
    assert imu is not None
    assert imu[1].shape == (100, 6)
    assert imu[1][:, 5].mean() == pytest.approx(9.8, abs=0.3)
    with pytest.raises(DatasetError, match="pixel_truth"):
        data.semantic(0, "front")


def test_manifest_tells_how_the_folder_came_about(folder: Path) -> None:
    manifest = SimulatedFolder(folder).manifest
    assert manifest["world"]["kind"] == "town"
    assert manifest["world"]["seed"] == 4
    assert {"session", "split", "light", "assets", "removed_movers"} <= set(manifest["world"])
    assert manifest["samples"] == {"lidar": 12, "front": 12, "rgbd": 12, "odometry": 60}


def test_disk_use_is_stated_and_checked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(sim.SimulationConfig(**CONFIG))  # type: ignore[arg-type]
    use = disk_use(tmp_path / "deep" / "set", plan)
    taken = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert use.bytes == pytest.approx(taken, rel=0.5)
    full = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StorageFull, match=r"12 frames of about .* need"):
        sim.generate(tmp_path / "set", plan.config)


def test_an_older_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "condense-simulated-1", "frames": 3}')
    assert SimulatedFolder.matches(tmp_path)
    with pytest.raises(DatasetError, match="older format") as error:
        open_dataset(tmp_path)
    assert "anew" in error.value.fix


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
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "clouds" / "000002.npy").write_bytes(b"short")
    (copy / "images" / "front" / "000003.jpg").write_bytes(b"")
    data = SimulatedFolder(copy)
    with pytest.raises(DatasetError, match="000002"):
        data[2]
    with pytest.raises(DatasetError, match="000003"):
        data[3]
    (copy / "odometry.txt").write_text("1 2 3\n")
    with pytest.raises(DatasetError, match=r"odometry\.txt"):
        SimulatedFolder(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["ontology"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="damaged"):
        SimulatedFolder(copy)
    with pytest.raises(DatasetError, match="cannot read"):
        SimulatedFolder(tmp_path / "nowhere")
