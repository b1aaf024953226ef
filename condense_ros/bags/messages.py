"""`BagTopic` and `BagMessage`: what a reader says of a bag's topics and messages."""

from __future__ import annotations

from dataclasses import dataclass

from mcap.records import Channel, Schema

from condense_ros.bags.kinds import TopicKind


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: type name, ros2msg definition ("" where not stored), message count.

    The rest is as in `TopicKind`.
    """

    type_name: str
    definition: str
    count: int
    type_hash: str = ""
    qos: str = ""
    encoding: str = "cdr"
    schema_encoding: str = "ros2msg"

    @property
    def kind(self) -> TopicKind:
        """What a writer needs to store the topic in the same way."""
        return TopicKind(
            self.type_name,
            self.definition,
            self.type_hash,
            self.qos,
            self.encoding,
            self.schema_encoding,
        )


@dataclass(frozen=True)
class BagMessage:
    """One message with its original bytes.

    Attributes:
        stamp_ns: publish time as stored (the header stamp in our own bags).
        log_ns: time of reception.
        verified: False where the file was cut within the chunk, so that no checksum covers it.
    """

    topic: str
    type_name: str
    raw: bytes
    stamp_ns: int
    log_ns: int
    verified: bool = True


def kind_of(channel: Channel, schema: Schema | None) -> TopicKind:
    """How a topic is stored, as its declarations in the file say."""
    return TopicKind(
        schema.name if schema else "",
        schema.data.decode(errors="replace") if schema else "",
        channel.metadata.get("topic_type_hash", ""),
        channel.metadata.get("offered_qos_profiles", ""),
        channel.message_encoding,
        schema.encoding if schema else "",
    )
