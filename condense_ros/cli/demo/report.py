"""Step e: what the demo leaves behind: summary.json, a table, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from condense_ros.draw import (
    PlaceQuery,
    draw_bird_view,
    draw_curves,
    draw_overlay,
    draw_places,
)
from condense_ros.files import write_json
from condense_ros.frame import Frame
from condense_ros.geometry import Array
from condense_ros.ontology import Ontology


def write_summary(out: Path, summary: dict[str, Any]) -> Path:
    """Writes `out/summary.json`, atomically."""
    path = out / "summary.json"
    write_json(path, summary)
    return path


def check_identities(summary: dict[str, Any]) -> list[str]:
    """The accounts of a summary that do not close, in words; empty when all do.

    Matched topics: received = matched + dropped + waiting; context: received = kept + dropped;
    recorder: accepted = written + dropped + queued; live: received = segmented + dropped + waiting.
    Nothing may be received that was not sent.
    """
    accounts: list[tuple[str, int, int]] = []
    for name, count in summary["topics"].items():
        accounted = count["matched"] + sum(count["dropped"].values()) + count["waiting"]
        accounts.append((f"{name} matched", count["received"], accounted))
    for name, count in summary["bag"]["context"].items():
        accounted = count["kept"] + sum(count["dropped"].values())
        accounts.append((f"{name} context", count["received"], accounted))
    for name, count in summary["bag"]["recorder"].items():
        accounted = count["written"] + sum(count["dropped"].values()) + count["queued"]
        accounts.append((f"{name} recorded", count["accepted"], accounted))
    live = summary["live"]
    accounted = live["segmented"] + sum(live["dropped"].values()) + live["waiting"]
    accounts.append(("/points live", live["received"], accounted))
    problems = [f"{name}: {total} in, {out} out" for name, total, out in accounts if total != out]
    for name, count in [*summary["topics"].items(), ("/points live", live)]:
        if count["received"] > count["sent"]:
            problems.append(f"{name}: {count['sent']} sent, {count['received']} received")
    return problems


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """One table of what was done and how well."""
    topics = Table("topic", title="Capture", title_justify="left")
    for heading in ("sent", "received", "matched", "dropped", "waiting"):
        topics.add_column(heading, justify="right")
    for name, count in summary["topics"].items():
        dropped = ", ".join(f"{n} {reason}" for reason, n in count["dropped"].items()) or "0"
        cells = (count[key] for key in ("sent", "received", "matched"))
        topics.add_row(name, *map(str, cells), dropped, str(count["waiting"]))
    console.print(topics)

    table = Table("job", "result", title="Result", title_justify="left", show_header=False)
    bag, pretrain, probe = summary["bag"], summary["pretrain"], summary["probe"]
    table.add_row(
        "recorded", f"{bag['pairs']} pairs, {bag['messages']} messages, {bag['bytes'] / 1e6:.0f} MB"
    )
    table.add_row(
        "pretrained without labels",
        f"{pretrain['recipe']}, {pretrain['steps']} steps in {pretrain['seconds']:.0f} s, "
        f"loss {pretrain['loss_first']:.2f} -> {pretrain['loss_last']:.2f}",
    )
    random, learned = probe["random"], probe["pretrained"]
    table.add_row(
        "linear probe, another town",
        f"mIoU {100 * learned['miou_mean']:.1f} % pretrained, {100 * random['miou_mean']:.1f} % "
        f"random ({100 * probe['difference_mean']:+.1f}, {len(probe['seeds'])} seeds)",
    )
    table.add_row("segmentation head", f"fitted on {summary['head']['supervision']}")
    found = summary["relocalise"]
    table.add_row(
        f"relocalised, {found['queries']} places beside the drive",
        f"{100 * found['success_rate']:.0f} % within 0.3 m / 2 deg, {_median(found)} "
        f"(nearest keyframe's pose: {100 * found['copy_keyframe_rate']:.0f} %)",
    )
    table.add_row(
        f"put down at {found['unknown_queries']} places never visited",
        f"{found['false_accepts']} false accepts",
    )
    live = summary["live"]
    table.add_row(
        "live node",
        f"{live['segmented']} of {live['received']} clouds segmented; answers: "
        + ", ".join(f"{n} {status}" for status, n in live["answers"].items()),
    )
    for stage, times in summary["latency_ms"].items():
        table.add_row(f"  {stage}", f"p50 {times['p50']:.1f} ms, p99 {times['p99']:.1f} ms")
    table.add_row("time in all", f"{summary['seconds_total']:.0f} s")
    console.print(table)


def _median(found: dict[str, Any]) -> str:
    if found["median_error_m"] is None:
        return "none found"
    return f"median {1000 * found['median_error_m']:.0f} mm / {found['median_error_deg']:.2f} deg"


def draw_pictures(
    out: Path,
    *,
    recorded: Frame,
    segmented: Frame,
    labels: np.ndarray,
    ontology: Ontology,
    curves: dict[str, list[float]],
    places: Array,
    queries: Sequence[PlaceQuery],
    street: np.ndarray,
) -> list[Path]:
    """The demo's pictures, and one sheet that shows them together.

    Args:
        recorded: a pair read back from the bag.
        segmented, labels: a sweep and the class the checkpoint gave each of its points.
        curves: loss per step, by pretraining stage.
        places: (P, 4, 4) stored poses.
        queries: answers to draw on the map.
        street: (M, 3) points of the map drawn underneath.
    """
    pictures = [
        draw_overlay(recorded, recorded.images[0].name, out / "lidar_over_camera.png"),
        draw_bird_view(
            segmented.cloud,
            out / "segmented_cloud.png",
            labels=labels,
            ontology=ontology,
            title="Segmented cloud from above",
        ),
        draw_curves(
            curves,
            out / "pretraining.png",
            title="Pretraining without labels",
            separate=True,
        ),
        draw_places(places, out / "places.png", queries=queries, points=street,
                    title="Stored places and found poses"),
    ]  # fmt: skip
    return [*pictures, contact_sheet(pictures, out / "demo.png")]


def contact_sheet(pictures: Sequence[Path], out: Path, width_px: int = 1600) -> Path:
    """Four pictures on one sheet: two rows of two, each row filled to its width."""
    from PIL import Image

    images = [Image.open(path).convert("RGB") for path in pictures]
    gap = 12
    rows = []
    for left, right in (images[:2], images[2:4]):
        # one height for both, such that together they are as wide as the sheet
        height = round((width_px - gap) / (left.width / left.height + right.width / right.height))
        rows.append(
            [image.resize((round(image.width * height / image.height), height))
             for image in (left, right)]
        )  # fmt: skip
    sheet = Image.new("RGB", (width_px, sum(row[0].height for row in rows) + gap), "white")
    y = 0
    for row in rows:
        sheet.paste(row[0], (0, y))
        sheet.paste(row[1], (width_px - row[1].width, y))
        y += row[0].height + gap
    sheet.save(out)
    return out
