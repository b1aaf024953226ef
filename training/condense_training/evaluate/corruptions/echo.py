"""Incomplete echo: dark paint sends back too little to be measured (Robo3D, Kong et al., ICCV
2023)."""

from __future__ import annotations

import numpy as np

from condense_training.evaluate.corruptions.sweep import Sensor, Sweep

#: share of a vehicle class's points that is lost, by severity
_LOST = (0.75, 0.85, 0.95)
#: a class with fewer points in a sweep loses none
_FEWEST = 11


def incomplete_echo(sweep: Sweep, sensor: Sensor, severity: int, rng: np.random.Generator) -> Sweep:
    """Removes random points of every vehicle class that has more than ten in the sweep."""
    kept = np.ones(len(sweep), bool)
    for value in sorted(sensor.vehicles):
        rows = rng.permutation(np.nonzero(sweep.labels == value)[0])
        if len(rows) >= _FEWEST:
            kept[rows[: int(_LOST[severity] * len(rows))]] = False
    return sweep.keep(kept)
