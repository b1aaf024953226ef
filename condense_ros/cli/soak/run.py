"""Runs chaos_node against capture_node (and perception_node) and watches them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condense_ros.bags import bag_info
from condense_ros.cli._processes import NodeProcess, running
from condense_ros.cli.soak.verdict import (
    Check,
    delivery_check,
    holdings_checks,
    identity_checks,
    read_samples,
)
from condense_ros.datasets import Dataset, open_dataset
from condense_ros.errors import CondenseError, EnvironmentProblem

#: a node that counts nothing for so long, faults or not, hangs
_STALL_S = 30.0


@dataclass
class SoakPlan:
    """What is soaked, and for how long.

    Attributes:
        data: data set or bag that chaos_node plays for ever.
        out: folder for logs, samples, the bag of the moment and the report.
        minutes: of the whole run, warm-up included.
        warm_up_minutes: not judged.
        cycle_s: recordings are ended, checked, deleted and begun anew this often.
        checkpoint: also run perception_node with it.
        faults: only these; empty: all.
    """

    data: Path
    out: Path
    minutes: float
    warm_up_minutes: float
    cycle_s: float = 120.0
    checkpoint: Path | None = None
    faults: tuple[str, ...] = ()
    seed: int = 0
    domain: int = 77


@dataclass
class SoakState:
    """How it stands, for whoever looks on."""

    minutes: float = 0.0
    pairs: int = 0
    received: int = 0
    recordings: int = 0
    problems: list[str] = field(default_factory=list)


def _topics(dataset: Dataset) -> list[str]:
    from condense_ros.playback import PlaybackConfig
    from condense_ros.playback.frames import FramePlayback

    topics = FramePlayback(dataset, PlaybackConfig()).topics
    return [topic for topic in topics if topic.endswith("/image")]


def soak(plan: SoakPlan, look: Callable[[SoakState], None]) -> list[Check]:
    """Runs the soak and judges it; `plan.out/soak.json` holds the whole account.

    Args:
        look: called about once a second.

    Raises:
        DatasetError: `plan.data` cannot be played.
        EnvironmentProblem: a node died or hung.
    """
    images = _topics(open_dataset(plan.data))
    out = plan.out
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("bag*"), out / "account.json", out / "perception.json"):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    capture = {
        "bag": out / "bag",
        "report_path": out / "account.json",
        "image_topics": images,
        "world_frame": "map",
        "use_sim_time": True,
        "sync.tolerance_s": 0.05,
    }
    chaos = {
        "path": plan.data,
        "report_path": out / "sent.json",
        "chaos.seed": plan.seed,
        "chaos.faults": list(plan.faults) or [""],
    }
    if not plan.faults:
        del chaos["chaos.faults"]
    names = ["capture_node"] + (["perception_node"] if plan.checkpoint else [])
    samples = {name: out / f"{name}.samples" for name in names}
    state = SoakState()
    with ExitStack() as stack:

        def start(node: str, parameters: dict[str, Any]) -> NodeProcess:
            path = samples.get(node)
            if path is not None:
                path.unlink(missing_ok=True)
            environment = {"CONDENSE_OBJECT_LOG": str(path)} if path else {}
            log = out / "logs" / f"{node}.log"
            return stack.enter_context(running(node, parameters, log, plan.domain, environment))

        nodes = [start("capture_node", capture)]
        if plan.checkpoint:
            perception = {
                "checkpoint": plan.checkpoint,
                "report": out / "perception.json",
                "threads": 1,
                "autostart": True,
                "use_sim_time": True,
            }
            nodes.append(start("perception_node", perception))
        player = start("chaos_node", chaos)
        problems = _watch(plan, [*nodes, player], state, look)
        # the sender ends first, and what is on its way arrives
        player.stop()
        time.sleep(2.0)
    for node in (*nodes, player):
        node.check()
    return _judge(plan, samples, problems)


def _watch(
    plan: SoakPlan,
    nodes: list[NodeProcess],
    state: SoakState,
    look: Callable[[SoakState], None],
) -> list[str]:
    """Keeps recordings turning over and notes what is wrong; returns the problems."""
    from condense_ros.nodes.status_watch import PairStatusWatch
    from condense_ros.nodes.triggers import Triggers

    begun = changed = time.monotonic()
    next_cycle = begun + plan.cycle_s
    pairs_at_cycle = 0
    with PairStatusWatch() as watch, Triggers() as triggers:
        while time.monotonic() - begun < plan.minutes * 60:
            for node in nodes:
                node.check()
                if node.process.poll() is not None:
                    raise EnvironmentProblem(f"{node.node} ended by itself", f"read {node.log}")
            now = time.monotonic()
            status = watch.latest
            if status is not None:
                received = sum(topic.received for topic in status.topics)
                if received != state.received:
                    state.received, changed = received, now
            if now - changed > _STALL_S:
                raise EnvironmentProblem(
                    f"capture_node has counted nothing for {_STALL_S:.0f} s: it hangs",
                    f"read {nodes[0].log}",
                )
            if now >= next_cycle:
                next_cycle = now + plan.cycle_s
                pairs = _turn_over(plan, triggers, state)
                pairs_at_cycle += pairs
                if not pairs:
                    state.problems.append(f"minute {(now - begun) / 60:.1f}: no pair in a cycle")
            state.minutes = (time.monotonic() - begun) / 60
            state.pairs = pairs_at_cycle
            look(state)
            time.sleep(1.0)
    return state.problems


def _turn_over(plan: SoakPlan, triggers: Any, state: SoakState) -> int:
    """Ends a recording, checks it against what the node says, deletes it, begins the next."""
    done, said = triggers.call("/capture_node/stop")
    if not done:
        state.problems.append(f"stop refused: {said}")
        return 0
    folder = Path(said.rpartition(": ")[0])
    info = bag_info(folder)
    if f"{info.pairs} pairs" not in said:
        state.problems.append(f"{folder.name} holds {info.pairs} pairs, the node said {said!r}")
    if not info.finished or info.damaged:
        state.problems.append(f"{folder.name} is not whole")
    shutil.rmtree(folder)
    done, said = triggers.call("/capture_node/start")
    if not done:
        state.problems.append(f"start refused: {said}")
    state.recordings += 1
    return info.pairs


def _judge(plan: SoakPlan, samples: dict[str, Path], problems: list[str]) -> list[Check]:
    out = plan.out
    checks = [Check("recordings", not problems, "; ".join(problems[:5]) or "all whole")]
    try:
        account = json.loads((out / "account.json").read_text())
        sent = json.loads((out / "sent.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise EnvironmentProblem(f"a node left no account: {error}", f"read {out}/logs") from error
    checks += identity_checks(account)
    checks.append(delivery_check(sent["sent"], account))
    for node, path in samples.items():
        checks += holdings_checks(node, read_samples(path), plan.warm_up_minutes * 60)
    content: dict[str, Any] = {
        "minutes": plan.minutes,
        "warm_up_minutes": plan.warm_up_minutes,
        "checks": [check.as_dict() for check in checks],
        "sent": sent,
        "account": account,
        "samples": {node: read_samples(path) for node, path in samples.items()},
    }
    if plan.checkpoint:
        perception = json.loads((out / "perception.json").read_text())
        clouds = perception["clouds"]
        closes = clouds["received"] == (
            clouds["processed"] + sum(clouds["dropped"].values()) + clouds["waiting"]
        )
        checks.append(
            Check("perception_node: every cloud accounted for", closes, json.dumps(clouds))
        )
        content["perception"] = clouds
        content["checks"] = [check.as_dict() for check in checks]
    from condense_ros.files import write_json

    write_json(out / "soak.json", content)
    return checks


def failed(checks: list[Check]) -> CondenseError | None:
    """The error that a soak which was not passed ends with."""
    wrong = [f"{check.name} ({check.found})" for check in checks if not check.passed]
    if not wrong:
        return None
    return CondenseError(f"the soak was not passed: {'; '.join(wrong)}", "read soak.json and logs/")
