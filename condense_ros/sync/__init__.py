"""Matching of several sensor topics by time stamp, with an account of every message."""

from condense_ros.sync.config import SyncConfig
from condense_ros.sync.policies import Policy, PolicyFactory
from condense_ros.sync.synchronizer import Stamped, Synchronizer, TopicCount

__all__ = [
    "Policy",
    "PolicyFactory",
    "Stamped",
    "SyncConfig",
    "Synchronizer",
    "TopicCount",
]
