"""Runs the stages of a recipe: in one process or many, with exact resume, nothing lost on the way.

The samples and random numbers of a step are functions of (seed, stage, step), so the state on disk
is the parts, the optimiser and a position. A run killed at any time and started again continues on
the same loss curve, bit by bit on one CPU. Under torchrun every process makes its share of the
samples of a step, and their gradients are averaged; what is learned from is the same.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from condense_ros.errors import TrainingError
from condense_training.batches import BatchMaker, Quarantine, batches_ahead
from condense_training.board import Board
from condense_training.distributed import (
    all_of,
    any_of,
    from_first,
    own_device,
    process_group,
    rank,
    world_size,
)
from condense_training.ema import WeightAverage
from condense_training.frames import FrameSource
from condense_training.journal import Journal, StepRecord, ValidationRecord
from condense_training.progress import progress_bar, stop_requests
from condense_training.recipe import Batch, Parts, Recipe, Stage
from condense_training.state import check_same_run, clear_states, load_state, save_state
from condense_training.steps import set_modes, train_step
from condense_training.sync_norms import synchronise_norms
from condense_training.trainer_config import TrainerConfig, check_config
from condense_training.validation import mean_terms, split_frames, validation_loss

log = logging.getLogger(__name__)

#: gets the parts as they would be exported, and the steps of the run that made them
OnKeep = Callable[[Parts, int], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves: the parts (their average with ema_decay), and the account of how
    they came to be.

    `steps` counts the whole run, `steps_now` those since it was last resumed.
    """

    parts: Parts
    steps: int
    steps_now: int
    skipped_steps: int
    quarantined_frames: int


class _Run:
    """One run of a recipe: parts, position and journal, and the moves that change them."""

    def __init__(
        self,
        recipe: Recipe,
        source: FrameSource,
        out: Path,
        config: TrainerConfig,
        resume: bool,
    ) -> None:
        self.recipe, self.source, self.out, self.config = recipe, source, out, config
        self.device = own_device(config.device)
        self.fingerprint = {
            **recipe.settings,
            "recipe": recipe.name,
            "seed": config.seed,
            "data": source.manifest_hash(),
            "precision": config.precision,
            "accumulate": config.accumulate,
            "ema_decay": config.ema_decay,
            "validation_fraction": config.validation_fraction,
            "world_size": world_size(),
        }
        torch.manual_seed(config.seed)
        self.parts = recipe.build().to(self.device)
        synchronise_norms(self.parts)
        decay = config.ema_decay
        self.average = WeightAverage(self.parts, decay) if decay else None
        fraction = config.validation_fraction
        lengths = source.lengths if fraction else [len(source)]
        self.taught, self.held_out = split_frames(lengths, fraction)
        first = rank() == 0
        listed = out / "quarantine.json" if first else None
        self.bad = Quarantine(source, config.max_quarantined_fraction, listed)
        self.position = {"stage": 0, "step": 0, "total": 0, "skipped": 0, "bad_in_a_row": 0}
        self.saved_optimiser: dict[str, Any] | None = None
        if not resume and first:
            clear_states(out)
        self._restore(from_first(load_state(out) if first else None))
        self.resumed_at = self.position["total"]
        board = (
            Board(out / "tensorboard", self.resumed_at) if config.tensorboard and first else None
        )
        self.journal = Journal(out / "log.jsonl" if first else None, self.resumed_at, board)

    def _restore(self, state: dict[str, Any] | None) -> None:
        if any(other != self.fingerprint for other in all_of(self.fingerprint)):
            raise TrainingError(
                "the processes of this run were given different settings or data",
                "start all of them with the same command and data",
            )
        if state is None:
            return
        check_same_run(state, self.fingerprint, self.out)
        self.parts.load_state_dict(state["parts"])
        if self.average is not None:
            self.average.parts.load_state_dict(state["average"])
        self.position = dict(state["position"])
        self.bad.merge(state["quarantined"])
        self.saved_optimiser = state["optimiser"]
        if rank() == 0:
            log.info("resumed %s at step %d", self.out, self.position["total"])

    @property
    def exported(self) -> Parts:
        """The parts as they are validated and exported."""
        return self.parts if self.average is None else self.average.parts

    def save(self, optimiser: torch.optim.Optimizer | None) -> None:
        """Writes the state, which all processes share; without an optimiser after a stage."""
        if rank() > 0:
            return
        self.journal.sync()
        content = {
            "fingerprint": self.fingerprint,
            "parts": self.parts.state_dict(),
            "average": self.average.parts.state_dict() if self.average else None,
            "optimiser": optimiser.state_dict() if optimiser else None,
            "position": dict(self.position),
            "quarantined": dict(self.bad.reasons),
        }
        save_state(self.out, self.position["total"], content)

    def optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        """The stage's optimiser, as the interrupted run left it where there was one."""
        optimiser = stage.optimiser(set_modes(self.parts, stage, self.position["step"]))
        for group in optimiser.param_groups:
            group["base_lr"] = group["lr"]  # what the schedule multiplies, also after a resume
        if self.saved_optimiser is not None:
            optimiser.load_state_dict(self.saved_optimiser)
            self.saved_optimiser = None
        return optimiser

    def _maker(self, stage: Stage, frames: Sequence[int]) -> BatchMaker:
        index, parts = self.position["stage"], world_size() * self.config.accumulate
        return BatchMaker(
            self.source, stage, index, self.config.seed, self.bad, frames=frames, parts=parts
        )

    def batches(self, stage: Stage) -> Iterator[Batch]:
        """This process's micro-batches of the rest of the stage, each with its random numbers."""
        wanted = [
            (step, micro * world_size() + rank())
            for step in range(self.position["step"], stage.steps)
            for micro in range(self.config.accumulate)
        ]
        made = batches_ahead(self._maker(stage, self.taught), wanted, self.config.prefetch)
        index = self.position["stage"]
        for (step, part), batch in zip(wanted, made, strict=True):
            drawn = np.random.SeedSequence([self.config.seed, index, step, part])
            on_device = {key: value.to(self.device) for key, value in batch.items()}
            torch.manual_seed(int(drawn.generate_state(1)[0]))
            yield on_device

    def step(
        self, stage: Stage, step: int, batches: Iterator[Batch], optimiser: torch.optim.Optimizer
    ) -> StepRecord:
        """Makes, learns from and accounts for one batch."""
        start = time.perf_counter()
        if step in stage.frozen_until.values():
            set_modes(self.parts, stage, step)
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * stage.schedule(step)
        count = self.config.accumulate
        micro = (next(batches) for _ in range(count))
        low = self.config.precision == "bfloat16"
        loss, norm, terms, skipped = train_step(
            self.parts, stage, micro, optimiser, micro_batches=count, bfloat16=low
        )
        for _ in micro:  # of a step that was broken off
            pass
        if self.average is not None and not skipped:
            self.average.update(self.parts, stage.trainable)
        of_ranks = all_of((terms, self.bad.news()))
        for _, reasons in of_ranks:
            self.bad.merge(reasons)
        position = self.position
        position["step"] = step + 1
        position["total"] += 1
        position["skipped"] += skipped
        position["bad_in_a_row"] = position["bad_in_a_row"] + 1 if skipped else 0
        speed = stage.batch_size / (time.perf_counter() - start)
        rate = float(optimiser.param_groups[0]["lr"])
        terms = mean_terms([terms for terms, _ in of_ranks])
        record = StepRecord(stage.name, step, loss, rate, norm, skipped, speed, terms)
        self.journal.write(record, position["total"])
        if skipped and rank() == 0:
            log.warning("%s step %d skipped: loss %s, gradient %s", stage.name, step, loss, norm)
        return record

    def validate(self, stage: Stage) -> None:
        """Writes down the loss on the frames held out, if any are."""
        if not self.held_out:
            return
        self.parts.eval()
        loss, terms = validation_loss(
            self.exported,
            stage,
            self._maker(stage, self.held_out),
            batches=math.ceil(len(self.held_out) / stage.batch_size),
            micro_batches=self.config.accumulate,
            seed=(self.config.seed, self.position["stage"]),
            device=self.device,
            bfloat16=self.config.precision == "bfloat16",
        )
        set_modes(self.parts, stage, self.position["step"])
        total, count = self.position["total"], len(self.held_out)
        record = ValidationRecord(loss, stage.name, self.position["step"] - 1, total, count, terms)
        self.journal.write(record, total)

    def check_bad_steps(self, record: StepRecord) -> None:
        """Stops a run whose steps keep failing."""
        if self.position["bad_in_a_row"] >= self.config.max_bad_steps:
            raise TrainingError(
                f"{self.config.max_bad_steps} steps in a row without a finite loss and gradient, "
                f"the last being step {record.step} of stage {record.stage!r}",
                "lower the learning rate and look at log.jsonl for where it began; the last saved "
                "state is intact",
            )


def train(
    recipe: Recipe,
    source: FrameSource,
    out: Path,
    config: TrainerConfig,
    *,
    resume: bool = True,
    on_step: Callable[[StepRecord], None] | None = None,
    on_keep: OnKeep | None = None,
    console: Console | None = None,
) -> TrainingResult:
    """Runs every stage of `recipe` on `source`; under torchrun as one of its processes.

    Writes `out/log.jsonl` (one `StepRecord` or `ValidationRecord` per line), `out/state/` (the
    newest two states), `out/quarantine.json` (frames that could not be used) and, where wanted,
    `out/tensorboard/`. SIGINT and SIGTERM to any process finish the step, save and raise
    KeyboardInterrupt in all of them. Torch's global random generator is re-seeded.

    Args:
        on_step: called after each optimiser step, in every process.
        on_keep: called in the first process every `keep_every_steps` steps of the last stage and
            after its end, once the step is validated and in the log.

    Raises:
        ConfigError: an unknown precision.
        TrainingError: settings differ from the run in `out`; batches that cannot be divided; too
            many frames or steps failed; another process was lost.
        EnvironmentProblem: TensorBoard is wanted and cannot be written.
        StorageFull: a state could not be written; the one before is intact.
        KeyboardInterrupt: stopped by a signal, state saved.
    """
    with process_group(config.rank_timeout_s):
        check_config(recipe, config)
        if rank() == 0:
            out.mkdir(parents=True, exist_ok=True)
        run = _Run(recipe, source, out, config, resume)
        try:
            _run_stages(run, on_step, on_keep, console or Console(stderr=True))
        finally:
            run.journal.close()
    parts, position = run.exported, run.position
    parts.eval()
    return TrainingResult(
        parts,
        steps=position["total"],
        steps_now=position["total"] - run.resumed_at,
        skipped_steps=position["skipped"],
        quarantined_frames=len(run.bad),
    )


def _run_stages(
    run: _Run,
    on_step: Callable[[StepRecord], None] | None,
    on_keep: OnKeep | None,
    console: Console,
) -> None:
    recipe, config, position = run.recipe, run.config, run.position
    first, every = rank() == 0, config.keep_every_steps
    with (
        stop_requests(impatient=world_size() == 1) as requests,
        progress_bar(console, config.progress and first) as progress,
    ):
        for index in range(position["stage"], len(recipe.stages)):
            stage, begin = recipe.stages[index], position["step"]
            optimiser, batches = run.optimiser(stage), run.batches(stage)
            task = progress.add_task(
                f"{recipe.name}: {stage.name}",
                total=stage.steps,
                completed=begin,
                loss=math.nan,
                speed=0.0,
            )
            for step in range(begin, stage.steps):
                record = run.step(stage, step, batches, optimiser)
                progress.update(task, advance=1, loss=record.loss, speed=record.samples_per_s)
                if on_step is not None:
                    on_step(record)
                run.check_bad_steps(record)
                if every and ((step + 1) % every == 0 or step + 1 == stage.steps):
                    run.validate(stage)
                    if on_keep is not None and first and index + 1 == len(recipe.stages):
                        on_keep(run.exported, position["total"])
                if any_of(bool(requests)):
                    run.save(optimiser)
                    if first:
                        console.print(
                            f"Stopped after step {position['total']}; state saved in {run.out}. "
                            "Run the same command again to continue."
                        )
                    raise KeyboardInterrupt
                if position["total"] % config.save_every_steps == 0:
                    run.save(optimiser)
            position["stage"], position["step"] = index + 1, 0
            run.save(None)
