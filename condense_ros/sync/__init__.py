"""Matching of several sensor topics by time stamp, with an account of every message."""

from condense_ros.sync.config import SyncConfig
from condense_ros.sync.synchronizer import Stamped, Synchronizer, TopicCount

__all__ = ["Stamped", "SyncConfig", "Synchronizer", "TopicCount"]
