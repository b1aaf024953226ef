"""`replay_node`: publishes any data set, bag or simulated world as sensor topics, at true rate."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condense_msgs.srv import Seek
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_srvs.srv import SetBool

from condense_ros import wire
from condense_ros.errors import CondenseError, ConfigError, EnvironmentProblem
from condense_ros.files import write_json
from condense_ros.nodes._common import (
    LATCHED_QOS,
    SENSOR_QOS,
    STATE_QOS,
    STATIC_QOS,
    advertise,
    parameters,
    run,
    steady_timer,
)
from condense_ros.playback import LiveConfig, Outgoing, PlaybackConfig, Player, open_playback
from condense_ros.playback.messages import LATCHED, STATE
from condense_ros.wire.status import ERROR, OK, WARN

#: time for the last messages to arrive, seconds
_LINGER_S = 0.5


class ReplayNode:
    """Parameters: `PlaybackConfig`, and `simulate.` `LiveConfig`: a world rendered while it plays.

    Services: ~/pause (SetBool), ~/seek (condense_msgs/Seek)."""

    def __init__(self) -> None:
        self.node = Node("replay_node")
        self._log = self.node.get_logger()
        self._config = parameters(self.node, PlaybackConfig)
        live = parameters(self.node, LiveConfig, "simulate.")
        if live.world:
            self._log.info(f"making the {live.world} of seed {live.seed}, this takes seconds")
        self._playback = open_playback(self._config, live)
        self._publishers: dict[str, Publisher | None] = {}
        clock = None
        if not self._config.restamp:
            self._clock_publisher = advertise(self.node, wire.CLOCK, "/clock", STATE_QOS)
            clock = self._send_clock
        self._player = Player(self._playback, self._config, self._publish, clock)
        for topic, (type_name, kind) in self._playback.topics.items():
            self._publisher(topic, type_name, kind)
        unknown = sorted(set(self._config.wait_for) - set(self._publishers))
        if unknown:
            raise ConfigError(
                f"wait_for names {', '.join(unknown)}, which {self._playback.name} does not have",
                f"use some of: {', '.join(self._publishers)}",
            )
        self._diagnostics = advertise(self.node, wire.DIAGNOSTICS, "/diagnostics", STATE_QOS)
        self.node.create_service(SetBool, "~/pause", self._pause)
        self.node.create_service(Seek, "~/seek", self._seek)
        steady_timer(self.node, 1.0, self._report)
        self._log.info(
            f"{self._playback.name}: {len(self._playback)} steps on {', '.join(self._publishers)}"
        )
        for note in self._playback.notes:
            self._log.info(note)
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._behind_s, self._left_out = 0.0, 0
        self._error: CondenseError | None = None
        self._thread = threading.Thread(target=self._play, name="player", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        return self._ended.is_set()

    def _publisher(self, topic: str, type_name: str, kind: str) -> Publisher | None:
        if topic not in self._publishers:
            qos = {LATCHED: LATCHED_QOS, STATE: STATE_QOS}.get(kind, SENSOR_QOS)
            if topic.endswith("tf_static"):
                qos = STATIC_QOS
            try:
                self._publishers[topic] = advertise(self.node, type_name, topic, qos)
            except EnvironmentProblem as error:
                self._publishers[topic] = None
                self._log.warning(f"{topic} is left out: {error}")
        return self._publishers[topic]

    def _publish(self, message: Outgoing) -> bool:
        publisher = self._publisher(message.topic, message.type_name, message.kind)
        if publisher is not None:
            publisher.publish(message.raw)
        return publisher is not None

    def _send_clock(self, stamp_ns: int) -> None:
        self._clock_publisher.publish(wire.encode_clock(stamp_ns))

    def _play(self) -> None:
        try:
            self._wait_for_subscribers()
            if self._stopping.wait(self._config.start_delay_s):
                return
            report = self._player.run()
            if report.error:
                self._fail(report.error)
            if report.behind_s > 0:
                self._log.warning(
                    f"reading, rendering or encoding was slower than rate {self._config.rate:g}: "
                    f"the playback took {report.behind_s:.1f} s longer. Lower rate, or set "
                    "compressed; simulated live: more simulate.workers, or a smaller rig"
                )
            if report.left_out:
                left = ", ".join(f"{name} {count}" for name, count in report.left_out.items())
                self._log.warning(f"left out, because their time was over: {left}")
        except CondenseError as error:
            self._error = error
        # the thread must not end without a word, with an exit status of success
        except Exception as error:
            self._log.error(traceback.format_exc())
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            try:
                for publisher in filter(None, self._publishers.values()):
                    publisher.wait_for_all_acked(Duration(seconds=_LINGER_S))
                self._stopping.wait(_LINGER_S)
            finally:
                self._ended.set()

    def _fail(self, reason: str) -> None:
        self._error = EnvironmentProblem(
            f"the playback of {self._playback.name} ended early: {reason}",
            "check that the recording is complete and its disk can be read",
        )

    def _wait_for_subscribers(self) -> None:
        deadline = time.monotonic() + self._config.wait_timeout_s
        missing = list(self._config.wait_for)
        while missing and not self._stopping.is_set():
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"nobody subscribed to {', '.join(missing)} within "
                    f"{self._config.wait_timeout_s:g} s",
                    "start the subscriber, check its topics and ROS_DOMAIN_ID, or clear wait_for",
                )
            self._stopping.wait(0.05)
            missing = [
                topic
                for topic in missing
                if (publisher := self._publishers[topic]) is None
                or not publisher.get_subscription_count()
            ]

    def _pause(self, request: Any, response: Any) -> Any:
        self._player.pause(bool(request.data))
        response.success = True
        response.message = "paused" if request.data else "playing"
        return response

    def _seek(self, request: Any, response: Any) -> Any:
        response.success = self._player.seek(request.offset_s)
        if response.success:
            at = self._playback.start_ns + round(request.offset_s * 1e9)
            response.stamp.sec, response.stamp.nanosec = divmod(at, 10**9)
            response.message = f"going on {request.offset_s:g} s after the start"
        else:
            response.message = f"nothing to play at {request.offset_s:g} s; give 0 up to the end"
        return response

    def _report(self) -> None:
        report = self._player.report()
        level, text = OK, "paused" if self._player.paused else "playing"
        left_out = sum(report.left_out.values())
        if report.behind_s > self._behind_s:
            level, text = WARN, "slower than the rate: time goes slower"
        elif left_out > self._left_out:
            level, text = WARN, "slower than the rate: samples are left out"
        self._behind_s, self._left_out = report.behind_s, left_out
        status = wire.Diagnostic(
            "replay_node: playback",
            ERROR if report.error else level,
            report.error or text,
            {
                **{f"sent {topic}": count for topic, count in report.sent.items()},
                "playback_time_s": self._player.now_ns / 1e9,
                "behind_s": report.behind_s,
                **{f"left out {name}": count for name, count in report.left_out.items()},
                "loops": report.loops,
            },
        )
        header = wire.Header(max(0, self.node.get_clock().now().nanoseconds))
        self._diagnostics.publish(wire.encode_diagnostics(header, [status]))

    def close(self) -> None:
        """Ends the playback and writes the report.

        Raises:
            CondenseError: what ended the playback early.
        """
        self._stopping.set()
        self._player.stop()
        self._thread.join()
        self._playback.close()
        report = self._player.report()
        if self._config.report_path:
            write_json(Path(self._config.report_path), report.as_dict())
        sent = ", ".join(f"{topic} {count}" for topic, count in report.sent.items()) or "nothing"
        self._log.info(f"sent in {report.seconds:.1f} s: {sent}")
        if self._error is not None:
            raise self._error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until the recording ends or a signal comes; see `_common.run`."""
    return run(ReplayNode, argv)


if __name__ == "__main__":
    sys.exit(main())
