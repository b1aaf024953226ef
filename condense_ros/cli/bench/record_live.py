"""The recorder's load through DDS: replay_node -> capture_node -> disk, and where the time goes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros import wire
from condense_ros.bags import BagReader, BagWriter, RecordConfig
from condense_ros.cli._processes import NodeProcess, running
from condense_ros.cli.bench.record import load, load_bytes
from condense_ros.errors import EnvironmentProblem
from condense_ros.geometry import CameraModel, se3
from condense_ros.transport import MIB, NEW_PROFILE_VARIABLE, PROFILE_VARIABLE, profile_path
from condense_ros.wire import Header, StampedTransform

SECOND = 10**9
START_NS = 1_700_000_000 * SECOND
CAMERAS = tuple(f"/camera_{k}/image_raw" for k in range(6))
_TICKS = os.sysconf("SC_CLK_TCK")


def write_source(folder: Path, seconds: float) -> int:
    """A bag of the load: six 1600x900 rgb8 cameras at 12 Hz, a 32-beam LiDAR at 20 Hz; its bytes.

    Raises:
        StorageFull: no room.
    """
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (900, 1600, 3), dtype=np.uint8)
    points = {
        name: rng.random(32 * 1084, dtype=np.float32) for name in ("x", "y", "z", "intensity")
    }
    K = np.array([[1200.0, 0.0, 800.0], [0.0, 1200.0, 450.0], [0.0, 0.0, 1.0]])
    camera = CameraModel(K, 1600, 900)
    statics = [StampedTransform(START_NS, "base_link", "lidar", np.eye(4))]
    statics += [
        StampedTransform(START_NS, "lidar", f"cam_{k}", se3(np.eye(3), [0, 0, k])) for k in range(6)
    ]
    total = 0
    with BagWriter(folder, RecordConfig()) as writer:

        def put(topic: str, kind: str, raw: bytes, stamp_ns: int) -> None:
            nonlocal total
            total += len(raw)
            writer.write(topic, kind, raw, stamp_ns, stamp_ns, block=True)

        put("/tf_static", wire.TF, wire.encode_tf(statics), START_NS)
        for at, topic, which in load(seconds):
            stamp = START_NS + round(at * SECOND)
            if which:
                raw = wire.encode_cloud(Header(stamp, "lidar"), points)
                put(topic, wire.POINT_CLOUD, raw, stamp)
                continue
            frame = f"cam_{topic.split('_')[1][0]}"
            put(topic, wire.IMAGE, wire.encode_image(Header(stamp, frame), pixels), stamp)
            info = wire.encode_camera_info(Header(stamp, frame), camera)
            put(topic.replace("image_raw", "camera_info"), wire.CAMERA_INFO, info, stamp)
    return total


def record_live(folder: Path, seconds: float, domain: int) -> dict[str, Any]:
    """Plays the load into a capture node; rates, drops, and processor seconds by thread.

    Args:
        folder: gets the bags and the logs.
        domain: ROS domain that nobody else uses.

    Raises:
        EnvironmentProblem: no ROS, or a node did not start.
        StorageFull: no room.
    """
    with _memory(folder, load_bytes(seconds)) as memory:
        return _record_from(memory / "source", folder, seconds, domain)


@contextlib.contextmanager
def _memory(folder: Path, size: int) -> Iterator[Path]:
    """A folder in memory for the source, so that reading it costs the disk nothing."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2 * size:
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="bench_live_") as place:
        yield Path(place)


def _record_from(bag: Path, folder: Path, seconds: float, domain: int) -> dict[str, Any]:
    size = write_source(bag, seconds)
    environment = _profile(folder / "fastdds.xml")
    capture = {
        "bag": str(folder / "live"),
        "report_path": str(folder / "capture.json"),
        "image_topics": list(CAMERAS),
        "odometry_topic": "",
        "world_frame": "",
        # the cameras look one after the other, as the beam passes
        "sync.tolerance_s": 0.1,
    }
    replay = {
        "path": str(bag),
        "report_path": str(folder / "replay.json"),
        "wait_for": [*CAMERAS, "/points"],
    }
    with running("capture_node", capture, folder / "capture.log", domain, environment) as recorder:
        _wait_for(recorder, "matching")
        idle = threads(recorder)
        with running("replay_node", replay, folder / "replay.log", domain, environment) as source:
            start = time.monotonic()
            busy: dict[str, float] = {}
            played: dict[str, float] = {}
            while source.process.poll() is None:
                if time.monotonic() > start + 4 * seconds + 60:
                    raise EnvironmentProblem("replay_node does not end", f"read {source.log}")
                played = threads(source) or played
                time.sleep(0.2)
            source.check()
        time.sleep(1.0)
        busy = threads(recorder)
        closing = time.monotonic()
        recorder.stop(timeout_s=120)
        closing = time.monotonic() - closing
        recorder.check()
    report = json.loads((folder / "capture.json").read_text())
    sent = json.loads((folder / "replay.json").read_text())
    result = _result(size, sent, report, played, _difference(busy, idle), closing)
    result["capture_ms_per_message"] = core_cost(bag, folder / "core")
    result["source"] = str(bag.parent.parent)
    result["load_average"] = os.getloadavg()[0]
    return result


def core_cost(source: Path, out: Path) -> float:
    """Milliseconds of the calling thread per message to check, match and queue it, without DDS."""
    from condense_ros.capture import Capture, CaptureConfig
    from condense_ros.sync import SyncConfig

    reader = BagReader(source)
    config = CaptureConfig(image_topics=CAMERAS, odometry_topic="", world_frame="")
    capture = Capture(config, SyncConfig(tolerance_s=0.1), RecordConfig())
    capture.start(out)
    spent, count = 0.0, 0
    for message in itertools.islice(reader.messages(), 400):
        begun = time.thread_time()
        if message.type_name in (wire.IMAGE, wire.POINT_CLOUD):
            capture.add_sensor(message.topic, message.type_name, message.raw, message.log_ns)
            spent += time.thread_time() - begun
            count += 1
        elif message.type_name == wire.CAMERA_INFO:
            capture.add_camera_info(message.topic, message.raw, message.log_ns)
        else:
            capture.add_tf(message.topic, message.raw, message.log_ns, static=True)
    capture.stop()
    return 1e3 * spent / count


def _profile(path: Path) -> dict[str, str]:
    """The package's FastDDS profile with a segment for 1.6 s of this load instead of 0.2 s."""
    text = profile_path().read_text()
    path.write_text(re.sub(r"(<segment_size>)\d+", rf"\g<1>{512 * MIB}", text))
    return {PROFILE_VARIABLE: str(path), NEW_PROFILE_VARIABLE: str(path)}


def _result(
    size: int,
    sent: dict[str, Any],
    report: dict[str, Any],
    source: dict[str, float],
    recorder: dict[str, float],
    closing_s: float,
) -> dict[str, Any]:
    topics = {topic: sent["sent"][topic] for topic in (*CAMERAS, "/points")}
    received = {topic: report["topics"][topic]["received"] for topic in topics}
    written = {topic: report["recorder"][topic]["written"] for topic in topics}
    dropped = {t: c["dropped"] for t, c in report["recorder"].items() if c["dropped"]}
    rate = sum(sent["bytes"].values()) / sent["seconds"] / 1e6
    return {
        "offered_mb_s": rate,
        "seconds": sent["seconds"],
        "behind_s": sent["behind_s"],
        "sent": sum(topics.values()),
        "lost_in_transport": sum(topics.values()) - sum(received.values()),
        "recorded": sum(written.values()),
        "recorder_drops": dropped,
        "pairs": report["pairs"],
        "bytes": size,
        "close_s": closing_s,
        "cpu_s": {
            **{f"replay_node {name}": value for name, value in _merged(source).items()},
            **{f"capture_node {name}": value for name, value in _merged(recorder).items()},
        },
    }


def threads(node: NodeProcess) -> dict[str, float]:
    """Processor seconds of each thread of a node so far: "name tid" to seconds."""
    pid = node.process.pid
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name = (task / "comm").read_text().strip()
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if task.name == str(pid):
            name = "main"
        found[f"{name} {task.name}"] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def _difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def _merged(found: dict[str, float]) -> dict[str, float]:
    """Threads of one name together; those below a hundredth of the whole are left out."""
    sums: dict[str, float] = {}
    for name, value in found.items():
        kind = name.rsplit(" ", 1)[0]
        kind = "dds" if kind.startswith("dds") else kind
        sums[kind] = sums.get(kind, 0.0) + value
    whole = sum(sums.values())
    return {k: round(v, 2) for k, v in sums.items() if v >= 0.01 * whole}


def _wait_for(node: NodeProcess, words: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while words not in node.log.read_text(errors="replace"):
        node.check()
        if time.monotonic() > deadline:
            raise EnvironmentProblem(f"{node.node} does not start", f"read {node.log}")
        time.sleep(0.1)


def lines(result: dict[str, Any]) -> list[str]:
    """The figures as text."""
    out = [
        f"live through DDS    {result['offered_mb_s']:8.1f} MB/s for {result['seconds']:.1f} s, "
        f"{result['behind_s']:.2f} s behind",
        f"  images and clouds {result['sent']:8d} sent, {result['lost_in_transport']} lost on the "
        f"way, {result['recorded']} recorded, {result['pairs']} pairs",
        f"  recorder drops    {result['recorder_drops'] or 'none'}",
        "  processor time by thread, seconds (and share of one core):",
    ]
    for name, value in sorted(result["cpu_s"].items(), key=lambda entry: -entry[1]):
        out.append(f"    {name:30s} {value:6.2f}  {100 * value / result['seconds']:5.1f} %")
    received = result["sent"] - result["lost_in_transport"]
    main = result["cpu_s"].get("capture_node main", 0.0)
    out += [
        f"  capture_node main: {1e3 * main / received:.2f} ms per message, of which "
        f"{result['capture_ms_per_message']:.2f} ms to check, match and queue it; the rest is "
        "rclpy's taking",
        f"  load average {result['load_average']:.1f} on {os.cpu_count()} cores",
    ]
    return out
