"""Runs the stages of a recipe: one process, exact resume, nothing lost on the way.

A step's batch and random numbers are functions of (seed, stage, step), so the state on disk is the
parts, the optimiser and a position. A run killed at any time and started again continues on the
same loss curve, bit by bit on one CPU.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from condense_ros.config import parameter
from condense_ros.errors import TrainingError
from condense_training.batches import BatchMaker, Quarantine
from condense_training.frames import FrameSource
from condense_training.recipe import Batch, Parts, Recipe, Stage
from condense_training.state import clear_states, load_state, save_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainerConfig:
    """How a recipe is run; none of it changes what is learned, but for the seed."""

    seed: int = parameter(0, "seed of everything random", low=0, high=2**31)
    device: str = parameter("cpu", "torch device")
    save_every_steps: int = parameter(100, "steps between saved states", low=1)
    max_bad_steps: int = parameter(
        10, "steps in a row with a non-finite loss or gradient before training stops", low=1
    )
    max_quarantined_fraction: float = parameter(
        0.1, "share of the frames that may be unreadable", low=0.0, high=1.0
    )
    prefetch: bool = parameter(True, "make the next batch in a thread while one is learned from")
    threads: int = parameter(
        0, "CPU threads per operator; 0: OMP_NUM_THREADS, or else half of the cores", low=0
    )
    progress: bool = parameter(True, "show progress on the terminal")


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step, as written to log.jsonl."""

    stage: str
    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    skipped: bool
    samples_per_s: float
    terms: dict[str, float]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves: the parts, and the account of how they came to be.

    `steps` counts the whole run, `steps_now` those since it was last resumed.
    """

    parts: Parts
    steps: int
    steps_now: int
    skipped_steps: int
    quarantined_frames: int


class _Log:
    """log.jsonl: one line per step; lines after the resumed position are cut off."""

    def __init__(self, path: Path, keep_steps: int) -> None:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        with open(path, "wb") as file:
            file.writelines(lines[:keep_steps])
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, record: StepRecord) -> None:
        # JSON has no NaN: what is not a number is null
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.__dict__.items()
        }
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying in the middle of a step."""
    requests: list[int] = []
    old: dict[int, Any] = {}

    def handle(number: int, _frame: object) -> None:
        if requests:  # a second request does not wait
            raise KeyboardInterrupt
        requests.append(number)

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        try:
            old[number] = signal.signal(number, handle)
        except ValueError:  # not the main thread: the caller handles signals
            break
    try:
        yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _batches(maker: BatchMaker, first: int, last: int, prefetch: bool) -> Iterator[Batch]:
    if not prefetch:
        yield from map(maker, range(first, last))
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        waiting = pool.submit(maker, first)
        for step in range(first, last):
            batch = waiting.result()
            if step + 1 < last:
                waiting = pool.submit(maker, step + 1)
            yield batch


def _progress(console: Console, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:.1f} samples/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not shown,
    )


def set_modes(parts: Parts, stage: Stage, step: int) -> list[nn.Parameter]:
    """Puts parts into train or eval mode and marks what learns; returns the stage's parameters."""
    parts.requires_grad_(False)
    parts.eval()
    for name in stage.trainable:
        parts[name].train().requires_grad_(True)
    parameters = [p for name in stage.trainable for p in parts[name].parameters()]
    waiting = tuple(f"{prefix}." for prefix, until in stage.frozen_until.items() if step < until)
    for name, weight in parts.named_parameters():
        if name.startswith(waiting):
            weight.requires_grad_(False)
    return parameters


def _running_statistics(parts: Parts) -> list[tuple[Tensor, Tensor]]:
    return [(buffer, buffer.clone()) for buffer in parts.buffers()]


def _train_step(
    parts: Parts, stage: Stage, batch: Batch, optimiser: torch.optim.Optimizer
) -> tuple[float, float, dict[str, float], bool]:
    """(loss, gradient norm, log terms, skipped): a step with NaN or infinity changes nothing."""
    before = _running_statistics(parts)
    parts.zero_grad(set_to_none=True)  # also what an earlier stage left on parts now frozen
    loss, terms = stage.loss(parts, batch)
    value = float(loss.detach())
    norm = math.nan
    if math.isfinite(value):
        loss.backward()
        gradients = [p.grad for p in parts.parameters() if p.grad is not None]
        if not gradients:
            raise TrainingError(
                f"no parameter of stage {stage.name!r} gets a gradient",
                "name the parts its loss uses in `trainable`",
            )
        norm = float(torch.stack([g.norm() for g in gradients]).norm())
    if not math.isfinite(norm):
        # the forward pass has already put the bad values into batch statistics
        for buffer, old in before:
            buffer.copy_(old)
        return value, norm, terms, True
    optimiser.step()
    return value, norm, terms, False


def _check_same_run(state: dict[str, Any], fingerprint: dict[str, Any], out: Path) -> None:
    then = state["fingerprint"]
    changed = sorted(key for key in {*then, *fingerprint} if then.get(key) != fingerprint.get(key))
    if changed:
        what = "; ".join(f"{k}: {then.get(k)!r} -> {fingerprint.get(k)!r}" for k in changed)
        raise TrainingError(
            f"{out} holds a run with other settings ({what})",
            "give another output folder, the same settings, or start again with --restart "
            "(resume=False)",
        )


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
        self.fingerprint = {
            **recipe.settings,
            "recipe": recipe.name,
            "seed": config.seed,
            "data": source.manifest_hash(),
        }
        torch.manual_seed(config.seed)
        self.parts = recipe.build().to(config.device)
        self.bad = Quarantine(source, config.max_quarantined_fraction, out / "quarantine.json")
        self.position = {"stage": 0, "step": 0, "total": 0, "skipped": 0, "bad_in_a_row": 0}
        self.saved_optimiser: dict[str, Any] | None = None
        if resume:
            self._restore(load_state(out))
        else:
            clear_states(out)
        self.resumed_at = self.position["total"]
        self.journal = _Log(out / "log.jsonl", self.resumed_at)

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        _check_same_run(state, self.fingerprint, self.out)
        self.parts.load_state_dict(state["parts"])
        self.position = dict(state["position"])
        self.bad.reasons.update(state["quarantined"])
        self.saved_optimiser = state["optimiser"]
        log.info("resumed %s at step %d", self.out, self.position["total"])

    def save(self, optimiser: torch.optim.Optimizer | None) -> None:
        """Writes the state; without an optimiser at the end of a stage."""
        self.journal.sync()
        content = {
            "fingerprint": self.fingerprint,
            "parts": self.parts.state_dict(),
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

    def step(
        self, stage: Stage, step: int, batches: Iterator[Batch], optimiser: torch.optim.Optimizer
    ) -> StepRecord:
        """Makes, learns from and accounts for one batch."""
        start = time.perf_counter()
        batch = {key: value.to(self.config.device) for key, value in next(batches).items()}
        if step in stage.frozen_until.values():
            set_modes(self.parts, stage, step)
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * stage.schedule(step)
        seeds = np.random.SeedSequence([self.config.seed, self.position["stage"], step])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        loss, norm, terms, skipped = _train_step(self.parts, stage, batch, optimiser)
        position = self.position
        position["step"] = step + 1
        position["total"] += 1
        position["skipped"] += skipped
        position["bad_in_a_row"] = position["bad_in_a_row"] + 1 if skipped else 0
        speed = stage.batch_size / (time.perf_counter() - start)
        rate = float(optimiser.param_groups[0]["lr"])
        record = StepRecord(stage.name, step, loss, rate, norm, skipped, speed, terms)
        self.journal.write(record)
        if skipped:
            log.warning("%s step %d skipped: loss %s, gradient %s", stage.name, step, loss, norm)
        return record

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
    console: Console | None = None,
) -> TrainingResult:
    """Runs every stage of `recipe` on `source`.

    Writes `out/log.jsonl` (one `StepRecord` per line), `out/state/` (the newest two states) and
    `out/quarantine.json` (frames that could not be used). SIGINT and SIGTERM finish the step, save
    and raise KeyboardInterrupt. Torch's global random generator is re-seeded.

    Raises:
        TrainingError: settings differ from the run in `out`; too many frames or steps failed.
        StorageFull: a state could not be written; the one before is intact.
        KeyboardInterrupt: stopped by a signal, state saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError(
            "started as one of several processes, but this trainer runs in one",
            "start it without torchrun",
        )
    out.mkdir(parents=True, exist_ok=True)
    console = console or Console(stderr=True)
    run = _Run(recipe, source, out, config, resume)
    position = run.position
    try:
        with _stop_requests() as stop_requests, _progress(console, config.progress) as progress:
            for index in range(position["stage"], len(recipe.stages)):
                stage, first = recipe.stages[index], position["step"]
                optimiser = run.optimiser(stage)
                maker = BatchMaker(source, stage, index, config.seed, run.bad)
                batches = _batches(maker, first, stage.steps, config.prefetch)
                task = progress.add_task(
                    f"{recipe.name}: {stage.name}",
                    total=stage.steps,
                    completed=first,
                    loss=math.nan,
                    speed=0.0,
                )
                for step in range(first, stage.steps):
                    record = run.step(stage, step, batches, optimiser)
                    progress.update(task, advance=1, loss=record.loss, speed=record.samples_per_s)
                    if on_step is not None:
                        on_step(record)
                    run.check_bad_steps(record)
                    if stop_requests:
                        run.save(optimiser)
                        console.print(
                            f"Stopped after step {position['total']}; state saved in {out}. "
                            "Run the same command again to continue."
                        )
                        raise KeyboardInterrupt
                    if position["total"] % config.save_every_steps == 0:
                        run.save(optimiser)
                position["stage"], position["step"] = index + 1, 0
                run.save(None)
    finally:
        run.journal.close()
    run.parts.eval()
    return TrainingResult(
        run.parts,
        steps=position["total"],
        steps_now=position["total"] - run.resumed_at,
        skipped_steps=position["skipped"],
        quarantined_frames=len(run.bad),
    )
