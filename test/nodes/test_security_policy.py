"""The SROS 2 example policy against the topics and services of the running node."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatchcase

import pytest

from condense_ros.resources import config_file

from .conftest import IMAGE, ready, wait_until

pytestmark = pytest.mark.ros

NODE = "/capture_node"
#: topics that the node uses only with other parameters
OPTIONAL = {"/clock", "/camera/*/image"}


def allowed(kind: str, direction: str) -> set[str]:
    """Names the policy allows, in full."""
    root = ElementTree.parse(config_file("sros2/capture_node.policy.xml")).getroot()
    (enclave,) = root.iter("enclave")
    (profile,) = root.iter("profile")
    assert (enclave.get("path"), profile.get("node"), profile.get("ns")) == (
        NODE,
        NODE.strip("/"),
        "/",
    )
    found = [
        (entry.text or "").strip()
        for group in profile.findall(f"{kind}s")
        if group.get(direction) == "ALLOW"
        for entry in group.findall(kind)
    ]
    assert len(found) == len(set(found))
    return {re.sub(r"^~/", f"{NODE}/", name) for name in found}


def test_the_policy_allows_what_the_node_does_and_no_more(session, robot):
    node = robot.node
    name = NODE.strip("/")
    with session.running("capture_node", image_topics=[IMAGE]) as process:
        ready(process, "matching")

        def names(ask) -> set[str]:
            try:
                return {topic for topic, _ in ask(name, "/")}
            except Exception:  # the node is not discovered yet
                return set()

        graph = {
            ("topic", "publish"): node.get_publisher_names_and_types_by_node,
            ("topic", "subscribe"): node.get_subscriber_names_and_types_by_node,
            ("service", "reply"): node.get_service_names_and_types_by_node,
        }
        wait_until(lambda: f"{NODE}/trigger" in names(graph["service", "reply"]))
        wait_until(lambda: "/tf_static" in names(graph["topic", "subscribe"]))
        wait_until(lambda: "/diagnostics" in names(graph["topic", "publish"]))
        for (kind, direction), ask in graph.items():
            patterns, used = allowed(kind, direction), names(ask)
            for one in used:
                assert any(fnmatchcase(one, p) for p in patterns), f"{direction} {one}: not allowed"
            for pattern in patterns - OPTIONAL:
                assert any(fnmatchcase(one, pattern) for one in used), f"{pattern} is not used"
        assert not node.get_client_names_and_types_by_node(name, "/")
