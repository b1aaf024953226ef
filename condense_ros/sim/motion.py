"""Where the robot goes: drives along streets, and poses to be put down at."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from condense_ros.errors import SimulationError
from condense_ros.geometry import Array, rotation_rpy, se3
from condense_ros.sim.world import World

#: the lane lies this far right of the centre line, metres
LANE_M = 1.25


def drive(
    world: World, duration_s: float, rate_hz: float = 10.0, seed: int = 0, speed: float = 7.0
) -> Array:
    """Poses (T, 4, 4) of base_link along streets, in the right-hand lane, with smooth turns.

    Args:
        duration_s, rate_hz: T = round(duration_s * rate_hz) poses.
        seed: chooses start, turns and the sway within the lane (up to about 0.3 m).
        speed: mean speed in m/s; it varies by some 15 %.

    Raises:
        SimulationError: a drive without a single pose, or not moving forward.
    """
    count = round(duration_s * rate_hz)
    if count < 1 or speed <= 0 or rate_hz <= 0:
        raise SimulationError(
            f"a drive of {duration_s} s at {rate_hz} Hz and {speed} m/s has no poses",
            "give a positive duration, rate and speed",
        )
    rng = np.random.default_rng([world.seed, seed, 11])
    time = np.arange(count) / rate_hz
    wave = 2 * np.pi / rng.uniform(9, 25, 2)
    phase = rng.uniform(0, 2 * np.pi, 2)
    slow = 0.15 * speed * np.sin(wave[0] * time + phase[0])
    s = np.concatenate([[0.0], np.cumsum(speed + slow[:-1])]) / rate_hz
    s[1:] = np.cumsum(speed + slow[:-1]) / rate_hz
    line = _route(world, s[-1] + 20, rng)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    s = s + 5.0

    def at(distance: Array) -> Array:
        return np.column_stack([np.interp(distance, along, line[:, i]) for i in (0, 1)])

    # heading over a wheelbase-like chord; sway sideways is slow against the drive
    chord = at(s + 1.3) - at(s - 1.3)
    heading = chord / np.linalg.norm(chord, axis=1, keepdims=True)
    sway = 0.18 * np.sin(0.11 * s + phase[1]) + 0.1 * np.sin(0.037 * s + phase[0])
    xy = at(s) + sway[:, None] * np.column_stack([-heading[:, 1], heading[:, 0]])
    return ground_poses(world, xy, np.arctan2(heading[:, 1], heading[:, 0]))


def ground_poses(world: World, xy: Array, yaw: Array) -> Array:
    """(N, 4, 4) poses of a vehicle standing on the ground at (N, 2) with headings (N,) radians."""
    height, slope = world.height(xy), world.network.slope(xy)
    poses = []
    for (x, y), z, (gx, gy), a in zip(xy, height, slope, yaw, strict=True):
        c, s = np.cos(a), np.sin(a)
        pitch, roll = -np.arctan(gx * c + gy * s), np.arctan(-gx * s + gy * c)
        poses.append(se3(rotation_rpy(float(roll), float(pitch), float(a)), (x, y, float(z))))
    return np.array(poses)


def _route(world: World, length: float, rng: np.random.Generator) -> Array:
    """A polyline (P, 2) of lane centres, at least `length` metres, rounded at crossings."""
    net = world.network
    edge = int(rng.integers(len(net.edges)))
    here, there = net.edges[edge][:: 1 if rng.random() < 0.5 else -1].tolist()
    turn = 1 if rng.random() < 0.5 else -1
    points: list[Array] = []
    total = 0.0
    while total < length + 200:
        a, b = net.nodes[here], net.nodes[there]
        d = (b - a) / np.linalg.norm(b - a)
        right = np.array([d[1], -d[0]])
        start, end = a + 12 * d + LANE_M * right, b - 12 * d + LANE_M * right
        if points:
            # a quadratic curve whose control point is where the two lanes meet
            last, before = points[-1], points[-2]
            e = (last - before) / np.linalg.norm(last - before)
            matrix = np.column_stack([e, -d])
            control = (last + start) / 2
            if abs(np.linalg.det(matrix)) > 0.15:
                along = np.linalg.solve(matrix, start - last)[0]
                if 0 < along < 30:
                    control = last + along * e
            t = np.linspace(0, 1, 15)[1:-1, None]
            points.extend((1 - t) ** 2 * last + 2 * t * (1 - t) * control + t**2 * start)
        points.extend([start, start + 0.5 * (end - start), end])
        total += float(np.linalg.norm(b - a))
        here, there, edge = _next(world, there, edge, d, turn, rng)
    line = np.array(points)
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    dense = np.arange(0, steps[-1], 0.25)
    return np.column_stack([np.interp(dense, steps, line[:, i]) for i in (0, 1)])


def _next(
    world: World, node: int, edge: int, heading: Array, turn: int, rng: np.random.Generator
) -> tuple[int, int, int]:
    """The next street: mostly the first on the side `turn`, so that drives close loops."""
    options = []
    for other_edge, other in world.network.neighbours(node):
        if other_edge == edge:
            continue
        d = world.network.nodes[other] - world.network.nodes[node]
        angle = np.arctan2(heading[0] * d[1] - heading[1] * d[0], heading @ d)
        options.append((turn * float(angle), other_edge, other))
    options.sort(reverse=True)
    pick = 0 if rng.random() < 0.65 else int(rng.integers(len(options)))
    return node, options[pick][2], options[pick][1]


def _free(world: World, xy: Array, clearance_m: float) -> bool:
    """Whether a place on a street is clear of kerbs and of parked cars by `clearance_m`."""
    distance, edge = world.network.offsets(xy[None])
    if distance[0] > world.network.half_road[edge[0]] - clearance_m:
        return False
    o = world.obstacles
    delta = xy - o[:, :2]
    c, s = np.cos(o[:, 2]), np.sin(o[:, 2])
    dx = np.abs(delta[:, 0] * c + delta[:, 1] * s) - o[:, 3]
    dy = np.abs(-delta[:, 0] * s + delta[:, 1] * c) - o[:, 4]
    gap = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return bool((gap >= clearance_m).all())


def poses_beside(
    world: World,
    poses: Array,
    n: int,
    rng: np.random.Generator,
    *,
    min_sideways_m: float = 1.0,
    max_sideways_m: float = 4.5,
    clearance_m: float = 1.1,
) -> Array:
    """Places near a drive but beside it, at random headings: (n, 4, 4) base_link poses.

    Each lies at least `min_sideways_m` from the line of travel of every given pose near it (its
    lateral offset in that pose's frame) and from every given position, on the street, clear of
    kerbs and obstacles.

    Raises:
        SimulationError: no such places can be found beside the drive.
    """
    tree = cKDTree(poses[:, :2, 3])
    found: list[Array] = []
    for _ in range(400 * n):
        if len(found) == n:
            break
        T = poses[int(rng.integers(len(poses)))]
        side = float(rng.choice([-1, 1]) * rng.uniform(min_sideways_m, max_sideways_m))
        xy = T[:2, 3] + T[:2, 1] * side + T[:2, 0] * float(rng.uniform(-2, 2))
        near = poses[tree.query_ball_point(xy, 8.0)]
        offset = np.einsum("nij,nj->ni", np.swapaxes(near[:, :2, :2], 1, 2), xy - near[:, :2, 3])
        beside = np.abs(offset[:, 1]) >= min_sideways_m
        # a pose across a crossing travels another way; from it only the distance counts
        beside |= np.abs(offset[:, 0]) > 4.0
        clear = np.linalg.norm(offset, axis=1) >= min_sideways_m
        if (beside & clear).all() and _free(world, xy, clearance_m):
            found.append(ground_poses(world, xy[None], rng.uniform(-np.pi, np.pi, 1))[0])
    if len(found) < n:
        raise SimulationError(
            f"found {len(found)} of {n} places {min_sideways_m} m beside the drive",
            "ask for fewer, lower min_sideways_m, or drive further",
        )
    return np.array(found)


def poses_never_visited(
    world: World,
    poses: Array,
    n: int,
    rng: np.random.Generator,
    *,
    min_distance_m: float = 60.0,
    clearance_m: float = 1.1,
) -> Array:
    """Places in the same town at least `min_distance_m` from every given pose: (n, 4, 4).

    Raises:
        SimulationError: the drive left no such part of the town.
    """
    tree = cKDTree(poses[:, :2, 3])
    ends = world.network.nodes[world.network.edges]
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    found: list[Array] = []
    for _ in range(400 * n):
        if len(found) == n:
            break
        e = int(rng.choice(len(ends), p=lengths / lengths.sum()))
        along = (ends[e, 1] - ends[e, 0]) / lengths[e]
        sideways = float(rng.uniform(-1, 1)) * (world.network.half_road[e] - clearance_m)
        xy = ends[e, 0] + along * rng.uniform(0, lengths[e])
        xy = xy + sideways * np.array([-along[1], along[0]])
        if tree.query(xy)[0] >= min_distance_m and _free(world, xy, clearance_m):
            found.append(ground_poses(world, xy[None], rng.uniform(-np.pi, np.pi, 1))[0])
    if len(found) < n:
        raise SimulationError(
            f"found {len(found)} of {n} places {min_distance_m} m from the drive",
            "use a larger world (columns, rows), a shorter drive, or another world seed",
        )
    return np.array(found)
