"""One capture node and one robot that live through many faults, read through /diagnostics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from condense_ros import wire

from .conftest import IMAGE, INFO, POINTS, SECOND, Robot, Session, cloud, jpeg, ready

MATCHING, RECORDER, GRAPH = (f"capture_node: {part}" for part in ("matching", "recorder", "graph"))


class Live:
    """A node that stays, so that every test also shows its recovery from the one before.

    Time only goes forward from test to test; `at` and `now_ns` are the robot's own clock.
    """

    def __init__(
        self, session: Session, robot: Robot, calibrated: bool = False, **parameters: Any
    ) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        self.session, self.robot = session, robot
        self.now_ns = 100 * SECOND
        self._statuses: dict[str, Any] = {}
        self._reports = 0
        self._mark = 0
        robot.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 20)
        values = {
            "image_topics": [IMAGE],
            "transform_wait_s": 3.0,
            "report_period_s": 0.2,
            "bag": str(session.folder / "bag"),
            **parameters,
        }
        self._running = session.running("capture_node", **values)
        self.process = self._running.__enter__()
        ready(self.process, "matching")
        if not calibrated:
            robot.statics()
            robot.camera_info()

    def close(self) -> None:
        self._running.__exit__(None, None, None)

    def _take(self, array: Any) -> None:
        self._reports += any(status.name == MATCHING for status in array.status)
        for status in array.status:
            self._statuses[status.name] = status

    # what the node says

    def spin(self, seconds: float = 0.05) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.robot.executor.spin_once(timeout_sec=left)

    def fresh(self) -> None:
        """Waits for a report that was made after this call."""
        before = self._reports
        self.until(lambda: self._reports >= before + 2)

    def until(self, condition: Callable[[], bool], timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self.process.check()
            assert time.monotonic() < deadline, f"waited in vain; the node said:\n{self.said()}"
            self.spin()

    def status(self, name: str = MATCHING) -> Any:
        return self._statuses[name]

    def count(self, key: str) -> int:
        """A number of the node's account; 0 where it is not there yet."""
        status = self._statuses.get(MATCHING)
        found = {value.key: value.value for value in status.values} if status else {}
        return int(found.get(key, 0))

    def mark(self) -> None:
        """What was said before this is not looked at."""
        self._mark = len(self.session.log("capture_node"))

    def said(self) -> str:
        return self.session.log("capture_node")[self._mark :]

    def hears(self, words: str, timeout_s: float = 40.0) -> None:
        self.until(lambda: words in self.said(), timeout_s)

    def account(self) -> dict[str, int]:
        """Counts of a fresh report, after checking that every identity closes in it."""
        self.fresh()
        values = {v.key: v.value for v in self.status().values}
        for topic in (POINTS, IMAGE):
            dropped = sum(
                int(n) for key, n in values.items() if key.startswith(f"{topic} dropped ")
            )
            matched, waiting = int(values[f"{topic} matched"]), int(values[f"{topic} waiting"])
            assert int(values[f"{topic} received"]) == matched + dropped + waiting, values
        for topic in (INFO, "/tf", "/tf_static"):
            if f"{topic} received" in values:
                dropped = sum(
                    int(n) for key, n in values.items() if key.startswith(f"{topic} dropped ")
                )
                assert int(values[f"{topic} received"]) == int(values[f"{topic} kept"]) + dropped
        return {key: int(n) for key, n in values.items() if n.lstrip("-").isdigit()}

    # what the robot does

    def step(self, seconds: float = 0.1) -> int:
        """Lets time pass; the new time."""
        self.now_ns += round(seconds * SECOND)
        return self.now_ns

    def frame(self, **changes: Any) -> None:
        """Transform, image and cloud of the next moment."""
        self.robot.frame(self.step(), **changes)

    def image(self, stamp_ns: int) -> None:
        self.robot.send(IMAGE, wire.COMPRESSED_IMAGE, jpeg(stamp_ns))

    def cloud(self, stamp_ns: int) -> None:
        self.robot.send(POINTS, wire.POINT_CLOUD, cloud(stamp_ns))

    def pairs_come(self, count: int = 3) -> None:
        """Sends good frames until so many more pairs are complete: the node is well."""
        before = self.count("completed")
        deadline = time.monotonic() + 40.0
        while self.count("completed") < before + count:
            assert time.monotonic() < deadline, f"no pairs; the node said:\n{self.said()}"
            self.frame()
            self.spin()

    def recovers(self) -> None:
        """Sends good frames until the node has nothing to complain of."""
        deadline = time.monotonic() + 40.0
        while not self.status(MATCHING).message.endswith(" pairs"):
            assert time.monotonic() < deadline, self.status(MATCHING).message
            self.frame()
            self.spin(0.1)

    def settle(self) -> None:
        """A good start for a test: pairs come, and nothing waits."""
        self.step(2.0)
        self.pairs_come()
        self.mark()

    def until_counted(
        self, key: str, send: Callable[[], None], more: int = 1, every_s: float = 0.1
    ) -> None:
        """Sends again and again until a count has grown."""
        before = self.count(key)
        deadline = time.monotonic() + 40.0
        while self.count(key) < before + more:
            assert time.monotonic() < deadline, f"{key} stays {before}; said:\n{self.said()}"
            send()
            again = time.monotonic() + every_s
            while self.count(key) < before + more and time.monotonic() < again:
                self.spin()
