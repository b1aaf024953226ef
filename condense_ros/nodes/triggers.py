"""Calls Trigger services of nodes from another process."""

from __future__ import annotations

import os
import time
from types import TracebackType

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from condense_ros.errors import EnvironmentProblem


class Triggers:
    """A node of its own that calls services; use as a context."""

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node(f"condense_caller_{os.getpid()}", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def call(self, service: str, timeout_s: float = 30.0) -> tuple[bool, str]:
        """Calls `service` and returns its success and sentence.

        Raises:
            EnvironmentProblem: nobody offers it, or no answer came in time.
        """
        client = self._node.create_client(Trigger, service)
        deadline = time.monotonic() + timeout_s
        try:
            if not client.wait_for_service(timeout_s):
                raise EnvironmentProblem(f"nobody offers {service}", "start the node first")
            future = client.call_async(Trigger.Request())
            while not future.done():
                if time.monotonic() > deadline:
                    raise EnvironmentProblem(
                        f"{service} did not answer within {timeout_s:g} s",
                        "look at the node's log; it may hang",
                    )
                self._executor.spin_once(timeout_sec=0.1)
            answer = future.result()
            return bool(answer.success), str(answer.message)
        finally:
            self._node.destroy_client(client)

    def __enter__(self) -> Triggers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)
