"""The calibrated score: evidence about a pose -> how likely the pose is right.

The weights are a logistic regression over the poses proposed for queries in simulated towns (seeds
101 to 103, 1560 poses of which 241 were right); `python
benchmarks/bench_places.py --calibrate --seeds 101 102 103` fits such weights again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.places.verify import Evidence

_WEIGHTS = np.array([1.027, 6.131, -7.133, 4.454])
_BIAS = -7.951


def features_of(evidence: Evidence) -> npt.NDArray[np.float64]:
    """Inputs of the regression: log inliers, overlap, free space, visible fraction."""
    return np.array(
        [
            np.log1p(evidence.inliers),
            evidence.overlap,
            evidence.free_space,
            evidence.visible,
        ]
    )


def score_of(evidence: Evidence) -> float:
    """Score in [0, 1]."""
    logit = float(features_of(evidence) @ _WEIGHTS + _BIAS)
    return float(1.0 / (1.0 + np.exp(-np.clip(logit, -40, 40))))
