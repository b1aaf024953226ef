"""Roads, kerbs, pavements, corners and terrain of a street network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim import classes
from condense_ros.sim.materials import paint, surface
from condense_ros.sim.mesh import MeshBuilder, quads, strip
from condense_ros.sim.network import Network

KERB_M = 0.13
#: streets give way to the crossing this far (metres) from its node
CLEAR_M = 13.0


def add_ground(builder: MeshBuilder, network: Network, rng: np.random.Generator) -> None:
    """Adds the ground of a town; its labels are road, pavement and terrain."""
    asphalt = [
        surface(
            rng,
            classes.ROAD,
            kind,
            paint(rng, 1, 2, spread=0.15),
            paint(rng, 1, 2, spread=0.15),
            scale_m=scale,
        )
        for kind, scale in (("mottle", 6.0), ("mottle", 2.5), ("brick", 0.25), ("plain", 1.0))
    ]
    paving = [
        surface(rng, classes.PAVEMENT, kind, paint(rng, 0, 1, 3, 14), paint(rng, 1, 5), scale_m=s)
        for kind, s in (("tiles", 0.6), ("brick", 0.22), ("mottle", 2.0), ("tiles", 0.35))
    ]
    kerb = surface(rng, classes.PAVEMENT, "plain", paint(rng, 0, 1, 10))
    line = surface(rng, classes.ROAD, "plain", (0.7, 0.7, 0.68), reflectance=(0.7, 0.9))
    for e, (a, b) in enumerate(network.nodes[network.edges]):
        _add_street(builder, network, e, a, b, rng, asphalt[e % 4], paving[(e * 7) % 4], kerb, line)
    for node in range(len(network.nodes)):
        _add_crossing(builder, network, node, asphalt[0], paving[node % 4], kerb)
    _add_terrain(builder, network, rng)


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


def _add_crossing(builder, network, node, asphalt, paving, kerb) -> None:  # type: ignore[no-untyped-def]
    """Pavement corners between neighbouring streets, and the road surface inside them."""
    centre = network.nodes[node]
    arms = []
    for e, other in network.neighbours(node):
        direction = network.nodes[other] - centre
        arms.append((float(np.arctan2(direction[1], direction[0])), e))
    arms.sort()
    inner_ring = []
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
        inner, outer = curves
        top_in, top_out = _lift(network, inner, KERB_M), _lift(network, outer, KERB_M)
        builder.add(strip(top_out, top_in), paving)
        builder.add(strip(top_in, _lift(network, inner, -0.1)), kerb)
        builder.add(strip(top_out, _lift(network, outer, -0.6)), kerb)
        inner_ring.append(inner)
    ring = np.concatenate(inner_ring)
    # concentric rings follow the hills; a little above the streets that run through underneath
    rings = [_lift(network, centre + (ring - centre) * k, 0.012) for k in (1, 0.75, 0.5, 0.25, 0)]
    for outer, inner in pairwise(rings):
        builder.add(strip(np.r_[inner, inner[:1]], np.r_[outer, outer[:1]]), asphalt)


def _add_terrain(builder: MeshBuilder, network: Network, rng: np.random.Generator) -> None:
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
    points = np.concatenate([xy, height[..., None]], axis=-1)
    corners = np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], 2)
    patch = np.floor(corners[:, :, 0, :2] / 30).astype(np.int64) @ np.array([7, 13])
    kinds = [
        surface(rng, classes.TERRAIN, "mottle", paint(rng, 9, 13), paint(rng, 13, 8), scale_m=1.2),
        surface(rng, classes.TERRAIN, "leaf", paint(rng, 13, 9), paint(rng, 5, 14), scale_m=0.5),
        surface(rng, classes.TERRAIN, "mottle", paint(rng, 14, 5), paint(rng, 9, 1), scale_m=2.0),
        surface(rng, classes.TERRAIN, "tiles", paint(rng, 0, 1), paint(rng, 1), scale_m=0.5),
    ]
    which = np.array([0, 1, 0, 2, 1, 3])[patch % 6]
    for number, kind in enumerate(kinds):
        builder.add(quads(corners[which == number]), kind)
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
