"""Scalars for TensorBoard, written by tensorboardX where it is wanted."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

from condense_ros.errors import EnvironmentProblem


class Board:
    """Event files in a folder, with steps of the whole run.

    Args:
        folder: of the event files; those of earlier parts of the run stay.
        done: steps that are done. Points after them, of a run that was killed, are taken back;
            nothing is shown twice.

    Raises:
        EnvironmentProblem: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, done: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise EnvironmentProblem(
                "tensorboardX is not installed, and trainer.tensorboard is set",
                "pip install tensorboardX, or leave trainer.tensorboard out",
            ) from error
        if done == 0:
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        # the restart tells readers to forget what they have from this step on; names have seconds
        # only, and a file of the same second would be overwritten
        self._writer = SummaryWriter(
            str(folder), purge_step=done + 1, filename_suffix=f".{time.time_ns()}"
        )

    def add(self, stage: str, values: Mapping[str, float], step: int) -> None:
        """Numbers of one step; those that are not finite have no place on a curve."""
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(f"{stage}/{name}", value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
