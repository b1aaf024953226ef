"""How much speaks for a pose, and the score on which an answer is given or withheld."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from condense_ros.config import parameter
from condense_ros.geometry import Array, inverse, transform
from condense_ros.places.observation import Observation


@dataclass(frozen=True)
class VerifyConfig:
    """How a pose is judged."""

    overlap_distance_m: float = parameter(
        0.4, "a point overlaps when the other cloud has one within this distance", low=0.01
    )
    free_margin_m: float = parameter(
        0.5, "a point this much before the measured range was seen through", low=0.0
    )
    free_relative: float = parameter(0.02, "the same margin, relative to the range", low=0.0)
    accept_score: float = parameter(
        0.5, "an answer is given from this score upwards", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class Evidence:
    """What was measured about one pose.

    Points of surfaces that are not level are counted alone: level ground fits everywhere.

    Attributes:
        inliers: keypoint matches that agree on the pose.
        inlier_ratio: those among all mutual matches.
        overlap: fraction of points with a counterpart, the lesser of both directions.
        free_space: fraction of points lying where the other sweep saw through, the greater one.
        visible: fraction of points the other sweep could have seen (agreeing or contradicting).
        similarity: cosine of the global descriptors.
    """

    inliers: int
    inlier_ratio: float
    overlap: float
    free_space: float
    visible: float
    similarity: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for logs and reports."""
        return {name: float(value) for name, value in asdict(self).items()}


def _upright(normals: Array) -> Array:
    # z is up in the lidar frame (REP-103)
    return np.asarray(np.abs(normals[:, 2]) < 0.7)


def gather_evidence(
    place: Observation,
    query: Observation,
    T_place_query: Array,
    inliers: int,
    matches: int,
    config: VerifyConfig,
) -> Evidence:
    """Measures how well a query fits a place under a pose, in both directions."""
    overlaps, throughs, visibles = [], [], []
    for target, source, T_target_source in (
        (place, query, T_place_query),
        (query, place, inverse(T_place_query)),
    ):
        upright = source.coarse.xyz[_upright(source.coarse.normals)]
        points = transform(T_target_source, upright)
        if len(points) < 20 or not target.aligned.usable:
            return Evidence(inliers, inliers / max(matches, 1), 0.0, 1.0, 0.0, 0.0)
        agree, through = target.depth.compare(points, config.free_margin_m, config.free_relative)
        seen = agree | through
        close = target.aligned.distance(points) < config.overlap_distance_m
        # hidden surfaces cannot have a counterpart, so only what was in view is asked for one
        overlaps.append(float(close[seen].mean()) if seen.any() else 0.0)
        throughs.append(float(through[seen].mean()) if seen.any() else 1.0)
        visibles.append(float(seen.mean()))
    return Evidence(
        inliers=inliers,
        inlier_ratio=inliers / max(matches, 1),
        overlap=min(overlaps),
        free_space=max(throughs),
        visible=min(visibles),
        similarity=float(place.descriptor @ query.descriptor),
    )
