"""What a run writes down about itself: log.jsonl, and TensorBoard's files beside it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense_training.board import Board


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step, as written to log.jsonl. Loss and terms are means over micro-batches and
    processes."""

    stage: str
    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    skipped: bool
    samples_per_s: float
    terms: dict[str, float]


@dataclass(frozen=True)
class ValidationRecord:
    """Loss on the frames held out, after `total_step` steps of the run; a line of its own.

    The first field tells it from a `StepRecord`.
    """

    validation_loss: float
    stage: str
    step: int
    total_step: int
    frames: int
    terms: dict[str, float]


_VALIDATION = '{"validation_loss"'


def is_step(line: str) -> bool:
    """Whether a line of log.jsonl is a `StepRecord`."""
    return not line.startswith(_VALIDATION)


class Journal:
    """log.jsonl: one line per record; lines after the resumed position are cut off.

    Args:
        path: None writes nothing (processes other than the first).
        keep_steps: steps of the run that are done.
        board: gets the same numbers.
    """

    def __init__(self, path: Path | None, keep_steps: int, board: Board | None = None) -> None:
        self._file, self._board = None, board
        if path is None:
            return
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        with open(path, "w", encoding="utf-8") as file:
            for line in text.splitlines(keepends=True):
                keep_steps -= is_step(line)
                if keep_steps < 0:
                    break
                file.write(line)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, record: StepRecord | ValidationRecord, total_step: int) -> None:
        """Adds a record made after `total_step` steps of the run."""
        if self._file is None:
            return
        # JSON has no NaN: what is not a number is null
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.__dict__.items()
        }
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()
        if self._board is None:
            return
        names = ("loss", "validation_loss", "learning_rate", "gradient_norm", "samples_per_s")
        values = {name: getattr(record, name) for name in names if hasattr(record, name)}
        prefix = "validation_" if isinstance(record, ValidationRecord) else ""
        values |= {f"{prefix}terms/{name}": value for name, value in record.terms.items()}
        self._board.add(record.stage, values, total_step)

    def sync(self) -> None:
        """Makes what was written survive a power loss."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def learned_steps(path: Path) -> Iterator[dict[str, Any]]:
    """The steps in log.jsonl that changed something, as plain values; skipped ones left out."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if is_step(line) and not (record := json.loads(line))["skipped"]:
                yield record


def first_and_last(losses: Sequence[float]) -> dict[str, float]:
    """`steps`, and the mean loss of the first and of the last tenth of them."""
    tenth = max(1, len(losses) // 10)
    return {
        "steps": len(losses),
        "loss_first": sum(losses[:tenth]) / tenth,
        "loss_last": sum(losses[-tenth:]) / tenth,
    }


def validation_losses(path: Path) -> dict[int, float]:
    """Steps of the run -> validation loss, where it was finite, from log.jsonl."""
    if not path.exists():
        return {}
    with open(path, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines if not is_step(line)]
    losses = {record["total_step"]: record["validation_loss"] for record in records}
    return {step: loss for step, loss in losses.items() if loss is not None}
