"""Runs nodes as child processes of a command: with the transport they need, always ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from condense_ros.errors import CondenseError, EnvironmentProblem
from condense_ros.transport import profile_environment


def node_environment(domain_id: int | None = None) -> dict[str, str]:
    """Environment of a child node: loopback discovery and the FastDDS profile for large messages.

    Args:
        domain_id: ROS domain, or None to keep the caller's.
    """
    environment = profile_environment(dict(os.environ))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment["PYTHONUNBUFFERED"] = "1"
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
    return environment


def ros_arguments(parameters: dict[str, Any]) -> list[str]:
    """`--ros-args -p name:=value ...` in the YAML spelling that rcl parses."""
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, (int, float)):
            text = repr(value)
        elif isinstance(value, (list, tuple)):
            text = "[" + ", ".join(str(item) for item in value) + "]"
        else:
            # quoted, or a path such as 12 or `yes` would arrive as another type
            text = '"' + str(value) + '"'
        arguments += ["-p", f"{name}:={text}"]
    return arguments


_LIBC = ctypes.CDLL(None)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end_with_parent() -> None:
    """In the child: SIGINT when the parent dies, even of SIGKILL; a node left over would go on."""
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


class NodeProcess:
    """One node running as a child process, its output kept in a log file."""

    def __init__(
        self,
        node: str,
        parameters: dict[str, Any],
        log: Path,
        domain_id: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.node = node
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"condense_ros.nodes.{node}",
                    *ros_arguments(parameters),
                ],
                env={**node_environment(domain_id), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # its own process group: Ctrl-C reaches the parent alone, which ends it in order
                start_new_session=True,
                # the kernel means the thread, so only the main one stands for the process
                preexec_fn=_end_with_parent if _in_main_thread() else None,
            )

    def tail(self, lines: int = 6) -> str:
        """The last lines of the node's output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def check(self) -> None:
        """Raises when the node has ended with an error.

        Raises:
            CondenseError: the typed error that the node printed last.
            EnvironmentProblem: it died of something else.
        """
        status = self.process.poll()
        if status not in (None, 0):
            said = self.tail(1)
            if said.startswith("error: "):
                problem, _, fix = said.removeprefix("error: ").partition(". Fix: ")
                raise CondenseError(f"{self.node}: {problem}", fix)
            raise EnvironmentProblem(
                f"{self.node} ended with status {status}:\n{self.tail()}",
                f"read {self.log}, then run `condense doctor`",
            )

    def wait(self, timeout_s: float) -> bool:
        """True when the node ended by itself within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.check()
                return True
            time.sleep(0.05)
        return False

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ends the node: SIGINT, so that it closes its files, then SIGTERM, then SIGKILL."""
        for number, patience in ((signal.SIGINT, timeout_s), (signal.SIGTERM, 5.0)):
            if self.process.poll() is not None:
                return
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(
    node: str,
    parameters: dict[str, Any],
    log: Path,
    domain_id: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[NodeProcess]:
    """A node for the length of a `with` block; ended in order whatever happens inside.

    SIGTERM ends the block as Ctrl-C does. While the node closes its files, further signals change
    nothing.

    Args:
        environment: variables that it gets beside those of this process.
    """
    process = NodeProcess(node, parameters, log, domain_id, environment)
    with _orderly_signals() as closing:
        try:
            yield process
        finally:
            closing.set()
            process.stop()


@contextlib.contextmanager
def _orderly_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM become KeyboardInterrupt until the event is set, then nothing."""
    closing = threading.Event()
    if not _in_main_thread():
        yield closing
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not closing.is_set():
            closing.set()  # a second signal must not interrupt the handling of the first
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield closing
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
