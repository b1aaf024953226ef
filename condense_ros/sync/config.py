"""Parameters of the synchroniser."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter
from condense_ros.errors import ConfigError

#: the last one is upstream's Python class, where a ROS installation has it
POLICIES = ("approximate", "slop", "exact", "nearest", "message_filters")


@dataclass(frozen=True)
class SyncConfig:
    """Parameters of `Synchronizer`; all times are in seconds of the messages' own stamps."""

    policy: str = parameter(
        "approximate",
        "approximate (tightest sets, as message_filters in C++), slop (first set that fits, as "
        "message_filters in Python), exact (equal stamps), nearest (to the pivot, bounded wait), "
        "or message_filters (upstream's own Python class; capture_node in a ROS installation)",
    )
    tolerance_s: float = parameter(
        0.05,
        "largest time from the first to the last stamp of one match (approximate; slop and "
        "message_filters: less than this), or from the pivot's stamp to any other (nearest)",
        low=0.0,
        high=1e6,
    )
    queue_size: int = parameter(
        0,
        "messages held per topic; 0: 1.5 times the measured lateness times rate, at least 50, "
        "within queue_memory_mib",
        low=0,
        high=1_000_000,
    )
    queue_memory_mib: float = parameter(
        256.0,
        "bound of all waiting messages together where queue_size is 0, MiB",
        low=1.0,
        high=1e6,
    )
    pivot: str = parameter(
        "", "topic that sets the time of a match (nearest); empty: the first topic"
    )
    latency_s: float = parameter(
        0.2, "nearest: longest wait for the other topics, in stamp time", low=0.0, high=1e6
    )
    age_penalty: float = parameter(
        0.1,
        "approximate: how much tighter a later match must be",
        low=0.0,
        high=1e3,
    )
    offsets_s: tuple[float, ...] = parameter(
        (), "added to each topic's stamps, in the order of the topics; empty: none"
    )
    jump_back_s: float = parameter(
        1.0, "a stamp this far before its topic's newest resets the queues", low=0.0, high=1e6
    )
    jump_ahead_s: float = parameter(
        60.0,
        "a stamp this far after its topic's newest, sooner than in real time, is reported",
        low=0.0,
        high=1e9,
    )
    silent_after_s: float = parameter(
        3.0, "a topic without messages for this long is reported", low=0.0, high=1e6
    )

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"SyncConfig.policy = {self.policy!r} is unknown",
                f"choose one of: {', '.join(POLICIES)}",
            )
        if self.policy in ("slop", "message_filters") and self.tolerance_s == 0.0:
            raise ConfigError(
                f"SyncConfig.tolerance_s = 0 with policy {self.policy} matches nothing: the spread "
                "of a match must be less than it",
                "choose policy exact, or a tolerance above 0",
            )
