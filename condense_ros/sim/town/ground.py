"""Roads, kerbs, pavements, corners and terrain of a street network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, quads, strip
from condense_ros.sim.network import Network
from condense_ros.sim.town import classes
from condense_ros.sim.town.assets import Assets
from condense_ros.sim.town.footprints import Footprints

KERB_M = 0.13
#: streets give way to the crossing this far (metres) from its node
CLEAR_M = 13.0
#: pieces per side of a terrain cell of 2.5 m near streets
_FINE = 3


def add_ways(
    builder: MeshBuilder, network: Network, assets: Assets, rng: np.random.Generator
) -> None:
    """Adds roads, kerbs, pavements and their corners; the labels are road and pavement."""
    r, p = classes.ROAD, classes.PAVEMENT
    asphalt = [
        assets.paint(rng, r, kind, (1, 2), spread=0.15, scale_m=scale)
        for kind, scale in (("asphalt", 1.0), ("mottle", 2.5), ("brick", 0.25), ("asphalt", 2.0))
    ]
    paving = [
        assets.paint(rng, p, kind, (0, 1, 3, 14), (1, 5), scale_m=scale)
        for kind, scale in (("tiles", 0.6), ("brick", 0.22), ("asphalt", 1.0), ("tiles", 0.35))
    ]
    kerb = assets.paint(rng, p, "plain concrete", (0, 1, 10))
    line = assets.paint(rng, r, "plain", (10, 0), spread=0.05, reflectance=(0.5, 0.9))
    for e, (a, b) in enumerate(network.nodes[network.edges]):
        road = asphalt[int(rng.integers(len(asphalt)))]
        walk = paving[int(rng.integers(len(paving)))]
        _add_street(builder, network, e, a, b, rng, road, walk, kerb, line)
    for node in range(len(network.nodes)):
        walk = paving[int(rng.integers(len(paving)))]
        _add_crossing(builder, network, node, asphalt[0], walk, kerb)


def _lift(network: Network, xy: Array, z: float) -> Array:
    return np.concatenate([xy, (network.height(xy) + z)[..., None]], axis=-1)


def _add_street(builder, network, e, a, b, rng, asphalt, paving, kerb, line) -> None:  # type: ignore[no-untyped-def]
    along = b - a
    length = float(np.linalg.norm(along))
    along, left = along / length, np.array([-along[1], along[0]]) / length
    road, street = network.half_road[e], network.half_street[e]

    def rail(offset: float, z: float, start: float, end: float, step: float = 3.0) -> Array:
        s = np.linspace(start, end, max(2, int((end - start) / step) + 1))
        return _lift(network, a + s[:, None] * along + offset * left, z)

    # three ribbons across, so that the road follows the hills sideways too
    for lo, hi in ((-road, -road / 3), (-road / 3, road / 3), (road / 3, road)):
        builder.add(strip(rail(hi, 0, 0, length), rail(lo, 0, 0, length)), asphalt)
    start, end = CLEAR_M, length - CLEAR_M
    for side in (1, -1):
        inner, back = side * road, side * street
        top_in, top_out = rail(inner, KERB_M, start, end), rail(back, KERB_M, start, end)
        builder.add(strip(top_out, top_in) if side > 0 else strip(top_in, top_out), paving)
        builder.add(strip(top_in, rail(inner, -0.1, start, end)), kerb)
        builder.add(strip(top_out, rail(back, -0.6, start, end)), kerb)
    if rng.random() < 0.7:
        for s in np.arange(start, end - 3, 6.0):
            builder.add(strip(rail(0.07, 0.006, s, s + 3), rail(-0.07, 0.006, s, s + 3)), line)


def corner_curves(network: Network, node: int) -> list[tuple[Array, Array]]:
    """Kerb and back (9, 2) of the rounded pavements between neighbouring streets at a node."""
    centre, arms = network.nodes[node], []
    for e, other in network.neighbours(node):
        direction = network.nodes[other] - centre
        arms.append((float(np.arctan2(direction[1], direction[0])), e))
    arms.sort()
    found = []
    for k, (angle_a, ea) in enumerate(arms):
        angle_b, eb = arms[(k + 1) % len(arms)]
        curves = []
        for widths in (network.half_road, network.half_street):
            starts, dirs = [], []
            for angle, e, side in ((angle_a, ea, 1), (angle_b, eb, -1)):
                d = np.array([np.cos(angle), np.sin(angle)])
                n = np.array([-d[1], d[0]])
                starts.append(centre + CLEAR_M * d + side * widths[e] * n)
                dirs.append(d)
            # control point where the two kerb lines meet; for nearly straight streets, midway
            matrix = np.column_stack([dirs[0], -dirs[1]])
            if abs(np.linalg.det(matrix)) > 0.35:
                s = np.linalg.solve(matrix, starts[1] - starts[0])
                control = starts[0] + s[0] * dirs[0]
            else:
                control = (starts[0] + starts[1]) / 2
            t = np.linspace(0, 1, 9)[:, None]
            curves.append((1 - t) ** 2 * starts[0] + 2 * t * (1 - t) * control + t**2 * starts[1])
        found.append((curves[0], curves[1]))
    return found


def _add_crossing(
    builder: MeshBuilder,
    network: Network,
    node: int,
    asphalt: Surface,
    paving: Surface,
    kerb: Surface,
) -> None:
    """Pavement corners between neighbouring streets, and the road surface inside them."""
    centre, inner_ring = network.nodes[node], []
    for inner, outer in corner_curves(network, node):
        top_in, top_out = _lift(network, inner, KERB_M), _lift(network, outer, KERB_M)
        builder.add(strip(top_out, top_in), paving)
        builder.add(strip(top_in, _lift(network, inner, -0.1)), kerb)
        builder.add(strip(top_out, _lift(network, outer, -0.6)), kerb)
        inner_ring.append(inner)
    ring = np.concatenate(inner_ring)
    # concentric rings follow the hills; a little above the streets that run through underneath
    rings = [_lift(network, centre + (ring - centre) * k, 0.012) for k in (1, 0.75, 0.5, 0.25)]
    for outer, inner in pairwise(rings):
        builder.add(strip(np.r_[inner, inner[:1]], np.r_[outer, outer[:1]]), asphalt)
    hub = np.broadcast_to(_lift(network, centre[None], 0.012), rings[-1].shape)
    builder.add(np.stack([hub, rings[-1], np.roll(rings[-1], -1, axis=0)], axis=1), asphalt)


def add_terrain(
    builder: MeshBuilder,
    network: Network,
    taken: Footprints,
    assets: Assets,
    rng: np.random.Generator,
) -> None:
    """Adds all other ground: rough by centimetres, with blades of grass, where streets see it."""
    step, margin = 2.5, 90.0
    low, high = network.nodes.min(axis=0) - margin, network.nodes.max(axis=0) + margin
    x, y = (np.arange(low[i], high[i] + step, step) for i in (0, 1))
    xy = np.stack(np.meshgrid(x, y, indexing="ij"), -1)
    distance, edge = network.offsets(xy.reshape(-1, 2))
    road, street = network.half_road[edge], network.half_street[edge]
    near_node = np.linalg.norm(xy.reshape(-1, 1, 2) - network.nodes, axis=2).min(axis=1)
    # under roads and crossings the terrain is sunk; it comes up behind the pavement
    share = np.clip((distance - road - 0.3) / (0.7 * (street - road)), 0, 1)
    share = np.where(near_node < CLEAR_M, np.minimum(share, (distance > street)), share)
    rough = rng.normal(0, 0.025, len(share)) + 0.12 * (distance > street + 4)
    height = network.height(xy) + np.where(
        share > 0, -0.4 + share * 0.48 + (share == 1) * rough, -0.4
    ).reshape(xy.shape[:2])
    beyond = (distance - street).reshape(xy.shape[:2])
    points = np.concatenate([xy, height[..., None], beyond[..., None]], axis=-1)
    corners = np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], 2)
    middle = corners.mean(axis=2)
    fine = (middle[..., 3] > -1.0) & (middle[..., 3] < 9.0)
    fine &= ~_covered(middle[..., :2].reshape(-1, 2), taken.array()).reshape(fine.shape)
    patch = np.floor(corners[:, :, 0, :2] / 30).astype(np.int64) @ np.array([7, 13])
    kinds = _soils(assets, rng)
    which = np.array([0, 1, 0, 2, 1, 3])[patch % 6]
    detailed, of_cell = _subdivide(points, fine, rng)
    blades = [
        assets.paint(rng, classes.TERRAIN, "leaf", c, (9, 13, 3), scale_m=0.4)
        for c in ((9, 13), (13, 9), (9, 14, 5))
    ]
    for number, kind in enumerate(kinds):
        builder.add(quads(corners[(which == number) & ~fine][..., :3]), kind)
        chosen = detailed[which.reshape(-1)[of_cell] == number]
        builder.add(quads(chosen), kind)
        if number < 3:
            builder.add(_blades(chosen, rng, (0.9, 2.0, 0.4)[number]), blades[number])
    # flat land out to the horizon, so that the sky ends where it should
    far, z = 700.0, float(height.min()) - 0.6
    edge_of_land = np.array(
        [
            [low[0] - far, low[1] - far],
            [high[0] + far, low[1] - far],
            [high[0] + far, high[1] + far],
            [low[0] - far, high[1] + far],
        ]
    )
    builder.add(quads(np.column_stack([edge_of_land, np.full(4, z)])), kinds[0])


def _soils(assets: Assets, rng: np.random.Generator) -> list[Surface]:
    """Meadow, rank grass, bare earth and gravel."""
    t = classes.TERRAIN
    return [
        assets.paint(rng, t, "grass", (9, 13), (13, 8, 5), scale_m=1.2),
        assets.paint(rng, t, "grass", (13, 9), (5, 14), scale_m=0.5),
        assets.paint(rng, t, "mottle", (14, 5), (9, 1), scale_m=2.0),
        assets.paint(rng, t, "gravel", (0, 1, 3), (1, 14), scale_m=0.3),
    ]


def _covered(xy: Array, rows: Array) -> npt.NDArray[np.bool_]:
    """Whether points (N, 2) lie inside any of the rectangles by more than a coarse cell."""
    inside = np.zeros(len(xy), bool)
    for x, y, yaw, half_x, half_y in rows[(rows[:, 3:] > 3.0).all(axis=1)]:
        dx, dy = xy[:, 0] - x, xy[:, 1] - y
        u, v = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
        inside |= (np.abs(u) < half_x - 1.8) & (np.abs(v) < half_y - 1.8)
    return inside


def _subdivide(
    points: Array, fine: npt.NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Quads (Q, 4, 3) of `_FINE` x `_FINE` rough pieces per fine cell, and the cell of each.

    Where a fine cell borders a coarse one its edge stays straight, so that no gap opens.
    """
    n = _FINE
    rows, columns = points.shape[0] - 1, points.shape[1] - 1
    i, j = (np.arange(size * n + 1) for size in (rows, columns))
    a, b = np.minimum(i // n, rows - 1), np.minimum(j // n, columns - 1)
    u, v = ((i - a * n) / n)[:, None, None], ((j - b * n) / n)[None, :, None]
    grid = (
        points[a][:, b] * (1 - u) * (1 - v)
        + points[a + 1][:, b] * u * (1 - v)
        + points[a][:, b + 1] * (1 - u) * v
        + points[a + 1][:, b + 1] * u * v
    )
    # a vertex is free to move if all fine pieces around it belong to fine cells
    piece = np.pad(np.kron(fine, np.ones((n, n), bool)), 1)
    free = piece[:-1, :-1] & piece[1:, :-1] & piece[:-1, 1:] & piece[1:, 1:]
    free &= grid[..., 3] > 0.25
    grid[..., 2] += np.where(free, rng.normal(0, 0.035, free.shape), 0)
    corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], 2)[..., :3]
    chosen = piece[1:-1, 1:-1]
    number = np.arange(rows * columns).reshape(rows, columns)
    cell = np.asarray(np.kron(number, np.ones((n, n), np.int64)), np.int64)
    return corners[chosen], cell[chosen]


def _blades(pieces: Array, rng: np.random.Generator, density: float) -> Array:
    """Tufts (B, 3, 3) on ground quads, `density` per square metre, 6 to 25 cm high."""
    count = int(density * len(pieces) * (2.5 / _FINE) ** 2)
    if not count:
        return np.empty((0, 3, 3))
    quad = pieces[rng.integers(0, len(pieces), count)]
    u, v = rng.random((2, count, 1))
    foot = (quad[:, 0] * (1 - u) + quad[:, 1] * u) * (1 - v) + (
        quad[:, 3] * (1 - u) + quad[:, 2] * u
    ) * v
    angle, wide = rng.uniform(0, np.pi, count), rng.uniform(0.05, 0.14, count)
    side = np.column_stack([wide * np.cos(angle), wide * np.sin(angle), np.full(count, -0.02)])
    tip = foot + rng.normal(0, 0.05, (count, 3))
    tip[:, 2] = foot[:, 2] + rng.uniform(0.06, 0.25, count)
    return np.stack([foot - side * [1, 1, -1], foot + side, tip], axis=1)
