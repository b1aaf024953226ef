"""Pose from keypoint matches: mutual nearest descriptors, then spatial consistency.

Source: Chen, Sun, Yang, Tao, "SC2-PCR: a second order spatial compatibility for efficient and
robust point cloud registration", CVPR 2022: two matches are compatible when they keep the distance
between their keypoints; true matches share many compatible partners, false ones do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from condense_ros.config import parameter
from condense_ros.geometry import Array
from condense_ros.places.keypoints import Keypoints

#: best supporters of a seed that its pose is computed from
_PARTNERS = 20
#: poses with most inliers that are refined
_REFINED = 8


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
    similarity = torch.from_numpy(source.descriptors) @ torch.from_numpy(target.descriptors).T
    # torch finds extrema along both axes several times faster than numpy
    best, best_target = (part.numpy() for part in similarity.max(dim=1))
    best_source = similarity.max(dim=0).indices.numpy()
    rows = np.nonzero(best_source[best_target] == np.arange(len(source)))[0]
    order = np.argsort(-best[rows], kind="stable")[:limit]
    rows = rows[order]
    return best_target[rows].astype(np.int64), rows.astype(np.int64)


def kabsch(target: Array, source: Array, weights: Array | None = None) -> Array:
    """Least-squares rigid T_target_source (..., 4, 4) of paired points (..., M, 3).

    Args:
        weights: (..., M) of the pairs, equal when None.
    """
    w = np.ones(target.shape[:-1]) if weights is None else weights
    w = w / w.sum(axis=-1, keepdims=True)
    target_mean = np.einsum("...m,...mi->...i", w, target)
    source_mean = np.einsum("...m,...mi->...i", w, source)
    covariance = np.einsum(
        "...m,...mi,...mj->...ij",
        w,
        target - target_mean[..., None, :],
        source - source_mean[..., None, :],
        optimize=True,
    )
    U, _, Vt = np.linalg.svd(covariance)
    U[..., :, 2] *= np.sign(np.linalg.det(U @ Vt))[..., None]
    T = np.zeros((*covariance.shape[:-2], 4, 4))
    T[..., :3, :3] = U @ Vt
    T[..., :3, 3] = target_mean - np.einsum("...ij,...j->...i", T[..., :3, :3], source_mean)
    T[..., 3, 3] = 1.0
    return T


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
    # a pose from each seed and the matches that support it most, all seeds at once
    partners = np.argsort(-second_order[ranked], axis=1, kind="stable")[:, :_PARTNERS]
    weights = (np.take_along_axis(second_order[ranked], partners, axis=1) > 0).astype(np.float64)
    partners = np.concatenate([partners, ranked[:, None]], axis=1)
    weights = np.concatenate([weights, np.ones((len(ranked), 1))], axis=1)
    usable = weights.sum(axis=1) >= 3
    if not usable.any():
        return []
    poses = kabsch(p_t[partners[usable]], p_s[partners[usable]], weights[usable])
    inside = _inliers(poses, p_t, p_s, config.tolerance_m)
    found: list[Hypothesis] = []
    for row in np.argsort(-inside.sum(axis=1), kind="stable")[:_REFINED]:
        T, chosen = poses[row], inside[row]
        for _ in range(3):
            if chosen.sum() < 3:
                break
            T = kabsch(p_t[chosen], p_s[chosen])
            chosen = _inliers(T, p_t, p_s, config.tolerance_m)
        found.append(Hypothesis(T, int(chosen.sum()), len(p_t)))
    found.sort(key=lambda hypothesis: -hypothesis.inliers)
    return _distinct(found, config)


def _inliers(T: Array, p_t: Array, p_s: Array, tolerance_m: float) -> npt.NDArray[np.bool_]:
    """Which pairs (M,) agree with poses (..., 4, 4): (..., M) bool."""
    moved = np.einsum("...ij,mj->...mi", T[..., :3, :3], p_s) + T[..., None, :3, 3]
    return np.asarray(((moved - p_t) ** 2).sum(axis=-1) < tolerance_m**2)


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
