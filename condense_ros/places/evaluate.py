"""How well a map answers: success within a tolerance, false accepts, and a baseline to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from condense_ros.geometry import Array, pose_error
from condense_ros.places.place_map import PlaceMap
from condense_ros.places.relocalise import AMBIGUOUS, FOUND, PlaceAnswer

SUCCESS_M, SUCCESS_DEG = 0.3, 2.0
#: an accepted pose worse than this is a false accept even where the map has been
FALSE_M, FALSE_DEG = 2.0, 10.0


@dataclass(frozen=True, eq=False)
class Trial:
    """One question with its answer.

    Attributes:
        T_map_lidar: (4, 4) the true pose, or None where the map has never been.
        answer: what `relocalise` said.
    """

    T_map_lidar: Array | None
    answer: PlaceAnswer

    @property
    def error(self) -> tuple[float, float]:
        """Metres and degrees of the answer's pose; infinite where there is none or no truth."""
        if self.T_map_lidar is None or self.answer.T_map_lidar is None:
            return float("inf"), float("inf")
        return pose_error(self.answer.T_map_lidar, self.T_map_lidar)


def summarise(
    trials: Sequence[Trial],
    place_map: PlaceMap,
    *,
    within_m: float = SUCCESS_M,
    within_deg: float = SUCCESS_DEG,
) -> dict[str, Any]:
    """Rates over trials, plain values for JSON.

    Returns:
        queries, success_rate, copy_keyframe_rate (the baseline that copies the pose of the stored
        place nearest to the truth, under the same tolerance), median_error_m, median_error_deg (of
        the found ones; None without any), found, ambiguous, wrong_accepts (found, but worse than
        2 m or 10 degrees), unknown_queries, false_accepts, relocalise_ms {p50, p99}.
    """
    revisits = [trial for trial in trials if trial.T_map_lidar is not None]
    strangers = [trial for trial in trials if trial.T_map_lidar is None]
    errors = np.array([trial.error for trial in revisits]).reshape(-1, 2)
    found = np.isfinite(errors).all(axis=1)
    success = (errors[:, 0] <= within_m) & (errors[:, 1] <= within_deg)
    wrong = found & ((errors[:, 0] > FALSE_M) | (errors[:, 1] > FALSE_DEG))
    times = [sum(trial.answer.timings_ms.values()) for trial in trials if trial.answer.timings_ms]
    medians = np.median(errors[found], axis=0) if found.any() else (None, None)
    return {
        "queries": len(revisits),
        "success_rate": float(success.mean()) if len(revisits) else 0.0,
        "copy_keyframe_rate": _copy_rate(revisits, place_map, within_m, within_deg),
        "median_error_m": None if medians[0] is None else float(medians[0]),
        "median_error_deg": None if medians[1] is None else float(medians[1]),
        "found": int(found.sum()),
        "ambiguous": sum(trial.answer.status == AMBIGUOUS for trial in revisits),
        "wrong_accepts": int(wrong.sum()),
        "unknown_queries": len(strangers),
        "false_accepts": sum(trial.answer.status == FOUND for trial in strangers),
        "relocalise_ms": {
            "p50": float(np.percentile(times, 50)) if times else None,
            "p99": float(np.percentile(times, 99)) if times else None,
        },
    }


def _copy_rate(
    revisits: Sequence[Trial], place_map: PlaceMap, within_m: float, within_deg: float
) -> float:
    _, poses = place_map.poses()
    if not revisits or not len(poses):
        return 0.0
    hits = 0
    for trial in revisits:
        assert trial.T_map_lidar is not None
        distance = np.linalg.norm(poses[:, :3, 3] - trial.T_map_lidar[:3, 3], axis=1)
        metres, degrees = pose_error(poses[int(distance.argmin())], trial.T_map_lidar)
        hits += metres <= within_m and degrees <= within_deg
    return hits / len(revisits)
