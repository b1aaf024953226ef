"""camera_info, tf and odometry: kept rather than matched, each with its account."""

from __future__ import annotations

from collections import Counter

from condense_ros import wire
from condense_ros.capture.calibration import CalibrationState
from condense_ros.capture.counts import ContextCount
from condense_ros.capture.messages import Message
from condense_ros.capture.notes import Notes
from condense_ros.capture.trigger import OdometryTrack
from condense_ros.errors import CondenseError, WireError
from condense_ros.wire.cdr import Bytes


class Context:
    """Takes the context messages into the calibration state; its user holds a lock around calls.

    Every method gives the message to be recorded, or None where it could not be used; then it is
    counted as `malformed` and told.
    """

    def __init__(self, calibration: CalibrationState, notes: Notes) -> None:
        self._calibration = calibration
        self._notes = notes
        self._received: Counter[str] = Counter()
        self._dropped: dict[str, Counter[str]] = {}
        #: recent poses of the odometry topic
        self.odometry = OdometryTrack()

    def camera_info(self, topic: str, raw: Bytes, log_ns: int) -> Message | None:
        """Intrinsics of a camera."""
        try:
            stamp_ns = wire.read_header(raw).stamp_ns
            self._calibration.add_camera_info(topic, raw)
        except WireError as error:
            self._drop(topic, error)
            return None
        return self._keep(Message(topic, wire.CAMERA_INFO, bytes(raw), stamp_ns, log_ns))

    def transforms(self, topic: str, raw: Bytes, log_ns: int, static: bool) -> Message | None:
        """Transforms of /tf or /tf_static."""
        tf = self._calibration.tf
        try:
            transforms = wire.decode_tf(raw)
            for transform in transforms:
                if not tf.add(transform, static):
                    # older than the buffer reaches back: the clock was set back
                    tf.clear()
                    tf.add(transform, static)
        except CondenseError as error:  # malformed, no rigid motion, or a loop of frames
            self._drop(topic, error)
            return None
        stamp_ns = transforms[0].stamp_ns if transforms else log_ns
        return self._keep(Message(topic, wire.TF, bytes(raw), stamp_ns, log_ns, static))

    def pose(self, topic: str, raw: Bytes, log_ns: int) -> Message | None:
        """Odometry."""
        try:
            odometry = wire.decode_odometry(raw)
        except CondenseError as error:
            self._drop(topic, error)
            return None
        stamp_ns = odometry.header.stamp_ns
        self.odometry.add(stamp_ns, odometry.T_odom_base)
        return self._keep(Message(topic, wire.ODOMETRY, bytes(raw), stamp_ns, log_ns))

    def clock_went_back(self) -> None:
        """Forgets what belongs to the time before the jump."""
        self._calibration.tf.clear()
        self.odometry.clear()

    def counts(self) -> dict[str, ContextCount]:
        """The account of every topic heard: received = kept + sum(dropped)."""
        found = {}
        for topic, received in self._received.items():
            dropped = self._dropped.get(topic, Counter())
            found[topic] = ContextCount(received, received - sum(dropped.values()), dict(dropped))
        return found

    def _keep(self, message: Message) -> Message:
        self._received[message.topic] += 1
        return message

    def _drop(self, topic: str, error: CondenseError) -> None:
        self._received[topic] += 1
        self._dropped.setdefault(topic, Counter())["malformed"] += 1
        self._notes.add(topic, f"{topic}: {error}")
