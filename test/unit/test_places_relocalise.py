"""Relocalisation on simulated towns and on real KITTI scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from condense_ros import sim
from condense_ros.datasets import open_dataset, read_cloud
from condense_ros.geometry import Array, inverse, pose_error, rotation_rpy, se3, transform
from condense_ros.places import MapHeader, Observation, Place, PlaceMap, Trial, observe, summarise
from condense_ros.places.descriptors import RING_HEIGHT_SIZE, ring_height
from condense_ros.places.relocalise import FOUND, PlaceAnswer, relocalise

HEADER = MapHeader("none", "ring_height", RING_HEIGHT_SIZE)


def see(xyz: np.ndarray) -> Observation:
    return observe(xyz, ring_height(xyz))


def keyframes(poses: Array, spacing_m: float) -> list[int]:
    rows = [0]
    for row in range(1, len(poses)):
        if np.linalg.norm(poses[row, :3, 3] - poses[rows[-1], :3, 3]) >= spacing_m:
            rows.append(row)
    return rows


def town_trials(
    seed: int, drive_s: float, beside: int, away: int
) -> tuple[PlaceMap, list[Trial], Array]:
    """A map of a drive, questions beside it and far from it, and the latter's true poses."""
    world = sim.World(seed)
    simulator = sim.Simulator(world)
    driven = sim.drive(world, drive_s, seed=seed)
    place_map = PlaceMap(None, HEADER)
    for row in keyframes(driven, 3.0):
        frame = simulator.frame(driven[row], row * 10**8, images=False)
        assert frame.T_world_lidar is not None
        place_map.add(Place(see(frame.cloud.xyz), frame.T_world_lidar, frame.stamp_ns))
    rng = np.random.default_rng(seed)
    trials = []
    strangers = sim.poses_never_visited(world, driven, away, rng)
    for number, T in enumerate([*sim.poses_beside(world, driven, beside, rng), *strangers]):
        frame = simulator.frame(T, 10**15 + number, images=False)
        truth = frame.T_world_lidar if number < beside else None
        trials.append(Trial(truth, relocalise(place_map, see(frame.cloud.xyz))))
    return place_map, trials, strangers


def check(summary: dict[str, object]) -> None:
    assert summary["success_rate"] >= 0.8, summary  # type: ignore[operator]
    assert summary["copy_keyframe_rate"] <= 0.1, summary  # type: ignore[operator]
    assert summary["false_accepts"] == 0, summary
    assert summary["wrong_accepts"] == 0, summary


def test_beside_the_drive_in_a_town_of_another_seed() -> None:
    place_map, trials, _ = town_trials(211, 8.0, 5, 4)
    summary = summarise(trials, place_map)
    assert (summary["queries"], summary["unknown_queries"]) == (5, 4)
    check(summary)
    assert all(trial.answer.covariance is not None for trial in trials[:5])


@pytest.mark.slow
def test_must_show_relocalisation_in_five_towns() -> None:
    nees = []
    summaries = []
    for seed in (201, 202, 203, 204, 205):
        place_map, trials, _ = town_trials(seed, 60.0, 40, 40)
        summaries.append(summarise(trials, place_map))
        print(seed, summaries[-1])
        check(summaries[-1])
        for trial in trials:
            if trial.T_map_lidar is not None and trial.answer.T_map_lidar is not None:
                nees.append(normalised_error(trial))
    assert sum(s["unknown_queries"] for s in summaries) >= 200
    # six degrees of freedom: an honest covariance has a mean of 6
    assert 2.0 < np.mean(nees) < 12.0, np.mean(nees)


def normalised_error(trial: Trial) -> float:
    found, truth, covariance = trial.answer.T_map_lidar, trial.T_map_lidar, trial.answer.covariance
    assert found is not None
    assert truth is not None
    assert covariance is not None
    R = found[:3, :3] @ truth[:3, :3].T
    turn = 0.5 * np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    error = np.concatenate([found[:3, 3] - truth[:3, 3], turn])
    return float(error @ np.linalg.solve(covariance, error))


def test_neighbouring_real_scans_register_within_ten_centimetres(data_dir: Path) -> None:
    scans = open_dataset(data_dir / "kitti_city_seq")
    poses = scans.poses
    assert poses is not None
    place_map = PlaceMap(None, HEADER)
    rng = np.random.default_rng(0)
    errors = []
    for row in range(0, 16, 2):
        place_map.add(Place(see(scans[row].cloud.xyz), poses[row], row))
    for row in range(1, 15, 2):
        # turned by a random yaw: nothing may depend on the heading
        turn = se3(rotation_rpy(0, 0, rng.uniform(-np.pi, np.pi)), np.zeros(3))
        answer = relocalise(place_map, see(transform(turn, scans[row].cloud.xyz)))
        assert answer.status == FOUND, answer.reason
        assert answer.T_map_lidar is not None
        errors.append(pose_error(answer.T_map_lidar, poses[row] @ inverse(turn)))
    assert np.median([metres for metres, _ in errors]) < 0.10, errors
    assert max(metres for metres, _ in errors) < 0.30, errors


def test_no_false_loop_between_real_places(data_dir: Path) -> None:
    scans = open_dataset(data_dir / "kitti_city_seq")
    assert scans.poses is not None
    place_map = PlaceMap(None, HEADER)
    for row in (0, 2, 4, 6):
        place_map.add(Place(see(scans[row].cloud.xyz), scans.poses[row], row))
    # the end of the drive, more than 40 m further, and another city altogether
    for row in (22, 25):
        assert relocalise(place_map, see(scans[row].cloud.xyz)).status != FOUND
    jam = sorted((data_dir / "kitti_jam_camlidar" / "velodyne").glob("*.bin"))
    for path in jam[::10]:
        assert relocalise(place_map, see(read_cloud(path).xyz)).status != FOUND


def test_summary_by_hand() -> None:
    place_map = PlaceMap(None, HEADER)
    xyz = np.random.default_rng(0).uniform(-20, 20, (500, 3))
    place_map.add(Place(see(xyz), se3(np.eye(3), (10.0, 0, 0)), 0))

    def answer(status: str, x: float | None) -> PlaceAnswer:
        T = None if x is None else se3(np.eye(3), (x, 0.0, 0.0))
        return PlaceAnswer(status, T, None, 0.9, 0, "", (), {"search": 2.0, "matching": 3.0})

    def at(x: float) -> Array:
        return se3(np.eye(3), (x, 0.0, 0.0))

    trials = [
        Trial(at(10.1), answer("found", 10.0)),  # right, and the stored pose would do as well
        Trial(at(12.0), answer("found", 12.2)),  # right, copying fails
        Trial(at(14.0), answer("found", 20.0)),  # wrong by 6 m
        Trial(at(16.0), answer("unknown", None)),
        Trial(None, answer("found", 3.0)),
        Trial(None, answer("unknown", None)),
    ]
    summary = summarise(trials, place_map)
    assert summary["success_rate"] == pytest.approx(0.5)
    assert summary["copy_keyframe_rate"] == pytest.approx(0.25)
    assert summary["median_error_m"] == pytest.approx(0.2)
    assert (summary["wrong_accepts"], summary["false_accepts"]) == (1, 1)
    assert (summary["queries"], summary["unknown_queries"], summary["found"]) == (4, 2, 3)
    assert summary["relocalise_ms"] == {"p50": 5.0, "p99": 5.0}
    assert summarise([], place_map)["success_rate"] == 0.0
