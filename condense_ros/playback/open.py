"""`open_playback`: bags as they were recorded, simulations by sensor, all else by frames."""

from __future__ import annotations

from pathlib import Path

from condense_ros.datasets import open_dataset
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import ConfigError, DatasetError
from condense_ros.playback.bag import BagPlayback
from condense_ros.playback.frames import FramePlayback
from condense_ros.playback.live import LiveConfig, open_live
from condense_ros.playback.messages import Playback, PlaybackConfig
from condense_ros.playback.simulated import SimulatedPlayback
from condense_ros.playback.simulated_folder import FolderSource


def _is_bag(path: Path) -> bool:
    if path.is_dir():
        return any(next(path.glob(pattern), None) for pattern in ("*.mcap", "*.db3"))
    return path.suffix in (".mcap", ".db3")


def open_playback(config: PlaybackConfig, live: LiveConfig | None = None) -> Playback:
    """Opens what `config.path` names, or the world that `live` names.

    Raises:
        DatasetError: nothing there, or nothing this project reads.
        BagError: a bag that cannot be opened.
        ConfigError, SimulationError: a world that cannot be simulated as asked.
    """
    if live is not None and live.world:
        if config.path:
            raise ConfigError(
                f"both a path ({config.path}) and a world ({live.world}) to play", "give one"
            )
        return SimulatedPlayback(open_live(live, visibility=config.labels), config)
    if not config.path:
        raise DatasetError(
            "no path to play", "set the parameter path to a data set or bag, or simulate.world"
        )
    path = Path(config.path)
    if _is_bag(path):
        return BagPlayback(path)
    dataset = open_dataset(path)
    if isinstance(dataset, SimulatedFolder):
        return SimulatedPlayback(FolderSource(dataset, truth=config.truth), config)
    if not len(dataset):
        raise DatasetError(f"{path} holds no frames", "give a folder with data")
    return FramePlayback(dataset, config)
