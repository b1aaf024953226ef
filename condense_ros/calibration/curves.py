"""How well the data fit when one axis is moved: the curve whose bottom is the estimate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.edges import BLURS, EdgeFrame, score
from condense_ros.calibration.flow import AXES
from condense_ros.calibration.keyframes import KeyFrame
from condense_ros.calibration.solve import LEAST_SCALE_PX, Guess, linearise, surfaces
from condense_ros.calibration.trajectory import Trajectory
from condense_ros.geometry import Array

#: how far each axis is moved to either side: rad, m, s
SPAN = np.array([np.radians(1.0)] * 3 + [0.2] * 3 + [0.08])
#: key frames that are looked at: a curve is for the eye
KEYFRAMES = 16


def motion_curves(
    keys: Sequence[KeyFrame],
    trajectory: Trajectory,
    given: Guess,
    best: Guess,
    config: CalibrationConfig,
    steps: int = 13,
) -> dict[str, Array]:
    """Per axis rows (error of the given calibration, pixels the corners are off).

    All other axes stay at the estimate; the motions between images are fitted anew. The error is
    in rad, m or s; pixels are the robust standard deviation.
    """
    some = [keys[k] for k in np.unique(np.linspace(0, len(keys) - 1, KEYFRAMES).astype(int))]
    centre = best.since(given)
    curves = {}
    for axis, name in enumerate(AXES):
        rows = []
        for shift in np.linspace(-1, 1, steps) * SPAN[axis]:
            error = centre.copy()
            error[axis] += shift
            guess = given.moved(error)
            planes = surfaces(some, trajectory, guess, config)
            left = [
                _without_motion(pair.error, pair.by_motion)
                for pair in linearise(some, planes, trajectory, guess, config)
            ]
            if left:
                rows.append((error[axis], 1.4826 * np.median(np.abs(np.concatenate(left)))))
        curves[name] = np.array(rows).reshape(-1, 2)
    return curves


def _without_motion(error: Array, by_motion: Array) -> Array:
    """Residuals after the best small motion of their image, robustly."""
    M, e = by_motion.reshape(-1, 6), error.ravel()
    motion = np.zeros(6)
    for _ in range(4):
        rest = e + M @ motion
        cut = max(3 * float(np.median(np.abs(rest))), LEAST_SCALE_PX)
        w = (1 / (1 + (rest / cut) ** 2) ** 2)[:, None]
        normal = (w * M).T @ M + 1e-9 * np.eye(6)
        motion = np.asarray(-np.linalg.solve(normal, (w * M).T @ e), np.float64)
    return np.asarray(e + M @ motion)


def edge_curves(
    frames: Sequence[EdgeFrame], given: Guess, best: Guess, steps: int = 25
) -> dict[str, Array]:
    """Per axis rows (error of the given mounting, mean edge strength missed at the outlines)."""
    centre = best.since(given)
    curves = {}
    for axis, name in enumerate(AXES[:6]):
        rows = []
        for shift in np.linspace(-1, 1, steps) * SPAN[axis]:
            error = centre.copy()
            error[axis] += shift
            guess = given.moved(error)
            strength = np.concatenate([score(f, guess, len(BLURS) - 1)[0] for f in frames])
            rows.append((error[axis], 1.0 - float(strength.mean())))
        curves[name] = np.array(rows)
    return curves
