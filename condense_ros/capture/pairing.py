"""Matches wait here for their calibration and pose, and become pairs."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from condense_ros.bags import PairRecord
from condense_ros.capture.calibration import CalibrationState, ImageFacts, View
from condense_ros.capture.config import CaptureConfig
from condense_ros.capture.messages import Message
from condense_ros.capture.notes import Notes
from condense_ros.errors import CalibrationMissing
from condense_ros.geometry import Array, interpolate_pose


@dataclass(frozen=True)
class Match:
    """A match of the synchroniser, by topic.

    Attributes:
        facts: what calibration needs to know of the messages.
        messages: the messages themselves, where they are recorded only with their pair.
        log_ns: time of reception of the last of them.
        arrived_s: `time.monotonic()` of the match.
    """

    facts: Mapping[str, ImageFacts]
    messages: Mapping[str, Message]
    log_ns: int
    arrived_s: float


@dataclass(frozen=True)
class Motion:
    """Poses (4, 4) of the sensor of the points in the world frame at increasing stamps."""

    stamps_ns: tuple[int, ...]
    T_world_points: tuple[Array, ...]

    def at(self, stamp_ns: int) -> Array | None:
        """The pose at a stamp, interpolated; None outside the poses there are."""
        after = bisect_left(self.stamps_ns, stamp_ns)
        if after < len(self.stamps_ns) and self.stamps_ns[after] == stamp_ns:
            return self.T_world_points[after]
        if after in (0, len(self.stamps_ns)):
            return None
        begin, end = self.stamps_ns[after - 1], self.stamps_ns[after]
        fraction = (stamp_ns - begin) / (end - begin)
        return interpolate_pose(
            self.T_world_points[after - 1], self.T_world_points[after], fraction
        )


class Pairing:
    """Completes matches in order; gives up on those that wait longer than `transform_wait_s`.

    Its user holds a lock around calls.

    Args:
        config: see there.
        roles: matched topic -> role.
        info_topics: camera_info topic of every image and depth topic.
        on_pair: gets (record, match, calibration by camera name) of every complete pair.
        notes: where problems are told.
    """

    def __init__(
        self,
        config: CaptureConfig,
        roles: Mapping[str, str],
        info_topics: Mapping[str, str],
        on_pair: Callable[[PairRecord, Match, Mapping[str, View]], None],
        notes: Notes,
    ) -> None:
        self._config = config
        self._roles, self._info_topics = roles, info_topics
        self._on_pair = on_pair
        self._notes = notes
        self._pending: deque[Match] = deque()
        self.calibration = CalibrationState(config.tf_cache_s)
        #: matches that were dropped, by reason
        self.undone: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Matches that are not complete yet."""
        return len(self._pending)

    def add(self, match: Match) -> None:
        """Takes a match; `resolve` completes it."""
        self._pending.append(match)

    def drop(self, reason: str) -> None:
        """Drops all that wait."""
        self.undone[reason] += len(self._pending)
        self._pending.clear()

    def resolve(self, final: bool) -> None:
        """Completes what can be completed; gives up on what has waited long, or on all."""
        while self._pending:
            match = self._pending[0]
            waited = time.monotonic() - match.arrived_s
            if not self._complete(match, final or waited > self._config.transform_wait_s):
                return  # pairs keep their order
            self._pending.popleft()

    def _complete(self, match: Match, expired: bool) -> bool:
        """True when the match needs no more waiting: it is a pair, or dropped."""
        pivot = match.facts[self._config.pivot_topic]
        reason = "no_camera_info"
        try:
            for topic, info in self._info_topics.items():
                self.calibration.camera(info, match.facts[topic])
            reason = "no_transform"
            images = {
                role.partition("/")[2]: (self._info_topics[topic], match.facts[topic])
                for topic, role in self._roles.items()
                if role.startswith("image/")
            }
            depth = not self._config.points_topic
            views = self.calibration.views(images, pivot.frame_id, depth)
            identity = self.calibration.identify(views)
        except CalibrationMissing as error:
            if expired:
                self.undone[reason] += 1
                self._notes.add("calibration", str(error))
            return expired
        try:
            pose = self._pose(pivot.stamp_ns)
            self._notes.settle("pose")
        except CalibrationMissing as error:
            if not expired:
                return False
            pose = None
            self._notes.add("pose", f"pairs have no pose: {error}")
        self._notes.settle("calibration")
        record = PairRecord(
            pivot.stamp_ns,
            {role: (topic, match.facts[topic].stamp_ns) for topic, role in self._roles.items()},
            identity,
            pose,
            self._config.world_frame if pose is not None else "",
            pivot.frame_id,
        )
        self._on_pair(record, match, views)
        return True

    def _pose(self, stamp_ns: int) -> Array | None:
        """T_world_base; None where no pose is asked for.

        Raises:
            CalibrationMissing: tf does not know it.
        """
        config = self._config
        if not config.world_frame:
            return None
        return self.calibration.tf.lookup(config.world_frame, config.base_frame, stamp_ns)

    def motion(self, frame_id: str, stamp_ns: int, half_ns: int, count: int) -> Motion:
        """Poses of a frame in `world_frame` around a stamp, where tf knows them.

        Args:
            half_ns: reach before and after the stamp.
            count: poses on either side.
        """
        stamps, poses = [], []
        if self._config.world_frame:
            for k in range(-count, count + 1):
                at = stamp_ns + k * half_ns // count
                try:
                    T = self.calibration.tf.lookup(self._config.world_frame, frame_id, at)
                except CalibrationMissing:
                    continue
                stamps.append(at)
                poses.append(T)
        return Motion(tuple(stamps), tuple(poses))
