"""Durations by stage, kept in bounded memory."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

#: newest values kept per stage: a bit over an hour at 10 Hz
_KEPT = 40_000


class LatencyLog:
    """Collects milliseconds by stage from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, deque[float]] = {}

    def add(self, stage: str, milliseconds: float) -> None:
        with self._lock:
            self._stages.setdefault(stage, deque(maxlen=_KEPT)).append(milliseconds)

    def summary(self) -> dict[str, dict[str, float]]:
        """p50, p99, max and count of each stage."""
        with self._lock:
            stages = {name: np.array(values) for name, values in self._stages.items()}
        return {
            name: {
                "p50": round(float(np.percentile(values, 50)), 3),
                "p99": round(float(np.percentile(values, 99)), 3),
                "max": round(float(values.max()), 3),
                "count": len(values),
            }
            for name, values in stages.items()
        }
