"""`Capture`: sensor messages in, a bag of calibrated pairs out, every message accounted for."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from condense_ros import wire
from condense_ros.bags import BagWriter, PairRecord, RecordConfig, RecordCount
from condense_ros.capture.calibration import CalibrationWatch, ImageFacts
from condense_ros.capture.config import CaptureConfig
from condense_ros.capture.counts import CaptureReport, ContextCount
from condense_ros.errors import BagError, CalibrationMissing, CondenseError, ConfigError, WireError
from condense_ros.geometry import Array
from condense_ros.sync import Stamped, SyncConfig, Synchronizer, TopicCount
from condense_ros.wire.cdr import Bytes
from condense_ros.wire.topics import camera_info_topic, camera_name

_log = logging.getLogger(__name__)

#: distinct latched messages kept for the start of a recording
_MAX_LATCHED = 256
#: what went wrong is reported for this long
_RECENT_S = 30.0


@dataclass
class _Context:
    received: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Match:
    """A match that waits for its transforms; the messages themselves are recorded already."""

    facts: Mapping[str, ImageFacts]  # by topic
    log_ns: int
    arrived_s: float


class Capture:
    """Takes the raw bytes of sensor messages and makes pairs of them. Thread-safe.

    Images and clouds are checked (layout, fields, size), recorded as they are, and matched. A match
    becomes a pair once intrinsics and extrinsics of every camera are known; when they are still
    missing after `transform_wait_s` its messages are dropped. The pose of the base frame is added
    where tf knows it. Messages that fail the check are not recorded.

    Drop reasons beside those of `Synchronizer`: `malformed`, `empty_cloud`, `no_camera_info`,
    `no_transform`, `clock_jump_back`, `recording_started`.

    Args:
        config: topics; `image_topics` must be given.
        sync, record: see there.

    Raises:
        ConfigError: no image topic, or parameters that do not fit together.
    """

    def __init__(
        self,
        config: CaptureConfig,
        sync: SyncConfig | None = None,
        record: RecordConfig | None = None,
    ) -> None:
        if not config.image_topics:
            raise ConfigError("no image topic to capture", "set image_topics")
        self.config = config
        self._record_config = record or RecordConfig()
        self._roles = {topic: f"image/{camera_name(topic)}" for topic in config.image_topics}
        if len(set(self._roles.values())) != len(self._roles):
            raise ConfigError(
                f"two of the image topics {', '.join(self._roles)} name the same camera",
                "put the camera's name before the last part: /camera/NAME/image",
            )
        clouds = {config.points_topic: "points", config.depth_topic: "depth"}
        self._roles = {topic: role for topic, role in clouds.items() if topic} | self._roles
        #: camera_info topic of every image and depth topic
        self.info_topics = {
            topic: camera_info_topic(topic) for topic, role in self._roles.items() if role[0] != "p"
        }
        self._lock = threading.RLock()
        self._sync = Synchronizer(tuple(self._roles), sync or SyncConfig(), self._on_match)
        self._calibration = CalibrationWatch(config.tf_cache_s)
        self._refused: dict[str, Counter[str]] = {topic: Counter() for topic in self._roles}
        #: matches of the synchroniser that were dropped afterwards, by reason
        self._undone: Counter[str] = Counter()
        self._context: dict[str, _Context] = {}
        self._pending: deque[_Match] = deque()
        self._latched: dict[tuple[str, bytes], tuple[str, bytes, int]] = {}
        self._prologue: list[tuple[str, str, bytes, int]] = []
        self._jumps = 0
        self._problems: dict[str, tuple[str, float]] = {}
        self._writer: BagWriter | None = None
        self._bag = ""
        self._recorder: dict[str, RecordCount] = {}
        self._completed = self._pairs = self._pairs_without_pose = self._bytes = 0
        self._calibration_ids: list[str] = []
        self._skew_ms = 0.0

    @property
    def topics(self) -> Mapping[str, str]:
        """Matched topic -> role: points, depth, image/NAME."""
        return self._roles

    # recording

    @property
    def recording(self) -> bool:
        return self._writer is not None

    def start(self, folder: Path | str) -> None:
        """Begins a bag, with the calibration and static transforms received so far.

        Raises:
            BagError: already recording, or the folder cannot be used.
            StorageFull: no room to begin.
        """
        with self._lock:
            if self._writer is not None:
                raise BagError(f"already recording {self._bag}", "stop it first")
            writer = BagWriter(folder, self._record_config)
            # what waits now was not recorded, so no pair may refer to it
            self._sync.reset("recording_started")
            self._drop_pending("recording_started")
            self._prologue = [
                (topic, kind, raw, stamp_ns)
                for (topic, _), (kind, raw, stamp_ns) in self._latched.items()
            ]
            self._pairs = self._pairs_without_pose = 0
            self._calibration_ids = []
            self._writer, self._bag = writer, str(writer.folder)

    def stop(self) -> None:
        """Finishes the bag: what can be paired is paired, everything queued is written.

        Raises:
            StorageFull, BagError: messages could not be written; they are counted.
        """
        self._sync.finish()
        self.resolve(final=True)
        with self._lock:
            self._write_prologue(0)
            writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        finally:
            with self._lock:
                self._recorder, self._bytes = writer.accounting(), writer.bytes_written

    def split(self) -> None:
        """Goes on in a new file of the same bag.

        Raises:
            BagError: nothing is being recorded.
        """
        with self._lock:
            if self._writer is None:
                raise BagError("nothing is being recorded", "call start first")
            self._writer.split()

    # messages

    def add_sensor(self, topic: str, type_name: str, raw: Bytes, log_ns: int) -> None:
        """Takes an image, compressed image or cloud of a matched topic."""
        try:
            facts = _check(type_name, raw)
        except WireError as error:
            self._refuse(topic, "malformed", str(error))
            return
        if facts.width * facts.height == 0:
            self._refuse(topic, "empty_cloud", "the cloud has no points. Fix: check the lidar")
            return
        # simulated time that has not begun reads 0
        log_ns = log_ns if log_ns > 0 else facts.stamp_ns
        self._record(topic, type_name, raw, facts.stamp_ns, log_ns)
        self._sync.add(topic, facts.stamp_ns, (facts, log_ns))
        with self._lock:
            jumps = self._sync.resets["clock_jump_back"]
            if jumps != self._jumps:
                self._jumps = jumps
                self._drop_pending("clock_jump_back")
                self._calibration.tf.clear()
                _log.info("%s: the clock went back; queues are cleared, capture goes on", topic)
        self.resolve()

    def _refuse(self, topic: str, reason: str, problem: str) -> None:
        with self._lock:
            self._refused[topic][reason] += 1
            self._note(f"{topic} {reason}", f"{topic}: {problem}")

    def add_camera_info(self, topic: str, raw: Bytes, log_ns: int) -> None:
        """Takes a camera_info message."""
        with self._lock:
            try:
                stamp_ns = wire.read_header(raw).stamp_ns
                self._calibration.add_camera_info(topic, raw)
            except WireError as error:
                self._drop_context(topic, error)
                return
            self._keep(topic, wire.CAMERA_INFO, raw, stamp_ns, log_ns)
        self.resolve()

    def add_tf(self, topic: str, raw: Bytes, log_ns: int, static: bool) -> None:
        """Takes a TFMessage."""
        with self._lock:
            try:
                transforms = wire.decode_tf(raw)
                for transform in transforms:
                    if not self._calibration.tf.add(transform, static):
                        # older than the buffer reaches back: the clock was set back
                        self._calibration.tf.clear()
                        self._calibration.tf.add(transform, static)
            except CondenseError as error:  # malformed, or a loop of frames
                self._drop_context(topic, error)
                return
            stamp_ns = transforms[0].stamp_ns if transforms else log_ns
            self._keep(topic, wire.TF, raw, stamp_ns, log_ns, static)
        self.resolve()

    def add_odometry(self, topic: str, raw: Bytes, log_ns: int) -> None:
        """Takes an Odometry message; it is recorded, poses come from tf."""
        with self._lock:
            try:
                stamp_ns = wire.decode_odometry(raw).header.stamp_ns
            except WireError as error:
                self._drop_context(topic, error)
                return
            self._keep(topic, wire.ODOMETRY, raw, stamp_ns, log_ns)

    def _drop_context(self, topic: str, error: CondenseError) -> None:
        context = self._context.setdefault(topic, _Context())
        context.received += 1
        context.dropped["malformed"] += 1
        self._note(topic, f"{topic}: {error}")

    def _keep(
        self, topic: str, kind: str, raw: Bytes, stamp_ns: int, log_ns: int, static: bool = False
    ) -> None:
        self._context.setdefault(topic, _Context()).received += 1
        if static or kind == wire.CAMERA_INFO:
            # the newest camera_info of a topic, every distinct static transform
            key = (topic, bytes(raw) if static else b"")
            self._latched.pop(key, None)
            self._latched[key] = (kind, bytes(raw), stamp_ns)
            if len(self._latched) > _MAX_LATCHED:
                del self._latched[next(iter(self._latched))]
            if log_ns <= 0 and self._writer is not None and len(self._prologue) < _MAX_LATCHED:
                # simulated time has not begun: logged at 0 it would make a bag of 50 years
                self._prologue.append((topic, kind, bytes(raw), stamp_ns))
                return
        self._record(topic, kind, raw, stamp_ns, log_ns)

    def _record(self, topic: str, kind: str, raw: Bytes, stamp_ns: int, log_ns: int) -> None:
        with self._lock:
            if self._writer is None:
                return
            log_ns = log_ns if log_ns > 0 else stamp_ns
            try:
                self._write_prologue(log_ns)
                self._writer.write(topic, kind, raw, stamp_ns, log_ns)
            except BagError as error:  # the topic changed its type, or the writer gave up
                self._note("recorder", str(error))

    def _write_prologue(self, log_ns: int) -> None:
        """What was known before the first message of the bag, logged at the time of that one.

        Logged when it was heard, the bag would begin with a pause as long as the wait before.
        """
        prologue, self._prologue = self._prologue, []
        for topic, kind, raw, stamp_ns in prologue:
            try:
                assert self._writer is not None
                self._writer.write(topic, kind, raw, stamp_ns, log_ns if log_ns > 0 else stamp_ns)
            except BagError as error:
                self._note("recorder", str(error))

    # matches

    def _on_match(self, match: dict[str, Stamped]) -> None:
        facts = {topic: stamped.item[0] for topic, stamped in match.items()}
        log_ns = max(stamped.item[1] for stamped in match.values())
        with self._lock:
            self._pending.append(_Match(facts, log_ns, time.monotonic()))

    def _drop_pending(self, reason: str) -> None:
        self._undone[reason] += len(self._pending)
        self._pending.clear()

    def resolve(self, final: bool = False) -> None:
        """Completes the matches whose transforms have come; gives up on those that waited long.

        Args:
            final: give up on all that are not complete.
        """
        with self._lock:
            while self._pending:
                match = self._pending[0]
                waited = time.monotonic() - match.arrived_s
                if not self._complete(match, final or waited > self.config.transform_wait_s):
                    return  # pairs keep their order
                self._pending.popleft()

    def _complete(self, match: _Match, expired: bool) -> bool:
        """True when the match needs no more waiting: it is a pair, or dropped."""
        pivot = match.facts[self.config.pivot_topic]
        reason = "no_camera_info"
        try:
            for topic, info in self.info_topics.items():
                self._calibration.camera(info, match.facts[topic])
            reason = "no_transform"
            images = {
                role.partition("/")[2]: (self.info_topics[topic], match.facts[topic])
                for topic, role in self._roles.items()
                if role.startswith("image/")
            }
            depth = not self.config.points_topic
            calibration = self._calibration.identify(images, pivot.frame_id, depth)
        except CalibrationMissing as error:
            if expired:
                self._undone[reason] += 1
                self._note("calibration", str(error))
            return expired
        try:
            pose = self._pose(pivot.stamp_ns)
            self._problems.pop("pose", None)
        except CalibrationMissing as error:
            if not expired:
                return False
            pose = None
            self._note("pose", f"pairs have no pose: {error}")
        self._problems.pop("calibration", None)
        self._pair(match, pivot, calibration, pose)
        return True

    def _pose(self, stamp_ns: int) -> Array | None:
        """T_world_base; None where no pose is asked for.

        Raises:
            CalibrationMissing: tf does not know it.
        """
        config = self.config
        if not config.world_frame:
            return None
        return self._calibration.tf.lookup(config.world_frame, config.base_frame, stamp_ns)

    def _pair(self, match: _Match, pivot: ImageFacts, calibration: str, pose: Array | None) -> None:
        self._completed += 1
        stamps = [facts.stamp_ns for facts in match.facts.values()]
        self._skew_ms = (max(stamps) - min(stamps)) / 1e6
        if self._bag and self._writer is None:
            return  # the account below is that of the bag, which is finished
        self._pairs += 1
        self._pairs_without_pose += pose is None
        if calibration not in self._calibration_ids[-1:]:
            if self._calibration_ids:
                _log.info("the calibration changed: its id is now %s", calibration)
            self._calibration_ids.append(calibration)
        if self._writer is None:
            return
        record = PairRecord(
            pivot.stamp_ns,
            {role: (topic, match.facts[topic].stamp_ns) for topic, role in self._roles.items()},
            calibration,
            pose,
            self.config.world_frame if pose is not None else "",
            pivot.frame_id,
        )
        try:
            self._writer.pair(record, match.log_ns)
        except BagError as error:
            self._note("recorder", str(error))

    # account

    def _note(self, what: str, text: str) -> None:
        self._problems[what] = (text, time.monotonic())

    def report(self) -> CaptureReport:
        """The state and every count, taken at one instant."""
        with self._lock:
            waiting = len(self._pending)
            undone = sum(self._undone.values())
            topics = {}
            for topic, count in self._sync.accounting().items():
                refused = self._refused[topic]
                topics[topic] = TopicCount(
                    count.received + sum(refused.values()),
                    count.matched - undone - waiting,
                    dict(Counter(count.dropped) + refused + self._undone),
                    count.waiting + waiting,
                )
            context = {
                topic: ContextCount(c.received, c.received - sum(c.dropped.values()), c.dropped)
                for topic, c in self._context.items()
            }
            writer = self._writer
            if writer is not None:
                self._recorder, self._bytes = writer.accounting(), writer.bytes_written
            since = time.monotonic() - _RECENT_S
            recent = [text for text, at in self._problems.values() if at >= since]
            warnings = [*self._sync.diagnose(), *recent]
            if writer is not None and writer.problem is not None:
                warnings.insert(0, str(writer.problem))
            return CaptureReport(
                topics,
                context,
                self._recorder,
                self._completed,
                self._pairs,
                self._pairs_without_pose,
                self._skew_ms,
                tuple(self._calibration_ids),
                self._bag,
                writer is not None,
                self._bytes,
                tuple(warnings),
            )

    @property
    def failed(self) -> CondenseError | None:
        """What keeps the recorder from writing at present (a full disk), or None."""
        writer = self._writer
        return writer.problem if writer is not None else None


def _check(type_name: str, raw: Bytes) -> ImageFacts:
    """Header and size of a sensor message that can be decoded later.

    Raises:
        WireError: malformed, unsupported, or a cloud without x, y and z.
    """
    if type_name == wire.POINT_CLOUD:
        cloud = wire.decode_cloud(raw)
        if len(cloud.points):
            cloud.axes()
        header, width, height = cloud.header, len(cloud.points), 1
    elif type_name == wire.COMPRESSED_IMAGE:
        header, width, height = wire.check_compressed_image(raw)
    else:
        header, width, height = wire.check_image(raw)
    return ImageFacts(header.frame_id, header.stamp_ns, width, height)
