"""Playback: recorded or simulated data as timed messages. Needs no ROS."""

from condense_ros.playback.bag import BagPlayback
from condense_ros.playback.frames import FramePlayback
from condense_ros.playback.messages import Outgoing, Playback, PlaybackConfig, restamped
from condense_ros.playback.open import open_playback
from condense_ros.playback.player import Player, PlayerReport

__all__ = [
    "BagPlayback",
    "FramePlayback",
    "Outgoing",
    "Playback",
    "PlaybackConfig",
    "Player",
    "PlayerReport",
    "open_playback",
    "restamped",
]
