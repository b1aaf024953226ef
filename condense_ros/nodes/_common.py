"""What the nodes share: parameters from dataclasses, quality of service, a clean start and end."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble keeps them here
    from rclpy.qos_event import (  # type: ignore[no-redef]
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
    )

from condense_ros.config import build, describe
from condense_ros.errors import CondenseError, EnvironmentProblem
from condense_ros.nodes.object_watch import watch_objects
from condense_ros.transport import transport_problem, use_profile
from condense_ros.wire import Diagnostic
from condense_ros.wire.status import ERROR, OK, WARN

T = TypeVar("T")

_STEADY = Clock(clock_type=ClockType.STEADY_TIME)


def _qos(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=durability,
    )


#: images and clouds: lost rather than late; a subscription of this kind hears every publisher
SENSOR_QOS = _qos(20, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
#: tf, odometry, status
STATE_QOS = _qos(100, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
#: calibration: who joins late gets it as well
LATCHED_QOS = _qos(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
#: static transforms of many messages, one after the other
STATIC_QOS = _qos(100, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def message_class(type_name: str) -> Any:
    """The Python class of "package/msg/Name", which rclpy needs to open a topic.

    Raises:
        EnvironmentProblem: the package is not installed.
    """
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise EnvironmentProblem(
            f"message type {type_name} is not installed ({error})",
            "run `make env`, or install the package of that type",
        ) from error


def parameters(node: Node, cls: type[T], prefix: str = "") -> T:
    """Declares the fields of a parameter dataclass as ROS parameters and builds it from them.

    Types are checked by the dataclass, not by ROS, so that `rate:=2` is as good as `rate:=2.0` and
    every refusal says what would be right.

    Raises:
        ConfigError: a value of the wrong type or out of range.
    """
    values = {}
    for name, kind, default, text in describe(cls):
        descriptor = ParameterDescriptor(
            description=f"{text} ({kind})", dynamic_typing=True, read_only=True
        )
        start = list(default) if isinstance(default, tuple) else default
        values[name] = node.declare_parameter(prefix + name, start, descriptor).value
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return build(cls, {name: value for name, value in values.items() if name in fields})


def steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> None:
    """A timer of real time: one of the node's own clock would stand still without /clock."""
    node.create_timer(period_s, callback, clock=_STEADY)


def _sides(node: Node, topic: str) -> str:
    """Who publishes and subscribes a topic, and how."""

    def show(endpoint: Any) -> str:
        qos = endpoint.qos_profile
        return f"{endpoint.node_name} ({qos.reliability.name}, {qos.durability.name})".lower()

    publishers = ", ".join(map(show, node.get_publishers_info_by_topic(topic))) or "none"
    subscriptions = ", ".join(map(show, node.get_subscriptions_info_by_topic(topic))) or "none"
    return f"publishers: {publishers}; subscriptions: {subscriptions}"


def _incompatible(
    node: Node, topic: str, then: Callable[[], None] | None = None
) -> Callable[[Any], None]:
    """A handler that names both sides, a second later: their names are not known at once."""
    timers: list[Any] = []

    def say() -> None:
        node.destroy_timer(timers.pop())
        node.get_logger().warning(
            f"{topic}: quality of service does not fit, no messages pass between some of its ends. "
            f"{_sides(node, topic)}"
        )
        if then is not None:
            then()

    def handle(_: Any) -> None:
        if not timers:
            timers.append(node.create_timer(1.0, say, clock=_STEADY))

    return handle


def subscribe(
    node: Node,
    type_name: str,
    topic: str,
    callback: Callable[[bytes], None],
    qos: QoSProfile,
    on_incompatible: Callable[[], None] | None = None,
) -> Subscription:
    """A subscription that hands on the bytes as they came; incompatible ends are warned of.

    Raises:
        EnvironmentProblem: the message type is not installed.
    """
    return node.create_subscription(
        message_class(type_name),
        topic,
        callback,
        qos,
        raw=True,
        event_callbacks=SubscriptionEventCallbacks(
            incompatible_qos=_incompatible(node, topic, on_incompatible)
        ),
    )


def advertise(node: Node, type_name: str, topic: str, qos: QoSProfile) -> Publisher:
    """A publisher for serialised messages; incompatible ends are warned of.

    Raises:
        EnvironmentProblem: the message type is not installed.
    """
    return node.create_publisher(
        message_class(type_name),
        topic,
        qos,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=_incompatible(node, topic)),
    )


class Throttle:
    """Says each thing at most every `period_s` seconds; numbers in it do not make it another."""

    def __init__(self, say: Callable[[str], Any], period_s: float = 10.0) -> None:
        self._say, self._period_s = say, period_s
        self._said: dict[str, float] = {}

    def __call__(self, text: str) -> None:
        key = re.sub(r"[\d.]+", "#", text)
        now = time.monotonic()
        if now - self._said.get(key, -1e9) >= self._period_s:
            self._said[key] = now
            self._say(text)


class SimTimeWatch:
    """Notices `use_sim_time` without a /clock."""

    def __init__(self, node: Node, patience_s: float = 5.0) -> None:
        self._node, self._patience_s = node, patience_s
        self._begun = time.monotonic()

    @property
    def problem(self) -> str:
        """What is wrong, or ""."""
        if not self._node.get_parameter("use_sim_time").value:
            return ""
        if self._node.get_clock().now().nanoseconds > 0:
            return ""
        waited = time.monotonic() - self._begun
        if waited < self._patience_s:
            return ""
        return (
            f"use_sim_time is true, but nothing has come on /clock for {waited:.0f} s. Fix: start "
            "the simulator or replay_node, or set use_sim_time to false"
        )


def transport_status(name: str) -> Diagnostic:
    """Whether large messages get through: the FastDDS profile and /dev/shm, as a diagnostic.

    Args:
        name: of the node.
    """
    subject = f"{name}: transport"
    middleware = rclpy.get_rmw_implementation_identifier()
    if "fastrtps" not in middleware:
        return Diagnostic(subject, OK, f"{middleware}; the FastDDS profile is not used")
    problem = transport_problem(os.environ)
    if problem is None:
        return Diagnostic(subject, OK, "profile and shared memory have room for large messages")
    level = ERROR if problem.fatal else WARN
    return Diagnostic(subject, level, f"{problem.problem}. Fix: {problem.fix}")


class _ToRos(logging.Handler):
    """Hands the core's log lines to the node's logger, so that they reach /rosout."""

    def __init__(self, node: Node) -> None:
        super().__init__(logging.INFO)
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


class Running(Protocol):
    """A node with an end."""

    node: Node

    @property
    def finished(self) -> bool:
        """True when it has nothing more to do."""
        ...

    def close(self) -> None:
        """Finishes files; called once, also after an error."""
        ...


@contextlib.contextmanager
def _stop_on_signals(stop: threading.Event, whole_process: bool) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a second one while files are closed changes nothing.

    Args:
        whole_process: the process ends with the node, so a late signal (a launcher passes on the
            Ctrl-C that the terminal has sent already) must not turn a clean end into a death.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if whole_process else handler)


def run(make: Callable[[], Running], argv: Sequence[str] | None) -> int:
    """Starts ROS with the transport for large messages, runs a node to its end, shuts down.

    Args:
        argv: ROS arguments; None: those of the process, and errors become an exit status.

    Raises:
        CondenseError: only if `argv` was given.
    """
    use_profile()
    stop = threading.Event()
    try:
        with _stop_on_signals(stop, argv is None):
            rclpy.init(
                args=None if argv is None else list(argv),
                signal_handler_options=SignalHandlerOptions.NO,
            )
            try:
                _spin(make(), stop)
            finally:
                rclpy.try_shutdown()
    except CondenseError as error:
        if argv is not None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _spin(running: Running, stop: threading.Event) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(running.node)
    watch_objects(running.node, steady_timer)
    core, bridge = logging.getLogger("condense_ros"), _ToRos(running.node)
    level = core.level
    core.setLevel(logging.INFO)
    core.addHandler(bridge)
    try:
        with contextlib.suppress(ExternalShutdownException):
            while not (stop.is_set() or running.finished):
                executor.spin_once(timeout_sec=0.1)
    finally:
        try:
            running.close()
        finally:
            core.removeHandler(bridge)
            core.setLevel(level)
            executor.remove_node(running.node)
            executor.shutdown()
            running.node.destroy_node()
