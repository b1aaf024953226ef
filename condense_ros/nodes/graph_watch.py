"""What is wrong with the topics a node listens to, as far as the ROS graph shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node


def full_name(endpoint: Any) -> str:
    """Name of the node of a publisher or subscription, with its namespace."""
    namespace = str(getattr(endpoint, "node_namespace", "/")).rstrip("/")
    return f"{namespace}/{getattr(endpoint, 'node_name', '?')}"


def published_types(node: Node, topic: str) -> set[str]:
    """Message types of the publishers of a topic."""
    return {info.topic_type for info in node.get_publishers_info_by_topic(topic)}


def graph_problems(node: Node, topics: Mapping[str, str]) -> list[str]:
    """Plain words: a name in use twice, several publishers on a topic, publishers of other types.

    Args:
        topics: topic -> type that the node subscribes with.
    """
    problems = []
    mine = (node.get_name(), node.get_namespace())
    count = node.get_node_names_and_namespaces().count(mine)
    if count > 1:
        problems.append(
            f"the node name {node.get_fully_qualified_name()} is in use {count} times: services "
            "and parameters reach any of them. End the others, or start this one with "
            "--ros-args -r __node:=NAME"
        )
    for topic, expected in topics.items():
        publishers = node.get_publishers_info_by_topic(topic)
        others = [info for info in publishers if info.topic_type != expected]
        if others:
            who = ", ".join(f"{full_name(info)} publishes {info.topic_type}" for info in others)
            problems.append(
                f"{topic}: {who}, but {node.get_name()} expects {expected}; no message of it "
                "arrives. Remap that publisher to another topic, or name the right topic in the "
                "parameters"
            )
        if len(publishers) - len(others) > 1:
            names = ", ".join(sorted(full_name(info) for info in publishers))
            problems.append(
                f"{topic}: {len(publishers)} publishers ({names}): their messages mix and stamps "
                "may go to and fro. End one of them, or remap it to another topic"
            )
    return problems
