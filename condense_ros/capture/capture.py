"""`Capture`: sensor messages in, a bag of calibrated pairs out, every message accounted for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from condense_ros.bags import PairRecord, RecordConfig
from condense_ros.capture.calibration import View
from condense_ros.capture.clock import ClockLog
from condense_ros.capture.config import CaptureConfig, roles
from condense_ros.capture.context import Context
from condense_ros.capture.counts import CaptureReport
from condense_ros.capture.messages import Latched, Message, sensor_facts
from condense_ros.capture.notes import Notes
from condense_ros.capture.pairing import Match, Pairing
from condense_ros.capture.pairs import PairBook, PairObserver
from condense_ros.capture.recording import Recording
from condense_ros.capture.ring import RingBuffer, RingConfig, Snapshot, save
from condense_ros.capture.trigger import Trigger, TriggerConfig, check_trigger
from condense_ros.errors import BagError, CondenseError, WireError
from condense_ros.sync import PolicyFactory, Stamped, SyncConfig, Synchronizer, TopicCount
from condense_ros.wire.cdr import Bytes
from condense_ros.wire.topics import camera_info_topic


class Capture:
    """Takes the raw bytes of sensor messages and makes pairs of them. Thread-safe.

    Images and clouds are checked (layout, fields, size), recorded as they are, and matched. A match
    becomes a pair once intrinsics and extrinsics of every camera are known; when they are still
    missing after `transform_wait_s` its messages are dropped. The pose of the base frame is added
    where tf knows it. Messages that fail the check are not recorded. With a trigger other than
    `always`, images and clouds are recorded with the pairs that it wants, and only then.

    Drop reasons beside those of `Synchronizer`: `malformed`, `empty_cloud`, `no_camera_info`,
    `no_transform`, `clock_jump_back`, `recording_started`.

    Args:
        config: topics; `image_topics` must be given.
        sync, record, trigger, ring: see there.
        factory: makes the policy `message_filters`; see `Synchronizer`.
        observer: looks at every pair.

    Raises:
        ConfigError: no image topic, or parameters that do not fit together.
    """

    def __init__(
        self,
        config: CaptureConfig,
        sync: SyncConfig | None = None,
        record: RecordConfig | None = None,
        trigger: TriggerConfig | None = None,
        ring: RingConfig | None = None,
        *,
        factory: PolicyFactory | None = None,
        observer: PairObserver | None = None,
    ) -> None:
        self.config = config
        self._roles = roles(config)
        #: camera_info topic of every image and depth topic
        self.info_topics = {
            topic: camera_info_topic(topic) for topic, role in self._roles.items() if role[0] != "p"
        }
        self._trigger = Trigger(trigger or TriggerConfig())
        check_trigger(config, self._trigger.config)
        self._record_config = record or RecordConfig()
        self._lock = threading.RLock()
        self._notes = Notes()
        self._recording = Recording(self._record_config, self._notes)
        self._ring = RingBuffer(ring or RingConfig())
        #: whether images and clouds wait with their match, for the trigger or the observer
        self._holds = not self._trigger.always or observer is not None
        self._sync = Synchronizer(
            tuple(self._roles), sync or SyncConfig(), self._on_match, factory=factory
        )
        self._pairing = Pairing(config, self._roles, self.info_topics, self._on_pair, self._notes)
        self._context = Context(self._pairing.calibration, self._notes)
        self._book = PairBook(
            config,
            self._trigger,
            self._recording,
            self._context.odometry,
            self._pairing,
            observer,
            self._notes,
        )
        self._latched = Latched()
        self._refused: dict[str, Counter[str]] = {topic: Counter() for topic in self._roles}
        self._clock = ClockLog(self._sync)

    @property
    def topics(self) -> Mapping[str, str]:
        """Matched topic -> role: points, depth, image/NAME."""
        return self._roles

    # recording

    @property
    def recording(self) -> bool:
        return self._recording.open

    @property
    def failed(self) -> CondenseError | None:
        """What keeps the recorder from writing at present (a full disk), or None."""
        return self._recording.problem

    def start(self, folder: Path | str) -> None:
        """Begins a bag, with the calibration and static transforms received so far.

        Raises:
            BagError: already recording, or the folder cannot be used.
            StorageFull: no room to begin.
        """
        with self._lock:
            self._recording.start(folder, self._latched)
            # what waits now was not recorded, so no pair may refer to it
            self._sync.reset("recording_started")
            self._pairing.drop("recording_started")
            self._book.restart()

    def stop(self) -> None:
        """Finishes the bag: what can be paired is paired, everything queued is written.

        Raises:
            StorageFull, BagError: messages could not be written; they are counted.
        """
        self._sync.finish()
        self.resolve(final=True)
        with self._lock:
            writer = self._recording.detach()
        if writer is None:
            return
        try:
            writer.close()
        finally:
            with self._lock:
                self._recording.settle(writer)

    def split(self) -> None:
        """Goes on in a new file of the same bag.

        Raises:
            BagError: nothing is being recorded.
        """
        with self._lock:
            self._recording.split()

    def trigger(self) -> None:
        """Has the next pair recorded.

        Raises:
            BagError: nothing is being recorded, or every pair is recorded anyway.
        """
        with self._lock:
            if not self._recording.open:
                raise BagError("nothing is being recorded", "call start first")
            if self._trigger.always:
                raise BagError(
                    "trigger.mode is always: every pair is recorded",
                    "set trigger.mode to service or motion to choose pairs",
                )
            self._trigger.ask()

    def snapshot(self, folder: Path | str) -> Snapshot:
        """Saves the ring buffer as a bag; capture goes on meanwhile.

        Raises:
            BagError: there is no ring buffer, it is empty, or the folder cannot be used.
            StorageFull: no room.
        """
        if not self._ring.config.seconds:
            raise BagError(
                "there is no ring buffer to take a snapshot of",
                "set ring.seconds to the time to keep",
            )
        with self._lock:
            messages, pairs = self._ring.content()
        if not messages:
            raise BagError("the ring buffer is empty", "start the sensors, then ask again")
        return save(folder, messages, pairs, self._record_config)

    # messages

    def add_sensor(self, topic: str, type_name: str, raw: Bytes, log_ns: int) -> None:
        """Takes an image, compressed image or cloud of a matched topic."""
        try:
            facts = sensor_facts(type_name, raw)
        except WireError as error:
            self._refuse(topic, "malformed", str(error))
            return
        if facts.width * facts.height == 0:
            sent = f"none of its {facts.height} points is finite" if facts.height else "it is empty"
            self._refuse(topic, "empty_cloud", f"a cloud was dropped: {sent}. Fix: check the lidar")
            return
        # simulated time that has not begun reads 0
        log_ns = log_ns if log_ns > 0 else facts.stamp_ns
        message = Message(topic, type_name, bytes(raw), facts.stamp_ns, log_ns)
        with self._lock:
            # one step: a recording that starts in between would get a pair without its messages
            if self._trigger.always:
                self._recording.write(message)
            self._ring.add(message)
            item = (facts, log_ns, message if self._holds else None)
            size_bytes = len(message.raw) if self._holds else 0
            self._sync.add(topic, facts.stamp_ns, item, size_bytes=size_bytes)
            if self._clock.went_back():
                self._pairing.drop("clock_jump_back")
                self._context.clock_went_back()
        self.resolve()

    def _refuse(self, topic: str, reason: str, problem: str) -> None:
        with self._lock:
            self._refused[topic][reason] += 1
            self._notes.add(f"{topic} {reason}", f"{topic}: {problem}")

    def add_camera_info(self, topic: str, raw: Bytes, log_ns: int) -> None:
        """Takes a camera_info message."""
        with self._lock:
            self._keep(self._context.camera_info(topic, raw, log_ns))
            self._pairing.resolve(False)

    def add_tf(self, topic: str, raw: Bytes, log_ns: int, static: bool) -> None:
        """Takes a TFMessage."""
        with self._lock:
            self._keep(self._context.transforms(topic, raw, log_ns, static))
            self._pairing.resolve(False)

    def add_odometry(self, topic: str, raw: Bytes, log_ns: int) -> None:
        """Takes an Odometry message; it is recorded, and the trigger may go by it."""
        with self._lock:
            self._keep(self._context.pose(topic, raw, log_ns))

    def _keep(self, message: Message | None) -> None:
        if message is not None:
            self._latched.note(message)
            self._ring.add(message)
            self._recording.write(message)

    # matches

    def _on_match(self, match: dict[str, Stamped]) -> None:
        facts = {topic: stamped.item[0] for topic, stamped in match.items()}
        log_ns = max(stamped.item[1] for stamped in match.values())
        held = {topic: stamped.item[2] for topic, stamped in match.items() if stamped.item[2]}
        with self._lock:
            self._pairing.add(Match(facts, held, log_ns, time.monotonic()))

    def resolve(self, final: bool = False) -> None:
        """Completes the matches whose transforms have come; gives up on those that waited long.

        Args:
            final: give up on all that are not complete.
        """
        with self._lock:
            self._pairing.resolve(final)

    def _on_pair(self, record: PairRecord, match: Match, views: Mapping[str, View]) -> None:
        self._ring.add_pair(record, match.log_ns)
        self._book.take(record, match, views)

    # account

    def report(self) -> CaptureReport:
        """The state and every count, taken at one instant."""
        with self._lock:
            waiting = self._pairing.waiting
            undone = self._pairing.undone
            topics = {}
            for topic, count in self._sync.accounting().items():
                refused = self._refused[topic]
                topics[topic] = TopicCount(
                    count.received + sum(refused.values()),
                    count.matched - sum(undone.values()) - waiting,
                    dict(Counter(count.dropped) + refused + undone),
                    count.waiting + waiting,
                )
            recorder, bytes_written = self._recording.account()
            warnings = [*self._sync.diagnose(), *self._notes.recent(), *self._book.warnings()]
            if self._recording.problem is not None:
                warnings.insert(0, str(self._recording.problem))
            return CaptureReport(
                topics=topics,
                context=self._context.counts(),
                recorder=recorder,
                completed=self._book.completed,
                pairs=self._book.pairs,
                untriggered=self._book.untriggered,
                pairs_without_pose=self._book.without_pose,
                skew_ms=self._book.skew_ms,
                calibration_ids=tuple(self._book.calibration_ids),
                bag=self._recording.bag,
                recording=self._recording.open,
                bytes_written=bytes_written,
                warnings=tuple(warnings),
                offsets_s=self._sync.offsets_s(),
                queue_limits=self._sync.queue_limits(),
                ring=self._ring.state(),
                callback_errors=self._sync.callback_errors,
            )
