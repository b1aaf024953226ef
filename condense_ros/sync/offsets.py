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
    """Recent stamps of one topic, and how far they were from the reference when they came in."""

    def __init__(self) -> None:
        self.stamps: deque[int] = deque(maxlen=WINDOW)
        self.lags: deque[int] = deque(maxlen=WINDOW)

    def add(self, stamp_ns: int, newest_reference_ns: int | None) -> None:
        self.stamps.append(stamp_ns)
        if newest_reference_ns is not None:
            self.lags.append(stamp_ns - newest_reference_ns)

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

    Nearest stamps give the offset exactly but only up to whole periods of the reference: 0.33 s
    looks like 0.03 s at 10 Hz. The order of arrival says how many periods: a topic in step is, when
    it arrives, between zero and one period behind the newest reference stamp.
    """
    if not track.stamps or not reference.stamps or not track.lags:
        return None
    period = reference.period_ns()
    coarse = median(track.lags) + period / 2
    if period == 0.0:
        return float(coarse)
    overlap = [s for s in track.stamps if reference.stamps[0] <= s <= reference.stamps[-1]]
    if not overlap:
        return float(coarse)
    phase = _phase_ns(overlap, reference.stamps)
    return phase + period * round((coarse - phase) / period)
