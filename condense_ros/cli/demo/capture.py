"""Step b: replay_node sends what the robot senses; capture_node matches and records it, live."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from condense_ros.bags import bag_info
from condense_ros.cli._processes import running
from condense_ros.cli.progress import progress_bar
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import EnvironmentProblem

_POINTS = "/points"


def record_live(
    robot: SimulatedFolder, out: Path, domain: int, console: Console
) -> tuple[Path, dict[str, Any]]:
    """Replays a simulated drive at its own rate, and records it with capture_node.

    Args:
        out: folder of the demo; the bag is `out/bag`, the nodes' output `out/logs`.
        domain: ROS domain id of the nodes.

    Returns:
        The bag, and the `topics` and `bag` parts of the summary.

    Raises:
        EnvironmentProblem: a node ended with an error, or nothing was recorded.
    """
    images = [f"/camera/{camera.name}/image" for camera in robot.rig.cameras]
    bag, sent_path, account_path = out / "bag", out / "sent.json", out / "account.json"
    capture = {
        "bag": bag,
        "report_path": account_path,
        "image_topics": images,
        "world_frame": "map",
        "use_sim_time": True,
    }
    replay = {
        "path": robot.path,
        "report_path": sent_path,
        "wait_for": [_POINTS, *images],
        "wait_timeout_s": 60.0,
    }
    duration = len(robot) * robot.period_s
    with (
        running("capture_node", capture, out / "logs/capture.log", domain) as recorder,
        running("replay_node", replay, out / "logs/replay.log", domain) as player,
        progress_bar("driving and recording, real time") as report,
    ):
        started: float | None = None
        deadline = time.monotonic() + 3 * duration + 120
        while not player.wait(0.2):
            recorder.check()
            if started is None and bag.exists():
                started = time.monotonic()
            if started is not None:
                report(int(min(time.monotonic() - started, duration)), round(duration))
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"the replay of {duration:.0f} s did not end:\n{player.tail()}",
                    "close other programs and try again, then run `condense doctor`",
                )
        report(round(duration), round(duration))
        # the last messages are still on their way to the disk
        time.sleep(1.0)
    recorder.check()
    if not account_path.exists():
        raise EnvironmentProblem(
            f"capture_node recorded nothing:\n{recorder.tail()}", f"read {recorder.log}"
        )
    return bag, _summary(
        bag, json.loads(sent_path.read_text()), json.loads(account_path.read_text())
    )


def _summary(bag: Path, sent: dict[str, Any], account: dict[str, Any]) -> dict[str, Any]:
    topics = {}
    for name, count in account["topics"].items():
        topics[name] = {
            "sent": sent["sent"].get(name, 0),
            **{key: count[key] for key in ("received", "matched", "dropped", "waiting")},
        }
        topics[name]["lost"] = topics[name]["sent"] - count["received"]
    context = {
        name: {"sent": sent["sent"].get(name, 0), **count}
        for name, count in account["context"].items()
    }
    info = bag_info(bag)
    return {
        "topics": topics,
        "bag": {
            "messages": info.messages,
            "bytes": info.bytes,
            "pairs": info.pairs,
            "context": context,
            "recorder": account["recorder"],
            "calibration_ids": account["calibration_ids"],
        },
    }
