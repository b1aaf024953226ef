"""The account a capture gives of every message."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from condense_ros.bags import RecordCount
from condense_ros.capture.ring import RingState
from condense_ros.sync import TopicCount


@dataclass(frozen=True)
class ContextCount:
    """Account of camera_info, tf or odometry: received == kept + sum(dropped.values())."""

    received: int
    kept: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class CaptureReport:
    """State of a capture at one instant.

    Attributes:
        topics: images, clouds, depth; `matched` are those of pairs complete with calibration.
        context: camera_info, tf and odometry topics.
        recorder: what the bag writer says of every topic; empty while nothing is recorded.
        completed: pairs completed since the capture began, recorded or not.
        pairs: those of the recording `bag`; of all while nothing was recorded yet.
            pairs_without_pose of them have no pose.
        untriggered: complete pairs that the trigger left out of the recording.
        skew_ms: largest stamp difference within the newest pair.
        calibration_ids: of `pairs`, in order of appearance.
        bag: folder being written, or written last; empty when none was.
        warnings: in plain words.
        offsets_s: how far the stamps of each matched topic are ahead of the pivot's; None where
            too little has come to tell.
        queue_limits: messages held per matched topic at most, at present.
        ring: what a snapshot would save.
        callback_errors: exceptions raised while pairs were made.
    """

    topics: Mapping[str, TopicCount]
    context: Mapping[str, ContextCount]
    recorder: Mapping[str, RecordCount]
    completed: int
    pairs: int
    untriggered: int
    pairs_without_pose: int
    skew_ms: float
    calibration_ids: tuple[str, ...]
    bag: str
    recording: bool
    bytes_written: int
    warnings: tuple[str, ...]
    offsets_s: Mapping[str, float | None]
    queue_limits: Mapping[str, int]
    ring: RingState
    callback_errors: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)
