"""Worlds, drives and odometry: the same for the same seed, and as large as asked."""

from __future__ import annotations

import numpy as np
import pytest

from condense_ros import sim
from condense_ros.errors import ConfigError, GeometryError, SimulationError
from condense_ros.geometry import inverse, pose_error

SMALL = sim.WorldConfig(columns=3, rows=2, block_m=70.0)


@pytest.fixture(scope="module")
def town() -> sim.World:
    return sim.World(1)


def test_same_seed_same_bytes_other_seed_other_town() -> None:
    a, b, c = sim.World(5, SMALL), sim.World(5, SMALL), sim.World(6, SMALL)
    assert a.mesh.triangles.tobytes() == b.mesh.triangles.tobytes()
    assert a.mesh.surface.tobytes() == b.mesh.surface.tobytes()
    assert a.mesh.surfaces.colour_a.tobytes() == b.mesh.surfaces.colour_a.tobytes()
    assert len(a.mesh.triangles) != len(c.mesh.triangles)
    # other assets, not only other places: all paints differ but the white of the
    # road's lines and of paint that cannot get any brighter
    paints = [set(map(tuple, world.mesh.surfaces.colour_a.tolist())) for world in (a, c)]
    assert len(paints[0]) > 300
    assert all(min(shared) > 0.65 for shared in paints[0] & paints[1])


def test_same_pose_and_stamp_same_frame_bytes() -> None:
    world = sim.World(5, SMALL)
    T = sim.drive(world, 1.0)[3]
    first, second = (sim.Simulator(world).frame(T, 77) for _ in range(2))
    other = sim.Simulator(world).frame(T, 78)
    assert first.cloud.xyz.tobytes() == second.cloud.xyz.tobytes()
    assert first.images[0].pixels.tobytes() == second.images[0].pixels.tobytes()
    assert first.images[0].pixels.tobytes() != other.images[0].pixels.tobytes()
    assert first.T_world_lidar is not None
    np.testing.assert_allclose(first.T_world_lidar, T @ sim.Rig().lidar.T_base_lidar)


def test_town_is_large_and_its_mesh_sound(town: sim.World) -> None:
    assert town.network.length_m() > 1500
    assert np.isfinite(town.mesh.triangles).all()
    present = np.bincount(town.mesh.surfaces.semantic[town.mesh.surface], minlength=16)
    assert (present > 0).all()
    assert len(sim.ontology) == 16


def test_a_drive_sees_at_least_twelve_classes_with_a_long_tail(town: sim.World) -> None:
    simulator = sim.Simulator(town, sim.Rig(cameras=()))
    counts = np.zeros(16, np.int64)
    for k, T in enumerate(sim.drive(town, 40.0, 0.25)):
        labels = simulator.frame(T, k).labels
        assert labels is not None
        counts += np.bincount(labels, minlength=16)
    share = np.sort(counts / counts.sum())[::-1]
    assert (counts > 0).sum() >= 12
    assert share[:3].sum() > 0.6
    assert share[8:].sum() < 0.12


def test_drive_keeps_speed_lane_and_turns_smoothly(town: sim.World) -> None:
    for seed in range(3):
        poses = sim.drive(town, 60.0, 10.0, seed, speed=7.0)
        assert poses.shape == (600, 4, 4)
        step = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) * 10
        assert 3.5 < step.min() < step.max() < 8.6  # slower in bends
        yaw = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
        assert np.abs(np.diff(yaw)).max() * 10 < 1.5  # rad/s
        assert np.abs(np.diff(yaw, 2)).max() * 100 < 9.0
        xy = poses[:, :2, 3]
        np.testing.assert_allclose(poses[:, 2, 3], town.height(xy), atol=1e-9)
        # the robot, 1.6 m wide, touches nothing
        o = town.obstacles
        delta = xy[:, None] - o[:, :2]
        c, s = np.cos(o[:, 2]), np.sin(o[:, 2])
        dx = np.abs(delta[..., 0] * c + delta[..., 1] * s) - o[:, 3]
        dy = np.abs(-delta[..., 0] * s + delta[..., 1] * c) - o[:, 4]
        assert np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)).min() > 0.8


def test_drive_is_deterministic_and_refuses_nonsense(town: sim.World) -> None:
    np.testing.assert_array_equal(sim.drive(town, 5.0), sim.drive(town, 5.0))
    assert np.abs(sim.drive(town, 5.0, seed=1) - sim.drive(town, 5.0)).max() > 1
    with pytest.raises(SimulationError, match="no poses"):
        sim.drive(town, 0.0)
    with pytest.raises(SimulationError, match="negative"):
        sim.World(-1)


def test_places_never_visited_are_far_and_places_beside_are_beside(
    town: sim.World, rng: np.random.Generator
) -> None:
    drive = sim.drive(town, 60.0)
    far = sim.poses_never_visited(town, drive, 200, rng, min_distance_m=60.0)
    gap = np.linalg.norm(far[:, None, :2, 3] - drive[None, :, :2, 3], axis=2).min(axis=1)
    assert far.shape == (200, 4, 4)
    assert gap.min() >= 60.0
    beside = sim.poses_beside(town, drive, 100, rng, min_sideways_m=1.0)
    delta = beside[:, None, :2, 3] - drive[None, :, :2, 3]
    distance = np.linalg.norm(delta, axis=2)
    assert distance.min() >= 1.0
    assert distance.min(axis=1).max() < 6.0
    nearest = drive[distance.argmin(axis=1)]
    lateral = np.einsum("ni,ni->n", beside[:, :2, 3] - nearest[:, :2, 3], nearest[:, :2, 1])
    assert np.abs(lateral).min() >= 1.0
    yaw = np.arctan2(beside[:, 1, 0], beside[:, 0, 0])
    assert np.histogram(yaw, bins=4, range=(-np.pi, np.pi))[0].min() > 10
    with pytest.raises(SimulationError, match="places"):
        sim.poses_never_visited(town, drive, 5, rng, min_distance_m=5000.0)


def test_odometry_drifts_within_its_bounds(town: sim.World) -> None:
    truth = sim.drive(town, 60.0)
    start = inverse(truth[0]) @ truth
    perfect = sim.odometry_poses(truth, 3, sim.OdometryConfig(0.0, 0.0, 0.0, 0.0, 0.0))
    relative = inverse(perfect[0]) @ perfect
    np.testing.assert_allclose(relative, start, atol=1e-9)
    # gravity is observed: odometry starts at the origin, heading along x, with true roll and pitch
    np.testing.assert_allclose(perfect[0, :3, 3], 0, atol=1e-12)
    assert abs(np.arctan2(perfect[0, 1, 0], perfect[0, 0, 0])) < 1e-12
    ends = []
    for seed in range(12):
        drifted = sim.odometry_poses(truth, seed)
        np.testing.assert_array_equal(drifted, sim.odometry_poses(truth, seed))
        ends.append(pose_error(drifted[-1], perfect[-1]))
        steps = inverse(drifted[:-1]) @ drifted[1:]
        true_steps = inverse(truth[:-1]) @ truth[1:]
        assert np.abs(steps[:, :3, 3] - true_steps[:, :3, 3]).max() < 0.12
    metres = np.array([end[0] for end in ends])
    # about 420 m driven: some drift, yet under 8 %
    assert np.median(metres) > 0.5
    assert metres.max() < 34.0
    assert max(end[1] for end in ends) < 15.0


def test_rig_goes_through_yaml_and_rejects_what_no_robot_has(tmp_path) -> None:  # type: ignore[no-untyped-def]
    six = [{"name": f"cam{k}", "rpy_deg": [0.0, 0.0, 60.0 * k], "width": 64} for k in range(6)]
    rig = sim.Rig.from_dict({"cameras": six, "lidar": {"beams": 16}})
    path = tmp_path / "rig.yaml"
    path.write_text(rig.to_yaml())
    assert sim.Rig.from_yaml(path) == rig
    assert len(rig.lidar.directions()) == 16 * 1000
    np.testing.assert_allclose(np.linalg.norm(rig.lidar.directions(), axis=1), 1)
    with pytest.raises(ConfigError, match="own name"):
        sim.Rig.from_dict({"cameras": [{"name": "a"}, {"name": "a"}]})
    with pytest.raises(ConfigError, match="beams"):
        sim.Rig.from_dict({"lidar": {"beams": 0}})
    with pytest.raises(ConfigError, match="no part"):
        sim.Rig.from_dict({"radar": {}})
    with pytest.raises(ConfigError, match="three"):
        sim.Rig.from_dict({"lidar": {"xyz_m": [0.0, 1.0]}})
    with pytest.raises(GeometryError, match="coefficients"):
        sim.Rig.from_dict({"cameras": [{"distortion": [0.1, 0.2]}]})
    with pytest.raises(ConfigError, match="cannot read"):
        sim.Rig.from_yaml(tmp_path / "none.yaml")


def test_noise_and_dropout_do_what_their_names_say() -> None:
    world = sim.World(5, SMALL)
    T = sim.drive(world, 1.0)[0]

    def sweep(**lidar: float) -> sim.Simulator:
        return sim.Simulator(world, sim.Rig.from_dict({"cameras": [], "lidar": lidar}))

    full = sweep(range_noise_m=0.0, dropout=0.0).frame(T, 1).cloud
    noisy = sweep(range_noise_m=0.05, dropout=0.0).frame(T, 1).cloud
    fewer = sweep(dropout=1.0).frame(T, 1).cloud
    error = np.linalg.norm(noisy.xyz, axis=1) - np.linalg.norm(full.xyz, axis=1)
    assert error.std() == pytest.approx(0.05, rel=0.03)
    assert 0.5 * len(full) < len(fewer) < 0.985 * len(full)
    # far returns are the first to go missing
    far, kept_far = ((np.linalg.norm(c.xyz, axis=1) > 30).sum() for c in (full, fewer))
    assert kept_far / far < 0.9 * (len(fewer) - kept_far) / (len(full) - far)
