"""Which frames 1 %, 5 %, 10 % or 25 % of a data set are, by the published protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from condense_ros.errors import ConfigError

T = TypeVar("T")


@runtime_checkable
class Scenes(Protocol):
    """A data set whose parts are counted by the scene (nuScenes)."""

    @property
    def scene_rows(self) -> Sequence[Sequence[int]]:
        """The rows of each scene's frames, scenes in the order of the data set's table."""
        ...


class Counted(Protocol):
    """Anything with a number of frames."""

    def __len__(self) -> int: ...


def step_of(fraction: float) -> int:
    """k of "every k-th", the whole number nearest to 1 / fraction (halves go to the even one).

    Raises:
        ConfigError: not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"a fraction of {fraction}", "give a number in (0, 1], 0.01 for 1 %")
    return round(1 / fraction)


def every_kth_scan(scans: Sequence[T], fraction: float) -> list[T]:
    """Every k-th scan of a sorted list, from the first one on (SemanticKITTI and its relatives)."""
    return list(scans[:: step_of(fraction)])


def every_kth_scene(scenes: Sequence[T], fraction: float) -> list[T]:
    """Every k-th scene in the order of the table (nuScenes).

    The released code counts scenes from 1 and takes those whose number k divides, so the first
    k - 1 scenes are left out.

    Raises:
        ConfigError: fewer than k scenes, of which none would be left.
    """
    step = step_of(fraction)
    taken = list(scenes[step - 1 :: step])
    if scenes and not taken:
        raise ConfigError(
            f"every {step}th of {len(scenes)} scenes is none", "choose a larger fraction"
        )
    return taken


def every_kth(dataset: Counted, fraction: float) -> list[int]:
    """Rows of the part of a data set that the fine-tuning protocols learn from.

    Args:
        dataset: frames in their order; one with scenes (`Scenes`) is thinned by the scene, any
            other by the frame.
        fraction: 0.01 for 1 %; k = round(1 / fraction).

    Raises:
        ConfigError: a fraction outside (0, 1], or no scene would be left.
    """
    if isinstance(dataset, Scenes):
        return [row for scene in every_kth_scene(dataset.scene_rows, fraction) for row in scene]
    return every_kth_scan(range(len(dataset)), fraction)
