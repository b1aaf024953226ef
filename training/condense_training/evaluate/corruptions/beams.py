"""Beams that are absent: broken ones, and those that a cheaper sensor never had.

Robo3D (Kong et al., ICCV 2023). Counts are given there for the 32 beams of nuScenes and the 64 of
KITTI; both are the same shares.
"""

from __future__ import annotations

import numpy as np

from condense_training.evaluate.corruptions.sweep import Sensor, Sweep

#: share of the beams that is absent, by severity: 8, 16 and 24 of 32
_ABSENT = (0.25, 0.5, 0.75)
#: the outermost beams never break: 2..28 of 32
_FIRST, _LAST = 2 / 32, 29 / 32
#: every so-manieth beam is absent; truncated to whole numbers, the last leaves 8 of 32
_STEP = (4.0, 2.0, 1.33)


def beam_missing(sweep: Sweep, sensor: Sensor, severity: int, rng: np.random.Generator) -> Sweep:
    """Removes random beams, whole.

    Exactly a quarter, a half or three quarters are lost (the published scripts draw with
    replacement, so that their heavier sets lose fewer beams than they say).

    Raises:
        FrameError: no rings.
    """
    rings, beams = sweep.rings(sensor)
    breakable = np.arange(round(_FIRST * beams), round(_LAST * beams))
    broken = rng.permutation(breakable)[: round(_ABSENT[severity] * beams)]
    return sweep.keep(~np.isin(rings, broken))


def cross_sensor(sweep: Sweep, sensor: Sensor, severity: int, rng: np.random.Generator) -> Sweep:
    """Removes beams at equal steps, and every other point of the beams that stay: what a sensor of
    fewer beams and half the horizontal resolution sees.

    Raises:
        FrameError: no rings.
    """
    rings, beams = sweep.rings(sensor)
    absent = np.arange(1, beams, _STEP[severity]).astype(np.int64)
    present = np.nonzero(~np.isin(rings, absent))[0]
    # points of a beam follow each other in the order in which they were measured
    order = present[np.argsort(rings[present], kind="stable")]
    number = np.arange(len(order)) - np.searchsorted(rings[order], rings[order])
    kept = np.zeros(len(sweep), bool)
    kept[order[number % 2 == 0]] = True
    return sweep.keep(kept)
