"""Step d, offline: the stored map, and where the robot says it is when put down somewhere."""

from __future__ import annotations

from collections.abc import Callable

from condense_ros import sim
from condense_ros.cli.demo.worlds import Stops
from condense_ros.perception import Perceiver
from condense_ros.places.evaluate import Trial
from condense_ros.places.place_map import PlaceMap
from condense_ros.places.relocalise import relocalise

Progress = Callable[[int, int], None]


def ask(
    place_map: PlaceMap, perceiver: Perceiver, places: Stops, seed: int, progress: Progress
) -> list[Trial]:
    """One simulated sweep per stop, each answered by the map."""
    simulator = sim.Simulator(sim.World(seed))
    T_base_lidar = simulator.rig.lidar.T_base_lidar
    trials = []
    for number, (T_world_base, visited) in enumerate(
        zip(places.poses, places.visited, strict=True)
    ):
        # stamps seed the sensor noise: these are none of the drive's
        frame = simulator.frame(T_world_base, 1_700_020_000 * 10**9 + number, images=False)
        answer = relocalise(place_map, perceiver.perceive(frame).observation)
        trials.append(Trial(T_world_base @ T_base_lidar if visited else None, answer))
        progress(number + 1, len(places.poses))
    return trials
