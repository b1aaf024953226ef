"""Looks at the running ROS graph: who publishes and subscribes what, how, and with which clock."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSCompatibility, qos_check_compatible


@dataclass(frozen=True)
class Mismatch:
    """A publisher and a subscription that will never exchange a message."""

    topic: str
    publisher: str
    subscription: str
    reason: str


@dataclass(frozen=True)
class Graph:
    """What a few seconds of listening showed.

    Attributes:
        nodes: full names of all nodes but the observer; a name twice is a clash.
        types: topic -> message types in use on it.
        publishers: topic -> full names of the publishing nodes.
        subscriptions: topic -> full names of the subscribing nodes.
        mismatches: pairs with incompatible quality of service.
        sim_time: node -> its use_sim_time, for nodes that answered.
        clock_publishers: how many nodes publish /clock.
    """

    nodes: tuple[str, ...]
    types: dict[str, tuple[str, ...]]
    publishers: dict[str, tuple[str, ...]]
    subscriptions: dict[str, tuple[str, ...]]
    mismatches: tuple[Mismatch, ...]
    sim_time: dict[str, bool]
    clock_publishers: int

    @property
    def clashes(self) -> tuple[str, ...]:
        """Node names that are in use more than once."""
        return tuple(sorted(name for name, n in Counter(self.nodes).items() if n > 1))


def _full_name(endpoint: object) -> str:
    namespace = str(getattr(endpoint, "node_namespace", "/")).rstrip("/")
    return f"{namespace}/{getattr(endpoint, 'node_name', '?')}"


def _mismatches(node: Node, topic: str) -> list[Mismatch]:
    found = []
    for publisher in node.get_publishers_info_by_topic(topic):
        for subscription in node.get_subscriptions_info_by_topic(topic):
            verdict, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
            if verdict == QoSCompatibility.ERROR:
                names = _full_name(publisher), _full_name(subscription)
                found.append(Mismatch(topic, *names, reason.strip().rstrip(";")))
    return found


def observe(seconds: float) -> Graph:
    """Listens for `seconds` and describes the graph of this ROS domain."""
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node(f"condense_doctor_{os.getpid()}", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        _spin(executor, seconds)
        me = node.get_fully_qualified_name()
        names = sorted(
            f"{namespace.rstrip('/')}/{name}"
            for name, namespace in node.get_node_names_and_namespaces()
        )
        names = [name for name in names if name != me]
        types = {t: tuple(kinds) for t, kinds in node.get_topic_names_and_types()}
        publishers, subscriptions, mismatches = {}, {}, []
        for topic in types:
            publishers[topic] = tuple(
                _full_name(end)
                for end in node.get_publishers_info_by_topic(topic)
                if _full_name(end) != me
            )
            subscriptions[topic] = tuple(
                _full_name(end)
                for end in node.get_subscriptions_info_by_topic(topic)
                if _full_name(end) != me
            )
            mismatches += _mismatches(node, topic)
        return Graph(
            nodes=tuple(names),
            types=types,
            publishers=publishers,
            subscriptions=subscriptions,
            mismatches=tuple(mismatches),
            sim_time=_sim_time(node, executor, sorted(set(names))),
            clock_publishers=len(publishers.get("/clock", ())),
        )
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _spin(executor: SingleThreadedExecutor, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)


def _sim_time(node: Node, executor: SingleThreadedExecutor, names: list[str]) -> dict[str, bool]:
    """`use_sim_time` of the nodes that answer within a second."""
    asked = {}
    for name in names:
        client = AsyncParameterClient(node, name)
        if client.services_are_ready():
            asked[name] = client.get_parameters(["use_sim_time"])
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline and not all(future.done() for future in asked.values()):
        executor.spin_once(timeout_sec=0.05)
    answers = {}
    for name, future in asked.items():
        if future.done() and future.result() and future.result().values:
            answers[name] = bool(future.result().values[0].bool_value)
    return answers
