"""std_srvs/Trigger services whose work is done beside the node, so that no message waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from condense_ros.errors import CondenseError


class TriggerServices:
    """Serves ~/NAME for every action: success with its sentence, or the reason why not.

    Actions run one after the other on a thread of their own; closing a bag or saving a snapshot
    waits for the disk.

    Args:
        actions: name -> function that returns a sentence or raises CondenseError.
    """

    def __init__(self, node: Node, actions: Mapping[str, Callable[[], str]]) -> None:
        self._node = node
        self._pool = ThreadPoolExecutor(1, "services")
        # of their own group: the default one would hold back messages while an answer is awaited
        group = ReentrantCallbackGroup()
        for name, action in actions.items():
            node.create_service(Trigger, f"~/{name}", self._serve(action), callback_group=group)

    def close(self) -> None:
        """Waits for what has been begun."""
        self._pool.shutdown(wait=True)

    def _serve(self, action: Callable[[], str]) -> Callable[[Any, Any], Any]:
        async def serve(_: Any, response: Any) -> Any:
            done = Future(executor=self._node.executor)
            self._pool.submit(self._work, action, done)
            response.success, response.message = await done
            return response

        return serve

    @staticmethod
    def _work(action: Callable[[], str], done: Future) -> None:
        try:
            done.set_result((True, action()))
        except CondenseError as error:
            done.set_result((False, str(error)))
        except Exception as error:  # a caller must not wait for ever
            done.set_result((False, f"{type(error).__name__}: {error}"))
            raise
