"""Simulated towns and labels for the component table, where a user names none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from condense_ros.sim.folders.writer import SimulationConfig, generate
from condense_training.labels.run import LabelConfig, label

#: what is done -> a block's function of (done, all)
ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]

#: seeds of the towns; the test split shares no asset with the training split
_TRAIN_SEEDS, _TEST_SEEDS = (101, 102, 103, 104), (201, 202)
_TRAIN_FRAMES, _TEST_FRAMES = 100, 50
_QUICK_FRAMES = 12


def towns(
    folder: Path, *, quick: bool = False, progress: ProgressBar
) -> tuple[list[Path], list[Path]]:
    """Drives at one sweep a second: four towns of 100 frames to learn in, two of 50 to judge in;
    `quick`, one of each with a few. What is there already is kept.

    Raises:
        StorageFull: no room.
    """

    def drive(name: str, seed: int, session: int, split: str, frames: int) -> Path:
        config = SimulationConfig(
            world_seed=seed,
            drive_seed=seed,
            session=session,
            split=split,
            duration_s=float(frames),
            rate_hz=1.0,
            images=split == "train",
        )
        with progress(f"town {name}") as bar:
            return generate(folder / name, config, progress=bar)

    train, test = (_QUICK_FRAMES, _QUICK_FRAMES) if quick else (_TRAIN_FRAMES, _TEST_FRAMES)
    kept = 1 if quick else None
    return (
        [drive(f"train{i}", seed, i, "train", train) for i, seed in enumerate(_TRAIN_SEEDS[:kept])],
        [drive(f"test{i}", seed, i, "test", test) for i, seed in enumerate(_TEST_SEEDS[:kept])],
    )


def labels_of_clusters(
    data: Sequence[Path], out: Path, *, quick: bool = False, progress: ProgressBar
) -> Path:
    """Labels by groups, found in the first data set and the same in all; kept where finished.

    Raises:
        LabelError, TrainingError: see `condense_training.labels.run.label`.
    """
    settings = {"preset": "quick", "groups": 16, "fit_images": 8} if quick else {}
    for path in data:
        with progress(f"groups of {path.name}") as bar:
            label(path, out, LabelConfig(labeler="clusters", settings=settings), progress=bar)
    return out
