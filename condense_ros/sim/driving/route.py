"""From a network of ways to smooth paths in the right-hand lane."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from condense_ros.errors import SimulationError
from condense_ros.geometry import Array
from condense_ros.sim.network import Network
from condense_ros.sim.scenery import Scenery


@dataclass(frozen=True, eq=False)
class Path:
    """One smooth path that is driven without turning on the spot.

    Attributes:
        s: (P,) metres along it.
        xy: (P, 2) positions, metres.
        curvature: (P,) 1/m, positive to the left.
        nodes: (position in the route, s) of the network's nodes that it passes.
    """

    s: Array
    xy: Array
    curvature: Array
    nodes: tuple[tuple[int, float], ...]

    @property
    def length_m(self) -> float:
        return float(self.s[-1])

    def spline(self) -> CubicSpline:
        """s -> (x, y)."""
        return CubicSpline(self.s, self.xy)

    def node_at(self, s: float) -> int:
        """Position in the route of the first node at or after `s`."""
        later = [k for k, at in self.nodes if at >= s]
        return later[0] if later else self.nodes[-1][0]


def find_route(
    network: Network, length_m: float, rng: np.random.Generator, begin: list[int] | None = None
) -> list[int]:
    """Nodes in the order of travel, at least `length_m` apart along the ways, closing loops.

    Args:
        begin: nodes that come first; the way goes on from the last.

    Raises:
        SimulationError: no ways.
    """
    if not len(network.edges):
        raise SimulationError("the world has no ways to drive on", "use another world")
    if begin is None:
        edge = int(rng.integers(len(network.edges)))
        begin = network.edges[edge][:: 1 if rng.random() < 0.5 else -1].tolist()
    turn = 1 if rng.random() < 0.5 else -1
    route = list(begin)
    around = _neighbours(network)
    xy = network.nodes
    total = float(np.linalg.norm(np.diff(xy[route], axis=0), axis=1).sum())
    while total < length_m:
        before, here = route[-2:]
        heading = xy[here] - xy[before]
        options = []
        for other in around[here]:
            if other != before:
                d = xy[other] - xy[here]
                angle = np.arctan2(heading[0] * d[1] - heading[1] * d[0], heading @ d)
                options.append((turn * float(angle), other))
        if not options:
            options = [(0.0, before)]
        # mostly the first on one side, so that drives close loops
        options.sort(reverse=True)
        pick = 0 if rng.random() < 0.65 else int(rng.integers(len(options)))
        route.append(options[pick][1])
        total += float(np.linalg.norm(xy[route[-1]] - xy[here]))
    return route


def _neighbours(network: Network) -> list[list[int]]:
    around: list[list[int]] = [[] for _ in network.nodes]
    for a, b in network.edges.tolist():
        around[a].append(b)
        around[b].append(a)
    return around


def make_paths(world: Scenery, route: list[int], lateral_m: float, phase: Array) -> list[Path]:
    """The paths of a route; a new one begins wherever the route turns back at a dead end.

    Args:
        lateral_m: metres left of the lane, taken back where there is no room.
        phase: (2,) of the sway within the lane, radians.
    """
    legs, first = [], 0
    for k in range(1, len(route) - 1):
        if route[k - 1] == route[k + 1]:
            legs.append((first, k))
            first = k
    legs.append((first, len(route) - 1))
    return [
        _path(world, route, a, b, lateral_m, phase, dead_start=a > 0, dead_end=b < len(route) - 1)
        for a, b in legs
    ]


def _path(
    world: Scenery,
    route: list[int],
    first: int,
    last: int,
    lateral_m: float,
    phase: Array,
    *,
    dead_start: bool,
    dead_end: bool,
) -> Path:
    net, lane = world.network, world.network.lane_m
    xy = net.nodes[route[first : last + 1]]
    roads = _half_roads(net, route[first : last + 1])
    points: list[Array] = []
    room: list[float] = []
    marks: list[tuple[int, int]] = []

    def add(point: Array, width: float) -> None:
        points.append(point)
        room.append(width)

    for k in range(len(xy) - 1):
        a, b, width = xy[k], xy[k + 1], float(roads[k])
        length = float(np.linalg.norm(b - a))
        d = (b - a) / length
        right = np.array([d[1], -d[0]])
        corner = min(net.corner_m, 0.45 * length)
        start, end = a + corner * d + lane * right, b - corner * d + lane * right
        if k == 0 and dead_start:
            # where the robot turned on the spot it stood on the centre line
            turned = min(net.corner_m, 0.2 * length)
            add(a + turned * d, width)
            start = a + (turned + 0.25 * length) * d + lane * right
        if points and k > 0:
            _round(points, room, start, d, width)
        marks.append((first + k, len(points)))
        add(start, width)
        add((start + end) / 2, width)
        if k == len(xy) - 2 and dead_end:
            turned = min(net.corner_m, 0.2 * length)
            add(b - (turned + 0.25 * length) * d + lane * right, width)
            add(b - turned * d, width)
        else:
            add(end, width)
    marks.append((last, len(points) - 1))
    return _smooth(world, np.array(points), np.array(room), marks, lateral_m, phase)


def _half_roads(net: Network, nodes: list[int]) -> Array:
    known = {}
    for e, (a, b) in enumerate(net.edges.tolist()):
        known[a, b] = known[b, a] = float(net.half_road[e])
    return np.array([known[a, b] for a, b in pairwise(nodes)])


def _round(points: list[Array], room: list[float], start: Array, d: Array, width: float) -> None:
    """A quadratic curve to `start`, whose control point is where the two lanes meet."""
    last, before = points[-1], points[-2]
    e = (last - before) / np.linalg.norm(last - before)
    gap = float(np.linalg.norm(start - last))
    matrix, control = np.column_stack([e, -d]), (last + start) / 2
    if abs(np.linalg.det(matrix)) > 0.15:
        along = float(np.linalg.solve(matrix, start - last)[0])
        if 0 < along < 1.5 * gap:
            control = last + along * e
    narrow = min(room[-1], width)
    for t in np.linspace(0, 1, 15)[1:-1]:
        points.append((1 - t) ** 2 * last + 2 * t * (1 - t) * control + t**2 * start)
        room.append(narrow)


def _smooth(
    world: Scenery,
    points: Array,
    room: Array,
    marks: list[tuple[int, int]],
    lateral_m: float,
    phase: Array,
) -> Path:
    net = world.network
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    sigma = float(np.clip(max(0.12 * net.corner_m, 0.2 * net.speed_m_s), 0.05, 2.0))
    step = sigma / 5
    s = np.linspace(0, along[-1], max(8, round(along[-1] / step) + 1))
    step = float(s[1] - s[0])
    line = np.column_stack([np.interp(s, along, points[:, i]) for i in (0, 1)])
    line = _blurred(line, sigma / step)
    half_road = np.interp(s, along, room)
    # the robot sways within its lane, less where the way is narrow
    amplitude = gaussian_filter1d(
        minimum_filter1d(np.minimum(0.055 * half_road, 0.28), 1 + 2 * round(2 * sigma / step)),
        2 * sigma / step,
        mode="nearest",
    )
    sway = 0.64 * np.sin(0.11 * s + phase[1]) + 0.36 * np.sin(0.037 * s + phase[0])
    fade = np.clip(np.minimum(s, s[-1] - s) / max(6 * sigma, 1e-9), 0, 1)
    offset = amplitude * sway * fade**2 * (3 - 2 * fade)
    if lateral_m:
        offset = offset + _lateral(world, line, offset, lateral_m, step)
    line = line + offset[:, None] * _normals(line)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    spline = CubicSpline(length, line)
    d1, d2 = spline(length, 1), spline(length, 2)
    curvature = (d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]) / np.linalg.norm(d1, axis=1) ** 3
    nodes = tuple((k, float(np.interp(along[row], s, length))) for k, row in marks)
    return Path(length, line, curvature, nodes)


def _blurred(line: Array, sigma: float) -> Array:
    """A polyline smoothed by a Gaussian of `sigma` rows; its ends stay where they are."""
    reach = min(len(line) - 1, int(4 * sigma) + 1)
    before, after = 2 * line[0] - line[reach:0:-1], 2 * line[-1] - line[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, line, after])
    return np.asarray(gaussian_filter1d(padded, sigma, axis=0)[reach : reach + len(line)])


def _normals(line: Array) -> Array:
    """(P, 2) unit vectors to the left of a polyline."""
    d = np.gradient(line, axis=0)
    d /= np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-12)
    return np.column_stack([-d[:, 1], d[:, 0]])


def _lateral(world: Scenery, line: Array, sway: Array, lateral_m: float, step: float) -> Array:
    """(P,) the lateral offset where there is room for it, less where not, changing gently."""
    normal = _normals(line)
    clearance = min(1.1, 0.35 * float(np.median(world.network.half_road)))
    wanted = np.zeros(len(line))
    for share in (0.25, 0.5, 0.75, 1.0):
        moved = line + (sway + share * lateral_m)[:, None] * normal
        wanted[free(world, moved, clearance) & (wanted == share - 0.25)] = share
    reach = max(1, round(3.0 * abs(lateral_m) / step))
    least = minimum_filter1d(wanted, 2 * reach + 1, mode="nearest")
    return lateral_m * gaussian_filter1d(least, reach / 2.5, mode="nearest")


def free(world: Scenery, xy: Array, clearance_m: float) -> np.ndarray:
    """(N,) bool: places (N, 2) on a way that are clear of its sides and of all obstacles."""
    xy = np.asarray(xy, np.float64)
    distance, edge = world.network.offsets(xy)
    clear = distance <= world.network.half_road[edge] - clearance_m
    o = np.asarray(world.obstacles, np.float64).reshape(-1, 5)
    if not len(o):
        return np.asarray(clear)
    c, s = np.cos(o[:, 2]), np.sin(o[:, 2])
    for block in range(0, len(xy), 512):
        delta = xy[block : block + 512, None] - o[:, :2]
        dx = np.abs(delta[..., 0] * c + delta[..., 1] * s) - o[:, 3]
        dy = np.abs(-delta[..., 0] * s + delta[..., 1] * c) - o[:, 4]
        gap = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)).min(axis=1)
        clear[block : block + 512] &= gap >= clearance_m
    return np.asarray(clear)
