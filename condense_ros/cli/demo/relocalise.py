"""Step d, offline: where the robot says it is when it is put down somewhere."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from condense_ros import sim
from condense_ros.cli.demo.worlds import TOWN, Stops
from condense_ros.geometry import Array
from condense_ros.perception import Perceiver, PerceptionConfig
from condense_ros.places.evaluate import Trial
from condense_ros.places.place_map import PlaceMap
from condense_ros.places.relocalise import relocalise

Progress = Callable[[int, int], None]

#: fewer questions are answered sooner by one process than two have started
_WORTH_A_POOL = 60
#: stamps seed the sensor noise: these are none of the drive's
_FIRST_STAMP_NS = 1_700_020_000 * 10**9


class _Robot:
    """What a process needs to answer: the world, the checkpoint and the map."""

    def __init__(self, map_folder: Path, checkpoint: Path, seed: int) -> None:
        self.simulator = sim.Simulator(sim.shared_world(seed, TOWN))
        self.perceiver = Perceiver(checkpoint, PerceptionConfig(threads=1, warm_up_points=0))
        self.place_map = PlaceMap.open(map_folder)

    def ask(self, number: int, T_world_base: Array, visited: bool) -> Trial:
        frame = self.simulator.frame(T_world_base, _FIRST_STAMP_NS + number, images=False)
        answer = relocalise(self.place_map, self.perceiver.perceive(frame).observation)
        return Trial(frame.T_world_lidar if visited else None, answer)


_robot: _Robot | None = None


def _start(map_folder: Path, checkpoint: Path, seed: int) -> None:
    global _robot
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _robot = _Robot(map_folder, checkpoint, seed)


def _ask(number: int, T_world_base: Array, visited: bool) -> Trial:
    assert _robot is not None
    return _robot.ask(number, T_world_base, visited)


def ask(
    map_folder: Path, checkpoint: Path, places: Stops, seed: int, workers: int, progress: Progress
) -> list[Trial]:
    """One simulated sweep per stop, each answered by the map, in the order of the stops."""
    count = len(places.poses)
    jobs = (range(count), places.poses, map(bool, places.visited))
    trials: list[Trial] = []
    if workers == 1 or count < _WORTH_A_POOL:
        robot = _Robot(map_folder, checkpoint, seed)
        for job in zip(*jobs, strict=True):
            trials.append(robot.ask(*job))
            progress(len(trials), count)
        return trials
    pool = ProcessPoolExecutor(
        workers,
        # a fresh interpreter: forking a process that has threads (torch) may hang it
        multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(map_folder, checkpoint, seed),
    )
    try:
        for trial in pool.map(_ask, *jobs, chunksize=4):
            trials.append(trial)
            progress(len(trials), count)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return trials
