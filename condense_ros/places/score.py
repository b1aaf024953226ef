"""The calibrated score: evidence about a pose -> how likely the pose is right.

The weights are a logistic regression over poses proposed in simulated towns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.places.verify import Evidence

_WEIGHTS = np.array([1.0, 6.0, -20.0, 0.0])
_BIAS = -5.0


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
