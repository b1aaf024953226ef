"""The matching policies behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from condense_ros.errors import ConfigError
from condense_ros.sync.approximate import Approximate
from condense_ros.sync.config import SyncConfig
from condense_ros.sync.exact import Exact
from condense_ros.sync.nearest import Nearest
from condense_ros.sync.slop import Slop

# one waiting message: (effective stamp in ns, Stamped)
Entry = tuple[int, Any]
Emit = Callable[[list[Entry]], None]
Drop = Callable[[int, Entry, str], None]


class Policy(Protocol):
    """Decides which messages belong together. Every one added is emitted or dropped, once."""

    def add(self, topic: int, entry: Entry) -> None:
        """Takes one message; stamps may be out of order."""
        ...

    def waiting(self, topic: int) -> list[Entry]:
        """The messages of a topic that are neither matched nor dropped."""
        ...

    def finish(self) -> None:
        """No more messages come: publishes what can be matched."""
        ...

    def clear(self, reason: str) -> None:
        """Drops everything that waits under `reason` and forgets the past."""
        ...


#: makes a policy from outside this room: (topics, limits, config, emit, drop)
PolicyFactory = Callable[[int, Sequence[int], SyncConfig, Emit, Drop], Policy]

#: policies that take a second message of the same stamp as upstream's Python classes do
TAKES_DUPLICATES = ("slop", "message_filters")


def build_policy(
    topics: int,
    limits: Sequence[int],
    config: SyncConfig,
    pivot: int,
    emit: Emit,
    drop: Drop,
    factory: PolicyFactory | None,
) -> Policy:
    """The policy that `config` names.

    Raises:
        ConfigError: message_filters without a factory for it.
    """
    tolerance_ns = round(config.tolerance_s * 1e9)
    if config.policy == "approximate":
        return Approximate(topics, limits, tolerance_ns, config.age_penalty, emit, drop)
    if config.policy == "nearest":
        latency_ns = round(config.latency_s * 1e9)
        return Nearest(topics, limits, tolerance_ns, latency_ns, pivot, emit, drop)
    if config.policy == "exact":
        return Exact(topics, limits, emit, drop)
    if config.policy == "slop":
        # rclpy.duration.Duration cuts off what is less than a nanosecond
        return Slop(topics, limits, int(config.tolerance_s * 1e9), emit, drop)
    if factory is None:
        raise ConfigError(
            "policy message_filters needs ROS, which this room does not import",
            "use it through capture_node, or choose slop, which has the same semantics",
        )
    return factory(topics, limits, config, emit, drop)
