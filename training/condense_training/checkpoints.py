"""Checkpoints kept while a run goes on, and the choice of the one that is exported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from condense_ros.errors import ConfigError, TrainingError
from condense_training.journal import validation_losses
from condense_training.recipe import Recipe
from condense_training.trainer_config import TrainerConfig

LAST, BEST = "last", "best"


def kept_steps(recipe: Recipe, every: int) -> list[int]:
    """Steps of the run after which a checkpoint is kept: of the last stage, in which what is
    exported takes its final shape, every n-th and the last."""
    before = sum(stage.steps for stage in recipe.stages[:-1])
    steps = recipe.stages[-1].steps
    return [before + n for n in range(1, steps + 1) if n % every == 0 or n == steps]


def check_selection(select: str, recipe: Recipe, trainer: TrainerConfig) -> None:
    """Refuses a choice that the run will not be able to make (ConfigError)."""
    if select == LAST:
        return
    if not trainer.keep_every_steps:
        raise ConfigError(
            f"select={select}, but no checkpoints are kept", "set trainer.keep_every_steps"
        )
    if select == BEST:
        if not trainer.validation_fraction:
            raise ConfigError(
                "select=best, but no frames are held out to tell which is best",
                "set trainer.validation_fraction",
            )
        return
    steps = kept_steps(recipe, trainer.keep_every_steps)
    if not select.isdecimal() or int(select) not in steps:
        shown = [str(step) for step in steps]
        if len(shown) > 8:
            shown[4:-3] = ["..."]
        raise ConfigError(
            f"select={select} is no step after which a checkpoint is kept",
            f"use last, best, or one of {', '.join(shown)} (steps of the whole run)",
        )


class KeptCheckpoints:
    """`out/checkpoints/step_NNNNNN.safetensors`: the newest ones, and the one to select.

    Args:
        out: folder of the run; its log.jsonl tells which is best.
        limit: newest checkpoints that stay.
        select: "last", "best" or a step; the best so far, or that step, stays besides.
    """

    def __init__(self, out: Path, limit: int, select: str) -> None:
        self._folder, self._log = out / "checkpoints", out / "log.jsonl"
        self._limit, self._select = limit, select

    def path(self, step: int) -> Path:
        """Where the checkpoint after that step of the run lies."""
        return self._folder / f"step_{step:06d}.safetensors"

    def steps(self) -> list[int]:
        """Steps whose checkpoints are there, in order."""
        files = self._folder.glob("step_*.safetensors")
        return sorted(int(file.stem.removeprefix("step_")) for file in files)

    def new_path(self, step: int) -> Path:
        """The same, its folder made, and whatever an interrupted run left after it removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove(old for old in self.steps() if old > step)
        return self.path(step)

    def best(self) -> int | None:
        """Step of the lowest validation loss among those that are there; the earlier of two."""
        losses = validation_losses(self._log)
        known = [step for step in self.steps() if step in losses]
        return min(known, key=lambda step: losses[step], default=None)

    def prune(self) -> None:
        """Removes all but the newest, the best, and the step that is selected."""
        steps = self.steps()
        staying = {*steps[-self._limit :], self.best()}
        if self._select.isdecimal():
            staying.add(int(self._select))
        self._remove(step for step in steps if step not in staying)

    def selected(self) -> int:
        """Step of the chosen checkpoint; not for "last".

        Raises:
            TrainingError: it is not there, or no validation loss was finite.
        """
        step = self.best() if self._select == BEST else int(self._select)
        if step is None or not self.path(step).exists():
            there = ", ".join(map(str, self.steps())) or "none"
            raise TrainingError(
                f"no checkpoint for select={self._select}: there are {there}",
                "select one of those or `last`; a run keeps the step that it is told to select",
            )
        return step

    def clear(self) -> None:
        """Removes all of them."""
        self._remove(self.steps())

    def _remove(self, steps: Iterable[int]) -> None:
        for step in steps:
            path = self.path(step)
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".sha256").unlink(missing_ok=True)
