"""What exports of frames into other layouts share: a folder that an interrupted run goes on in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from condense_ros.datasets.base import Dataset
from condense_ros.errors import CondenseError, ConfigError, DatasetError
from condense_ros.files import write_json
from condense_ros.frame import Frame

MANIFEST = "export.json"
#: called with (frames done, frames in all)
Progress = Callable[[int, int], None]


@dataclass
class Export:
    """What came of it.

    Attributes:
        frames: in the folder now.
        fresh: of them, those written by this run.
        skipped: frames that could not be read, with the reason.
        notes: what the layout cannot hold.
    """

    frames: int = 0
    fresh: int = 0
    skipped: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def frame_range(dataset: Dataset, frames: tuple[int, int] | None) -> range:
    """The frames to export; all of them if None.

    Raises:
        ConfigError: an empty range, or one beyond the data set.
    """
    if frames is None:
        return range(len(dataset))
    first, last = frames
    if not 0 <= first < last <= len(dataset):
        raise ConfigError(
            f"{dataset.name} has no frames {first}:{last}", f"choose within 0:{len(dataset)}"
        )
    return range(first, last)


def begin(out: Path, settings: Mapping[str, Any]) -> None:
    """Makes the folder, or takes up the export that is in it.

    Raises:
        DatasetError: it holds something else, or an export with other settings.
    """
    manifest = out / MANIFEST
    if out.exists() and not manifest.exists() and any(out.iterdir()):
        raise DatasetError(f"{out} holds no export of this kind", "name a new folder")
    if manifest.exists():
        try:
            before = json.loads(manifest.read_text())["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            before = None
        if before != settings:
            raise DatasetError(
                f"{out} holds another export ({before})", "name a new folder or remove that one"
            )
        return
    write_json(manifest, {"settings": settings, "complete": False})


def end(out: Path, settings: Mapping[str, Any], export: Export) -> None:
    """Marks the export as complete."""
    skipped = {str(index): why for index, why in export.skipped.items()}
    content = {"settings": settings, "complete": True, "frames": export.frames}
    write_json(out / MANIFEST, {**content, "skipped": skipped, "notes": export.notes})


def readable(
    dataset: Dataset, indices: Sequence[int], export: Export
) -> Iterator[tuple[int, Frame]]:
    """(index, frame) of every frame that can be read; the others go to `export.skipped`."""
    for index in indices:
        try:
            frame = dataset[index]
        except CondenseError as error:
            export.skipped[index] = str(error)
            continue
        yield index, frame


def image_bytes(pixels: npt.NDArray[np.uint8], suffix: str) -> bytes:
    """PNG (lossless) or JPEG of quality 95 of an RGB image."""
    buffer = BytesIO()
    if suffix == "png":
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
