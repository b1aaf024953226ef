"""The work of perception_node without ROS: message bytes in, message bytes out, two threads.

One thread decodes, segments and encodes the newest cloud; another one relocalises the newest
segmented cloud, so that a relocalisation never holds up segmentation.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.errors import (
    CalibrationMissing,
    CondenseError,
    FrameError,
    MapError,
    PerceptionError,
    WireError,
)
from condense_ros.geometry import Array
from condense_ros.nodes.perception_parameters import PerceptionParameters
from condense_ros.perception import Perceiver, Perception
from condense_ros.perception.latency import LatencyLog
from condense_ros.perception.mailbox import Mailbox
from condense_ros.places.place_map import PlaceMap
from condense_ros.places.registration import covariance_at
from condense_ros.places.relocalise import (
    FOUND,
    UNKNOWN,
    PlaceAnswer,
    RelocaliseConfig,
    relocalise,
)
from condense_ros.places.verify import VerifyConfig
from condense_ros.wire import (
    CloudMessage,
    Header,
    TfBuffer,
    decode_cloud,
    decode_tf,
    encode_cloud,
    encode_pose,
    pack_rgb,
)

log = logging.getLogger(__name__)

#: clocks further apart than this tell different times (simulated and wall time)
_OTHER_CLOCK_S = 60.0
#: answers kept for the report; older ones are only counted
_REPORTED_ANSWERS = 10_000
#: a problem that has not come back for this long is over
_PROBLEM_LASTS_S = 10.0


@dataclass(frozen=True, eq=False)
class Located:
    """Answer to one cloud, as published on ~/place_match.

    Attributes:
        header: stamp of the cloud; frame of the base.
        map_frame: frame of `T_map_base`, as the map names it.
        T_map_base, covariance: (4, 4) and (6, 6), None unless found.
        place: name of the best place, empty if none.
        age_s: from the cloud's stamp to this answer.
    """

    header: Header
    status: str
    T_map_base: Array | None
    covariance: Array | None
    place: str
    score: float
    reason: str
    age_s: float
    map_frame: str


class Pipeline:
    """Segmentation and relocalisation of a stream of clouds.

    Args:
        publish: called with (topic name, message bytes) from the worker threads.
        answer: called with each relocalisation's result.
        now_ns: the node's clock.
    """

    def __init__(
        self,
        perceiver: Perceiver,
        parameters: PerceptionParameters,
        publish: Callable[[str, bytes], None],
        answer: Callable[[Located], None],
        duration: Callable[[str, float], None],
        now_ns: Callable[[], int],
    ) -> None:
        self.perceiver = perceiver
        self.parameters = parameters
        self.place_map: PlaceMap | None = None
        self.latency = LatencyLog()
        self.clouds: Mailbox[bytes] = Mailbox()
        #: points without a label so far, by reason
        self.points_left_out: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        #: the newest answers, for the report
        self.located: deque[Located] = deque(maxlen=_REPORTED_ANSWERS)
        self._problems: dict[str, tuple[str, float]] = {}
        self.newest: tuple[Header, Perception] | None = None
        self._queries: Mailbox[tuple[Header, Perception]] = Mailbox()
        self._publish, self._answer = publish, answer
        self._duration, self._now_ns = duration, now_ns
        self._tf = TfBuffer()
        self._tf_lock = threading.Lock()
        self._last_query = -np.inf
        self._last_output: float | None = None
        # a pose found counts in the turn its query began in: a new map or mode begins a new turn
        self._turn = 0
        self._found_in = -1
        self._running = False
        self._threads: list[threading.Thread] = []

    # -- map ----------------------------------------------------------------------------------

    def use_map(self, place_map: PlaceMap | None) -> None:
        """Relocalises in this map from now on."""
        self.place_map = place_map
        self._turn += 1
        if problem := self._frame_problem():
            log.warning(problem)

    def use_parameters(self, parameters: PerceptionParameters) -> None:
        """Works with these from now on; another mode searches anew."""
        anew = parameters.relocalise_mode != self.parameters.relocalise_mode
        self.parameters = parameters
        self._turn += anew

    @property
    def map_frame(self) -> str:
        """Frame of the poses: the loaded map's own; the parameter's as long as there is none."""
        place_map = self.place_map
        return self.parameters.map_frame if place_map is None else place_map.header.map_frame

    def _frame_problem(self) -> str:
        asked, own = self.parameters.map_frame, self.map_frame
        if asked == own:
            return ""
        return (
            f"map_frame is {asked!r}, but the poses of the map are in {own!r}, in which they are "
            f"published: set map_frame to {own!r}, or build the map with --map-frame {asked}"
        )

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to work and to search; what is offered before is dropped as "inactive"."""
        self._turn += 1
        self._running = True
        self.clouds.open()
        self._queries.open()
        self._threads = [
            threading.Thread(target=self._segment_loop, name="segment", daemon=True),
            threading.Thread(target=self._relocalise_loop, name="relocalise", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the work in hand and stops; returns when both threads have ended."""
        self._running = False
        self.clouds.close()
        self._queries.close()
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._last_output = None

    # -- input --------------------------------------------------------------------------------

    def add_tf(self, raw: bytes, static: bool) -> None:
        """Takes the transforms of a TFMessage; bad ones are reported, not used."""
        try:
            for transform in decode_tf(raw):
                with self._tf_lock:
                    if self._tf.add(transform, static=static):
                        continue
                    # older than the buffer reaches back: the clock was set back
                    self._tf.clear()
                    self._tf.add(transform, static=static)
                self._problem("tf", "the time of the transforms was set back: older ones dropped")
        except CondenseError as error:
            self._problem("tf", str(error))

    def lookup(self, target: str, source: str, stamp_ns: int | None) -> Array:
        """T_target_source (4, 4).

        Raises:
            CalibrationMissing: the frames are not connected at that time.
        """
        with self._tf_lock:
            return self._tf.lookup(target, source, stamp_ns)

    # -- segmentation -------------------------------------------------------------------------

    def _segment_loop(self) -> None:
        while self._running:
            taken = self.clouds.take(0.2)
            if taken is None:
                continue
            raw, waited_s = taken
            try:
                reason = self._segment(raw, waited_s)
            except WireError as error:
                reason = self._problem("cloud", str(error), "malformed")
            except FrameError as error:
                reason = self._problem("cloud", str(error), "unfit")
            except PerceptionError as error:
                reason = self._problem("network", str(error), "not_finite")
            except Exception as error:
                log.exception("a cloud could not be processed")
                reason = self._problem("internal", repr(error), "internal_error")
            if reason:
                self.clouds.drop(reason)
            else:
                self.clouds.done()

    def _segment(self, raw: bytes, waited_s: float) -> str:
        """Works on one cloud; returns why it was dropped, or an empty string."""
        started = time.perf_counter()
        message = decode_cloud(raw)
        age_s = 1e-9 * (self._now_ns() - message.header.stamp_ns)
        if abs(age_s) > _OTHER_CLOCK_S:
            self._problem(
                "clock",
                f"the clouds' stamps and this node's clock differ by {age_s:.1f} s: set "
                "use_sim_time where time is simulated, synchronise the clocks where it is not",
            )
            age_s = waited_s
        if age_s > self.parameters.max_age_s:
            return "too_old"
        cloud = message.cloud()
        decoded = time.perf_counter()
        perception = self.perceiver.perceive(cloud)
        perceived = time.perf_counter()
        self._note_left_out(perception)
        self._publish(
            "segmented_points", encode_cloud(message.header, self._fields(message, perception))
        )
        published = time.perf_counter()
        self.newest = (message.header, perception)
        stages = {
            "decode_ms": decoded - started,
            **{f"{name}_ms": 1e-3 * value for name, value in perception.timings_ms.items()},
            "encode_ms": published - perceived,
            "processing_time_ms": published - started,
            "pipeline_latency_ms": age_s + (published - started),
        }
        if self._last_output is not None:
            stages["cyclic_time_ms"] = published - self._last_output
        self._last_output = published
        for stage, seconds in stages.items():
            self._time(stage, 1e3 * seconds)
        self._ask(message.header, perception)
        return ""

    def _note_left_out(self, perception: Perception) -> None:
        """Counts the points without a label; says where the cloud is too large or has none."""
        left_out = perception.left_out
        self.points_left_out.update(left_out)
        points = len(perception.cloud)
        if over := left_out.get("over_capacity", 0):
            self._problem(
                "capacity",
                f"a cloud of {points} points is over max_points = "
                f"{self.perceiver.config.max_points}: its farthest {over} points have no label. "
                "Fix: raise max_points, or let the driver thin the cloud",
            )
        elif points and not perception.cloud.finite().any():
            self._problem(
                "cloud", f"none of the {points} points of a cloud is finite. Fix: check the lidar"
            )

    def _fields(self, message: CloudMessage, perception: Perception) -> dict[str, npt.NDArray[Any]]:
        """Every field of the input, then label, confidence and rgb."""
        names = message.points.dtype.names or ()
        fields: dict[str, npt.NDArray[Any]] = {name: message.points[name] for name in names}
        head = self.perceiver.head
        fields["label"] = perception.label
        fields["confidence"] = perception.confidence
        colours = (
            head.ontology.colourise(perception.label)
            if head is not None
            else np.zeros((len(perception.label), 3), np.uint8)
        )
        fields["rgb"] = pack_rgb(colours)
        return fields

    # -- relocalisation -----------------------------------------------------------------------

    def _ask(self, header: Header, perception: Perception) -> None:
        mode, now = self.parameters.relocalise_mode, time.monotonic()
        if mode == "off" or (mode == "until_found" and self._found_in == self._turn):
            return
        if now - self._last_query >= self.parameters.relocalise_every_s:
            self._last_query = now
            self._queries.put((header, perception))

    def _relocalise_loop(self) -> None:
        while self._running:
            taken = self._queries.take(0.2)
            if taken is None:
                continue
            header, perception = taken[0]
            try:
                started, turn = time.perf_counter(), self._turn
                located = self.locate(header, perception)
                self._time("relocalise_ms", 1e3 * (time.perf_counter() - started))
                self._found_in = turn if located.status == FOUND else -1
                self.answers[located.status] += 1
                self.located.append(located)
                self._publish_located(located)
                self._queries.done()
            except Exception as error:
                log.exception("a cloud could not be relocalised")
                self._problem("relocalisation", str(error) or repr(error))
                self._queries.drop("internal_error")

    def locate(self, header: Header, perception: Perception) -> Located:
        """Where the base was at the cloud's stamp, or why that is not known."""
        parameters, place_map = self.parameters, self.place_map
        if place_map is None:
            answer = PlaceAnswer(UNKNOWN, None, None, 0.0, None, "no map is loaded")
        else:
            config = RelocaliseConfig(
                candidates=parameters.candidates,
                verification=VerifyConfig(accept_score=parameters.accept_score),
            )
            try:
                answer = relocalise(place_map, perception.observation, config)
            except MapError as error:
                self._problem("map", str(error))
                answer = PlaceAnswer(UNKNOWN, None, None, 0.0, None, str(error))
        status, reason = answer.status, answer.reason
        T_map_base, covariance = None, None
        if answer.T_map_lidar is not None and answer.covariance is not None:
            try:
                T_lidar_base = self.lookup(header.frame_id, parameters.base_frame, header.stamp_ns)
                T_map_base = answer.T_map_lidar @ T_lidar_base
                covariance = covariance_at(answer.covariance, answer.T_map_lidar, T_lidar_base)
            except CalibrationMissing as error:
                # the lidar is found, the base is not: where it sits on the base is never guessed
                self._problem("calibration", str(error))
                status, reason = UNKNOWN, str(error)
        age_s = 1e-9 * (self._now_ns() - header.stamp_ns)
        place = ""
        if answer.place is not None and place_map is not None:
            place = place_map.label(answer.place)
        return Located(
            Header(header.stamp_ns, parameters.base_frame),
            status,
            T_map_base,
            covariance,
            place,
            answer.score,
            reason,
            age_s,
            parameters.map_frame if place_map is None else place_map.header.map_frame,
        )

    def _publish_located(self, located: Located) -> None:
        if located.T_map_base is not None and located.covariance is not None:
            header = Header(located.header.stamp_ns, located.map_frame)
            self._publish("pose", encode_pose(header, located.T_map_base, located.covariance))
        self._answer(located)

    def _time(self, stage: str, milliseconds: float) -> None:
        self.latency.add(stage, milliseconds)
        self._duration(stage, milliseconds)

    def _problem(self, topic: str, text: str, reason: str = "") -> str:
        """Notes what is wrong; returns `reason`."""
        self._problems[topic] = (text, time.monotonic())
        return reason

    def problems(self) -> dict[str, str]:
        """What has been wrong within the last ten seconds, or still is, by topic."""
        now = time.monotonic()
        recent = list(self._problems.items())
        problems = {topic: text for topic, (text, at) in recent if now - at < _PROBLEM_LASTS_S}
        if problem := self._frame_problem():
            problems["map_frame"] = problem
        return problems

    # -- account ------------------------------------------------------------------------------

    def report(self, answers: bool = True) -> dict[str, Any]:
        """Plain values: the account of the clouds, latencies, answers and problems.

        Args:
            answers: also list each of the newest answers.
        """
        count = self.clouds.count()
        return {
            "clouds": {
                "received": count.received,
                "processed": count.processed,
                "dropped": count.dropped,
                "waiting": count.waiting,
            },
            "points_left_out": dict(self.points_left_out),
            "answers": dict(self.answers),
            "located": [_plain(located) for located in list(self.located)] if answers else [],
            "latency_ms": self.latency.summary(),
            "warm_up_ms": self.perceiver.warm_up_ms,
            "device": str(self.perceiver.device.torch_device),
            "fallback": self.perceiver.device.fallback,
            "warnings": list(self.perceiver.warnings),
            "problems": self.problems(),
            "places": 0 if self.place_map is None else len(self.place_map),
        }


def _plain(located: Located) -> dict[str, Any]:
    return {
        "stamp_ns": located.header.stamp_ns,
        "status": located.status,
        "T_map_base": None
        if located.T_map_base is None
        else [float(value) for value in located.T_map_base.ravel()],
        "place": located.place,
        "score": round(float(located.score), 4),
        "reason": located.reason,
        "age_s": round(located.age_s, 4),
    }
