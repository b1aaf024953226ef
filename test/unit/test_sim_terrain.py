"""Open country: the same bytes for the same seed, relief, seasons, and tracks that are free."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from condense_ros.errors import SimulationError
from condense_ros.sim.designs import asset_split
from condense_ros.sim.driving.motion import drive
from condense_ros.sim.indoors.interior import rectangle_distance
from condense_ros.sim.open_country.fields import SEASONS
from condense_ros.sim.open_country.relief import ground_height
from condense_ros.sim.open_country.terrain import TerrainConfig, TerrainWorld
from condense_ros.sim.open_country.tracks import HALF_TRACK_M
from condense_ros.sim.scenery import EPOCH_NS
from condense_ros.sim.sensors.raycast import RayScene
from condense_ros.sim.sensors.rig import CameraSpec, LidarSpec, Rig
from condense_ros.sim.sensors.simulator import Simulator

SMALL = TerrainConfig(radius_m=60.0, trees=30)


@pytest.fixture(scope="module")
def country() -> TerrainWorld:
    return TerrainWorld(0, session=1)


@pytest.fixture(scope="module")
def days() -> list[TerrainWorld]:
    return [TerrainWorld(2, SMALL, session=k) for k in range(3)]


def digest(world: TerrainWorld) -> str:
    mesh, surfaces = world.mesh, world.mesh.surfaces
    parts = [mesh.triangles, mesh.surface, mesh.instance, surfaces.colour_a, surfaces.reflectance]
    parts += [world.obstacles, world.network.nodes, world.network.edges, world.network.hills]
    for mover in world.movers:
        parts += [mover.mesh.triangles, mover.trajectory.knots]
    text = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    return hashlib.sha256(text + repr((world.light, sorted(world.assets))).encode()).hexdigest()


def test_same_bytes_in_a_process_with_other_hashes(days: list[TerrainWorld]) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_sim_terrain as t; "
        "print(t.digest(t.TerrainWorld(2, t.SMALL, session=1)))"
    )
    here = os.path.dirname(__file__)
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    out = subprocess.run(
        [sys.executable, "-c", program, here], env=env, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == digest(days[1])
    assert len({digest(world) for world in days}) == 3


def test_mesh_is_sound_and_holds_every_class(country: TerrainWorld) -> None:
    corners = country.mesh.triangles.astype(np.float64)
    assert np.isfinite(corners).all()
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(normal, axis=1).min() / 2 > 1e-6
    semantic = country.mesh.surfaces.semantic[country.mesh.surface]
    counts = np.bincount(semantic, minlength=len(country.ontology))
    assert (counts > 0).all()
    ground = [country.ontology.index(name) for name in ("grass", "soil", "track", "water")]
    # crops and grass stand on the ground, but are no part of it
    assert set(np.unique(semantic[country.mesh.instance == 0])) == set(ground)


def test_drives_meet_many_classes_with_a_long_tail(country: TerrainWorld) -> None:
    camera = CameraSpec(width=120, height=60, fx=60, fy=60, cx=59.5, cy=29.5, xyz_m=(0.3, 0, 1.5))
    lidar = LidarSpec(azimuth_steps=500, dropout=0.0)
    simulator = Simulator(country, Rig(cameras=(camera,), lidar=lidar))
    classes = len(country.ontology)
    points, pixels = np.zeros(classes, np.int64), np.zeros(256, np.int64)
    for k, T in enumerate(drive(country, 300.0, 0.08, 1)):
        stamp = EPOCH_NS + k * 12 * 10**9
        frame = simulator.frame(T, stamp, images=False)
        assert frame.labels is not None
        points += np.bincount(frame.labels, minlength=classes)
        pixels += np.bincount(simulator.truth(T, stamp)["front"].semantic.ravel(), minlength=256)
    for counts, least in ((points, 15), (pixels[:classes], 13)):
        assert (counts > 0).sum() >= least
        share = np.sort(counts / counts.sum())[::-1]
        assert share[:3].sum() > 0.55
        assert share[6:].sum() < 0.2


def test_relief_is_of_metres_and_the_mesh_follows_it(country: TerrainWorld) -> None:
    land, rng = country.land, np.random.default_rng(0)
    along = country.height(country.network.nodes)
    assert 2.0 < np.ptp(along) < 25.0
    steep = np.linalg.norm(country.network.slope(country.network.nodes), axis=1)
    assert 0.03 < np.sqrt((steep**2).mean()) < 0.15
    # the ground under a ray straight down lies within clods and ruts of `ground_height`
    line = drive(country, 250.0, 2.0, 3)[:, :2, 3]
    xy = np.concatenate([line, line + rng.uniform(-20, 20, line.shape)])
    scene = RayScene(country.mesh)
    eye = np.column_stack([xy, country.height(xy) + 60.0])
    hits = scene.cast(eye, np.tile([0.0, 0.0, -1.0], (len(eye), 1)))
    ground = country.mesh.instance[hits.triangle] == 0
    height = eye[:, 2] - hits.range_m
    error = (height - ground_height(land, country._ditch, xy))[ground]
    assert ground.mean() > 0.6
    assert np.abs(np.median(error)) < 0.02
    assert (np.abs(error) < 0.12).mean() > 0.95
    # rough by centimetres, not smooth
    assert 0.005 < error[np.abs(error) < 0.12].std() < 0.06


def test_network_is_one_piece_with_loops(country: TerrainWorld) -> None:
    net = country.network
    n = len(net.nodes)
    graph = coo_matrix((np.ones(len(net.edges)), (net.edges[:, 0], net.edges[:, 1])), shape=(n, n))
    assert connected_components(graph, directed=False)[0] == 1
    ends = np.bincount(net.edges.ravel(), minlength=n)
    assert ends.min() >= 2
    assert len(net.edges) - n + 1 == 4
    lengths = np.linalg.norm(np.diff(net.nodes[net.edges], axis=1)[:, 0], axis=1)
    assert 4.0 < lengths.min() < lengths.max() < 10.0
    assert net.length_m() > 800


def test_drives_keep_to_the_tracks_and_touch_nothing(days: list[TerrainWorld]) -> None:
    for seed, world in enumerate(days):
        poses = drive(world, 150.0, 5.0, seed)
        xy = poses[:, :2, 3]
        assert world.land.distance(xy).max() < HALF_TRACK_M
        assert rectangle_distance(xy, world.obstacles).min() > 1.2
        speed = np.linalg.norm(np.diff(xy, axis=0), axis=1) * 5
        assert 2.3 < speed.mean() < 3.3
        np.testing.assert_allclose(poses[:, 2, 3], world.height(xy), atol=0.01)


def test_sessions_share_the_permanent_part_bit_for_bit(days: list[TerrainWorld]) -> None:
    for x, y in pairwise(days):
        n = x.permanent
        assert n == y.permanent
        np.testing.assert_array_equal(x.mesh.triangles[:n], y.mesh.triangles[:n])
        np.testing.assert_array_equal(x.mesh.surface[:n], y.mesh.surface[:n])
        np.testing.assert_array_equal(x.mesh.instance[:n], y.mesh.instance[:n])
        rows = int(x.mesh.surface[:n].max()) + 1
        for column in ("semantic", "texture", "colour_a", "colour_b", "reflectance"):
            first, second = (getattr(w.mesh.surfaces, column)[:rows] for w in (x, y))
            np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(x.network.hills, y.network.hills)
        assert x.light != y.light
        assert not np.array_equal(x.movers[0].trajectory.knots, y.movers[0].trajectory.knots)


def test_seasons_change_what_grows() -> None:
    worlds: dict[str, TerrainWorld] = {}
    names: set[str] = set()
    for session in range(20):
        name = TerrainWorld.season_of(1, session).name
        names.add(name)
        if name not in worlds and name != "spring":
            worlds[name] = TerrainWorld(1, SMALL, session=session)
            assert worlds[name].season.name == name
    assert names == {season.name for season in SEASONS}

    def top(name: str, what: str) -> float:
        """95th percentile of the height over the ground."""
        world = worlds[name]
        mesh = world.mesh
        pick = mesh.surfaces.semantic[mesh.surface] == world.ontology.index(what)
        corners = mesh.triangles[pick].reshape(-1, 3).astype(np.float64)
        return float(np.quantile(corners[:, 2] - world.height(corners[:, :2]), 0.95))

    def count(name: str, what: str) -> int:
        mesh = worlds[name].mesh
        return int(
            (mesh.surfaces.semantic[mesh.surface] == worlds[name].ontology.index(what)).sum()
        )

    assert top("summer", "crop") > 0.7 > 0.45 > top("autumn", "crop")
    assert top("summer", "tall_grass") > 1.3 * top("autumn", "tall_grass")
    assert count("autumn", "foliage") < 0.7 * count("summer", "foliage")
    assert count("harvest", "bale") > count("summer", "bale")
    assert count("autumn", "trunk") == count("summer", "trunk")


def test_splits_share_no_asset(days: list[TerrainWorld]) -> None:
    test = TerrainWorld(0, SMALL, split="test")
    assert not test.assets & days[0].assets
    assert {asset_split(name) for name in days[0].assets} == {"train"}
    assert {asset_split(name) for name in test.assets} == {"test"}
    paints = [set(map(tuple, w.mesh.surfaces.colour_a.tolist())) for w in (days[0], test)]
    # the wires of the overhead line are of bare metal everywhere
    assert all(np.allclose(c, (0.1, 0.1, 0.11), atol=1e-3) for c in paints[0] & paints[1])


def test_movers_go_on_the_ground_and_off_the_tracks(country: TerrainWorld) -> None:
    assert len(country.movers) >= 3
    numbers = [int(m.mesh.instance[0]) for m in country.movers]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) > country.mesh.instance.max()
    for mover in country.movers:
        T = mover.trajectory.at(np.linspace(0, mover.trajectory.period_s, 400))
        xy = T[:, :2, 3]
        np.testing.assert_allclose(T[:, 2, 3], country.height(xy), atol=0.05)
        step = np.linalg.norm(np.diff(xy, axis=0), axis=1)
        assert step.max() * 399 / mover.trajectory.period_s < 4.0


def test_flat_and_small_country_is_made_from_whole_numbers() -> None:
    world = TerrainWorld(0, TerrainConfig(radius_m=60, relief=0, trees=0, animals=0, walkers=0))
    np.testing.assert_array_equal(world.height(world.network.nodes), 0.0)
    assert np.isfinite(world.mesh.triangles).all()
    assert world.network.length_m() > 500


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(SimulationError, match="negative"):
        TerrainWorld(-1)
    with pytest.raises(SimulationError, match="split"):
        TerrainWorld(0, split="both")
