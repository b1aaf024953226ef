"""Step a: the robot's drive, a town it has never seen, and the places it is put down at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condense_ros import sim
from condense_ros.cli.demo.plan import DemoPlan
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.geometry import Array

#: the demo's towns: a small one, in which nothing moves
TOWN = sim.WorldConfig(columns=5, rows=4, movers=0.0)
#: worlds of other seeds are other towns, with other houses in other streets
_OTHER_TOWN = 1000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Stops:
    """Places the robot is put down at.

    Attributes:
        poses: (N, 4, 4) base_link in the world.
        visited: (N,) bool: beside the drive, or somewhere it has never been.
    """

    poses: Array
    visited: np.ndarray


def drive(out: Path, plan: DemoPlan, seed: int, progress: Progress) -> SimulatedFolder:
    """Renders the drive that is recorded: camera, LiDAR, odometry, at 10 Hz."""
    config = sim.SimulationConfig(
        world_seed=seed,
        drive_seed=seed,
        duration_s=plan.drive_s,
        workers=plan.workers,
        layout=TOWN,
    )
    return SimulatedFolder(sim.generate(out, config, progress))


def other_town(out: Path, plan: DemoPlan, seed: int, progress: Progress) -> SimulatedFolder:
    """Labelled sweeps of another town, for the probe: the same drive time, thinly sampled."""
    config = sim.SimulationConfig(
        world_seed=seed + _OTHER_TOWN,
        drive_seed=seed + _OTHER_TOWN,
        duration_s=plan.probe_frames * 1.0,
        rate_hz=1.0,
        images=False,
        workers=plan.workers,
        layout=TOWN,
    )
    return SimulatedFolder(sim.generate(out, config, progress))


def stops(driven: Array, seed: int, visited: int, unvisited: int) -> Stops:
    """Places beside the drive at random headings, then places at least 60 m away from it.

    Args:
        driven: (T, 4, 4) base_link poses of the drive.
    """
    world = sim.shared_world(seed, TOWN)
    rng = np.random.default_rng([seed, 77])
    beside = sim.poses_beside(world, driven, visited, rng, min_sideways_m=1.0)
    away = sim.poses_never_visited(world, driven, unvisited, rng)
    flags = np.repeat([True, False], [visited, unvisited])
    return Stops(np.concatenate([beside, away]), flags)


def stops_folder(
    out: Path, places: Stops, plan: DemoPlan, seed: int, progress: Progress
) -> SimulatedFolder:
    """The robot standing `live_stop_s` at each of `places`, as a data set for the replay node."""
    dwell = round(plan.live_stop_s * 10)
    config = sim.SimulationConfig(
        world_seed=seed,
        drive_seed=seed,
        start_s=1_700_010_000,
        images=False,
        workers=plan.workers,
        layout=TOWN,
    )
    poses = np.repeat(places.poses, dwell, axis=0)
    return SimulatedFolder(sim.generate(out, config, progress, poses=poses))
