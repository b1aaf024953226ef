"""Where in a map was this sweep taken? A pose, "ambiguous", or "unknown"; never a guess."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from condense_ros.config import parameter
from condense_ros.geometry import Array, inverse
from condense_ros.places.matching import Hypothesis, MatchConfig, differ, find_poses
from condense_ros.places.observation import Observation
from condense_ros.places.place import Place
from condense_ros.places.place_map import PlaceMap
from condense_ros.places.registration import (
    LEAST_POINTS,
    RegistrationConfig,
    register,
    register_coarsely,
)
from condense_ros.places.score import score_of
from condense_ros.places.verify import Evidence, VerifyConfig, gather_evidence

FOUND, AMBIGUOUS, UNKNOWN = "found", "ambiguous", "unknown"


@dataclass(frozen=True)
class RelocaliseConfig:
    """How many places are looked at, and when an answer is given."""

    candidates: int = parameter(10, "most similar places whose keypoints are matched", low=1)
    verified: int = parameter(4, "poses that are registered and judged", low=1)
    ambiguous_margin: float = parameter(
        0.3, "a second pose within this score of the best makes the answer ambiguous", low=0.0
    )
    different_m: float = parameter(3.0, "poses further apart than this are different", low=0.1)
    different_deg: float = parameter(15.0, "poses turned more than this are different", low=1.0)
    matching: MatchConfig = field(default_factory=MatchConfig)
    registration: RegistrationConfig = field(default_factory=RegistrationConfig)
    verification: VerifyConfig = field(default_factory=VerifyConfig)


@dataclass(frozen=True, eq=False)
class Judged:
    """One pose with what speaks for it.

    Attributes:
        place: number of the place it was found at.
        T_map_lidar: (4, 4) after the first pass of registration.
        score: in [0, 1].
    """

    place: int
    T_map_lidar: Array
    score: float
    evidence: Evidence


@dataclass(frozen=True, eq=False)
class PlaceAnswer:
    """Answer to a query.

    Attributes:
        status: "found", "ambiguous" (two different poses fit) or "unknown".
        T_map_lidar: (4, 4) pose of the lidar in the map where found, else None.
        covariance: (6, 6) of (x, y, z, rotation about x, y, z) in the map's axes, or None.
        score: of the best pose, in [0, 1]; 0 where no pose could be formed.
        place: number of the place it was found at, or None.
        reason: one sentence for people.
        judged: every pose that was verified, best first.
        timings_ms: search, matching and verification.
    """

    status: str
    T_map_lidar: Array | None
    covariance: Array | None
    score: float
    place: int | None
    reason: str
    judged: tuple[Judged, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)


def relocalise(
    place_map: PlaceMap, query: Observation, config: RelocaliseConfig | None = None
) -> PlaceAnswer:
    """Finds where a sweep was taken.

    The most similar places by global descriptor are matched by keypoints; the poses with the most
    consistent matches are registered by GICP and judged by overlap, free space and residual.

    Args:
        query: made by `observe` with the keypoint parameters of the map's header.

    Raises:
        MapError: a place that cannot be read.
    """
    config = config or RelocaliseConfig()
    started = time.perf_counter()
    ids, _ = place_map.nearest(query.descriptor, config.candidates)
    searched = time.perf_counter()
    if not len(ids):
        return PlaceAnswer(UNKNOWN, None, None, 0.0, None, "the map is empty")
    if not len(query.keypoints) or not query.aligned.usable or not query.coarse.usable:
        return PlaceAnswer(UNKNOWN, None, None, 0.0, None, "the cloud has too few points")
    proposals: list[tuple[Place, Hypothesis]] = []
    for id in ids:
        place = place_map.place(int(id))
        if len(place.observation.cloud) < LEAST_POINTS:
            continue
        for hypothesis in find_poses(place.observation.keypoints, query.keypoints, config.matching):
            proposals.append((place, hypothesis))
    proposals.sort(key=lambda proposal: -proposal[1].inliers)
    matched = time.perf_counter()
    judged = [
        _judge(place, query, hypothesis, config) for place, hypothesis in _spread(proposals, config)
    ]
    judged.sort(key=lambda candidate: -candidate.score)
    verified = time.perf_counter()
    answer = _decide(judged, config)
    if answer.status == FOUND and answer.place is not None:
        assert answer.T_map_lidar is not None
        place = place_map.place(answer.place)
        T_map_lidar, covariance = _refine(place, query, answer.T_map_lidar, config)
        answer = replace(answer, T_map_lidar=T_map_lidar, covariance=covariance)
    finished = time.perf_counter()
    return replace(
        answer,
        timings_ms={
            "search": 1e3 * (searched - started),
            "matching": 1e3 * (matched - searched),
            "verification": 1e3 * (verified - matched),
            "refinement": 1e3 * (finished - verified),
        },
    )


def _spread(
    proposals: list[tuple[Place, Hypothesis]], config: RelocaliseConfig
) -> list[tuple[Place, Hypothesis]]:
    """The best proposals, at most two per pose in the map, so that rivals are looked at too."""
    picked: list[tuple[Place, Hypothesis]] = []
    poses: list[Array] = []
    for place, hypothesis in proposals:
        T = place.T_map_lidar @ hypothesis.T_target_source
        same = sum(
            not differ(T, other, config.different_m, np.radians(config.different_deg))
            for other in poses
        )
        if same < 2:
            picked.append((place, hypothesis))
            poses.append(T)
        if len(picked) == config.verified:
            break
    return picked


def _judge(
    place: Place, query: Observation, hypothesis: Hypothesis, config: RelocaliseConfig
) -> Judged:
    T_place_query = register_coarsely(
        place.observation.aligned,
        query.coarse,
        hypothesis.T_target_source,
        config.registration,
    )
    evidence = gather_evidence(
        place.observation,
        query,
        T_place_query,
        hypothesis.inliers,
        hypothesis.matches,
        config.verification,
    )
    return Judged(place.id, place.T_map_lidar @ T_place_query, score_of(evidence), evidence)


def _refine(
    place: Place, query: Observation, T_map_lidar: Array, config: RelocaliseConfig
) -> tuple[Array, Array]:
    """Pose and covariance in the map from all points."""
    registration = register(
        place.observation.aligned,
        query.aligned,
        inverse(place.T_map_lidar) @ T_map_lidar,
        config.registration,
    )
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = place.T_map_lidar[:3, :3]
    return place.T_map_lidar @ registration.T_target_source, (
        turn @ registration.covariance @ turn.T
    )


def _decide(judged: list[Judged], config: RelocaliseConfig) -> PlaceAnswer:
    if not judged:
        return PlaceAnswer(UNKNOWN, None, None, 0.0, None, "no place shares enough keypoints")
    best = judged[0]
    accept = config.verification.accept_score
    if best.score < accept:
        reason = f"the best pose scores {best.score:.2f}, an answer needs {accept:.2f}"
        return PlaceAnswer(UNKNOWN, None, None, best.score, best.place, reason, tuple(judged))
    for other in judged[1:]:
        apart = differ(
            best.T_map_lidar,
            other.T_map_lidar,
            config.different_m,
            np.radians(config.different_deg),
        )
        if apart and other.score >= max(accept, best.score - config.ambiguous_margin):
            distance = float(np.linalg.norm(best.T_map_lidar[:3, 3] - other.T_map_lidar[:3, 3]))
            reason = (
                f"two poses {distance:.1f} m apart fit almost equally well "
                f"(scores {best.score:.2f} and {other.score:.2f})"
            )
            return PlaceAnswer(AMBIGUOUS, None, None, best.score, best.place, reason, tuple(judged))
    reason = f"found at place {best.place} with score {best.score:.2f}"
    return PlaceAnswer(FOUND, best.T_map_lidar, None, best.score, best.place, reason, tuple(judged))
