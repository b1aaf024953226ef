"""Listens to a capture node's status from another process."""

from __future__ import annotations

import contextlib
import os
import threading
from types import TracebackType

import rclpy
from condense_msgs.msg import PairStatus
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor


class PairStatusWatch:
    """The newest `PairStatus` of a node, received in a thread of its own.

    Args:
        topic: topic of the status.
        matching: name of the diagnostic whose values are kept in `values`.
    """

    def __init__(
        self,
        topic: str = "/capture_node/pair_status",
        matching: str = "capture_node: matching",
    ) -> None:
        self.latest: PairStatus | None = None
        self.values: dict[str, str] = {}
        self._matching = matching
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node(f"condense_watch_{os.getpid()}", context=self._context)
        self._node.create_subscription(PairStatus, topic, self._take, 10)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="status", daemon=True)
        self._thread.start()

    def _take(self, status: PairStatus) -> None:
        self.latest = status

    def _diagnosed(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == self._matching:
                self.values = {value.key: value.value for value in status.values}

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def __enter__(self) -> PairStatusWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._thread.join(2.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)
