"""Playback: recorded or simulated data as timed messages. Needs no ROS."""

from condense_ros.playback.bag import BagPlayback
from condense_ros.playback.frames import FramePlayback
from condense_ros.playback.live import LiveConfig
from condense_ros.playback.messages import Outgoing, Playback, PlaybackConfig, restamped
from condense_ros.playback.open import open_playback
from condense_ros.playback.player import Player, PlayerReport
from condense_ros.playback.simulated import SimulatedPlayback

__all__ = [
    "BagPlayback",
    "FramePlayback",
    "LiveConfig",
    "Outgoing",
    "Playback",
    "PlaybackConfig",
    "Player",
    "PlayerReport",
    "SimulatedPlayback",
    "open_playback",
    "restamped",
]
