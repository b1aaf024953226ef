"""Pose from keypoint matches: mutual nearest descriptors, then spatial consistency.

Source: Chen, Sun, Yang, Tao, "SC2-PCR: a second order spatial compatibility for efficient and
robust point cloud registration", CVPR 2022: two matches are compatible when they keep the distance
between their keypoints; true matches share many compatible partners, false ones do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.config import parameter
from condense_ros.geometry import Array, se3, transform
from condense_ros.places.keypoints import Keypoints


@dataclass(frozen=True)
class MatchConfig:
    """How a pose is found among keypoint matches."""

    tolerance_m: float = parameter(0.6, "a match is an inlier within this distance", low=0.01)
    seeds: int = parameter(48, "matches from which a pose hypothesis is grown", low=1)
    max_matches: int = parameter(1200, "matches kept, best first", low=8)
    hypotheses: int = parameter(2, "different poses handed on to verification", low=1)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A pose that a set of matches agrees on.

    Attributes:
        T_target_source: (4, 4).
        inliers: number of matches within `tolerance_m` under it.
        matches: number of matches it was found among.
    """

    T_target_source: Array
    inliers: int
    matches: int


def mutual_matches(
    target: Keypoints, source: Keypoints, limit: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows (target, source) of keypoints that are each other's nearest descriptor, best first."""
    if not len(target) or not len(source):
        none = np.zeros(0, np.int64)
        return none, none
    similarity = source.descriptors @ target.descriptors.T
    best_target, best_source = similarity.argmax(axis=1), similarity.argmax(axis=0)
    rows = np.nonzero(best_source[best_target] == np.arange(len(source)))[0]
    order = np.argsort(-similarity[rows, best_target[rows]], kind="stable")[:limit]
    rows = rows[order]
    return best_target[rows].astype(np.int64), rows.astype(np.int64)


def kabsch(target: Array, source: Array) -> Array:
    """Least-squares rigid T_target_source (4, 4) of paired points (M, 3)."""
    target_mean, source_mean = target.mean(axis=0), source.mean(axis=0)
    U, _, Vt = np.linalg.svd((target - target_mean).T @ (source - source_mean))
    R = U @ np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))]) @ Vt
    return se3(R, target_mean - R @ source_mean)


def _distances(xyz: Array) -> npt.NDArray[np.float32]:
    squared = (xyz**2).sum(axis=1)
    gram = squared[:, None] + squared[None, :] - 2 * xyz @ xyz.T
    return np.sqrt(np.maximum(gram, 0)).astype(np.float32)


def find_poses(
    target: Keypoints, source: Keypoints, config: MatchConfig | None = None
) -> list[Hypothesis]:
    """Poses of `source` in the frame of `target`, most inliers first, clearly different ones only.

    Deterministic. Empty when fewer than four matches exist.
    """
    config = config or MatchConfig()
    rows_t, rows_s = mutual_matches(target, source, config.max_matches)
    if len(rows_t) < 4:
        return []
    p_t, p_s = target.xyz[rows_t].astype(np.float64), source.xyz[rows_s].astype(np.float64)
    between_t, between_s = _distances(p_t), _distances(p_s)
    compatible = (np.abs(between_t - between_s) < config.tolerance_m).astype(np.float32)
    np.fill_diagonal(compatible, 0)
    second_order = compatible * (compatible @ compatible)
    # the leading eigenvector by power iteration ranks matches by how well they are supported
    confidence = np.ones(len(p_t), np.float32)
    for _ in range(12):
        confidence = second_order @ confidence
        norm = np.linalg.norm(confidence)
        if norm == 0:
            return []
        confidence /= norm
    support = second_order.sum(axis=1)
    ranked = np.unique(
        np.concatenate(
            [
                np.argsort(-confidence)[: config.seeds // 2],
                np.argsort(-support)[: config.seeds // 2],
            ]
        )
    )
    found: list[Hypothesis] = []
    for seed in ranked:
        partners = np.argsort(-second_order[seed], kind="stable")[:20]
        partners = np.append(partners[second_order[seed][partners] > 0], seed)
        if len(partners) < 3:
            continue
        T = kabsch(p_t[partners], p_s[partners])
        inside = _inliers(T, p_t, p_s, config.tolerance_m)
        for _ in range(3):
            if inside.sum() < 3:
                break
            T = kabsch(p_t[inside], p_s[inside])
            inside = _inliers(T, p_t, p_s, config.tolerance_m)
        found.append(Hypothesis(T, int(inside.sum()), len(p_t)))
    found.sort(key=lambda hypothesis: -hypothesis.inliers)
    return _distinct(found, config)


def _inliers(T: Array, p_t: Array, p_s: Array, tolerance_m: float) -> npt.NDArray[np.bool_]:
    return np.asarray(((transform(T, p_s) - p_t) ** 2).sum(axis=1) < tolerance_m**2)


def differ(T_a: Array, T_b: Array, distance_m: float, angle_rad: float) -> bool:
    """Whether two poses are further apart than a distance or an angle."""
    cosine = 0.5 * (np.trace(T_a[:3, :3].T @ T_b[:3, :3]) - 1)
    return bool(np.linalg.norm(T_a[:3, 3] - T_b[:3, 3]) > distance_m or cosine < np.cos(angle_rad))


def _distinct(ranked: list[Hypothesis], config: MatchConfig) -> list[Hypothesis]:
    kept: list[Hypothesis] = []
    for hypothesis in ranked:
        if hypothesis.inliers >= 4 and all(
            differ(hypothesis.T_target_source, other.T_target_source, 2.0, np.radians(10))
            for other in kept
        ):
            kept.append(hypothesis)
        if len(kept) == config.hypotheses:
            break
    return kept
