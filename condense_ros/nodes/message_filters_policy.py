"""Upstream's own synchroniser as a policy: message_filters of a ROS installation.

It decides which messages match; the account, the resets and the diagnosis around it are those of
every policy. Callbacks run outside its lock, so one that raises cannot silence it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from rclpy.time import Time

from condense_ros.errors import EnvironmentProblem
from condense_ros.sync import SyncConfig
from condense_ros.sync.policies import Drop, Emit, Entry


class MessageFiltersPolicy:
    """`message_filters.ApproximateTimeSynchronizer` behind the interface of a policy.

    What it takes from its queues without publishing it was pushed out by newer messages
    (`queue_full`), or replaced by one of the same stamp (`duplicate_stamp`).

    Args:
        topics: number of topics.
        limits: messages held per topic; upstream knows one size for all, so the largest counts.

    Raises:
        EnvironmentProblem: message_filters is not installed.
    """

    def __init__(
        self, topics: int, limits: Sequence[int], config: SyncConfig, emit: Emit, drop: Drop
    ) -> None:
        try:
            upstream = importlib.import_module("message_filters")
        except ImportError as error:
            raise EnvironmentProblem(
                f"policy message_filters needs upstream's package ({error})",
                "sudo apt-get install ros-$ROS_DISTRO-message-filters and source the "
                "installation, or set sync.policy to slop, which has the same semantics",
            ) from error
        self._limits = limits
        self._emit, self._drop = emit, drop
        self._inputs = [upstream.SimpleFilter() for _ in range(topics)]
        self._upstream = upstream.ApproximateTimeSynchronizer(
            self._inputs, limits[0], config.tolerance_s
        )
        self._upstream.registerCallback(self._matched)
        self._held: list[dict[int, Entry]] = [{} for _ in range(topics)]

    def waiting(self, topic: int) -> list[Entry]:
        """The messages of a topic that are neither matched nor dropped, oldest first."""
        return [self._held[topic][stamp] for stamp in sorted(self._held[topic])]

    def add(self, topic: int, entry: Entry) -> None:
        """Takes one message; stamps may be out of order."""
        held = self._held[topic]
        if entry[0] in held:
            self._drop(topic, held[entry[0]], "duplicate_stamp")
        held[entry[0]] = entry
        self._upstream.queue_size = max(self._limits)
        header = SimpleNamespace(stamp=Time(nanoseconds=entry[0]))
        self._inputs[topic].signalMessage(SimpleNamespace(header=header, entry=entry))
        queue = self._upstream.queues[topic]
        # only the topic of the new message can have been pushed out of its queue
        for stamp in [stamp for stamp in held if stamp not in queue]:
            self._drop(topic, held.pop(stamp), "queue_full")

    def finish(self) -> None:
        """Nothing: every set that fits was published when its last message came."""

    def clear(self, reason: str) -> None:
        """Drops everything that waits."""
        for topic, (held, queue) in enumerate(zip(self._held, self._upstream.queues, strict=True)):
            for stamp in sorted(held):
                self._drop(topic, held.pop(stamp), reason)
            queue.clear()

    def _matched(self, *messages: Any) -> None:
        entries = [message.entry for message in messages]
        for held, entry in zip(self._held, entries, strict=True):
            del held[entry[0]]
        self._emit(entries)
