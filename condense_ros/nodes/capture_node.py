"""`capture_node`: matches camera and lidar topics and records calibrated pairs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger

from condense_ros import wire
from condense_ros.bags import PAIR_TOPIC, RecordConfig
from condense_ros.capture import Capture, CaptureConfig, CaptureReport
from condense_ros.config import parameter
from condense_ros.errors import BagError, CondenseError
from condense_ros.files import write_json
from condense_ros.nodes._common import (
    LATCHED_QOS,
    SENSOR_QOS,
    STATE_QOS,
    STATIC_QOS,
    SimTimeWatch,
    Throttle,
    advertise,
    parameters,
    run,
    steady_timer,
    subscribe,
)
from condense_ros.sync import SyncConfig
from condense_ros.wire import cdr
from condense_ros.wire.header import header_to_message
from condense_ros.wire.status import ERROR, OK, WARN
from condense_ros.wire.topics import TRANSPORTS, camera_info_topic

PAIR_STATUS = "condense_msgs/msg/PairStatus"
#: cameras are looked for until the same ones were found this often, twice a second
_SETTLED = 3


@dataclass(frozen=True)
class CaptureNodeConfig:
    """Parameters of the node itself."""

    bag: str = parameter("", "folder of the new bag; recording starts at once. Empty: none")
    report_path: str = parameter("", "JSON file with the account, written at the end; empty: none")


class CaptureNode:
    """Parameters: `CaptureNodeConfig`, `CaptureConfig`, `SyncConfig` as sync.*, `RecordConfig` as
    record.*. Services (std_srvs/Trigger): ~/start ~/stop ~/split ~/snapshot.
    """

    def __init__(self) -> None:
        self.node = Node("capture_node")
        self._log = self.node.get_logger()
        self._own = parameters(self.node, CaptureNodeConfig)
        self._config = parameters(self.node, CaptureConfig)
        self._sync = parameters(self.node, SyncConfig, "sync.")
        self._record = parameters(self.node, RecordConfig, "record.")
        self._capture: Capture | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._found: tuple[tuple[str, ...], int] = ((), 0)
        self._bags = 0
        self._warn = Throttle(self._log.warning)
        self._sim_time = SimTimeWatch(self.node)
        self._status = advertise(self.node, PAIR_STATUS, "~/pair_status", STATE_QOS)
        self._diagnostics = advertise(self.node, wire.DIAGNOSTICS, "/diagnostics", STATE_QOS)
        services = {
            "start": self._start,
            "stop": self._stop,
            "split": self._split,
            "snapshot": self._snapshot,
        }
        for name, action in services.items():
            self.node.create_service(Trigger, f"~/{name}", _answer(action))
        steady_timer(self.node, 0.5, self._look)
        steady_timer(self.node, 0.1, self._resolve)
        steady_timer(self.node, 1.0, self._report)
        if self._config.image_topics:
            self._open(self._config)
        else:
            self._log.info("image_topics is empty: looking for cameras with a camera_info topic")

    @property
    def finished(self) -> bool:
        return False

    # topics

    def _look(self) -> None:
        """Looks for cameras until their number has settled."""
        if self._capture is not None:
            return
        topics = self._cameras()
        before, times = self._found
        self._found = (topics, times + 1 if topics == before else 1)
        if topics and self._found[1] >= _SETTLED:
            self._open(replace(self._config, image_topics=topics))
        elif not topics and self._found[1] > 2 * _SETTLED:
            self._warn(
                "no camera found yet: no Image or CompressedImage topic has a camera_info topic "
                "beside it. Start the cameras, or set image_topics"
            )

    def _cameras(self) -> tuple[str, ...]:
        """Image topics with a publisher and a camera_info topic beside them; raw ones first."""
        kinds = dict(self.node.get_topic_names_and_types())
        found: dict[str, str] = {}
        for topic in sorted(kinds, key=lambda topic: (topic.endswith(TRANSPORTS), topic)):
            if not {wire.IMAGE, wire.COMPRESSED_IMAGE} & set(kinds[topic]):
                continue
            info = camera_info_topic(topic)
            depth = topic == self._config.depth_topic or "depth" in topic.lower()
            if depth or info in found or wire.CAMERA_INFO not in kinds.get(info, ()):
                continue
            if self.node.count_publishers(topic):
                found[info] = topic
        return tuple(sorted(found.values()))

    def _open(self, config: CaptureConfig) -> None:
        capture = Capture(config, self._sync, self._record)
        self._capture = capture
        if self._own.bag:
            self._begin()
        for topic, role in capture.topics.items():
            type_name = wire.POINT_CLOUD if role == "points" else self._image_type(topic)
            self._listen(type_name, topic, self._sensor(topic, type_name), SENSOR_QOS)
        for info in sorted(set(capture.info_topics.values())):
            self._listen(wire.CAMERA_INFO, info, self._context(info, "camera_info"), LATCHED_QOS)
        self._listen(wire.TF, "/tf_static", self._context("/tf_static", "static"), STATIC_QOS)
        self._listen(wire.TF, "/tf", self._context("/tf", "tf"), STATE_QOS)
        odometry = config.odometry_topic
        if odometry:
            self._listen(wire.ODOMETRY, odometry, self._context(odometry, "odometry"), SENSOR_QOS)
        self._log.info(f"matching {', '.join(capture.topics)}")

    def _image_type(self, topic: str) -> str:
        kinds = dict(self.node.get_topic_names_and_types()).get(topic, [])
        for kind in (wire.IMAGE, wire.COMPRESSED_IMAGE):
            if kind in kinds:
                return kind
        return wire.COMPRESSED_IMAGE if topic.endswith(TRANSPORTS) else wire.IMAGE

    def _listen(
        self, type_name: str, topic: str, callback: Callable[[bytes], None], qos: QoSProfile
    ) -> None:
        def unfit() -> None:
            if qos is not SENSOR_QOS:
                self.node.destroy_subscription(self._subscriptions.pop(topic))
                self._listen(type_name, topic, callback, SENSOR_QOS)
                self._warn(f"{topic} is now heard as it is published; a late start may miss it")

        self._subscriptions[topic] = subscribe(self.node, type_name, topic, callback, qos, unfit)

    def _log_ns(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def _sensor(self, topic: str, type_name: str) -> Callable[[bytes], None]:
        def take(raw: bytes) -> None:
            if self._capture is not None:
                self._capture.add_sensor(topic, type_name, raw, self._log_ns())

        return take

    def _context(self, topic: str, kind: str) -> Callable[[bytes], None]:
        def take(raw: bytes) -> None:
            capture = self._capture
            if capture is None:
                return
            if kind == "camera_info":
                capture.add_camera_info(topic, raw, self._log_ns())
            elif kind == "odometry":
                capture.add_odometry(topic, raw, self._log_ns())
            else:
                capture.add_tf(topic, raw, self._log_ns(), static=kind == "static")

        return take

    def _resolve(self) -> None:
        if self._capture is not None:
            self._capture.resolve()

    # services

    def _begin(self) -> str:
        """Starts a recording: the folder `bag`, then `bag`_1, `bag`_2, ..."""
        if self._capture is None:
            raise BagError("no camera was found yet", "start the cameras, or set image_topics")
        if not self._own.bag:
            raise BagError("the parameter bag is empty", "start the node with -p bag:=FOLDER")
        folder = Path(self._own.bag + (f"_{self._bags}" if self._bags else ""))
        self._capture.start(folder)
        self._bags += 1
        self._log.info(f"recording into {folder}")
        if not self._config.image_topics:
            self._log.info(
                "messages sent while the cameras were looked for are not in the bag; "
                "set image_topics to record from the first one"
            )
        return f"recording into {folder}"

    def _start(self) -> str:
        return self._begin()

    def _stop(self) -> str:
        if self._capture is None or not self._capture.recording:
            raise BagError("nothing is being recorded", "call ~/start first")
        self._capture.stop()
        report = self._capture.report()
        recorded = report.recorder.get(PAIR_TOPIC)
        return f"{report.bag}: {recorded.written if recorded else 0} pairs"

    def _split(self) -> str:
        if self._capture is None:
            raise BagError("nothing is being recorded", "call ~/start first")
        self._capture.split()
        return "going on in a new file"

    def _snapshot(self) -> str:
        raise BagError(
            "this recorder keeps no ring buffer to take a snapshot of",
            "record with ~/start and ~/stop",
        )

    # reports

    def _report(self) -> None:
        problem = self._sim_time.problem
        if self._capture is None:
            status = wire.Diagnostic("capture_node: cameras", WARN, "looking for cameras")
            self._diagnose([status], problem)
            return
        report = self._capture.report()
        for warning in report.warnings:
            self._warn(warning)
        counts: dict[str, object] = {
            "completed": report.completed,
            "pairs": report.pairs,
            "skew_ms": round(report.skew_ms, 3),
        }
        for topic, count in report.topics.items():
            counts[f"{topic} received"] = count.received
            counts[f"{topic} matched"] = count.matched
            counts[f"{topic} waiting"] = count.waiting
            counts |= {f"{topic} dropped {reason}": n for reason, n in count.dropped.items()}
        for topic, context in report.context.items():
            counts[f"{topic} received"] = context.received
            counts[f"{topic} kept"] = context.kept
            counts |= {f"{topic} dropped {reason}": n for reason, n in context.dropped.items()}
        recorder: dict[str, object] = {"bag": report.bag, "bytes": report.bytes_written}
        for topic, record in report.recorder.items():
            recorder[f"{topic} accepted"] = record.accepted
            recorder[f"{topic} written"] = record.written
            recorder[f"{topic} queued"] = record.queued
            recorder |= {f"{topic} dropped {reason}": n for reason, n in record.dropped.items()}
        failed = self._capture.failed
        state = "recording" if report.recording else "not recording"
        self._diagnose(
            [
                wire.Diagnostic(
                    "capture_node: matching",
                    WARN if report.warnings else OK,
                    report.warnings[0] if report.warnings else f"{report.completed} pairs",
                    counts,
                ),
                wire.Diagnostic(
                    "capture_node: recorder",
                    ERROR if failed else OK,
                    str(failed) if failed else state,
                    recorder,
                ),
            ],
            problem,
        )
        self._status.publish(_pair_status(self._now(), report))

    def _now(self) -> wire.Header:
        return wire.Header(max(0, self._log_ns()))

    def _diagnose(self, statuses: list[wire.Diagnostic], problem: str) -> None:
        if problem:
            self._warn(problem)
            statuses.append(wire.Diagnostic("capture_node: clock", ERROR, problem))
        self._diagnostics.publish(wire.encode_diagnostics(self._now(), statuses))

    def close(self) -> None:
        """Finishes the bag and writes the account.

        Raises:
            StorageFull, BagError: messages could not be written; they are counted.
        """
        if self._capture is None:
            self._log.info("no camera was found; nothing was recorded")
            return
        try:
            self._capture.stop()
        finally:
            report = self._capture.report()
            if self._own.report_path:
                write_json(Path(self._own.report_path), report.as_dict())
            dropped = {topic: dict(c.dropped) for topic, c in report.topics.items() if c.dropped}
            recorded = report.recorder.get(PAIR_TOPIC)
            self._log.info(
                f"{recorded.written if recorded else report.pairs} pairs"
                + (f" in {report.bag}" if report.bag else ", not recorded")
                + (f"; dropped: {dropped}" if dropped else "")
            )


def _answer(action: Callable[[], str]) -> Callable[[Any, Any], Any]:
    """A Trigger service: success with a sentence, or the reason why not."""

    def serve(_: Any, response: Any) -> Any:
        try:
            response.message = action()
            response.success = True
        except CondenseError as error:
            response.success, response.message = False, str(error)
        return response

    return serve


def _pair_status(header: wire.Header, report: CaptureReport) -> bytes:
    counts = [
        cdr.message(
            "condense_msgs/msg/TopicCount",
            topic=topic,
            received=count.received,
            matched=count.matched,
            waiting=count.waiting,
            drop_reasons=list(count.dropped),
            dropped=_uint64(count.dropped.values()),
        )
        for topic, count in report.topics.items()
    ]
    counts += [
        cdr.message(
            "condense_msgs/msg/TopicCount",
            topic=topic,
            context=True,
            received=context.received,
            matched=context.kept,
            drop_reasons=list(context.dropped),
            dropped=_uint64(context.dropped.values()),
        )
        for topic, context in report.context.items()
    ]
    free = shutil.disk_usage(report.bag).free if report.bag and Path(report.bag).is_dir() else 0
    return cdr.serialize(
        PAIR_STATUS,
        cdr.message(
            PAIR_STATUS,
            header=header_to_message(header),
            recording=report.recording,
            topics=counts,
            pairs=report.pairs,
            bag_path=report.bag if report.recording else "",
            written_messages=sum(record.written for record in report.recorder.values()),
            queued_messages=sum(record.queued for record in report.recorder.values()),
            bytes_written=report.bytes_written,
            free_disk_bytes=free,
        ),
    )


def _uint64(counts: Iterable[int]) -> npt.NDArray[np.uint64]:
    return np.array(list(counts), dtype=np.uint64)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until a signal comes; see `_common.run`."""
    return run(CaptureNode, argv)


if __name__ == "__main__":
    sys.exit(main())
