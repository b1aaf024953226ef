"""The metadata.yaml of a rosbag2 folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from condense_ros.bags.kinds import TopicKind


@dataclass
class FileStats:
    """What one file of a bag holds."""

    name: str
    start_ns: int | None = None
    end_ns: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, topic: str, log_ns: int) -> None:
        """Counts one message."""
        self.counts[topic] = self.counts.get(topic, 0) + 1
        self.start_ns = log_ns if self.start_ns is None else min(self.start_ns, log_ns)
        self.end_ns = max(self.end_ns, log_ns)

    @property
    def messages(self) -> int:
        return sum(self.counts.values())


def metadata_text(files: Sequence[FileStats], kinds: Mapping[str, TopicKind]) -> str:
    """metadata.yaml of format version 5, which every rosbag2 since Galactic reads.

    Args:
        files: in order.
        kinds: of every topic.
    """
    starts = [file.start_ns for file in files if file.start_ns is not None]
    start = min(starts, default=0)
    end = max((file.end_ns for file in files), default=0)

    def span(first: int, last: int) -> dict[str, Any]:
        return {
            "starting_time": {"nanoseconds_since_epoch": first},
            "duration": {"nanoseconds": max(0, last - first)},
        }

    topics = [
        {
            "topic_metadata": {
                "name": topic,
                "type": kind.type_name,
                "serialization_format": kind.encoding,
                "offered_qos_profiles": kind.qos,
                "type_description_hash": kind.type_hash,
            },
            "message_count": sum(file.counts.get(topic, 0) for file in files),
        }
        for topic, kind in kinds.items()
    ]
    information = {
        "version": 5,
        "storage_identifier": "mcap",
        **span(start, end),
        "message_count": sum(file.messages for file in files),
        "topics_with_message_count": topics,
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.name for file in files],
        "files": [
            {
                "path": file.name,
                **span(file.start_ns or 0, file.end_ns),
                "message_count": file.messages,
            }
            for file in files
        ],
    }
    return str(yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False))
