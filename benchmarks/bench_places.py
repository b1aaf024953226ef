"""How well places are found in simulated towns, and what the score's weights are fitted from.

    python benchmarks/bench_places.py [--seeds 201 202] [--checkpoint C] [--calibrate] [--json F]

Per town: a drive of 60 s with a place every 3 m, 40 questions at least 1 m beside the drive with a
random heading, 60 from streets of the same town at least 60 m away, and 30 from the next seed's
town. First retrieval alone (share of questions with a place within 6 m among the first k), for
`ring_height`, for `backbone_gem` of random weights and of the checkpoint, and for the ring key of
Scan Context (Kim and Kim, IROS 2018); then relocalisation with the baseline that copies the nearest
place's pose. With --calibrate, the weights of `condense_ros/places/score.py` are fitted on these
seeds, which must not be those of the tests (201 to 205).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from condense_ros import sim
from condense_ros.frame import Frame
from condense_ros.geometry import Array, pose_error
from condense_ros.models import Checkpoint, InputSpec, build_backbone
from condense_ros.perception import Perceiver, PerceptionConfig
from condense_ros.places import MapHeader, Place, PlaceMap, Trial, observe, summarise
from condense_ros.places.descriptors import RING_HEIGHT, RING_HEIGHT_SIZE, ring_height, unit
from condense_ros.places.relocalise import relocalise
from condense_ros.places.score import features_of

FIRST = (1, 5, 10, 25)


def ring_key(frame: Frame) -> np.ndarray:
    """Mean over 60 sectors of the greatest height in each of 20 rings up to 60 m."""
    xyz = frame.cloud.xyz
    ring = (np.hypot(xyz[:, 0], xyz[:, 1]) / 3.0).astype(int)
    sector = ((np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) + 0.5) * 60).astype(int) % 60
    context = np.zeros((20, 60))
    near = ring < 20
    np.maximum.at(context, (ring[near], sector[near]), xyz[near, 2] + 2.0)
    return unit(context.mean(axis=1))


def pooled(checkpoint: Checkpoint | Path) -> Callable[[Frame], np.ndarray]:
    """GeM of a backbone's features."""
    config = PerceptionConfig(descriptor="backbone_gem", device="cpu", warm_up_points=0)
    perceiver = Perceiver(checkpoint, config)
    return lambda frame: perceiver.perceive(frame).descriptor


class Town:
    """Sweeps of one seed: stored, beside them, and far from them."""

    def __init__(self, seed: int) -> None:
        world = sim.World(seed)
        simulator = sim.Simulator(world)
        driven = sim.drive(world, 60.0, seed=seed)
        rows = [0]
        for row in range(1, len(driven)):
            if np.linalg.norm(driven[row, :3, 3] - driven[rows[-1], :3, 3]) >= 3.0:
                rows.append(row)
        rng = np.random.default_rng(seed)

        def see(poses: Array, stamp: int) -> list[Frame]:
            return [simulator.frame(T, stamp + i, images=False) for i, T in enumerate(poses)]

        self.stored = see(driven[rows], 10**9)
        self.beside = see(sim.poses_beside(world, driven, 40, rng), 10**15)
        self.away = see(sim.poses_never_visited(world, driven, 60, rng), 2 * 10**15)


def pose_of(frame: Frame) -> Array:
    assert frame.T_world_lidar is not None
    return frame.T_world_lidar


def position(frame: Frame) -> Array:
    return pose_of(frame)[:3, 3]


def recall(town: Town, describe: Callable[[Frame], np.ndarray]) -> list[float]:
    """Share of questions with a place within 6 m among the first k, for each k of `FIRST`."""
    stored = [describe(frame) for frame in town.stored]
    place_map = PlaceMap(None, MapHeader("any", "any", len(stored[0])))
    empty = observe(np.zeros((0, 3)), stored[0])
    for frame, descriptor in zip(town.stored, stored, strict=True):
        observation = type(empty)(descriptor, empty.keypoints, empty.cloud, empty.depth)
        place_map.add(Place(observation, pose_of(frame), frame.stamp_ns))
    places = np.stack([position(frame) for frame in town.stored])
    hits = []
    for frame in town.beside:
        ids, _ = place_map.nearest(describe(frame), max(FIRST))
        near = np.linalg.norm(places[ids] - position(frame), axis=1) < 6.0
        hits.append([bool(near[:k].any()) for k in FIRST])
    return [float(share) for share in np.mean(hits, axis=0)]


def ask(town: Town, strangers: list[Frame]) -> tuple[PlaceMap, list[Trial], list[Frame]]:
    """Relocalises every question of a town."""
    place_map = PlaceMap(None, MapHeader("none", RING_HEIGHT, RING_HEIGHT_SIZE))
    for frame in town.stored:
        observation = observe(frame.cloud.xyz, ring_height(frame.cloud.xyz))
        place_map.add(Place(observation, pose_of(frame), frame.stamp_ns))
    asked = [*town.beside, *town.away, *strangers]
    trials = []
    for number, frame in enumerate(asked):
        answer = relocalise(place_map, observe(frame.cloud.xyz, ring_height(frame.cloud.xyz)))
        trials.append(Trial(frame.T_world_lidar if number < len(town.beside) else None, answer))
    return place_map, trials, asked


def judged_poses(
    town: Town, trials: list[Trial], asked: list[Frame]
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Features of all poses that were verified, and whether each was right."""
    features, right = [], []
    for number, (trial, frame) in enumerate(zip(trials, asked, strict=True)):
        foreign = number >= len(town.beside) + len(town.away)
        for pose in trial.answer.judged:
            metres, degrees = pose_error(pose.T_map_lidar, pose_of(frame))
            good = not foreign and metres < 0.5 and degrees < 3
            if good or foreign or metres > 2 or degrees > 10:
                features.append(features_of(pose.evidence))
                right.append(good)
    return np.array(features), np.array(right)


def fit(features: Array, right: npt.NDArray[np.bool_]) -> tuple[Array, float]:
    """Weights and bias of a logistic regression, both classes weighted alike."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    scaled = (features - mean) / spread
    weight = np.where(right, 0.5 / right.sum(), 0.5 / (~right).sum())

    def loss(p: Array) -> float:
        logit = scaled @ p[:-1] + p[-1]
        penalty = 0.003 * (p[:-1] ** 2).sum()
        return float((weight * np.logaddexp(0, np.where(right, -logit, logit))).sum() + penalty)

    best = minimize(loss, np.zeros(features.shape[1] + 1)).x
    weights = best[:-1] / spread
    return weights, float(best[-1] - weights @ mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, nargs="+", default=[201, 202])
    parser.add_argument("--checkpoint", type=Path, help="also pool the features of this backbone")
    parser.add_argument("--calibrate", action="store_true", help="fit the score's weights")
    parser.add_argument("--retrieval-only", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds: dict[str, Callable[[Frame], np.ndarray]] = {
        "ring_height": lambda frame: ring_height(frame.cloud.xyz),
        "scan context ring key": ring_key,
        "backbone_gem, random": pooled(Checkpoint.of(build_backbone("demo", InputSpec(0.2, 60.0)))),
    }
    if options.checkpoint:
        kinds[f"backbone_gem, {options.checkpoint.name}"] = pooled(options.checkpoint)
    recalls: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    results: dict[str, Any] = {"seeds": options.seeds, "recall_at": FIRST, "towns": []}
    features, right = [], []
    for seed in options.seeds:
        town = Town(seed)
        for kind, describe in kinds.items():
            recalls[kind].append(recall(town, describe))
        if options.retrieval_only:
            continue
        place_map, trials, asked = ask(town, Town(seed + 1000).beside[:30])
        summary = summarise(trials, place_map)
        results["towns"].append({"seed": seed} | summary)
        print(f"town {seed}: {json.dumps(summary)}", flush=True)
        rows, good = judged_poses(town, trials, asked)
        features.append(rows)
        right.append(good)
    results["recall"] = {kind: np.mean(rows, axis=0).tolist() for kind, rows in recalls.items()}
    print(f"{'a place within 6 m among the first':36s}" + "".join(f"{k:>8d}" for k in FIRST))
    for kind, shares in results["recall"].items():
        print(f"{kind:36s}" + "".join(f"{100 * share:7.1f}%" for share in shares))
    if options.calibrate:
        weights, bias = fit(np.concatenate(features), np.concatenate(right))
        poses, good_poses = len(np.concatenate(right)), int(np.concatenate(right).sum())
        print(f"{poses} poses, {good_poses} right: weights {np.round(weights, 3)}, bias {bias:.3f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
