"""The building: the same bytes for the same seed, corridors that alias, ways that are free."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_split
from condense_ros.sim.driving.motion import drive, ground_poses
from condense_ros.sim.indoors.building import BuildingConfig, BuildingWorld
from condense_ros.sim.indoors.floorplan import CEILING_M
from condense_ros.sim.indoors.interior import rectangle_distance
from condense_ros.sim.scenery import EPOCH_NS
from condense_ros.sim.sensors.raycast import RayScene
from condense_ros.sim.sensors.rig import CameraSpec, LidarSpec, Rig
from condense_ros.sim.sensors.simulator import Simulator

SMALL = BuildingConfig(corridors=2, segments=1)
ROBOT_M = 0.3


@pytest.fixture(scope="module")
def building() -> BuildingWorld:
    return BuildingWorld(1)


def digest(world: BuildingWorld) -> str:
    mesh, surfaces = world.mesh, world.mesh.surfaces
    parts = [mesh.triangles, mesh.surface, mesh.instance, surfaces.colour_a, surfaces.reflectance]
    parts += [world.obstacles, world.network.nodes, world.network.edges]
    for mover in world.movers:
        parts += [mover.mesh.triangles, mover.trajectory.knots]
    text = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    return hashlib.sha256(text + repr((world.light, sorted(world.assets))).encode()).hexdigest()


def test_same_bytes_in_a_process_with_other_hashes() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_sim_building as t; "
        "print(t.digest(t.BuildingWorld(3, t.SMALL, session=1)))"
    )
    here = os.path.dirname(__file__)
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    out = subprocess.run(
        [sys.executable, "-c", program, here], env=env, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == digest(BuildingWorld(3, SMALL, session=1))
    assert digest(BuildingWorld(4, SMALL, session=1)) != out.stdout.strip()


def test_mesh_is_sound_and_holds_every_class(building: BuildingWorld) -> None:
    corners = building.mesh.triangles.astype(np.float64)
    assert np.isfinite(corners).all()
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(normal, axis=1).min() / 2 > 1e-6
    semantic = building.mesh.surfaces.semantic[building.mesh.surface]
    inside = corners[semantic != building.ontology.index("outdoors")]
    assert inside[:, :, 2].min() > -0.01
    assert inside[:, :, 2].max() < CEILING_M + 1e-6
    counts = np.bincount(
        building.mesh.surfaces.semantic[building.mesh.surface], minlength=len(building.ontology)
    )
    assert (counts > 0).all()
    floor = building.ontology.index("floor")
    at_floor = building.mesh.surfaces.semantic[building.mesh.surface] == floor
    assert (building.mesh.instance[at_floor] == 0).all()
    assert (building.mesh.instance[~at_floor] > 0).all()


def test_drives_meet_many_classes_with_a_long_tail(building: BuildingWorld) -> None:
    camera = CameraSpec(width=96, height=64, fx=55, fy=55, cx=47.5, cy=31.5, xyz_m=(0.1, 0, 1.0))
    lidar = LidarSpec(xyz_m=(0, 0, 1.0), beams=16, min_range_m=0.3, azimuth_steps=500)
    simulator = Simulator(building, Rig(cameras=(camera,), lidar=lidar))
    classes = len(building.ontology)
    points, pixels = np.zeros(classes, np.int64), np.zeros(256, np.int64)
    for seed in range(3):
        for k, T in enumerate(drive(building, 240.0, 0.1, seed)):
            frame = simulator.frame(T, EPOCH_NS + k * 10**10, images=False)
            assert frame.labels is not None
            points += np.bincount(frame.labels, minlength=classes)
            truth = simulator.truth(T, EPOCH_NS + k * 10**10)["front"]
            pixels += np.bincount(truth.semantic.ravel(), minlength=256)
    for counts in (points, pixels[:classes]):
        assert (counts > 0).sum() >= 18
        share = np.sort(counts / counts.sum())[::-1]
        assert share[:3].sum() > 0.5
        assert share[12:].sum() < 0.2
    # no ray finds its way out of the building
    assert pixels[classes:].sum() == 0


def test_network_is_one_piece_with_ways_into_rooms(building: BuildingWorld) -> None:
    net = building.network
    n = len(net.nodes)
    graph = coo_matrix((np.ones(len(net.edges)), (net.edges[:, 0], net.edges[:, 1])), shape=(n, n))
    assert connected_components(graph, directed=False)[0] == 1
    entered = [room for room in building.plan.rooms if len(room.way)]
    assert len({room.kind for room in entered}) >= 3
    assert len(entered) < len(building.plan.rooms)
    assert any(room.ring for room in entered)
    # two metres and more of every way into a room lie beyond its door
    assert all((room.way[:, 1] > 2.0).any() for room in entered)


@pytest.mark.parametrize("session", [0, 1])
def test_ways_are_clear_of_all_obstacles(session: int) -> None:
    world = BuildingWorld(5 + session, session=session)
    ends = world.network.nodes[world.network.edges]
    steps = np.linspace(0, 1, 40)[None, :, None]
    line = (ends[:, :1] + steps * (ends[:, 1:] - ends[:, :1])).reshape(-1, 2)
    assert rectangle_distance(line, world.obstacles).min() > ROBOT_M + 0.1
    # and the mesh agrees: nothing around the robot, at three heights, is within its radius
    scene = RayScene(world.mesh)
    angle = np.arange(24) * (2 * np.pi / 24)
    around = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(24)])
    for z in (0.15, 0.45, 0.9):
        eyes = np.column_stack([line[::5], np.full(len(line[::5]), z)])
        hits = scene.cast(np.repeat(eyes, 24, axis=0), np.tile(around, (len(eyes), 1)), 5.0)
        assert hits.range_m.min() > ROBOT_M


def test_drives_touch_nothing_and_keep_to_walking_pace() -> None:
    for seed in range(3):
        world = BuildingWorld(seed)
        poses = drive(world, 200.0, 5.0, seed)
        xy = poses[:, :2, 3]
        assert rectangle_distance(xy, world.obstacles).min() > ROBOT_M
        step = np.linalg.norm(np.diff(xy, axis=0), axis=1) * 5
        assert step.max() < 1.3
        assert step.mean() > 0.4
        np.testing.assert_array_equal(poses[:, 2, 3], 0.0)


def test_sessions_share_the_permanent_part_bit_for_bit() -> None:
    a, b, c = (BuildingWorld(2, SMALL, session=k) for k in range(3))
    n = a.permanent
    assert n == b.permanent == c.permanent
    for x, y in ((a, b), (b, c)):
        np.testing.assert_array_equal(x.mesh.triangles[:n], y.mesh.triangles[:n])
        np.testing.assert_array_equal(x.mesh.instance[:n], y.mesh.instance[:n])
        rows = int(x.mesh.surface[:n].max()) + 1
        np.testing.assert_array_equal(x.mesh.surface[:n], y.mesh.surface[:n])
        for column in ("semantic", "texture", "colour_a", "colour_b", "reflectance"):
            first, second = (getattr(m.mesh.surfaces, column)[:rows] for m in (x, y))
            np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(x.network.nodes, y.network.nodes)
        assert x.mesh.triangles[n:].tobytes() != y.mesh.triangles[n:].tobytes()
        assert x.light != y.light
        assert x.movers[0].trajectory.period_s != y.movers[0].trajectory.period_s
        assert x.assets == y.assets


def test_door_leaves_and_lamps_differ_between_sessions() -> None:
    leaves, lamps = [], []
    for session in range(4):
        world = BuildingWorld(0, SMALL, session=session)
        door = world.ontology.index("door")
        mesh = world.mesh
        mine = mesh.surfaces.semantic[mesh.surface][world.permanent :] == door
        leaves.append(mesh.triangles[world.permanent :][mine].tobytes())
        lamps.append(world.light.lamps)
    assert len(set(leaves)) == len(set(lamps)) == 4


def test_splits_share_no_asset() -> None:
    train = [BuildingWorld(seed, SMALL) for seed in range(3)]
    test = BuildingWorld(0, SMALL, split="test")
    for world in train:
        assert not world.assets & test.assets
        assert {asset_split(name) for name in world.assets} == {"train"}
    assert {asset_split(name) for name in test.assets} == {"test"}
    kinds = {name.rsplit("/", 1)[0] for name in test.assets}
    assert kinds == {name.rsplit("/", 1)[0] for name in train[0].assets}
    paints = [set(map(tuple, w.mesh.surfaces.colour_a.tolist())) for w in (train[0], test)]
    # equal only where a paint cannot get any brighter
    assert all(max(colour) > 0.85 for colour in paints[0] & paints[1])


def test_two_corridors_give_nearly_the_same_sweep(building: BuildingWorld) -> None:
    """Places in corridors 0 and 2 alias; a place in the other wing does not."""
    lidar = LidarSpec(xyz_m=(0, 0, 1.0), beams=16, azimuth_steps=360)
    beams, scene = lidar.directions(), RayScene(building.mesh)

    def ranges(x: float, y: float, yaw: float) -> Array:
        T = ground_poses(building, np.array([[x, y]]), np.array([yaw]))[0]
        return scene.cast((T @ lidar.T_base_lidar)[:3, 3], beams @ T[:3, :3].T).range_m

    xs, ys = building.plan.xs, building.plan.ys
    x = float(xs[0] + 0.4 * (xs[1] - xs[0]))
    here, there, other = (ranges(x, float(y), 0.0) for y in (ys[0], ys[2], ys[1]))
    assert np.median(np.abs(here - there)) < 0.02
    assert (np.abs(here - there) < 0.1).mean() > 0.7
    # turned round, the other row of rooms looks like this one
    middle = float((xs[0] + xs[1]) / 2)
    back = ranges(2 * middle - x, float(ys[0]), np.pi)
    assert (np.abs(here - back) < 0.1).mean() > 0.7
    assert (np.abs(here - other) < 0.1).mean() < 0.9


def test_every_texture_is_shared_by_several_classes() -> None:
    users: dict[int, set[int]] = {}
    for seed in range(4):
        surfaces = BuildingWorld(seed, SMALL).mesh.surfaces
        for texture, semantic in zip(surfaces.texture, surfaces.semantic, strict=True):
            users.setdefault(int(texture), set()).add(int(semantic))
    assert len(users) >= 8
    assert min(len(classes) for classes in users.values()) >= 2


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(SimulationError, match="negative"):
        BuildingWorld(-1)
    with pytest.raises(SimulationError, match="negative"):
        BuildingWorld(0, session=-1)
    with pytest.raises(SimulationError, match="split"):
        BuildingWorld(0, split="validation")


def test_movers_walk_upright_and_clear_of_the_middle(building: BuildingWorld) -> None:
    assert len(building.movers) == building.config.walkers
    numbers = [int(m.mesh.instance[0]) for m in building.movers]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) > building.mesh.instance.max()
    for mover in building.movers:
        T = mover.trajectory.at(np.linspace(0, mover.trajectory.period_s, 500))
        np.testing.assert_allclose(T[:, 2, 3], 0.0)
        speed = np.linalg.norm(np.diff(T[:, :2, 3], axis=0), axis=1)
        speed *= 499 / mover.trajectory.period_s
        assert 0.4 < np.median(speed) < 1.6
