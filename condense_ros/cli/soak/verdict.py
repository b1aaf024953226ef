"""Whether a soak was passed: what the nodes held over time, and whether their accounts close."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: growth of resident memory that is let pass, bytes per half hour
MEMORY_GROWTH = 4 << 20
#: live Python objects come and go with the traffic of the moment
OBJECT_GROWTH = 500


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    found: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "passed": self.passed, "found": self.found}


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The lines a node wrote; a last line cut off by its end is left out."""
    samples = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            samples.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return samples


def growth(samples: Sequence[Mapping[str, Any]], key: str) -> float:
    """Median of the last fifth minus median of the first fifth, at least three samples each."""
    values = [float(sample[key]) for sample in samples]
    part = max(3, len(values) // 5)
    return statistics.median(values[-part:]) - statistics.median(values[:part])


def holdings_checks(
    node: str, samples: Sequence[Mapping[str, Any]], warm_up_s: float
) -> list[Check]:
    """Memory, open files, threads, objects and tensors must not grow once warm.

    Memory may grow by `MEMORY_GROWTH` in half an hour; a shorter run is allowed no less.
    """
    if not samples:
        return [Check(f"{node}: holdings", False, "the node wrote none")]
    begin = float(samples[0]["time_s"]) + warm_up_s
    warm = [sample for sample in samples if float(sample["time_s"]) >= begin]
    if len(warm) < 6:
        found = f"{len(warm)} samples after the warm-up, of 6 at least"
        return [Check(f"{node}: holdings", False, found)]
    seconds = float(warm[-1]["time_s"]) - float(warm[0]["time_s"])
    allowed = MEMORY_GROWTH * max(1.0, seconds / 1800)
    memory = growth(warm, "resident_bytes")
    checks = [
        Check(
            f"{node}: memory",
            memory < allowed,
            f"{memory / 2**20:+.2f} MiB in {seconds / 60:.1f} min at "
            f"{float(warm[-1]['resident_bytes']) / 2**20:.0f} MiB",
        )
    ]
    for key, allowed_growth in (
        ("open_files", 0),
        ("threads", 0),
        ("objects", OBJECT_GROWTH),
        ("tensors", 0),
    ):
        change = growth(warm, key)
        found = f"{change:+.0f} at {warm[-1][key]}"
        checks.append(Check(f"{node}: {key}", change <= allowed_growth, found))
    return checks


def identity_checks(account: Mapping[str, Any]) -> list[Check]:
    """The identities of a capture's account, exactly."""
    wrong = []
    for topic, count in account["topics"].items():
        dropped = sum(count["dropped"].values())
        if count["received"] != count["matched"] + dropped + count["waiting"]:
            wrong.append(f"{topic}: {count}")
    for topic, count in account["context"].items():
        if count["received"] != count["kept"] + sum(count["dropped"].values()):
            wrong.append(f"{topic}: {count}")
    for topic, count in account["recorder"].items():
        if count["accepted"] != count["written"] + sum(count["dropped"].values()) + count["queued"]:
            wrong.append(f"{topic}: {count}")
    total = sum(count["received"] for count in account["topics"].values())
    return [
        Check(
            "capture_node: every message accounted for",
            not wrong and total > 0,
            "; ".join(wrong) or f"{total} sensor messages",
        )
    ]


def delivery_check(sent: Mapping[str, int], account: Mapping[str, Any]) -> Check:
    """No more was received than was sent; what was lost on the way is named."""
    received = {
        topic: count["received"]
        for part in ("topics", "context")
        for topic, count in account[part].items()
    }
    more = {t: n for t, n in received.items() if n > sent.get(t, 0) and t != "/tf_static"}
    lost = {t: sent[t] - n for t, n in received.items() if t in sent and sent[t] > n}
    return Check(
        "nothing received that was not sent",
        not more,
        f"more received than sent: {more}" if more else f"lost on the way: {lost or 'none'}",
    )
