"""What matching costs: eight topics at 100 Hz with jitter, and what rclpy costs beside it.

python benchmarks/bench_sync.py [--json F] [--topics 8] [--rate 100] [--seconds 60] [--no-ros]

The matcher alone is fed the stream as fast as it takes it; its share is CPU time by time of the
stream. rclpy's share is the CPU time of a process that subscribes to the same topics at the same
rates over DDS, its callbacks doing nothing, and then with a synchroniser behind them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros.sync import SyncConfig, Synchronizer

POLICIES = ("approximate", "slop", "exact", "nearest")
TYPE = "sensor_msgs/msg/CameraInfo"


def topics_of(count: int) -> list[str]:
    return [f"/bench_sync/topic_{i}" for i in range(count)]


def stream(topics: int, rate_hz: float, seconds: float, jitter: float) -> list[tuple[str, int]]:
    """(topic, stamp) in order of arrival: up to two periods late, each topic in order."""
    rng = np.random.default_rng(0)
    period_ns = 1e9 / rate_hz
    count = int(seconds * rate_hz)
    events = []
    for name in topics_of(topics):
        stamps = (np.arange(1, count + 1) + rng.uniform(0, jitter, count)) * period_ns
        arrivals = np.maximum.accumulate(stamps + rng.uniform(0, 2, count) * period_ns)
        events += zip(arrivals, [name] * count, stamps.astype(int).tolist(), strict=True)
    return [(name, stamp) for _, name, stamp in sorted(events)]


def matcher(policy: str, topics: int, rate_hz: float, seconds: float) -> dict[str, Any]:
    """CPU share of one core and matches of the matcher alone."""
    events = stream(topics, rate_hz, seconds, 0.0 if policy == "exact" else 0.2)
    config = SyncConfig(policy=policy, tolerance_s=0.5 / rate_hz)
    factory = None
    if policy == "message_filters":
        from condense_ros.nodes.message_filters_policy import MessageFiltersPolicy as factory
    sync = Synchronizer(topics_of(topics), config, lambda m: None, factory=factory)
    start = time.process_time()
    for name, stamp_ns in events:
        sync.add(name, stamp_ns, None)
    used = time.process_time() - start
    return {
        "policy": policy,
        "percent_of_a_core": round(100 * used / seconds, 3),
        "us_per_message": round(1e6 * used / len(events), 2),
        "matches": sync.matches,
        "possible": int(rate_hz * seconds),
    }


def talk(topics: int, rate_hz: float, seconds: float) -> None:
    """Publishes on every topic at the rate until the time is over."""
    import rclpy

    from condense_ros import wire
    from condense_ros.geometry import CameraModel
    from condense_ros.nodes._common import STATE_QOS, advertise

    rclpy.init()
    node = rclpy.create_node("bench_sync_talker")
    camera = CameraModel(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), 64, 48)
    publishers = [advertise(node, TYPE, name, STATE_QOS) for name in topics_of(topics)]
    due = time.monotonic()
    end = due + seconds
    while due < end:
        raw = wire.encode_camera_info(wire.Header(time.time_ns(), "cam"), camera)
        for publisher in publishers:
            publisher.publish(raw)
        due += 1 / rate_hz
        time.sleep(max(0.0, due - time.monotonic()))
    rclpy.shutdown()


def listen(topics: int, rate_hz: float, seconds: float, policy: str) -> dict[str, Any]:
    """CPU share of a process that takes the topics; `policy` "" does nothing with them."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from condense_ros import wire
    from condense_ros.nodes._common import SENSOR_QOS, subscribe

    rclpy.init()
    node = rclpy.create_node("bench_sync_listener")
    names = topics_of(topics)
    received = [0]
    sync = None
    if policy:
        config = SyncConfig(policy=policy, tolerance_s=0.5 / rate_hz)
        sync = Synchronizer(names, config, lambda m: None)
    for name in names:

        def take(raw: bytes, name: str = name) -> None:
            received[0] += 1
            if sync is not None:
                sync.add(name, wire.read_header(raw).stamp_ns, None)

        subscribe(node, TYPE, name, take, SENSOR_QOS)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while received[0] < 100:  # discovery is over
        executor.spin_once(timeout_sec=0.5)

    def cpu_s() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    begun, used, before = time.monotonic(), cpu_s(), received[0]
    while time.monotonic() < begun + seconds:
        executor.spin_once(timeout_sec=0.1)
    wall, used = time.monotonic() - begun, cpu_s() - used
    rclpy.shutdown()
    return {
        "policy": policy or "none",
        "percent_of_a_core": round(100 * used / wall, 2),
        "messages_per_s": round((received[0] - before) / wall, 1),
        "matches": sync.matches if sync is not None else 0,
    }


def ros(topics: int, rate_hz: float, seconds: float) -> list[dict[str, Any]]:
    """rclpy's share without and with a synchroniser, in processes of their own."""
    environment = dict(os.environ)
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment.setdefault("ROS_DOMAIN_ID", "39")
    shape = ["--topics", str(topics), "--rate", str(rate_hz), "--seconds", str(seconds)]
    command = [sys.executable, __file__, *shape, "--role"]
    found = []
    for policy in ("", "approximate"):
        longer = shape[:-1] + [str(seconds + 60)]
        talker = subprocess.Popen(
            [sys.executable, __file__, *longer, "--role", "talk"], env=environment
        )
        try:
            done = subprocess.run(
                [*command, f"listen:{policy}"],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
                timeout=seconds + 60,
            )
        finally:
            talker.kill()
            talker.wait()
        found.append(json.loads(done.stdout.decode().splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topics", type=int, default=8)
    parser.add_argument("--rate", type=float, default=100.0, help="Hz per topic")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the stream")
    parser.add_argument("--no-ros", action="store_true", help="the matcher alone")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--role", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape = arguments.topics, arguments.rate, arguments.seconds
    if arguments.role == "talk":
        talk(*shape)
        return
    if arguments.role:
        print(json.dumps(listen(*shape, arguments.role.partition(":")[2])))
        return
    policies = list(POLICIES)
    if importlib.util.find_spec("message_filters"):
        policies.append("message_filters")
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "topics": arguments.topics,
        "rate_hz": arguments.rate,
        "seconds": arguments.seconds,
        "matcher": [matcher(policy, *shape) for policy in policies],
    }
    for row in result["matcher"]:
        print(
            f"{row['policy']:16s} {row['percent_of_a_core']:6.2f} % of one core, "
            f"{row['us_per_message']:6.2f} us a message, {row['matches']} of {row['possible']} "
            "matched"
        )
    if not arguments.no_ros and importlib.util.find_spec("rclpy"):
        result["rclpy"] = ros(arguments.topics, arguments.rate, min(20.0, arguments.seconds))
        for row in result["rclpy"]:
            what = "rclpy alone" if row["policy"] == "none" else f"rclpy + {row['policy']}"
            print(
                f"{what:24s} {row['percent_of_a_core']:6.2f} % of one core, "
                f"{row['messages_per_s']} messages/s, {row['matches']} matched"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
