"""Parameters of the synchroniser."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter
from condense_ros.errors import ConfigError

POLICIES = ("approximate", "nearest")


@dataclass(frozen=True)
class SyncConfig:
    """Parameters of `Synchronizer`; all times are in seconds of the messages' own stamps."""

    policy: str = parameter("approximate", "approximate or nearest")
    tolerance_s: float = parameter(
        0.05,
        "largest time from the first to the last stamp of one match (approximate), or from the "
        "pivot's stamp to any other (nearest)",
        low=0.0,
        high=1e6,
    )
    queue_size: int = parameter(
        50, "messages held per topic; at least lateness times rate", low=1, high=1_000_000
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
    silent_after_s: float = parameter(
        3.0, "a topic without messages for this long is reported", low=0.0, high=1e6
    )

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"SyncConfig.policy = {self.policy!r} is unknown",
                f"choose one of: {', '.join(POLICIES)}",
            )
