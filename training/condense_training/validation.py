"""Frames that are never trained on, and the loss on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from condense_ros.errors import TrainingError
from condense_training.batches import BatchMaker
from condense_training.distributed import all_of, mean_of, rank, world_size
from condense_training.recipe import Parts, Stage


def split_frames(lengths: Sequence[int], fraction: float) -> tuple[list[int], list[int]]:
    """Numbers of the frames to learn from, and of those held out: the end of each data set.

    Neighbours in a drive look alike; single frames drawn from it would all have been seen.

    Args:
        lengths: frames of each data set, numbered through.
        fraction: of each data set; at least one frame of it, unless it has only one. 0: none.

    Raises:
        TrainingError: nothing is left on one of the sides.
    """
    taught: list[int] = []
    held: list[int] = []
    first = 0
    for length in lengths:
        wanted = max(1, round(fraction * length)) if fraction > 0 and length > 1 else 0
        taught += range(first, first + length - wanted)
        held += range(first + length - wanted, first + length)
        first += length
    if fraction > 0 and not (taught and held):
        raise TrainingError(
            f"validation_fraction = {fraction} of data sets with {list(lengths)} frames leaves "
            f"{len(taught)} to learn from and {len(held)} to validate on",
            "give more frames, or validation_fraction=0",
        )
    return taught, held


def mean_terms(terms: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each number over those that have it."""
    names = dict.fromkeys(name for one in terms for name in one)
    found = {name: [one[name] for one in terms if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


@torch.no_grad()
def validation_loss(
    parts: Parts,
    stage: Stage,
    maker: BatchMaker,
    *,
    batches: int,
    micro_batches: int,
    seed: tuple[int, int],
    device: str,
    bfloat16: bool,
) -> tuple[float, dict[str, float]]:
    """(mean loss over `batches` batches, mean terms), the same in all processes.

    Samples, and what the loss draws, are the same at every call, so that values of different steps
    can be compared.

    Args:
        parts: in eval mode.
        maker: of batches of the frames held out.
        seed: seed of the run and number of the stage.
    """
    values, terms = [], []
    for number in range(batches):
        for micro in range(micro_batches):
            part = micro * world_size() + rank()
            batch = {name: value.to(device) for name, value in maker(number, part).items()}
            drawn = np.random.SeedSequence([*seed, number, part, 1])
            torch.manual_seed(int(drawn.generate_state(1)[0]))
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
                loss, more = stage.loss(parts, batch)
            values.append(float(loss))
            terms.append(more)
    every = [one for of_rank in all_of(terms) for one in of_rank]
    return mean_of(sum(values) / len(values)), mean_terms(every)
