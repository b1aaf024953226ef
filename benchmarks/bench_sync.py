"""What matching costs: eight topics at 100 Hz with jitter, the matcher alone.

python benchmarks/bench_sync.py [--topics 8] [--rate 100] [--seconds 60]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from condense_ros.sync import SyncConfig, Synchronizer


def cost(policy: str, topics: int, rate_hz: float, seconds: float) -> tuple[float, int]:
    """(CPU seconds per second of stream, matches)."""
    rng = np.random.default_rng(0)
    names = [f"/topic_{i}" for i in range(topics)]
    period_ns = 1e9 / rate_hz
    events = []
    for name in names:
        count = int(seconds * rate_hz)
        stamps = (np.arange(1, count + 1) + rng.uniform(0, 0.2, count)) * period_ns
        arrivals = stamps + rng.uniform(0, 2, count) * period_ns
        # a topic delivers in order
        events += zip(
            np.maximum.accumulate(arrivals),
            [name] * count,
            stamps.astype(int).tolist(),
            strict=True,
        )
    events.sort(key=lambda event: event[0])
    sync = Synchronizer(names, SyncConfig(policy=policy, tolerance_s=0.5 / rate_hz), lambda m: None)
    start = time.process_time()
    for _, name, stamp_ns in events:
        sync.add(name, stamp_ns, None)
    return (time.process_time() - start) / seconds, sync.matches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=8)
    parser.add_argument("--rate", type=float, default=100.0, help="Hz per topic")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the stream")
    arguments = parser.parse_args()
    for policy in ("approximate", "nearest"):
        share, matches = cost(policy, arguments.topics, arguments.rate, arguments.seconds)
        expected = int(arguments.rate * arguments.seconds)
        print(f"{policy:12s} {100 * share:6.2f} % of one core, {matches} of {expected} matched")


if __name__ == "__main__":
    main()
