"""The street network of a town: an irregular grid with missing edges, and its hills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array


@dataclass(frozen=True, eq=False)
class Network:
    """Streets as straight edges between nodes.

    Attributes:
        nodes: (N, 2) metres, world frame.
        edges: (E, 2) int64 rows of `nodes`.
        half_road: (E,) metres from the centre line to the kerb.
        half_street: (E,) metres from the centre line to the back of the pavement.
        hills: (H, 4) of the terrain's height (amplitude m, kx 1/m, ky 1/m, phase).
        lane_m: the robot drives this far right of the centre line, metres.
        corner_m: it begins to turn this far before a node, metres.
        speed_m_s: mean speed that suits these ways.
    """

    nodes: Array
    edges: npt.NDArray[np.int64]
    half_road: Array
    half_street: Array
    hills: Array
    lane_m: float = 1.25
    corner_m: float = 12.0
    speed_m_s: float = 7.0

    def height(self, xy: Array) -> Array:
        """Ground height (...,) in metres at positions (..., 2)."""
        xy = np.asarray(xy, np.float64)
        phase = xy[..., :1] * self.hills[:, 1] + xy[..., 1:2] * self.hills[:, 2] + self.hills[:, 3]
        return np.asarray((self.hills[:, 0] * np.sin(phase)).sum(axis=-1))

    def slope(self, xy: Array) -> Array:
        """Gradient (..., 2) of `height`."""
        xy = np.asarray(xy, np.float64)
        phase = xy[..., :1] * self.hills[:, 1] + xy[..., 1:2] * self.hills[:, 2] + self.hills[:, 3]
        weight = self.hills[:, 0] * np.cos(phase)
        return np.stack(
            [(weight * self.hills[:, 1]).sum(-1), (weight * self.hills[:, 2]).sum(-1)], -1
        )

    def stand(self, xy: Array, yaw: Array, lift_m: float = 0.0) -> Array:
        """(N, 4, 4) poses of things that stand on the ground at (N, 2), heading yaw (N,) radians,
        tilted as the ground is and `lift_m` above it."""
        slope, c, s = self.slope(xy), np.cos(yaw), np.sin(yaw)
        up = np.column_stack([-slope, np.ones(len(xy))])
        up /= np.linalg.norm(up, axis=1, keepdims=True)
        forward = np.column_stack([c, s, slope[:, 0] * c + slope[:, 1] * s])
        forward /= np.linalg.norm(forward, axis=1, keepdims=True)
        T = np.tile(np.eye(4), (len(xy), 1, 1))
        T[:, :3, 0], T[:, :3, 1], T[:, :3, 2] = forward, np.cross(up, forward), up
        T[:, :2, 3], T[:, 2, 3] = xy, self.height(xy) + lift_m
        return T

    def neighbours(self, node: int) -> list[tuple[int, int]]:
        """(edge, other node) pairs at a node."""
        found = []
        for e, (a, b) in enumerate(self.edges.tolist()):
            if node in (a, b):
                found.append((e, b if a == node else a))
        return found

    def length_m(self) -> float:
        """Total length of the streets."""
        ends = self.nodes[self.edges]
        return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum())

    def offsets(self, xy: Array) -> tuple[Array, npt.NDArray[np.int64]]:
        """Distance (N,) of points (N, 2) beyond the nearest street's centre line, and its edge.

        "Nearest" is by distance relative to the street's half width.
        """
        best, edge = np.full(len(xy), np.inf), np.zeros(len(xy), np.int64)
        distance = np.full(len(xy), np.inf)
        for e, (a, b) in enumerate(self.nodes[self.edges]):
            along = b - a
            s = np.clip(((xy - a) @ along) / (along @ along), 0, 1)
            d = np.linalg.norm(xy - a - s[:, None] * along, axis=1)
            closer = d - self.half_street[e] < best
            best = np.where(closer, d - self.half_street[e], best)
            distance = np.where(closer, d, distance)
            edge[closer] = e
        return distance, edge


def make_network(
    rng: np.random.Generator, columns: int, rows: int, block_m: float, hill_m: float
) -> Network:
    """A connected irregular grid of `columns` x `rows` crossings."""
    xs = np.cumsum(np.r_[0.0, rng.uniform(0.8, 1.25, columns - 1) * block_m])
    ys = np.cumsum(np.r_[0.0, rng.uniform(0.8, 1.25, rows - 1) * block_m])
    grid = np.stack(np.meshgrid(xs - xs.mean(), ys - ys.mean(), indexing="ij"), -1).reshape(-1, 2)
    nodes = grid + rng.uniform(-0.11, 0.11, grid.shape) * block_m
    turn = rng.uniform(0, 2 * np.pi)
    nodes = nodes @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    edges = [(i * rows + j, i * rows + j + 1) for i in range(columns) for j in range(rows - 1)]
    edges += [(i * rows + j, (i + 1) * rows + j) for i in range(columns - 1) for j in range(rows)]
    edges = _thin(rng, edges, len(nodes), len(edges) // 6)
    half_road = rng.choice([5.1, 5.4, 6.0], len(edges), p=[0.4, 0.4, 0.2])
    half_street = half_road + rng.uniform(3.6, 4.8, len(edges))
    wave = rng.uniform(120, 260, 4)
    heading = rng.uniform(0, 2 * np.pi, 4)
    hills = np.column_stack(
        [
            np.full(4, hill_m / 4),
            2 * np.pi / wave * np.cos(heading),
            2 * np.pi / wave * np.sin(heading),
            rng.uniform(0, 2 * np.pi, 4),
        ]
    )
    return Network(nodes, np.array(edges, np.int64), half_road, half_street, hills)


def _thin(
    rng: np.random.Generator, edges: list[tuple[int, int]], nodes: int, remove: int
) -> list[tuple[int, int]]:
    """Takes out streets, but leaves every crossing with two and the town in one piece."""
    for edge in [edges[k] for k in rng.permutation(len(edges))]:
        if remove == 0:
            break
        rest = [other for other in edges if other != edge]
        ends = [node for other in rest for node in other]
        if all(ends.count(node) >= 2 for node in edge) and _connected(rest, nodes):
            edges, remove = rest, remove - 1
    return edges


def _connected(edges: list[tuple[int, int]], nodes: int) -> bool:
    reached, border = {0}, [0]
    while border:
        node = border.pop()
        for a, b in edges:
            for here, there in ((a, b), (b, a)):
                if here == node and there not in reached:
                    reached.add(there)
                    border.append(there)
    return len(reached) == nodes
