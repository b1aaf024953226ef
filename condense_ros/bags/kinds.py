"""`TopicKind`: what a bag stores about a topic beside its messages."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.errors import BagError
from condense_ros.wire import cdr

# rosbag2 wants QoS as YAML text; 1 = reliable, transient local, keep last
_LATCHED_QOS = """\
- history: 1
  depth: 100
  reliability: 1
  durability: 1
  deadline:
    sec: 9223372036
    nsec: 854775807
  lifespan:
    sec: 9223372036
    nsec: 854775807
  liveliness: 1
  liveliness_lease_duration:
    sec: 9223372036
    nsec: 854775807
  avoid_ros_namespace_conventions: false
"""


@dataclass(frozen=True)
class TopicKind:
    """Type and encoding of a topic's messages.

    Attributes:
        type_name: "package/msg/Name".
        definition: schema text, ros2msg unless `schema_encoding` says otherwise; "" where unknown.
        type_hash: RIHS01 hash, or "".
        qos: offered profiles as rosbag2's YAML, or "".
        encoding: of the messages, as MCAP names it.
        schema_encoding: of `definition`, as MCAP names it.
    """

    type_name: str
    definition: str = ""
    type_hash: str = ""
    qos: str = ""
    encoding: str = "cdr"
    schema_encoding: str = "ros2msg"


def known_kind(topic: str, type_name: str, definition: str | None = None) -> TopicKind:
    """The kind of a topic from its type name.

    Args:
        definition: ros2msg text, for types `wire.cdr` does not know.

    Raises:
        WireError: unknown type without a definition.
    """
    # a player must latch /tf_static for late joiners
    qos = _LATCHED_QOS if topic.rsplit("/", 1)[-1] == "tf_static" else ""
    if definition is not None:
        return TopicKind(type_name, definition, "", qos)
    return TopicKind(type_name, cdr.definition(type_name), cdr.type_hash(type_name), qos)


def check_same(topic: str, known: str, now: str) -> None:
    """Refuses a second type on a topic.

    Raises:
        BagError: they differ.
    """
    if known != now:
        raise BagError(
            f"topic {topic} is recorded as {known}, now came {now}", "publish one type per topic"
        )
