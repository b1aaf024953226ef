"""Makes the batch of any step from the seed alone, and quarantines frames that cannot be read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from condense_ros.datasets.base import leave_out_damaged_images
from condense_ros.errors import CondenseError, TrainingError
from condense_ros.files import write_json
from condense_training.frames import FrameSource, epoch_order
from condense_training.recipe import Batch, Sample, Stage

log = logging.getLogger(__name__)

_ATTEMPTS = 20


class Quarantine:
    """Frames that failed, and images that usable frames had to do without, each counted once with
    its reason.

    Args:
        source: to name frames.
        max_fraction: of the frames that may fail before training stops.
        path: JSON list kept up to date, for people.
    """

    def __init__(self, source: FrameSource, max_fraction: float, path: Path | None = None) -> None:
        self._source = source
        self._allowed = int(max_fraction * len(source))
        self._path = path
        self._lock = threading.Lock()
        self._told: set[int] = set()
        self.reasons: dict[int, str] = {}
        #: by frame and camera; the frame goes on with its other cameras
        self.images: dict[tuple[int, str], str] = {}

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, number: int, error: Exception) -> None:
        """Records a failed frame.

        Raises:
            TrainingError: more than the allowed share has failed.
        """
        with self._lock:
            if number in self.reasons:
                return
            self.reasons[number] = f"{type(error).__name__}: {error}"
            log.warning("quarantined %s: %s", self._source.describe(number), error)
            self._account(number)

    def news(self) -> dict[int, str]:
        """What was added here since the last call, for the other processes."""
        with self._lock:
            fresh = {n: reason for n, reason in self.reasons.items() if n not in self._told}
            self._told |= fresh.keys()
            return fresh

    def merge(self, reasons: dict[int, str]) -> None:
        """Takes over what other processes, or an earlier part of the run, have found.

        Raises:
            TrainingError: as `add`.
        """
        with self._lock:
            unknown = {n: reason for n, reason in reasons.items() if n not in self.reasons}
            self._told |= reasons.keys()
            if unknown:
                self.reasons.update(unknown)
                self._account(max(unknown))

    def _account(self, last: int) -> None:
        self._write()
        if len(self.reasons) > self._allowed:
            raise TrainingError(
                f"{len(self.reasons)} of {len(self._source)} frames cannot be used, the last "
                f"being {self._source.describe(last)}: {self.reasons[last]}",
                "repair or remove the frames listed in quarantine.json, or allow more with "
                "max_quarantined_fraction",
            )

    def add_image(self, number: int, camera: str, error: Exception) -> None:
        """Records a damaged image of a frame that is used without it."""
        with self._lock:
            if (number, camera) in self.images:
                return
            self.images[number, camera] = f"{type(error).__name__}: {error}"
            name = self._source.describe(number)
            log.warning("%s is used without image %r: %s", name, camera, error)
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        frames = [
            {"frame": self._source.describe(n), "reason": reason}
            for n, reason in sorted(self.reasons.items())
        ]
        images = [
            {"frame": self._source.describe(n), "image": camera, "reason": reason}
            for (n, camera), reason in sorted(self.images.items())
        ]
        write_json(self._path, frames + images)


class BatchMaker:
    """(step, part) -> batch, a pure function of (data, seed, stage, step, part).

    Frames come in a new random order each epoch. A frame that is damaged, or has nothing to learn
    from, is replaced by a random other one. One that lacks an image goes on with its other cameras.
    The samples of a step are numbered: its parts, which several processes or micro-batches learn
    from, are together the batch of one.

    Args:
        frames: numbers of the frames to draw from; None for all.
        parts: equal parts that the samples of a step are divided into.
    """

    def __init__(
        self,
        source: FrameSource,
        stage: Stage,
        stage_index: int,
        seed: int,
        bad: Quarantine,
        *,
        frames: Sequence[int] | None = None,
        parts: int = 1,
    ) -> None:
        self._source, self._stage, self._stage_index = source, stage, stage_index
        self._seed, self._bad = seed, bad
        self._frames = range(len(source)) if frames is None else frames
        self._samples = stage.batch_size // parts

    def _try(self, number: int, rng: np.random.Generator) -> Sample | None:
        if number in self._bad.reasons:
            return None
        try:
            with leave_out_damaged_images(partial(self._bad.add_image, number)):
                frame = self._source[number]
            return self._stage.sample(frame, rng)
        except (CondenseError, OSError, ValueError, EOFError) as error:
            self._bad.add(number, error)
            return None

    def _sample(self, step: int, slot: int) -> Sample:
        count, place = len(self._frames), step * self._stage.batch_size + slot
        order = epoch_order(count, self._seed, self._stage_index, place // count)
        number = int(order[place % count])
        for attempt in range(_ATTEMPTS):
            key = [self._seed, self._stage_index, step, slot, attempt, 2]
            rng = np.random.default_rng(key)
            sample = self._try(self._frames[number], rng)
            if sample is not None:
                return sample
            number = int(np.random.default_rng([*key, 3]).integers(count))
        raise TrainingError(
            f"stage {self._stage.name!r} found nothing to learn from in {_ATTEMPTS} frames drawn "
            f"from {count} ({len(self._bad)} of them quarantined)",
            "check that the data has images, that they overlap the clouds, and that the "
            "calibration belongs to them",
        )

    def __call__(self, step: int, part: int = 0) -> Batch:
        """The batch of a step, or one part of it.

        Raises:
            TrainingError: too many frames failed, or no frame has anything to learn from.
        """
        slots = range(part * self._samples, (part + 1) * self._samples)
        return self._stage.collate([self._sample(step, slot) for slot in slots])


def batches_ahead(
    maker: BatchMaker, wanted: Sequence[tuple[int, int]], prefetch: bool
) -> Iterator[Batch]:
    """Batches of these (step, part), the next one made in a thread while one is learned from."""
    if not prefetch:
        yield from (maker(step, part) for step, part in wanted)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        waiting = pool.submit(maker, *wanted[0])
        for following in (*wanted[1:], None):
            batch = waiting.result()
            if following is not None:
                waiting = pool.submit(maker, *following)
            yield batch
