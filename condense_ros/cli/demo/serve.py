"""Step d, live: perception_node segments and relocalises while the robot stands at each stop."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros.cli._processes import running
from condense_ros.cli.demo.plan import DemoPlan
from condense_ros.cli.demo.worlds import Stops
from condense_ros.cli.progress import progress_bar
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import EnvironmentProblem
from condense_ros.geometry import pose_error


def serve_live(
    robot: SimulatedFolder,
    stops: Stops,
    checkpoint: Path,
    map_folder: Path,
    out: Path,
    domain: int,
    plan: DemoPlan,
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Puts the robot down at each stop while perception_node serves checkpoint and map.

    Returns:
        The `live` and `latency_ms` parts of the summary.

    Raises:
        EnvironmentProblem: a node ended with an error.
    """
    report_path = out / "perception.json"
    perception = {
        "checkpoint": checkpoint,
        "map": map_folder,
        "report": report_path,
        "relocalise_every_s": 1.0,
        # the replay takes the other core
        "threads": 1,
        "autostart": True,
        "use_sim_time": True,
    }
    replay = {
        "path": robot.path,
        "report_path": out / "sent_live.json",
        "wait_for": ["/points"],
        "wait_timeout_s": 60.0,
    }
    duration = len(robot) * robot.period_s
    with (
        running("perception_node", perception, out / "logs/perception.log", domain) as node,
        running("replay_node", replay, out / "logs/replay_live.log", domain) as player,
        progress_bar("standing at the stops, real time") as report,
    ):
        started = time.monotonic()
        while not player.wait(0.2):
            node.check()
            report(int(min(time.monotonic() - started, duration)), round(duration))
            if time.monotonic() - started > 3 * duration + 120:
                raise EnvironmentProblem(
                    f"the replay of {duration:.0f} s did not end:\n{player.tail()}",
                    "close other programs and try again, then run `condense doctor`",
                )
        report(round(duration), round(duration))
        # the last relocalisation is still at work
        time.sleep(2.0)
    node.check()
    if not report_path.exists():
        raise EnvironmentProblem(f"perception_node left no report:\n{node.tail()}", "read its log")
    content = json.loads(report_path.read_text())
    clouds = content["clouds"]
    live = {
        "sent": json.loads((out / "sent_live.json").read_text())["sent"].get("/points", 0),
        "received": clouds["received"],
        "segmented": clouds["processed"],
        "dropped": clouds["dropped"],
        "waiting": clouds["waiting"],
        "answers": content["answers"],
        "stops": _stops(content["located"], robot, stops, plan),
        "device": content["device"],
        "warnings": content["warnings"],
    }
    return live, content["latency_ms"]


def _stops(
    located: list[dict[str, Any]], robot: SimulatedFolder, stops: Stops, plan: DemoPlan
) -> list[dict[str, Any]]:
    """Per stop: where it was, and every answer given there with its error."""
    dwell = round(plan.live_stop_s / robot.period_s)
    index = {int(stamp): i for i, stamp in enumerate(robot.stamps_ns)}
    result: list[dict[str, Any]] = [
        {"visited": bool(visited), "answers": []} for visited in stops.visited
    ]
    for answer in located:
        stop = index[answer["stamp_ns"]] // dwell
        entry: dict[str, Any] = {"status": answer["status"], "score": answer["score"]}
        if answer["T_map_base"] is not None:
            pose = np.array(answer["T_map_base"]).reshape(4, 4)
            error_m, error_deg = pose_error(pose, stops.poses[stop])
            entry |= {"error_m": error_m, "error_deg": error_deg}
        result[stop]["answers"].append(entry)
    return result
