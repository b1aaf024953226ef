"""Injected faults are as large as asked, known exactly, and show in what sensors deliver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import sim
from condense_ros.config import build
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import ConfigError
from condense_ros.geometry import inverse, pose_error, transform
from condense_ros.sim.folders.faults import Faults, build_faults
from condense_ros.sim.folders.plan import SimulationConfig, make_plan
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, quads
from condense_ros.sim.network import Network
from condense_ros.sim.scenery import Light
from condense_ros.sim.town.classes import ontology

SECOND = 10**9
TIMES = 1_700_000_000 * SECOND + np.arange(5000) * (SECOND // 10)
WALL_M = 2000.0


class Hall:
    """A straight way along x that ends at a wall across it."""

    kind, seed, session, split, movers = "town", 0, 0, "train", ()
    light, ontology, assets = Light(), ontology, frozenset(("wall",))

    def __init__(self) -> None:
        builder = MeshBuilder()
        corners = [[WALL_M, y, z] for y, z in ((-500, -50), (500, -50), (500, 500), (-500, 500))]
        builder.begin()
        builder.add(quads(np.array(corners, np.float64)), Surface(3, "plain", (0.5, 0.5, 0.5)))
        self.mesh = builder.mesh()
        ends = np.array([[WALL_M - 180, 0.0], [WALL_M - 20, 0.0]])
        self.network = Network(
            ends, np.array([[0, 1]]), np.array([8.0]), np.array([9.0]), np.zeros((0, 4))
        )
        self.obstacles = np.zeros((0, 5))

    def height(self, xy: np.ndarray) -> np.ndarray:
        return np.zeros(np.asarray(xy).shape[:-1])


RIG = {
    "cameras": [{"width": 40, "height": 30, "fx": 60.0, "fy": 60.0, "cx": 19.5, "cy": 14.5}],
    "lidar": {"beams": 16, "azimuth_steps": 300, "elevation_low_deg": -5.0,
              "elevation_high_deg": 10.0, "max_range_m": 500.0, "range_noise_m": 0.0,
              "dropout": 0.0, "motion_distortion": True},
}  # fmt: skip


def hall_folder(out: Path, faults: Faults, **values: object) -> SimulatedFolder:
    config = build(
        SimulationConfig,
        {
            "duration_s": 1.0,
            "pixel_truth": True,
            "image_format": "png",
            "workers": 1,
            "rig": sim.Rig.from_dict(RIG),
            "faults": faults,
            **values,
        },
    )
    # the seed of a drive towards the wall, with the wall in reach
    for seed in range(40):
        config = build(SimulationConfig, {**vars(config), "drive_seed": seed})
        plan = make_plan(config, world=Hall())
        if plan.poses("lidar")[0, 0, 0] > 0.99:
            return SimulatedFolder(sim.generate(out, config, plan=plan))
    raise AssertionError("no drive towards the wall")


def depth_of_wall(T_world_cam: np.ndarray) -> float:
    """Depth along the optical axis of the wall in pixel (20, 15)."""
    ray = np.array([0.5 / 60, 0.5 / 60, 1.0])
    return float((WALL_M - T_world_cam[0, 3]) / (T_world_cam[:3, :3] @ ray)[0])


def test_a_camera_whose_clock_is_30_ms_late_lags_by_21_cm_at_7_m_s(tmp_path: Path) -> None:
    data = hall_folder(tmp_path / "late", build_faults({"offset_s": {"front": 0.03}}))
    truth = data.truth
    assert (data.camera_stamps_ns["front"] - truth.camera_stamps("front") == 30_000_000).all()
    lags = []
    for i in range(len(data)):
        seen = float(data.depth_truth(i, "front")[15, 20])
        stamp = int(data.camera_stamps_ns["front"][i])
        # where the camera was when its stamp says
        T_world_cam = truth.base_poses([stamp])[0] @ data.T_base_cam["front"]
        expected = depth_of_wall(T_world_cam)
        speed = float(truth.motion.twist([(stamp - 1_700_000_000 * SECOND) * 1e-9])[0, 0])
        lag = seen - expected
        # the wall is met a little askew, as the robot sways: some millimetres
        assert lag == pytest.approx(0.03 * speed, abs=0.01)
        # the content itself is exact: that of the true time
        true = truth.base_poses([stamp - 30_000_000])[0] @ data.T_base_cam["front"]
        assert seen == pytest.approx(depth_of_wall(true), abs=1e-4)
        lags.append(lag / speed * 7.0)
    assert np.mean(lags) == pytest.approx(0.21, abs=0.005)


def test_without_faults_content_and_stamps_agree(tmp_path: Path) -> None:
    data = hall_folder(tmp_path / "clean", Faults())
    np.testing.assert_array_equal(data.stamps_ns, data.truth.stamps_ns)
    assert data.rig == data.truth.rig
    for i in range(len(data)):
        depth = float(data.depth_truth(i, "front")[15, 20])
        expected = depth_of_wall(data.T_world_base[i] @ data.T_base_cam["front"])
        assert depth == pytest.approx(expected, abs=1e-4)


def test_a_distorted_sweep_is_made_whole_by_the_true_motion(tmp_path: Path) -> None:
    data = hall_folder(tmp_path / "sweeps", Faults(), images=False)
    frame = data[4]
    assert frame.cloud.time_s is not None
    at = data.truth.stamps_ns[4] + np.round(frame.cloud.time_s * 1e9).astype(np.int64)
    T = data.truth.base_poses(at) @ data.T_base_lidar
    world = np.einsum("nij,nj->ni", T[:, :3, :3], frame.cloud.xyz) + T[:, :3, 3]
    assert len(world) > 200
    np.testing.assert_allclose(world[:, 0], WALL_M, atol=2e-3)
    # as delivered the wall is not flat: what was met last was met from up to 0.7 m nearer
    assert frame.T_world_lidar is not None
    raw = transform(frame.T_world_lidar, frame.cloud.xyz)[:, 0]
    assert np.ptp(raw) > 0.2


@settings(max_examples=25, deadline=None)
@given(st.floats(-5, 5), st.floats(-500, 500))
def test_offset_and_drift_by_hand(offset: float, drift: float) -> None:
    faults = Faults(offset_s={"lidar": offset}, drift_ppm={"lidar": drift})
    wrong = (faults.stamps("lidar", TIMES) - TIMES) * 1e-9
    expected = offset + drift * 1e-6 * (TIMES - TIMES[0]) * 1e-9
    np.testing.assert_allclose(wrong, expected, atol=2e-9)
    np.testing.assert_array_equal(faults.stamps("front", TIMES), TIMES)


def test_jitter_has_its_spread_and_is_cut() -> None:
    wrong = (Faults(jitter_s={"*": 0.01}).stamps("front", TIMES) - TIMES) * 1e-9
    assert wrong.std() == pytest.approx(0.01, rel=0.04)
    assert abs(wrong.mean()) < 0.0006
    assert np.abs(wrong).max() <= 0.04
    other = (Faults(jitter_s={"*": 0.01}).stamps("rear", TIMES) - TIMES) * 1e-9
    assert abs(np.corrcoef(wrong, other)[0, 1]) < 0.05


def test_transport_shares_are_as_asked_and_repeatable() -> None:
    faults = build_faults(
        {"drop": 0.2, "duplicate": 0.1, "delay_s": 0.05, "delay_spread_s": 0.02, "seed": 3}
    )
    fate = faults.delivery("lidar", TIMES)
    assert fate.lost.mean() == pytest.approx(0.2, abs=0.02)
    assert (fate.copies == 2).mean() == pytest.approx(0.1, abs=0.015)
    assert fate.delay_s.min() >= 0.05
    assert fate.delay_s.mean() == pytest.approx(0.07, abs=0.002)
    again = faults.delivery("lidar", TIMES)
    np.testing.assert_array_equal(again.lost, fate.lost)
    np.testing.assert_array_equal(again.delay_s, fate.delay_s)
    # a shorter drive has the same fate as far as it goes
    shorter = faults.delivery("lidar", TIMES[:700])
    np.testing.assert_array_equal(shorter.lost, fate.lost[:700])
    np.testing.assert_array_equal(shorter.delay_s, fate.delay_s[:700])
    assert (faults.delivery("front", TIMES).lost != fate.lost).any()
    reseeded = build_faults({"drop": 0.2, "seed": 4}).delivery("lidar", TIMES)
    assert (reseeded.lost != fate.lost).any()


def test_reordered_messages_arrive_after_the_next() -> None:
    fate = build_faults({"reorder": 0.25}).delivery("lidar", TIMES)
    arrival = TIMES * 1e-9 - TIMES[0] * 1e-9 + fate.delay_s
    late = fate.delay_s > 0
    assert late.mean() == pytest.approx(0.25, abs=0.02)
    alone = late[:-1] & ~late[1:]
    assert (arrival[:-1][alone] > arrival[1:][alone]).all()


def test_bursts_lose_everything_for_their_time() -> None:
    faults = build_faults({"bursts_per_min": 3.0, "burst_s": 1.5})
    lost = faults.delivery("front", TIMES).lost
    edges = np.diff(np.concatenate([[0], lost.astype(int), [0]]))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    assert set(lengths[:-1].tolist()) <= {15}
    # 500 s; between bursts 20 s pass on average
    assert len(lengths) == pytest.approx(500 / (20 + 1.5), abs=12)


@pytest.mark.parametrize("sensor", ["front", "lidar"])
def test_published_mounting_is_wrong_by_exactly_that_much(sensor: str) -> None:
    rig = sim.Rig.from_dict(
        {**RIG, "cameras": [{**RIG["cameras"][0], "rpy_deg": [1.0, -7.0, 50.0]}]}  # type: ignore[index, dict-item]
    )
    for seed in range(5):
        faults = Faults(seed, extrinsic_deg={sensor: 1.5}, extrinsic_m={sensor: 0.04})
        wrong = faults.published(rig)
        pairs = {
            "front": (wrong.cameras[0].T_base_cam, rig.cameras[0].T_base_cam),
            "lidar": (wrong.lidar.T_base_lidar, rig.lidar.T_base_lidar),
        }
        for name, (given_, true) in pairs.items():
            metres, degrees = pose_error(given_, true)
            assert metres == pytest.approx(0.04 if name == sensor else 0.0, abs=1e-9)
            assert degrees == pytest.approx(1.5 if name == sensor else 0.0, abs=1e-6)


def test_published_intrinsics_are_wrong_by_exactly_that_much() -> None:
    rig = sim.Rig.from_dict(RIG)
    wrong = build_faults({"intrinsic": {"front": 0.02}, "intrinsic_px": {"front": 3.0}})
    given_, true = wrong.published(rig).cameras[0], rig.cameras[0]
    assert abs(given_.fx / true.fx - 1) == pytest.approx(0.02)
    assert given_.fy / true.fy == pytest.approx(given_.fx / true.fx)
    assert np.hypot(given_.cx - true.cx, given_.cy - true.cy) == pytest.approx(3.0)


def test_a_folder_holds_both_calibrations(tmp_path: Path) -> None:
    faults = build_faults({"extrinsic_deg": {"front": 2.0}, "extrinsic_m": {"lidar": 0.1}})
    data = hall_folder(tmp_path / "set", faults, duration_s=0.2)
    metres, degrees = pose_error(data.T_base_cam["front"], data.truth.rig.cameras[0].T_base_cam)
    assert degrees == pytest.approx(2.0, abs=1e-6)
    assert metres == pytest.approx(0.0, abs=1e-9)
    image = data[0].images[0]
    believed = inverse(data.T_base_cam["front"]) @ data.T_base_lidar
    np.testing.assert_allclose(image.T_cam_lidar, believed, atol=1e-12)
    assert pose_error(data.truth.T_cam_lidar("front"), believed)[1] == pytest.approx(2.0, abs=1e-6)
    assert data.manifest["config"]["faults"]["extrinsic_deg"] == {"front": 2.0}


def test_what_is_not_there_cannot_fail() -> None:
    with pytest.raises(ConfigError, match="rear") as error:
        build_faults({"drop": {"rear": 0.1}}).check(["lidar", "front"])
    assert "front" in error.value.fix
    with pytest.raises(ConfigError, match="no parameter"):
        build_faults({"dorp": 0.1})
    with pytest.raises(ConfigError, match="out of range"):
        build_faults({"drop": 1.5})
    assert not Faults(7).any
    assert build_faults({"drop": 0.1}).any
