#!/usr/bin/env python3
"""Checks that a demo's summary.json is complete and that its accounts close; exits 1 if not."""

import json
import math
import sys
from pathlib import Path

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
    for name, count in summary["topics"].items():
        accounted = count["matched"] + sum(count["dropped"].values()) + count["waiting"]
        if count["received"] != accounted:
            problems.append(f"{name}: received {count['received']}, accounted for {accounted}")
        if count["received"] > count["sent"]:
            problems.append(f"{name}: received {count['received']} of {count['sent']} sent")
    if summary["bag"]["pairs"] == 0:
        problems.append("no pair was recorded")
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
    print(f"{sys.argv[1]} is complete, and every account closes")


if __name__ == "__main__":
    main()
