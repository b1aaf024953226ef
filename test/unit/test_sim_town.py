"""Towns: what lasts from session to session, what does not, and what moves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.spatial import cKDTree

from condense_ros import sim
from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.designs import asset_split
from condense_ros.sim.scenery import Mover
from condense_ros.sim.worlds import build_world

SMALL = sim.WorldConfig(columns=3, rows=2, block_m=70.0)
STILL = sim.WorldConfig(columns=3, rows=2, block_m=70.0, movers=0.0)


@pytest.fixture(scope="module")
def days() -> list[sim.World]:
    """One small town in three sessions."""
    return [sim.World(8, SMALL, session=k) for k in range(3)]


@pytest.fixture(scope="module")
def town() -> sim.World:
    """A town of the default size."""
    begin = time.perf_counter()
    world = sim.World(1)
    print(f"{len(world.mesh.triangles)} triangles in {time.perf_counter() - begin:.1f} s")
    return world


def digest(world: sim.World) -> str:
    total = hashlib.sha256()
    for array in (world.mesh.triangles, world.mesh.surface, world.mesh.instance, world.obstacles):
        total.update(np.ascontiguousarray(array).tobytes())
    total.update(world.mesh.surfaces.colour_a.tobytes())
    for mover in world.movers:
        total.update(mover.mesh.triangles.tobytes() + mover.trajectory.knots.tobytes())
    total.update(repr((world.light, sorted(world.assets))).encode())
    return total.hexdigest()


def test_same_seed_same_bytes_in_processes_with_other_hash_seeds() -> None:
    code = (
        "from test_sim_town import digest, SMALL; from condense_ros import sim;"
        "print(digest(sim.World(4, SMALL, session=1)))"
    )
    found = set()
    for seed in ("0", "77"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        env["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), env.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        found.add(done.stdout.strip())
    assert found == {digest(sim.World(4, SMALL, session=1))}


def test_what_lasts_is_the_same_bit_for_bit_and_the_rest_is_another(days: list[sim.World]) -> None:
    first = days[0]
    for other in days[1:]:
        n = first.permanent
        assert other.permanent == n > 10_000
        surfaces = int(first.mesh.surface[:n].max()) + 1
        for name in ("triangles", "surface", "instance"):
            a, b = getattr(first.mesh, name)[:n], getattr(other.mesh, name)[:n]
            assert a.tobytes() == b.tobytes(), name
        for name, column in vars(first.mesh.surfaces).items():
            here = getattr(other.mesh.surfaces, name)
            assert column[:surfaces].tobytes() == here[:surfaces].tobytes(), name
        # houses, walls, poles and trunks last; cars, people and leaves do not
        lasting = set(first.mesh.surfaces.semantic[first.mesh.surface[:n]].tolist())
        passing = set(first.mesh.surfaces.semantic[first.mesh.surface[n:]].tolist())
        index = sim.ontology.index
        assert {index(k) for k in ("building", "trunk", "pole", "terrain")} <= lasting
        assert {index(k) for k in ("car", "person", "hedge")} <= passing - lasting
        assert first.light != other.light
        knots = [[m.trajectory.knots[0, :2, 3] for m in w.movers] for w in (first, other)]
        assert not np.array_equal(knots[0][0], knots[1][0])
    # parked cars stand elsewhere: few rectangles of one session are found in another
    rows = [set(map(tuple, world.obstacles.round(6).tolist())) for world in days]
    lasting = rows[0] & rows[1] & rows[2]
    for one in rows:
        assert len(lasting) > 30
        assert len(one - lasting) > 10
    assert (rows[0] & rows[1]) - lasting == set()


def test_weather_and_season_change_between_sessions(days: list[sim.World]) -> None:
    names = [sim.World(8, STILL, session=k).weather for k in range(1, 6)]
    assert len(set(names)) >= 4
    assert days[0].weather == "clear"
    leaves = [
        int((w.mesh.surfaces.semantic[w.mesh.surface] == sim.ontology.index("foliage")).sum())
        for w in days
    ]
    assert len(set(leaves)) == 3
    for world in days:
        light = world.light
        assert np.linalg.norm(light.sun) == pytest.approx(1)
        assert light.sun[2] > 0


def test_a_site_closes_part_of_a_side_from_the_second_session_on(days: list[sim.World]) -> None:
    clutter = sim.ontology.index("clutter")
    count = []
    for world in days:
        mesh = world.mesh
        is_clutter = mesh.surfaces.semantic[mesh.surface] == clutter
        low = np.array([mesh.triangles[mesh.instance == k][:, :, 2].min() for k in
                        np.unique(mesh.instance[is_clutter])[:1]])  # fmt: skip
        assert np.isfinite(low).all()
        count.append(
            len(np.unique(mesh.instance[world.permanent :][is_clutter[world.permanent :]]))
        )
    assert min(count[1:]) > count[0]


def test_training_and_test_towns_share_no_asset() -> None:
    train = [sim.World(k, STILL, session=k % 2) for k in range(2)]
    test = [sim.World(k, STILL, session=k % 2, split="test") for k in range(2)]
    one, two = (frozenset().union(*(w.assets for w in worlds)) for worlds in (train, test))
    assert one & two == frozenset()
    assert {asset_split(name) for name in one} == {"train"}
    assert {asset_split(name) for name in two} == {"test"}
    kinds = {name.split("/")[0] for name in two}
    assert {"house", "car", "person", "tree", "sign", "paint", "bicycle"} <= kinds
    colours = [
        {tuple(c) for w in worlds for c in w.mesh.surfaces.colour_a.tolist() if max(c) < 0.89}
        for worlds in (train, test)
    ]
    assert colours[0] & colours[1] == set()


def test_default_town_is_three_kilometres_and_sound(town: sim.World) -> None:
    assert town.network.length_m() >= 3000
    assert sim.World(2).network.length_m() >= 3000
    t = town.mesh.triangles.astype(np.float64)
    assert np.isfinite(t).all()
    area = np.linalg.norm(np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]), axis=1) / 2
    assert area.min() > 1e-8
    # no object is of two minds about where it stands: instances are compact
    assert town.mesh.instance.min() == 0
    present = np.bincount(town.mesh.surfaces.semantic[town.mesh.surface], minlength=16)
    assert (present > 0).all()


def corners(mover: Mover, t: Array) -> Array:
    """(T, 4, 2) footprint of a mover at times."""
    points = mover.mesh.triangles.reshape(-1, 3)[:, :2]
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    box = np.array([[x0, y0, 0, 1], [x1, y0, 0, 1], [x1, y1, 0, 1], [x0, y1, 0, 1.0]])
    return np.einsum("tij,cj->tci", mover.trajectory.at(t), box)[..., :2]


def test_movers_go_round_smoothly_on_their_ways(town: sim.World) -> None:
    index = sim.ontology.index
    kinds = {int(m.mesh.surfaces.semantic[-1]) for m in town.movers}
    assert {index(k) for k in ("car", "van", "person", "bicycle")} <= kinds
    instances = [int(m.mesh.instance[0]) for m in town.movers]
    assert all((m.mesh.instance == i).all() for m, i in zip(town.movers, instances, strict=True))
    assert len({*instances, *np.unique(town.mesh.instance).tolist()}) == len(instances) + len(
        np.unique(town.mesh.instance)
    )
    houses = town.obstacles[(town.obstacles[:, 3:] > 3.0).all(axis=1)]
    for mover in town.movers:
        period = mover.trajectory.period_s
        t = np.arange(-5.0, period + 5.0, 0.5)
        T = mover.trajectory.at(t)
        step = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1) / 0.5
        assert step.max() < 11.0
        assert np.abs(np.diff(step)).max() / 0.5 < 5.0
        turn = np.arctan2(T[1:, 1, 0], T[1:, 0, 0]) - np.arctan2(T[:-1, 1, 0], T[:-1, 0, 0])
        assert np.abs((turn + np.pi) % (2 * np.pi) - np.pi).max() < 1.2
        np.testing.assert_allclose(mover.trajectory.at(0.0), mover.trajectory.at(period), atol=1e-6)
        upright = np.linalg.det(T[:, :3, :3])
        np.testing.assert_allclose(upright, 1, atol=1e-6)
        xy = T[:, :2, 3]
        distance, edge = town.network.offsets(xy)
        walks = mover.mesh.surfaces.semantic[-1] == index("person")
        road, street = town.network.half_road[edge], town.network.half_street[edge]
        if walks:
            assert (distance < street + 0.5).all()
            assert (T[:, 2, 3] > town.height(xy) + 0.1).all()
        else:
            assert (distance < road).all()
        for x, y, yaw, half_x, half_y in houses:
            dx, dy = xy[:, 0] - x, xy[:, 1] - y
            u, v = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
            assert not ((np.abs(u) < half_x) & (np.abs(v) < half_y)).any()


def overlap(a: Array, b: Array) -> Array:
    """(T,) whether convex quadrilaterals (T, 4, 2) overlap."""
    apart = np.zeros(len(a), bool)
    for shape in (a, b):
        for k in range(2):
            edge = shape[:, k + 1] - shape[:, k]
            axis = np.stack([-edge[:, 1], edge[:, 0]], 1)
            p, q = (np.einsum("tci,ti->tc", s, axis) for s in (a, b))
            apart |= (p.max(1) < q.min(1)) | (q.max(1) < p.min(1))
    return ~apart


def test_movers_do_not_run_through_each_other_or_parked_cars(town: sim.World) -> None:
    t = np.arange(0.0, 150.0, 1.0)
    boxes = np.stack([corners(mover, t) for mover in town.movers])
    middles = boxes.mean(axis=2)
    o = town.obstacles[(town.obstacles[:, 3:] < 4.0).all(axis=1)]
    c, s = np.cos(o[:, 2]), np.sin(o[:, 2])
    ex = np.stack([c, s], 1) * o[:, 3:4]
    ey = np.stack([-s, c], 1) * o[:, 4:5]
    rectangles = np.stack([-ex - ey, ex - ey, ex + ey, -ex + ey], 1) + o[:, None, :2]
    standing, met = cKDTree(o[:, :2]), 0
    for k in range(len(t)):
        moving = cKDTree(middles[:, k])
        pairs = moving.query_pairs(9.0, output_type="ndarray")
        assert not overlap(boxes[pairs[:, 0], k], boxes[pairs[:, 1], k]).any(), t[k]
        near = moving.query_ball_tree(standing, 9.0)
        i = np.repeat(np.arange(len(near)), [len(n) for n in near])
        j = np.concatenate([np.array(n, np.int64) for n in near])
        assert not overlap(boxes[i, k], rectangles[j]).any(), t[k]
        met += len(pairs)
    assert met > 1000


def test_still_towns_and_bad_requests() -> None:
    assert sim.World(3, STILL).movers == ()
    assert build_world("town", 3, config=STILL).kind == "town"
    with pytest.raises(SimulationError, match="kind"):
        build_world("moon", 1)
    with pytest.raises(SimulationError, match="split"):
        sim.World(1, STILL, split="validation")
    with pytest.raises(SimulationError, match="negative"):
        sim.World(1, STILL, session=-1)
