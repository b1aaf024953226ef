"""`capture_node`: matches camera and lidar topics and records calibrated pairs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rclpy.node import Node

from condense_ros import wire
from condense_ros.bags import PAIR_TOPIC, RecordConfig
from condense_ros.capture import Capture, CaptureConfig, RingConfig, TriggerConfig
from condense_ros.config import parameter
from condense_ros.errors import BagError
from condense_ros.files import write_json
from condense_ros.nodes._common import (
    STATE_QOS,
    SimTimeWatch,
    Throttle,
    advertise,
    parameters,
    run,
    steady_timer,
    transport_status,
)
from condense_ros.nodes.calibration_observer import (
    CalibrationObserver,
    CalibrationWatchConfig,
)
from condense_ros.nodes.capture_inputs import CameraSearch, CaptureInputs
from condense_ros.nodes.capture_reports import (
    PAIR_STATUS,
    matching_status,
    pair_status,
    recorder_status,
)
from condense_ros.nodes.message_filters_policy import MessageFiltersPolicy
from condense_ros.nodes.trigger_services import TriggerServices
from condense_ros.sync import SyncConfig
from condense_ros.wire.status import ERROR, OK, WARN


@dataclass(frozen=True)
class CaptureNodeConfig:
    """Parameters of the node itself."""

    bag: str = parameter("", "folder of the new bag; recording starts at once. Empty: none")
    report_path: str = parameter("", "JSON file with the account, written at the end; empty: none")
    report_period_s: float = parameter(
        1.0, "time between two diagnostics, and two ~/pair_status", low=0.05, high=60.0
    )


class CaptureNode:
    """Parameters: `CaptureNodeConfig`, `CaptureConfig`, `SyncConfig` as sync.*, `RecordConfig` as
    record.*, `TriggerConfig` as trigger.*, `RingConfig` as ring.*,
    `CalibrationWatchConfig` as calibration.*. Services (std_srvs/Trigger): ~/start ~/stop ~/split
    ~/snapshot ~/trigger.
    """

    def __init__(self) -> None:
        self.node = Node("capture_node")
        self._log = self.node.get_logger()
        self._own = parameters(self.node, CaptureNodeConfig)
        self._config = parameters(self.node, CaptureConfig)
        self._sync = parameters(self.node, SyncConfig, "sync.")
        self._record = parameters(self.node, RecordConfig, "record.")
        self._trigger_config = parameters(self.node, TriggerConfig, "trigger.")
        self._ring = parameters(self.node, RingConfig, "ring.")
        self._watch_config = parameters(self.node, CalibrationWatchConfig, "calibration.")
        self._watch: CalibrationObserver | None = None
        self._capture: Capture | None = None
        self._inputs: CaptureInputs | None = None
        self._graph_problems: list[str] = []
        self._bags = 0
        self._warn = Throttle(self._log.warning)
        self._search = CameraSearch(self.node, self._config, self._warn)
        self._sim_time = SimTimeWatch(self.node)
        self._status = advertise(self.node, PAIR_STATUS, "~/pair_status", STATE_QOS)
        self._diagnostics = advertise(self.node, wire.DIAGNOSTICS, "/diagnostics", STATE_QOS)
        self._services = TriggerServices(
            self.node,
            {
                "start": self._begin,
                "stop": self._stop,
                "split": self._split,
                "snapshot": self._snapshot,
                "trigger": self._trigger,
            },
        )
        steady_timer(self.node, 0.5, self._look)
        steady_timer(self.node, 0.1, self._resolve)
        steady_timer(self.node, self._own.report_period_s, self._report)
        if self._config.image_topics:
            self._open(self._config)
        else:
            self._log.info("image_topics is empty: looking for cameras with a camera_info topic")

    @property
    def finished(self) -> bool:
        return False

    def _look(self) -> None:
        if self._capture is None:
            topics = self._search.look()
            if topics:
                self._open(replace(self._config, image_topics=topics))

    def _open(self, config: CaptureConfig) -> None:
        if self._watch_config.every_s:
            self._watch = CalibrationObserver(self._watch_config, config)
        capture = Capture(
            config,
            self._sync,
            self._record,
            self._trigger_config,
            self._ring,
            factory=MessageFiltersPolicy,
            observer=self._watch,
        )
        self._capture = capture
        if self._own.bag:
            self._begin()
        self._inputs = CaptureInputs(self.node, capture, self._warn)
        how = f"{self._sync.policy}, tolerance {self._sync.tolerance_s:g} s"
        self._log.info(f"matching {', '.join(capture.topics)} ({how})")

    def _resolve(self) -> None:
        if self._capture is not None:
            self._capture.resolve()

    # services

    def _running(self) -> Capture:
        if self._capture is None:
            raise BagError("no camera was found yet", "start the cameras, or set image_topics")
        return self._capture

    def _folder(self, suffix: str) -> Path:
        if not self._own.bag:
            raise BagError("the parameter bag is empty", "start the node with -p bag:=FOLDER")
        return Path(self._own.bag + suffix)

    def _begin(self) -> str:
        """Starts a recording: the folder `bag`, then `bag`_1, `bag`_2, ..."""
        capture = self._running()
        folder = self._folder(f"_{self._bags}" if self._bags else "")
        capture.start(folder)
        self._bags += 1
        self._log.info(f"recording into {folder}")
        if not self._config.image_topics:
            self._log.info(
                "messages sent while the cameras were looked for are not in the bag; "
                "set image_topics to record from the first one"
            )
        return f"recording into {folder}"

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

    def _trigger(self) -> str:
        self._running().trigger()
        return "the next pair will be recorded"

    def _snapshot(self) -> str:
        capture = self._running()
        number = 0
        while (folder := self._folder(f"_snapshot_{number}")).exists():
            number += 1
        shot = capture.snapshot(folder)
        text = (
            f"{shot.folder}: {shot.pairs} pairs, {shot.messages} messages, the last "
            f"{shot.seconds:.1f} s"
        )
        self._log.info(f"snapshot {text}")
        return text

    # reports

    def _report(self) -> None:
        statuses = [transport_status("capture_node")]
        if statuses[0].level != OK:
            self._warn(statuses[0].message)
        if problem := self._sim_time.problem:
            self._warn(problem)
            statuses.append(wire.Diagnostic("capture_node: clock", ERROR, problem))
        header = wire.Header(max(0, int(self.node.get_clock().now().nanoseconds)))
        if self._capture is None or self._inputs is None:
            statuses.append(wire.Diagnostic("capture_node: cameras", WARN, "looking for cameras"))
        else:
            report = self._capture.report()
            graph = self._inputs.problems()
            for warning in (*graph, *report.warnings):
                self._warn(warning)
            statuses.append(matching_status(report))
            statuses.append(recorder_status(report, self._capture.failed))
            told = "; ".join(graph) or "every topic has at most one publisher, of the right type"
            level = WARN if graph else OK
            statuses.append(wire.Diagnostic("capture_node: graph", level, told))
            if self._watch is not None:
                statuses.append(self._watch.status())
            for gone in self._graph_problems:
                if gone not in graph:
                    self._log.info(f"over: {gone}")
            self._graph_problems = graph
            self._status.publish(pair_status(header, report))
        self._diagnostics.publish(wire.encode_diagnostics(header, statuses))

    def close(self) -> None:
        """Finishes the bag and writes the account.

        Raises:
            StorageFull, BagError: messages could not be written; they are counted.
        """
        self._services.close()
        if self._capture is None:
            self._log.info("no camera was found; nothing was recorded")
            return
        try:
            self._capture.stop()
        finally:
            if self._watch is not None:
                self._watch.close()  # after the bag: an estimate may take its time
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until a signal comes; see `_common.run`."""
    return run(CaptureNode, argv)


if __name__ == "__main__":
    sys.exit(main())
