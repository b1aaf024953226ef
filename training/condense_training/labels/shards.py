"""Which part of the work this process does, and all parts at once on a Ray cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from condense_ros.errors import CondenseError, ConfigError, EnvironmentProblem

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Entries index, index + count, index + 2 count, ... of the source."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"shard {self.index}/{self.count} does not exist",
                "write --shard I/N with I from 0 to N-1",
            )

    def rows(self, length: int) -> range:
        """Its numbers of 0 .. length-1."""
        return range(self.index, length, self.count)

    def of(self, items: Sequence[T]) -> list[T]:
        """Its share of `items`."""
        return [items[number] for number in self.rows(len(items))]

    def suffix(self) -> str:
        """What tells the files of one shard from another's; empty for the only one."""
        return "" if self.count == 1 else f"-{self.index}-of-{self.count}"


def which_shard(text: str = "") -> Shard:
    """The shard named "I/N", or else that of RANK and WORLD_SIZE, or else all.

    torchrun and SLURM scripts set these two variables; no process talks to another.

    Raises:
        ConfigError: malformed text or variables.
    """
    if text:
        index, slash, count = text.partition("/")
        if not slash or not index.isdigit() or not count.isdigit():
            raise ConfigError(f"shard {text!r} is malformed", "write --shard I/N, as 0/4")
        return Shard(int(index), int(count))
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not rank.isdigit() or not world.isdigit():
        raise ConfigError(f"RANK={rank!r}, WORLD_SIZE={world!r}", "set both to whole numbers")
    return Shard(int(rank), int(world))


def import_ray() -> Any:
    """The module ray.

    Raises:
        EnvironmentProblem: not installed, or something it needs is not.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise EnvironmentProblem(
            f"ray is not installed, or not whole ({error})",
            "pip install ray, or start the shards yourself with --shard I/N",
        ) from None


def run_on_ray(
    work: Callable[[Shard], Any],
    count: int,
    *,
    gpus: float = 0.0,
    done: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """Runs `work` for each of `count` shards as tasks of a Ray cluster (RAY_ADDRESS, or a new one
    on this machine), which all must see the same folders.

    Args:
        gpus: of a GPU that each task takes.
        done: called with (finished, all).

    Returns:
        What each shard returned, in order.

    Raises:
        EnvironmentProblem: ray is not installed.
        CondenseError: the typed error of the first shard that failed; the others are awaited.
    """
    ray = import_ray()
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False)
    try:
        task = ray.remote(num_gpus=gpus)(_call)
        waiting = [task.remote(work, Shard(index, count)) for index in range(count)]
        results: dict[Any, Any] = {}
        remaining = list(waiting)
        while remaining:
            ready, remaining = ray.wait(remaining, num_returns=1)
            results[ready[0]] = ray.get(ready[0])
            if done:
                done(len(results), count)
    finally:
        if started:
            ray.shutdown()
    ordered = [results[reference] for reference in waiting]
    for outcome in ordered:
        if isinstance(outcome, CondenseError):
            raise outcome
    return ordered


def _call(work: Callable[[Shard], Any], shard: Shard) -> Any:
    """A typed error comes back as a value: raised in a task, it would be wrapped."""
    try:
        return work(shard)
    except CondenseError as error:
        return error
