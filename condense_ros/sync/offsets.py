"""Measures, from recent stamps alone, how far a topic's clock is from another's."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

#: stamps kept per topic for the measurement
WINDOW = 64


class StampTrack:
    """Recent stamps of one topic, and how far they were from the reference as they came in."""

    def __init__(self) -> None:
        self.stamps: deque[int] = deque(maxlen=WINDOW)
        # stamp minus the newest reference stamp, and the time between their arrivals
        self.lags: deque[int] = deque(maxlen=WINDOW)
        self.gaps: deque[int] = deque(maxlen=WINDOW)

    def add(self, stamp_ns: int, reference_ns: int | None, gap_ns: int) -> None:
        """Takes a stamp, the newest of the reference, and how long ago that one came in."""
        self.stamps.append(stamp_ns)
        if reference_ns is not None:
            self.lags.append(stamp_ns - reference_ns)
            self.gaps.append(gap_ns)

    def clear(self) -> None:
        """Forgets everything."""
        self.stamps.clear()
        self.lags.clear()
        self.gaps.clear()

    def period_ns(self) -> float:
        """Median time between stamps; 0 with fewer than two of them."""
        ordered = sorted(self.stamps)
        steps = [b - a for a, b in pairwise(ordered) if b > a]
        return float(median(steps)) if steps else 0.0


def _phase_ns(stamps: Sequence[int], reference: Sequence[int]) -> float:
    """Median signed difference to the nearest reference stamp."""
    ordered = sorted(reference)
    differences = []
    for stamp in stamps:
        place = bisect_left(ordered, stamp)
        around = ordered[max(0, place - 1) : place + 1]
        differences.append(min((stamp - other for other in around), key=abs))
    return float(median(differences))


def offset_ns(track: StampTrack, reference: StampTrack) -> float | None:
    """How far `track` is ahead (positive) or behind (negative) of `reference`, nanoseconds.

    Stamps minus arrivals give the offset up to the transport's jitter. Where both topics have the
    same rate, nearest stamps give it exactly, but only up to whole periods (0.33 s looks like
    0.03 s at 10 Hz); the two together give both.
    """
    if not track.lags or not reference.stamps:
        return None
    coarse = median(lag - gap for lag, gap in zip(track.lags, track.gaps, strict=True))
    period, own = reference.period_ns(), track.period_ns()
    overlap = [s for s in track.stamps if reference.stamps[0] <= s <= reference.stamps[-1]]
    if not overlap or period == 0.0 or abs(own - period) > 0.1 * period:
        return float(coarse)
    phase = _phase_ns(overlap, reference.stamps)
    return phase + period * round((coarse - phase) / period)
