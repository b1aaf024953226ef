"""`LiveSource`: a simulated robot rendered while it is played, in processes ahead of time."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import yaml

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, SimulationError
from condense_ros.playback.simulated import Sample, as_published
from condense_ros.sim.folders.faults import LIDAR
from condense_ros.sim.folders.plan import Plan, SimulationConfig, make_plan
from condense_ros.sim.folders.render import Picture, Renderer, Sweep
from condense_ros.sim.folders.settings import simulation_config
from condense_ros.sim.folders.writer import workers

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveConfig:
    """A world that is simulated while it is played, instead of a recording."""

    world: str = parameter("", "town, building or terrain; empty: play `path`")
    seed: int = parameter(0, "seed of the world", low=0)
    session: int = parameter(0, "another day in the same world", low=0)
    split: str = parameter("train", "train or test; the two share no assets")
    drive_seed: int = parameter(-1, "seed of the drive; -1: that of the world", low=-1)
    frames: int = parameter(600, "LiDAR sweeps", low=1)
    rate_hz: float = parameter(
        10.0, "LiDAR sweeps per second of simulated time", low=0.01, high=100
    )
    rig: str = parameter("", "a rig of `condense sim rigs`, or a YAML file; empty: the default")
    workers: int = parameter(2, "processes that render", low=1, high=256)
    settings: tuple[str, ...] = parameter(
        (), "more of `condense sim generate`, as NAME=VALUE: drive.reverse=true, faults.drop=0.1"
    )

    def simulation(self) -> SimulationConfig:
        """What is simulated.

        Raises:
            ConfigError: unknown names, wrong types, values out of range.
        """
        values: dict[str, Any] = {
            "kind": self.world,
            "world_seed": self.seed,
            "session": self.session,
            "split": self.split,
            "drive_seed": self.seed if self.drive_seed < 0 else self.drive_seed,
            "duration_s": self.frames / self.rate_hz,
            "rate_hz": self.rate_hz,
            "workers": self.workers,
            "rig": self.rig,
        }
        for setting in self.settings:
            name, equals, text = setting.partition("=")
            if not equals or not name:
                raise ConfigError(f"setting {setting!r} is not NAME=VALUE", "write name=value")
            try:
                values[name.strip()] = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ConfigError(f"value of {setting!r} is no YAML: {error}", "quote it") from None
        return simulation_config(values)


class LiveSource:
    """See `condense_ros.playback.simulated.Source`.

    Samples are the same, bit for bit, as a folder of the same configuration holds (but for JPEG).

    Args:
        visibility: find out which cameras see the points.

    Attributes:
        waited_s: time that the playback waited for samples since the first came.

    Raises:
        SimulationError: the configuration cannot be simulated.
    """

    def __init__(self, plan: Plan, *, visibility: bool = True) -> None:
        self.plan, self._visibility = plan, visibility
        self.name, self.motion, self.rig = plan.name, plan.motion, plan.published
        self.series, self.T_odom_base, self.imu = plan.series, plan.T_odom_base, plan.imu
        self.notes: tuple[str, ...] = (
            f"rendered live by {plan.config.workers} processes: where they are slower than the "
            "rate, simulated time goes slower (parameter late)",
        )
        if plan.removed:
            self.notes += (f"{len(plan.removed)} movers would have met the robot: left out",)
        self.waited_s = 0.0
        self._pool: ProcessPoolExecutor | None = None
        self._futures: dict[Sample, Future[Any]] = {}
        self._closed = False

    def sweep(self, number: int, ahead: Sequence[Sample]) -> Sweep:
        """Sweep `number`, as soon as it is rendered."""
        sweep: Sweep = self._result((LIDAR, number), ahead)
        return sweep

    def picture(self, camera: str, number: int, ahead: Sequence[Sample]) -> Picture:
        """Image `number`, as soon as it is rendered."""
        picture: Picture = self._result((camera, number), ahead)
        stamp_ns = int(self.series[camera].stamp_ns[number])
        return replace(picture, image=as_published(picture.image, self.rig, stamp_ns))

    def close(self) -> None:
        """Ends the processes."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _result(self, sample: Sample, ahead: Sequence[Sample]) -> Any:
        if self._closed:
            raise SimulationError("the playback was closed", "open it again")
        if self._pool is None:
            self._pool = workers(
                self.plan.config.workers, _start, (self.plan.for_workers(), self._visibility)
            )
        wanted = dict.fromkeys([sample, *ahead])
        for old in [key for key in self._futures if key not in wanted]:
            self._futures.pop(old).cancel()
        try:
            for key in wanted:
                if key not in self._futures:
                    self._futures[key] = self._pool.submit(_render, key)
            begun = time.monotonic()
            result = self._futures[sample].result()
        except BrokenProcessPool as error:
            raise SimulationError(
                "a process that renders ended on its own, perhaps for lack of memory",
                "use fewer workers, a smaller rig or world",
            ) from error
        self.waited_s += time.monotonic() - begun
        return result


def open_live(config: LiveConfig, *, visibility: bool) -> LiveSource:
    """Plans the drive of a live simulation (this takes seconds); nothing is rendered yet.

    Args:
        visibility: find out which cameras see the points.

    Raises:
        ConfigError: unknown names, wrong types, values out of range.
        SimulationError: the configuration cannot be simulated.
    """
    return LiveSource(make_plan(config.simulation()), visibility=visibility)


class _Job:
    """What a worker process holds between samples."""

    renderer: Renderer
    visibility: bool


def _start(plan: Plan, visibility: bool) -> None:
    _Job.renderer, _Job.visibility = Renderer(plan), visibility


def _render(sample: Sample) -> Sweep | Picture:
    sensor, number = sample
    if sensor == LIDAR:
        return _Job.renderer.sweep(number, visibility=_Job.visibility)
    truth = _Job.renderer.plan.config.pixel_truth
    return _Job.renderer.picture(sensor, number, truth=truth)
