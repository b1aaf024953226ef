"""`open_playback`: bags as they were recorded, everything else through its frames."""

from __future__ import annotations

from pathlib import Path

from condense_ros.datasets import open_dataset
from condense_ros.errors import DatasetError
from condense_ros.playback.bag import BagPlayback
from condense_ros.playback.frames import FramePlayback
from condense_ros.playback.messages import Playback, PlaybackConfig


def _is_bag(path: Path) -> bool:
    if path.is_dir():
        return any(next(path.glob(pattern), None) for pattern in ("*.mcap", "*.db3"))
    return path.suffix in (".mcap", ".db3")


def open_playback(config: PlaybackConfig) -> Playback:
    """Opens what `config.path` names.

    Raises:
        DatasetError: nothing there, or nothing this project reads.
        BagError: a bag that cannot be opened.
    """
    if not config.path:
        raise DatasetError("no path to play", "set the parameter path to a data set or bag")
    path = Path(config.path)
    if _is_bag(path):
        return BagPlayback(path)
    dataset = open_dataset(path)
    if not len(dataset):
        raise DatasetError(f"{path} holds no frames", "give a folder with data")
    return FramePlayback(dataset, config)
