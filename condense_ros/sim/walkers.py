"""People who walk up and down corridors, or along any line."""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.designs import Design
from condense_ros.sim.indoors.floorplan import FloorPlan
from condense_ros.sim.mesh import Mesh, MeshBuilder
from condense_ros.sim.network import Network
from condense_ros.sim.scenery import Mover, Trajectory

#: walkers keep this far right of the centre line: between a robot that drives on it and what
#: stands at the walls
_ASIDE_M = 0.6


def corridor_walkers(
    rng: np.random.Generator,
    plan: FloorPlan,
    designs: list[Design],
    count: int,
    first_instance: int,
) -> tuple[Mover, ...]:
    """`count` people, each of whom walks up one long corridor and back on its other side.

    Args:
        first_instance: object number of the first; the others follow.
    """
    movers = []
    low, high = float(plan.xs[0]) - 0.3, float(plan.xs[-1]) + 0.3
    for k in range(count):
        y = float(rng.choice(plan.ys))
        a, b = np.sort(rng.uniform(low, high, 2))
        if b - a < 8.0:
            a, b = low, high
        line = racetrack(np.array([a, y]), np.array([b, y]), _ASIDE_M)
        design = designs[int(rng.integers(len(designs)))]
        shift = float(rng.uniform(0, 1))
        movers.append(walk(design, line, float(rng.uniform(0.8, 1.4)), shift, first_instance + k))
    return tuple(movers)


def racetrack(a: Array, b: Array, aside_m: float) -> Array:
    """A closed line (P, 2) from a to b on the right of their connection and back on the other."""
    d = (b - a) / np.linalg.norm(b - a)
    right = np.array([d[1], -d[0]])
    angle = np.linspace(0, np.pi, 7)[1:-1, None]
    turn_b = b + aside_m * (np.cos(angle) * right + np.sin(angle) * d)
    turn_a = a - aside_m * (np.cos(angle) * right + np.sin(angle) * d)
    there = np.array([a, b]) + aside_m * right
    back = np.array([b, a]) - aside_m * right
    return np.concatenate([there, turn_b, back, turn_a])


def walk(
    design: Design,
    line: Array,
    speed: float,
    shift: float,
    instance: int,
    network: Network | None = None,
    *,
    tilted: bool = False,
) -> Mover:
    """A design that goes round a closed line (P, 2) at a steady speed, on the ground.

    Args:
        shift: where on the line it is at time 0, 0..1.
        network: gives the ground's height; level at 0 without.
        tilted: it stands square to the ground, as machines do; people stand upright.
    """
    closed = np.concatenate([line, line[:1]])
    along = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))]
    count = max(8, int(np.ceil(along[-1] / (0.35 * max(speed, 1.0)))))
    s = (np.arange(count) / count + shift) % 1.0 * along[-1]
    xy = np.column_stack([np.interp(s, along, closed[:, i]) for i in (0, 1)])
    ahead = np.roll(xy, -1, axis=0) - np.roll(xy, 1, axis=0)
    yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
    if network is not None and tilted:
        knots = network.stand(xy, yaw)
    else:
        knots = np.tile(np.eye(4), (count, 1, 1))
        knots[:, 0, 0] = knots[:, 1, 1] = np.cos(yaw)
        knots[:, 1, 0] = np.sin(yaw)
        knots[:, 0, 1] = -knots[:, 1, 0]
        knots[:, :2, 3] = xy
        if network is not None:
            knots[:, 2, 3] = network.height(xy)
    return Mover(mesh_of(design, instance), Trajectory(float(along[-1] / speed), knots))


def mesh_of(design: Design, instance: int) -> Mesh:
    """The mesh of one design in its own frame, all of it one object."""
    builder = MeshBuilder()
    design.add(builder, np.eye(4))
    mesh = builder.mesh()
    number = np.full(len(mesh.triangles), instance, np.int32)
    return Mesh(mesh.triangles, mesh.surface, number, mesh.surfaces)
