"""`chaos_node`: sends a recording for ever, with faults, to see what the other nodes bear."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.publisher import Publisher

from condense_ros import wire
from condense_ros.config import parameter
from condense_ros.files import write_json
from condense_ros.nodes._common import (
    LATCHED_QOS,
    SENSOR_QOS,
    STATE_QOS,
    STATIC_QOS,
    advertise,
    parameters,
    run,
)
from condense_ros.playback import Outgoing, PlaybackConfig, open_playback
from condense_ros.playback.chaos import Chaos, ChaosConfig
from condense_ros.playback.messages import LATCHED, STATE


@dataclass(frozen=True)
class ChaosNodeConfig:
    """Parameters of the node itself."""

    path: str = parameter("", "data set folder, simulated folder or bag")
    report_path: str = parameter("", "JSON file with what was sent, written at the end")
    steps: int = parameter(0, "end after so many steps; 0: never", low=0)


class ChaosNode:
    """Parameters: `ChaosNodeConfig`, and `ChaosConfig` as chaos.*. Sends /clock once a step."""

    def __init__(self) -> None:
        self.node = Node("chaos_node")
        self._config = parameters(self.node, ChaosNodeConfig)
        self._chaos_config = parameters(self.node, ChaosConfig, "chaos.")
        playback = open_playback(PlaybackConfig(path=self._config.path))
        self._topics = playback.topics
        self._chaos = Chaos(playback, self._chaos_config)
        self._publishers: dict[str, Publisher] = {}
        self._clock = advertise(self.node, wire.CLOCK, "/clock", STATE_QOS)
        self._sent: Counter[str] = Counter()
        self._steps, self._behind_s = 0, 0.0
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._play, name="chaos", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        return self._ended.is_set()

    def _send(self, message: Outgoing) -> None:
        if message.topic not in self._publishers:
            qos = {LATCHED: LATCHED_QOS, STATE: STATE_QOS}.get(message.kind, SENSOR_QOS)
            if message.topic.endswith("tf_static"):
                qos = STATIC_QOS
            self._publishers[message.topic] = advertise(
                self.node, message.type_name, message.topic, qos
            )
        self._publishers[message.topic].publish(message.raw)
        self._sent[message.topic] += 1

    def _restart(self) -> None:
        for publisher in self._publishers.values():
            self.node.destroy_publisher(publisher)
        self._publishers.clear()
        for message in self._chaos.latched():
            self._send(message)

    def _play(self) -> None:
        try:
            for message in self._chaos.latched():
                self._send(message)
            due, fault = time.monotonic() + 1.0, ""
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                messages, restart = self._chaos.next()
                if restart:
                    self._restart()
                if self._chaos.fault != fault:
                    fault = self._chaos.fault
                    self.node.get_logger().info(f"fault: {fault or 'none'}")
                self._clock.publish(wire.encode_clock(self._chaos.now_ns))
                for message in messages:
                    self._send(message)
                self._steps += 1
                if self._config.steps and self._steps >= self._config.steps:
                    break
                due += 1 / self._chaos_config.rate_hz
                late = time.monotonic() - due
                if late > 1.0:
                    self._behind_s += late
                    due += late
        # a fault of this program must not pass for the end of the run
        except Exception as error:
            self._error = error
        finally:
            self._stopping.wait(0.5)
            self._ended.set()

    def close(self) -> None:
        """Stops sending and writes the report.

        Raises:
            CondenseError: the recording could not be played.
        """
        self._stopping.set()
        self._thread.join()
        if self._config.report_path:
            write_json(
                Path(self._config.report_path),
                {
                    "steps": self._steps,
                    "sent": dict(self._sent),
                    "episodes": dict(self._chaos.episodes),
                    "behind_s": round(self._behind_s, 3),
                    "types": {topic: kind for topic, (kind, _) in self._topics.items()},
                },
            )
        if self._error is not None:
            raise self._error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until it is stopped; see `_common.run`."""
    return run(ChaosNode, argv)


if __name__ == "__main__":
    sys.exit(main())
