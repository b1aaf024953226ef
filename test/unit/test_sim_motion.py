"""Drives: smooth, bounded, repeatable, in every kind of world and also backwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros import sim
from condense_ros.errors import SimulationError
from condense_ros.geometry import inverse
from condense_ros.sim.driving.motion import Motion, Stops, ground_values
from condense_ros.sim.driving.route import find_route, free
from condense_ros.sim.network import Network


class Ways:
    """A world of ways alone: a ladder with two dead ends, on a slope."""

    kind, seed, session, split, movers = "building", 3, 0, "train", ()

    def __init__(
        self, scale: float, half_road: float, lane_m: float, corner_m: float, speed: float
    ):
        nodes = scale * np.array(
            [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [2.6, 0], [0, 1.7]]
        )
        edges = np.array([[0, 1], [1, 2], [3, 4], [4, 5], [0, 3], [2, 5], [2, 6], [3, 7]])
        width = np.full(len(edges), half_road)
        hills = np.array([[0.02 * scale, 0.5 / scale, 0.3 / scale, 0.4]])
        self.network = Network(nodes, edges, width, width + 0.1, hills, lane_m, corner_m, speed)
        self.obstacles = np.zeros((0, 5))

    def height(self, xy: np.ndarray) -> np.ndarray:
        return self.network.height(xy)


CORRIDORS = Ways(12.0, 1.0, 0.3, 0.8, 0.9)
TRACKS = Ways(150.0, 2.0, 0.0, 4.0, 2.5)
STREETS = Ways(90.0, 5.0, 1.25, 12.0, 7.0)
WORLDS = {"corridors": CORRIDORS, "tracks": TRACKS, "streets": STREETS}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_drives_are_smooth_and_within_limits(name: str, reverse: bool) -> None:
    world = WORLDS[name]
    config = sim.DriveConfig(reverse=reverse, stops_per_km=4.0)
    for seed in range(3):
        motion = sim.drive_motion(world, 150.0, seed, config)  # type: ignore[arg-type]
        t = np.arange(0, 150, 0.005)
        twist, a = motion.twist(t), motion.acceleration(t)
        speed = np.linalg.norm(twist[:, :3], axis=1)
        limit = world.network.speed_m_s * 1.15
        assert 0.5 * world.network.speed_m_s < speed.mean() < speed.max() < limit * 1.02
        assert np.abs(twist[:, 1]).max() < 0.02  # it never slides sideways
        assert twist[:, 0].min() > -1e-3
        assert np.abs(twist[:, 5]).max() < 0.95
        assert np.hypot(a[:, 0], a[:, 1]).max() < 1.05 * np.hypot(3.0, 1.5)
        # speed and heading have no corners: their rates change gently from sample to sample
        assert np.abs(np.diff(speed)).max() / 0.005 < 1.6
        assert np.abs(np.diff(twist[:, 5])).max() / 0.005 < 6.0
        xy = motion.at(t)[:, :2, 3]
        distance, edge = world.network.offsets(xy)
        assert (distance < world.network.half_road[edge]).all()
        np.testing.assert_allclose(motion.at(t)[:, 2, 3], world.height(xy), atol=2e-3)


def test_dead_ends_are_turned_at_on_the_spot() -> None:
    motion = sim.drive_motion(CORRIDORS, 300.0, 0)  # type: ignore[arg-type]
    t = np.arange(0, 300, 0.02)
    twist = motion.twist(t)
    spinning = (np.abs(twist[:, 0]) < 1e-3) & (np.abs(twist[:, 5]) > 0.1)
    turns = np.flatnonzero(np.diff(spinning.astype(int)) == 1)
    assert len(turns) >= 1
    yaw = np.unwrap(np.arctan2(*motion.at(t)[:, :2, 0].T[::-1]))
    for k in turns:
        assert abs(yaw[min(k + 400, len(t) - 1)] - yaw[k]) == pytest.approx(np.pi, abs=0.4)


def test_the_way_back_is_the_same_way_in_the_other_lane() -> None:
    out = sim.drive(STREETS, 40.0, 10.0, 1)  # type: ignore[arg-type]
    back = sim.drive(STREETS, 40.0, 10.0, 1, reverse=True)  # type: ignore[arg-type]
    gap = np.linalg.norm(out[:, None, :2, 3] - back[None, :, :2, 3], axis=2)
    near = gap.argmin(axis=1)
    met = gap.min(axis=1) < 4.0
    assert met.mean() > 0.6
    facing = np.einsum("ni,ni->n", out[met][:, :2, 0], back[near[met]][:, :2, 0])
    assert np.quantile(facing, 0.9) < -0.8
    sideways = np.einsum(
        "ni,ni->n", back[near[met]][:, :2, 3] - out[met][:, :2, 3], out[met][:, :2, 1]
    )
    # two lanes of 1.25 m each, and the sway of both
    assert np.median(sideways) == pytest.approx(2.5, abs=0.4)


@pytest.mark.parametrize("offset", [1.0, -1.0])
def test_second_drives_run_beside_the_first_where_there_is_room(offset: float) -> None:
    first = sim.drive(STREETS, 30.0, 10.0, 4)  # type: ignore[arg-type]
    second = sim.drive(STREETS, 30.0, 10.0, 4, lateral_m=offset)  # type: ignore[arg-type]
    gap = np.linalg.norm(first[:, None, :2, 3] - second[None, :, :2, 3], axis=2)
    near = second[gap.argmin(axis=1)]
    sideways = np.einsum("ni,ni->n", near[:, :2, 3] - first[:, :2, 3], first[:, :2, 1])
    assert np.median(sideways) == pytest.approx(offset, abs=0.1)
    far = sim.drive(STREETS, 30.0, 10.0, 4, lateral_m=9.0)  # type: ignore[arg-type]
    assert free(STREETS, far[:, :2, 3], 0.9).all()  # type: ignore[arg-type]


def test_obstacles_push_a_second_drive_back_into_its_lane() -> None:
    world = Ways(90.0, 5.0, 1.25, 12.0, 7.0)
    plain = sim.drive(world, 20.0, 10.0, 4, lateral_m=-2.0)  # type: ignore[arg-type]
    stood = plain[100]
    world.obstacles = np.array([[*stood[:2, 3], 0.0, 0.5, 0.5]])
    assert not free(world, plain[:, :2, 3], 1.0).all()  # type: ignore[arg-type]
    pushed = sim.drive(world, 20.0, 10.0, 4, lateral_m=-2.0)  # type: ignore[arg-type]
    assert free(world, pushed[:, :2, 3], 1.0).all()  # type: ignore[arg-type]


def test_same_seed_same_motion_other_seed_another() -> None:
    a, b, c = (sim.drive_motion(STREETS, 20.0, k) for k in (5, 5, 6))  # type: ignore[arg-type]
    assert a.samples.tobytes() == b.samples.tobytes()
    assert np.abs(a.samples - c.samples).max() > 1
    # a longer drive begins as the shorter one
    longer = sim.drive_motion(STREETS, 25.0, 5)  # type: ignore[arg-type]
    np.testing.assert_allclose(longer.samples[:1900], a.samples[:1900], atol=1e-9)
    later = sim.drive_motion(STREETS, 20.0, 5, start_s=100.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(later.at([107.0]), a.at([7.0]), atol=1e-9)


def test_twist_is_the_derivative_of_the_pose() -> None:
    motion = sim.drive_motion(STREETS, 30.0, 1)  # type: ignore[arg-type]
    h = 1e-4
    for t in (2.0, 11.3, 24.7):
        before, here, after = motion.at([t - h, t, t + h])
        twist = motion.twist([t])[0]
        step = inverse(here) @ after - inverse(here) @ before
        np.testing.assert_allclose(step[:3, 3] / (2 * h), twist[:3], atol=1e-5)
        rates = [step[2, 1], step[0, 2], step[1, 0]]
        np.testing.assert_allclose(np.array(rates) / (2 * h), twist[3:], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(-100, 100), st.floats(0.1, 5.0))
def test_a_straight_motion_is_met_between_its_samples(start: float, speed: float) -> None:
    t = np.linspace(start, start + 3, 31)
    values = np.zeros((31, 6))
    values[:, 0] = speed * (t - start)
    motion = Motion(t, values)
    asked = start + np.array([0.0, 0.777, 2.999])
    np.testing.assert_allclose(motion.at(asked)[:, 0, 3], speed * (asked - start), atol=1e-9)
    # outside it stands
    np.testing.assert_allclose(motion.at([start - 5.0])[0], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(motion.twist([start + 9.0]), 0)


def test_standing_places_change_at_their_time() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [1, 2, 3]
    standing = Stops(np.array([10.0, 10.1, 10.2]), poses)
    at = standing.at([9.0, 10.0, 10.0999, 10.1 - 1e-8, 10.15, 99.0])
    assert at[:, 0, 3].tolist() == [1, 1, 1, 2, 2, 3]


def test_a_vehicle_on_a_slope_leans_with_it() -> None:
    class Slope(Ways):
        def height(self, xy: np.ndarray) -> np.ndarray:
            return 0.1 * xy[..., 0]

    values = ground_values(
        Slope(90.0, 5.0, 1.25, 12.0, 7.0), np.zeros((2, 2)), np.array([0, np.pi / 2])
    )  # type: ignore[arg-type]
    uphill, across = values
    assert uphill[4] == pytest.approx(-np.arctan(0.1))  # nose up
    assert across[3] == pytest.approx(-np.arctan(0.1))  # its right side is uphill
    assert abs(uphill[3]) < 1e-12
    assert abs(across[4]) < 1e-12


def test_spots_in_narrow_worlds(rng: np.random.Generator) -> None:
    driven = sim.drive(CORRIDORS, 20.0, 10.0, 0)  # type: ignore[arg-type]
    beside = sim.poses_beside(CORRIDORS, driven, 20, rng)  # type: ignore[arg-type]
    gap = np.linalg.norm(beside[:, None, :2, 3] - driven[None, :, :2, 3], axis=2).min(axis=1)
    assert gap.min() >= 0.3
    away = sim.poses_never_visited(CORRIDORS, driven, 20, rng)  # type: ignore[arg-type]
    gap = np.linalg.norm(away[:, None, :2, 3] - driven[None, :, :2, 3], axis=2).min(axis=1)
    assert gap.min() >= 12.0


def test_nonsense_is_refused() -> None:
    with pytest.raises(SimulationError, match="no poses"):
        sim.drive(STREETS, 0.0)  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match="no poses"):
        sim.drive_motion(STREETS, -1.0)  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match="two samples"):
        Motion(np.zeros(1), np.zeros((1, 6)))
    empty = Network(
        np.zeros((2, 2)), np.zeros((0, 2), int), np.zeros(0), np.zeros(0), np.zeros((0, 4))
    )
    with pytest.raises(SimulationError, match="no ways"):
        find_route(empty, 10.0, np.random.default_rng(0))
