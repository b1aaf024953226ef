#!/usr/bin/env python3
"""Checks that a demo's summary.json is complete, its accounts close and its results hold."""

import json
import math
import sys
from pathlib import Path

from condense_ros.cli.demo.report import check_identities

#: path in the summary -> type of the value there; `*` is every entry
REQUIRED = {
    "topics.*.sent": int,
    "topics.*.received": int,
    "topics.*.matched": int,
    "topics.*.waiting": int,
    "topics.*.dropped": dict,
    "bag.messages": int,
    "bag.bytes": int,
    "bag.pairs": int,
    "pretrain.recipe": str,
    "pretrain.steps": int,
    "pretrain.loss_first": float,
    "pretrain.loss_last": float,
    "pretrain.seconds": float,
    "probe.classes": list,
    "probe.seeds": list,
    "probe.random.miou_mean": float,
    "probe.random.miou_std": float,
    "probe.pretrained.miou_mean": float,
    "probe.pretrained.miou_std": float,
    "relocalise.queries": int,
    "relocalise.success_rate": float,
    "relocalise.copy_keyframe_rate": float,
    "relocalise.median_error_m": float,
    "relocalise.median_error_deg": float,
    "relocalise.unknown_queries": int,
    "relocalise.false_accepts": int,
    "latency_ms.*.p50": float,
    "latency_ms.*.p99": float,
    "seconds_total": float,
}


def values_at(content, path):
    """(full path, value) of everything `path` points to; a missing value is None."""
    found = [("", content)]
    for part in path.split("."):
        step = []
        for name, value in found:
            names = list(value) if part == "*" and isinstance(value, dict) else [part]
            if not names:
                step.append((f"{name}.{part}", None))
            for key in names:
                inner = value.get(key) if isinstance(value, dict) else None
                step.append((f"{name}.{key}".lstrip("."), inner))
        found = step
    return found


def problems_of(summary):
    """Sentences about what is missing or does not add up."""
    problems = []
    for path, kind in REQUIRED.items():
        for name, value in values_at(summary, path):
            right = isinstance(value, (int, float) if kind is float else kind)
            if not right or isinstance(value, bool):
                problems.append(f"{name} is {value!r}, not a {kind.__name__}")
            elif isinstance(value, float) and not math.isfinite(value):
                problems.append(f"{name} is {value}")
    if problems:
        return problems
    problems = check_identities(summary)
    if summary["bag"]["pairs"] == 0:
        problems.append("no pair was recorded")
    if summary["probe"]["difference_mean"] <= 0:
        problems.append("the pretrained backbone is not better than random ones")
    found = summary["relocalise"]
    if found["success_rate"] < 0.8:
        problems.append(f"only {found['success_rate']:.2f} of the places were found")
    if found["copy_keyframe_rate"] >= found["success_rate"]:
        problems.append("copying the nearest keyframe's pose is as good as relocalisation")
    if found["false_accepts"]:
        problems.append(f"{found['false_accepts']} poses were given where the map has never been")
    for stop in summary["live"]["stops"]:
        wanted = "found" if stop["visited"] else "unknown"
        if wanted not in [answer["status"] for answer in stop["answers"]]:
            problems.append(f"a live stop that should be {wanted!r} was not")
        if not stop["visited"] and "found" in [answer["status"] for answer in stop["answers"]]:
            problems.append("a live stop away from the map was given a pose")
    return problems


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check_summary.py summary.json")
    try:
        summary = json.loads(Path(sys.argv[1]).read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {sys.argv[1]} cannot be read: {error}")
    problems = problems_of(summary)
    if problems:
        sys.exit("\n".join(f"error: {problem}" for problem in problems))
    print(f"{sys.argv[1]} is complete, its accounts close, its results hold")


if __name__ == "__main__":
    main()
