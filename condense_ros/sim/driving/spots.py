"""Places a robot may be put down at: beside a drive, or where it never was."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.driving.motion import ground_poses
from condense_ros.sim.driving.route import free
from condense_ros.sim.scenery import Scenery


def _clearance(world: Scenery, clearance_m: float | None) -> float:
    narrow = float(np.median(world.network.half_road))
    return min(1.1, 0.35 * narrow) if clearance_m is None else clearance_m


def poses_beside(
    world: Scenery,
    poses: Array,
    n: int,
    rng: np.random.Generator,
    *,
    min_sideways_m: float | None = None,
    max_sideways_m: float = 4.5,
    clearance_m: float | None = None,
) -> Array:
    """Places near a drive but beside it, at random headings: (n, 4, 4) base_link poses.

    Each lies at least `min_sideways_m` from the line of travel of every given pose near it (its
    lateral offset in that pose's frame) and from every given position, on the way, clear of its
    sides and of obstacles.

    Args:
        min_sideways_m: by default 1 m, less on narrow ways.
        clearance_m: by default 1.1 m, less on narrow ways.

    Raises:
        SimulationError: no such places can be found beside the drive.
    """
    clearance = _clearance(world, clearance_m)
    narrow = float(np.median(world.network.half_road))
    least = min(1.0, 0.3 * narrow) if min_sideways_m is None else min_sideways_m
    tree = cKDTree(poses[:, :2, 3])
    found: list[Array] = []
    for _ in range(400 * n):
        if len(found) == n:
            break
        T = poses[int(rng.integers(len(poses)))]
        side = float(rng.choice([-1, 1]) * rng.uniform(least, max(max_sideways_m, least)))
        xy = T[:2, 3] + T[:2, 1] * side + T[:2, 0] * float(rng.uniform(-2, 2))
        near = poses[tree.query_ball_point(xy, 8.0)]
        offset = np.einsum("nij,nj->ni", np.swapaxes(near[:, :2, :2], 1, 2), xy - near[:, :2, 3])
        beside = np.abs(offset[:, 1]) >= least
        # a pose across a crossing travels another way; from it only the distance counts
        beside |= np.abs(offset[:, 0]) > 4.0
        clear = np.linalg.norm(offset, axis=1) >= least
        if (beside & clear).all() and free(world, xy[None], clearance)[0]:
            found.append(ground_poses(world, xy[None], rng.uniform(-np.pi, np.pi, 1))[0])
    if len(found) < n:
        raise SimulationError(
            f"found {len(found)} of {n} places {least:g} m beside the drive",
            "ask for fewer, lower min_sideways_m, or drive further",
        )
    return np.array(found)


def poses_never_visited(
    world: Scenery,
    poses: Array,
    n: int,
    rng: np.random.Generator,
    *,
    min_distance_m: float | None = None,
    clearance_m: float | None = None,
) -> Array:
    """Places of the same world at least `min_distance_m` from every given pose: (n, 4, 4).

    Args:
        min_distance_m: by default 60 m, inside buildings 12 m.

    Raises:
        SimulationError: the drive left no such part of the world.
    """
    if min_distance_m is None:
        min_distance_m = 12.0 if world.kind == "building" else 60.0
    clearance = _clearance(world, clearance_m)
    tree = cKDTree(poses[:, :2, 3])
    ends = world.network.nodes[world.network.edges]
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    found: list[Array] = []
    for _ in range(400 * n):
        if len(found) == n:
            break
        e = int(rng.choice(len(ends), p=lengths / lengths.sum()))
        along = (ends[e, 1] - ends[e, 0]) / lengths[e]
        sideways = float(rng.uniform(-1, 1)) * max(0.0, world.network.half_road[e] - clearance)
        xy = ends[e, 0] + along * rng.uniform(0, lengths[e])
        xy = xy + sideways * np.array([-along[1], along[0]])
        if tree.query(xy)[0] >= min_distance_m and free(world, xy[None], clearance)[0]:
            found.append(ground_poses(world, xy[None], rng.uniform(-np.pi, np.pi, 1))[0])
    if len(found) < n:
        raise SimulationError(
            f"found {len(found)} of {n} places {min_distance_m:g} m from the drive",
            "use a larger world, a shorter drive, or another world seed",
        )
    return np.array(found)
