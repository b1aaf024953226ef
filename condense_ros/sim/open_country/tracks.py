"""Tracks through open country: a winding ring with four spokes, the fields between, the relief."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from condense_ros.geometry import Array
from condense_ros.sim.network import Network

#: half the width of a track, and what nothing stands nearer to its centre line than, metres
HALF_TRACK_M, CLEAR_M = 1.25, 2.6
_STEP_M = 8.0


@dataclass(frozen=True, eq=False)
class Land:
    """How the country is divided.

    Fields 0 .. 3 lie between the spokes inside the ring, 4 .. 7 outside of it, counter-clockwise.

    Attributes:
        network: tracks and hills.
        radius_m: (A,) of the ring's centre line at equal steps of angle from 0 to 2 pi.
        spokes: four polylines (P, 2) from the middle to the ring.
        uses: (8,) what each field is: "rows", "cereal", "pasture", "plough", "meadow" or "wood".
    """

    network: Network
    radius_m: Array
    spokes: tuple[Array, ...]
    uses: tuple[str, ...]
    _tree: cKDTree

    def distance(self, xy: Array) -> Array:
        """(N,) metres from points (N, 2) to the nearest track's centre line."""
        return np.asarray(self._tree.query(np.asarray(xy, np.float64))[0], np.float64)

    def ring(self, angle: npt.ArrayLike) -> Array:
        """Radius of the ring at angles, metres."""
        share = np.asarray(angle) / (2 * np.pi) % 1.0
        grid = np.linspace(0, 1, len(self.radius_m))
        return np.asarray(np.interp(share, grid, self.radius_m))

    def field(self, xy: Array) -> npt.NDArray[np.int64]:
        """(N,) field 0 .. 7 of points (N, 2)."""
        rho, angle = np.hypot(xy[:, 0], xy[:, 1]), np.arctan2(xy[:, 1], xy[:, 0])
        starts = []
        for spoke in self.spokes:
            r = np.hypot(spoke[:, 0], spoke[:, 1])
            a = np.unwrap(np.arctan2(spoke[1:, 1], spoke[1:, 0]))
            starts.append(np.interp(rho, r[1:], a))
        turned = np.stack([(angle - a) % (2 * np.pi) for a in starts], axis=1)
        sector = turned.argmin(axis=1)
        return np.asarray(sector + 4 * (rho > self.ring(angle)), np.int64)

    def middle(self, field: int, outside_m: float = 30.0) -> Array:
        """(2,) a point well inside a field; of outer fields, that far beyond the ring."""
        k = field % 4
        a, b = (np.arctan2(*self.spokes[i][-1][::-1]) for i in (k, (k + 1) % 4))
        half = a + ((b - a) % (2 * np.pi)) / 2
        rho = float(self.ring(half))
        rho = rho + outside_m if field >= 4 else 0.56 * rho
        return rho * np.array([np.cos(half), np.sin(half)])

    def beside_ring(self, start: float, end: float, offset_m: float, step_m: float) -> Array:
        """(P, 2) a line along the ring between two angles, `offset_m` outside of it."""
        angle = np.linspace(start, end, 400)
        line = (self.ring(angle) + offset_m)[:, None] * np.column_stack(
            [np.cos(angle), np.sin(angle)]
        )
        return resample(line, step_m)


def resample(line: Array, step_m: float) -> Array:
    """A polyline (P, 2) at about equal steps, its ends kept."""
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
    s = np.linspace(0, along[-1], max(2, round(along[-1] / step_m) + 1))
    return np.column_stack([np.interp(s, along, line[:, i]) for i in (0, 1)])


_USES = {4: ("rows", "pasture", "plough", "cereal"), 8: ("wood", "meadow", "pasture", "cereal")}


def make_land(rng: np.random.Generator, radius_m: float, relief: float) -> Land:
    """Tracks, fields and hills; `relief` scales the hills' height."""
    grid = np.linspace(0, 2 * np.pi, 721)
    radius = np.full(len(grid), float(radius_m))
    for k, share in ((2, 0.12), (3, 0.07), (5, 0.035), (8, 0.012)):
        radius += radius_m * share * rng.uniform(0.5, 1) * np.cos(k * grid + rng.uniform(0, 6.28))
    ring = radius[:-1, None] * np.column_stack([np.cos(grid[:-1]), np.sin(grid[:-1])])
    ring = resample(np.r_[ring, ring[:1]], _STEP_M)[:-1]
    gates = (rng.integers(len(ring)) + np.arange(4) * len(ring) // 4) % len(ring)
    gates = np.sort(gates)
    nodes, edges = list(ring), [(i, (i + 1) % len(ring)) for i in range(len(ring))]
    middle = len(nodes)
    nodes.append(np.zeros(2))
    spokes = []
    for gate in gates:
        s = np.linspace(0, 1, 60)[:, None]
        end = ring[gate]
        side = np.array([-end[1], end[0]])
        wiggle = rng.uniform(-0.1, 0.1) * np.sin(np.pi * s) ** 2
        wiggle += rng.uniform(0.02, 0.05) * np.sin(3 * np.pi * s) * np.sin(np.pi * s)
        spoke = resample(s * end + wiggle * side, _STEP_M)
        spokes.append(spoke)
        inner = list(range(len(nodes), len(nodes) + len(spoke) - 2))
        nodes.extend(spoke[1:-1])
        chain = [middle, *inner, int(gate)]
        edges += list(pairwise(chain))
    count = len(edges)
    network = Network(
        np.array(nodes),
        np.array(edges, np.int64),
        np.full(count, CLEAR_M - 0.4),
        np.full(count, CLEAR_M - 0.4),
        _hills(rng, relief),
        lane_m=0.0,
        corner_m=3.0,
        speed_m_s=3.0,
    )
    uses = tuple(u[int(i)] for u in _USES.values() for i in rng.permutation(4))
    ends = network.nodes[network.edges]
    dense = ends[:, :1] + np.linspace(0, 1, 41)[None, :, None] * (ends[:, 1:] - ends[:, :1])
    return Land(network, radius, tuple(spokes), uses, cKDTree(dense.reshape(-1, 2)))


def _hills(rng: np.random.Generator, relief: float) -> Array:
    """Many waves whose height grows with their length: slopes of some 6 % at all scales."""
    count = 36
    wave = np.exp(rng.uniform(np.log(12), np.log(380), count))
    heading = rng.uniform(0, 2 * np.pi, count)
    slope = 0.075 / np.sqrt(count / 2) * rng.uniform(0.6, 1.4, count)
    # short waves are what a wheel meets: flatter
    slope *= np.clip(wave / 60, 0.35, 1)
    k = 2 * np.pi / wave
    return np.column_stack(
        [relief * slope / k, k * np.cos(heading), k * np.sin(heading), rng.uniform(0, 6.28, count)]
    )
