"""Runs the steps of the demo in order and gathers what each of them found out."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from condense_ros.cli.demo.plan import FULL, QUICK
from condense_ros.cli.progress import progress_bar
from condense_ros.errors import CondenseError, ConfigError

_MARK = "demo.json"


def _prepare(out: Path) -> None:
    """An empty folder, or the folder of an earlier demo, which is cleared."""
    import shutil

    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "name a folder for the demo")
    if out.is_dir() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise ConfigError(
                f"{out} holds other files", "name a new folder for the demo with --out"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text('{"made_by": "condense demo"}\n')


class _Steps:
    """Numbered headings with the time each step took."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.number = console, total, 0
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, key: str, text: str) -> Iterator[None]:
        self.number += 1
        self.console.rule(f"[bold]{self.number}/{self.total}[/bold] {text}", align="left")
        started = time.monotonic()
        yield
        self.seconds[key] = round(time.monotonic() - started, 1)
        self.console.print(f"[dim]{self.seconds[key]:.0f} s[/dim]")


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    with progress_bar(what) as report:
        yield report


def run(out: Path, *, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Runs the whole chain into `out` and returns what `out/summary.json` says.

    Args:
        quick: the same chain, shorter (under two minutes on two cores).
        seed: of worlds, drive, training and probes.

    Raises:
        EnvironmentProblem: no ROS, or a node failed; its log is named.
        CondenseError: a step found its result unusable (an account that does not close, ...).
    """
    from condense_ros.cli.nodes import require_ros

    started = time.monotonic()
    plan = QUICK if quick else FULL
    console = Console(stderr=True)
    require_ros()
    # one thread each: nodes, workers and learning share the cores, and a pool of threads that waits
    # for a core taken by another process is many times slower than a single thread
    os.environ["OMP_NUM_THREADS"] = "1"
    out = Path(out).absolute()
    _prepare(out)
    # a domain of its own, on this machine alone: a robot in the caller's domain neither hears the
    # simulated one nor disturbs it
    taken = int(os.environ.get("ROS_DOMAIN_ID") or 0)
    domain = next(d for d in (20 + os.getpid() % 80, 100) if d != taken)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    logging.getLogger("condense_ros").setLevel(logging.WARNING)
    steps = _Steps(console, 8)

    with steps.step("world", f"A robot drives {plan.drive_s:.0f} s through a simulated town"):
        from condense_ros.cli.demo import worlds

        with _bar("rendering camera and LiDAR") as report:
            town = worlds.drive(out / "worlds/town", plan, seed, report)
        with _bar("sweeps of another town, for the probe") as report:
            other = worlds.other_town(out / "worlds/other_town", plan, seed, report)

    with steps.step("capture", "capture_node matches and records its topics, live over ROS 2"):
        from condense_ros.cli.demo.capture import record_live

        bag, capture = record_live(town, out, domain, console)

    with steps.step("pretrain", "The 3D backbone learns from the recorded images, no labels"):
        from condense_ros.cli.demo import learn

        checkpoint, pretrain = learn.pretrain_backbone(
            bag, out / "pretraining", plan, seed, console
        )

    with steps.step("probe", "Linear probe in a town never seen: pretrained against random"):
        probe = learn.probe_backbone(checkpoint, town, other, plan)

    with steps.step("head", f"A segmentation head from {plan.head_frames} labelled frames"):
        checkpoint, supervision = learn.fit_segmentation(
            checkpoint, town, out / "checkpoint.safetensors", plan, seed
        )
        console.print(f"The head was fitted on {supervision}; the backbone saw no label.")

    with steps.step("relocalise", "Places are stored; the robot is put down somewhere"):
        from condense_ros.cli.demo.relocalise import ask
        from condense_ros.perception import Perceiver, build_map
        from condense_ros.places.evaluate import summarise
        from condense_ros.places.place_map import PlaceMap

        perceiver = Perceiver(checkpoint)
        with _bar("storing places") as report:
            build_map(bag, perceiver, out / "map", spacing_m=plan.map_spacing_m, progress=report)
        place_map = PlaceMap.open(out / "map")
        places = worlds.stops(town.T_world_base, seed, plan.revisits, plan.unknowns)
        with _bar("where am I?") as report:
            trials = ask(out / "map", checkpoint, places, seed, plan.workers, report)
        relocalised = summarise(trials, place_map)
        _, stored = place_map.poses()

    with steps.step("live", "perception_node serves the checkpoint and the map, live over ROS 2"):
        from condense_ros.cli.demo.serve import serve_live

        rows = np.r_[0 : plan.live_revisits, plan.revisits : plan.revisits + plan.live_unknowns]
        live_stops = worlds.Stops(places.poses[rows], places.visited[rows])
        with _bar("rendering the places") as report:
            folder = worlds.stops_folder(out / "worlds/stops", live_stops, plan, seed, report)
        live, latency = serve_live(folder, live_stops, checkpoint, out / "map", out, domain, plan)

    with steps.step("pictures", "Summary and pictures"):
        from condense_ros.cli.demo import report as reports

        pictures = _draw(out, town, bag, perceiver, trials, stored)

    summary = {
        "quick": quick,
        "seed": seed,
        "topics": capture["topics"],
        "bag": capture["bag"],
        "pretrain": pretrain,
        "probe": probe,
        "head": {"supervision": supervision},
        "relocalise": relocalised,
        "live": live,
        "latency_ms": latency,
        "seconds": steps.seconds,
        "seconds_total": round(time.monotonic() - started, 1),
    }
    path = reports.write_summary(out, summary)
    reports.print_summary(console, summary)
    console.print(f"Pictures: {', '.join(picture.name for picture in pictures)}")
    console.print(f"[bold]{path}[/bold]")
    problems = reports.check_identities(summary)
    if problems:
        raise CondenseError(
            f"messages are not accounted for: {'; '.join(problems)}",
            f"look at the node logs in {out / 'logs'}",
        )
    return summary


def _draw(
    out: Path, town: Any, bag: Path, perceiver: Any, trials: Any, stored: np.ndarray
) -> list[Path]:
    from condense_ros.cli.demo import learn
    from condense_ros.cli.demo import report as reports
    from condense_ros.datasets import open_dataset
    from condense_ros.draw import PlaceQuery
    from condense_ros.geometry import transform

    recorded = open_dataset(bag)
    frame = recorded[len(recorded) // 3]
    perception = perceiver.perceive(frame)
    visited = [trial for trial in trials if trial.T_map_lidar is not None]
    street = []
    for index in range(0, len(town), 10):
        sweep = town[index]
        near = sweep.cloud.xyz[np.linalg.norm(sweep.cloud.xyz, axis=1) < 25][::12]
        street.append(transform(sweep.T_world_lidar, near[near[:, 2] > -1.2]))
    return reports.draw_pictures(
        out,
        recorded=frame,
        segmented=frame,
        labels=perception.label,
        ontology=perceiver.head.ontology,
        curves=learn.loss_curves(out / "pretraining"),
        places=stored,
        queries=[
            PlaceQuery(trial.T_map_lidar, trial.answer.T_map_lidar, trial.answer.status)
            for trial in visited[:12]
        ],
        street=np.concatenate(street),
    )
