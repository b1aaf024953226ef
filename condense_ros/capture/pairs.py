"""What becomes of a complete pair: observed, chosen by the trigger, recorded, counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from condense_ros.bags import PairRecord
from condense_ros.capture.calibration import View
from condense_ros.capture.config import CaptureConfig
from condense_ros.capture.messages import Message
from condense_ros.capture.notes import Notes
from condense_ros.capture.pairing import Match, Motion, Pairing
from condense_ros.capture.recording import Recording
from condense_ros.capture.trigger import OdometryTrack, Trigger

_log = logging.getLogger(__name__)
#: motion told to the observer: so far before and after the stamp, so many poses on either side
_MOTION_NS, _MOTION_POSES = 150_000_000, 6


@dataclass(frozen=True)
class SeenPair:
    """A complete pair with all that is known of it.

    Attributes:
        record: as it is recorded.
        messages: by role: points, depth, image/NAME.
        views: calibration by camera name.
        motion: of the sensor of the points, around the pair's stamp.
    """

    record: PairRecord
    messages: Mapping[str, Message]
    views: Mapping[str, View]
    motion: Motion


class PairObserver(Protocol):
    """Looks at every pair as it is completed, for instance to watch the calibration."""

    def pair(self, pair: SeenPair) -> None:
        """Takes a pair; must return soon."""
        ...

    def diagnose(self) -> list[str]:
        """Warnings in plain words; they appear among those of the capture."""
        ...


class PairBook:
    """Takes complete pairs; its user holds a lock around calls.

    Attributes:
        completed: all pairs since the capture began.
        pairs: those of the present or last recording; of all while nothing was recorded yet.
        without_pose: of `pairs`, those that have none.
        untriggered: pairs that the trigger left out of the recording.
        calibration_ids: of `pairs`, in order of appearance.
        skew_ms: largest difference of stamps within the newest pair.
    """

    def __init__(
        self,
        config: CaptureConfig,
        trigger: Trigger,
        recording: Recording,
        odometry: OdometryTrack,
        pairing: Pairing,
        observer: PairObserver | None,
        notes: Notes,
    ) -> None:
        self._config = config
        self._pairing = pairing
        self._trigger, self._recording, self._odometry = trigger, recording, odometry
        self._observer = observer
        self._notes = notes
        self.completed = self.pairs = self.without_pose = self.untriggered = 0
        self.calibration_ids: list[str] = []
        self.skew_ms = 0.0

    def restart(self) -> None:
        """A recording begins; its account is its own."""
        self._trigger.restart()
        self.pairs = self.without_pose = self.untriggered = 0
        self.calibration_ids = []

    def take(self, record: PairRecord, match: Match, views: Mapping[str, View]) -> None:
        """Takes the next pair."""
        self.completed += 1
        stamps = [facts.stamp_ns for facts in match.facts.values()]
        self.skew_ms = (max(stamps) - min(stamps)) / 1e6
        if self._observer is not None:
            self._show(self._observer, record, match, views)
        if self._recording.bag and not self._recording.open:
            return  # the account below is that of the bag, which is finished
        if self._recording.open and not self._wanted(record):
            self.untriggered += 1
            return
        self.pairs += 1
        self.without_pose += record.T_world_base is None
        if record.calibration_id not in self.calibration_ids[-1:]:
            if self.calibration_ids:
                _log.info("the calibration changed: its id is now %s", record.calibration_id)
            self.calibration_ids.append(record.calibration_id)
        if not self._trigger.always:
            for message in sorted(match.messages.values(), key=lambda m: m.log_ns):
                self._recording.write(message)
        self._recording.pair(record, match.log_ns)

    def warnings(self) -> list[str]:
        """What the observer has to say."""
        return self._observer.diagnose() if self._observer is not None else []

    def _wanted(self, record: PairRecord) -> bool:
        config = self._trigger.config
        pose = record.T_world_base
        if config.pose == "odometry":
            pose = self._odometry.at(record.stamp_ns)
        if config.mode == "motion" and pose is None:
            self._notes.add(
                "trigger",
                f"the motion is unknown ({config.pose} gives no pose), so every pair is recorded. "
                f"Fix: publish {self._config.odometry_topic or 'odometry'}, or tf from "
                f"{self._config.world_frame or 'world_frame'} to {self._config.base_frame}; or "
                "change trigger.pose",
            )
        else:
            self._notes.settle("trigger")
        return self._trigger.wanted(pose)

    def _show(
        self,
        observer: PairObserver,
        record: PairRecord,
        match: Match,
        views: Mapping[str, View],
    ) -> None:
        messages = {role: match.messages[topic] for role, (topic, _) in record.messages.items()}
        motion = self._pairing.motion(record.frame_id, record.stamp_ns, _MOTION_NS, _MOTION_POSES)
        try:
            observer.pair(SeenPair(record, messages, views, motion))
        except Exception as error:
            _log.exception("the observer of pairs raised; capture goes on")
            self._notes.add("observer", f"pairs are not observed: {error}")
