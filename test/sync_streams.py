"""Random message streams for tests of the synchroniser."""

from __future__ import annotations

import numpy as np

MS = 1_000_000


def random_events(rng, tolerance_ms, duplicates=True):
    """[(topic index, stamp ns)] in order of arrival: jitter, gaps, disorder, coarse stamps."""
    topics = int(rng.integers(2, 5))
    # coarse stamps make ties, spreads of exactly the tolerance, and duplicates frequent
    grain = int(rng.choice([1, MS, max(1, tolerance_ms // 4) * MS]))
    events = []
    for i in range(topics):
        period = float(rng.uniform(0.3, 3.0)) * tolerance_ms * MS
        count = int(rng.integers(3, 18))
        stamps = period * np.arange(count) + rng.uniform(0, period, count) * rng.uniform(0, 1)
        stamps = (stamps[rng.random(count) > 0.1] // grain * grain).astype(np.int64) + 10**9
        delay = rng.uniform(0, 5) * tolerance_ms * MS
        arrivals = stamps + delay + rng.uniform(0, 2 * period, len(stamps)) * (rng.random() < 0.5)
        events += [(float(a), i, int(s)) for a, s in zip(arrivals, stamps, strict=True)]
        if duplicates and len(stamps) and rng.random() < 0.3:
            events.append((float(rng.choice(arrivals)), i, int(rng.choice(stamps))))
    if not duplicates:
        events = list({(i, s): (a, i, s) for a, i, s in events}.values())
    return topics, [(i, s) for _, i, s in sorted(events)]
