"""A world of a floor, a wall and whatever a test puts into it, with known surfaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from condense_ros.geometry import Array, se3
from condense_ros.sim.materials import Surface
from condense_ros.sim.mesh import MeshBuilder, boxes, quads
from condense_ros.sim.scenery import Light, Mover, Trajectory
from condense_ros.sim.town.classes import ontology

#: class of the floor, the wall, of boxes that stand and of boxes that move
FLOOR, WALL, BOX, MOVER = 0, 3, 15, 11
WALL_X = 12.0
SURFACES = {
    "floor": Surface(FLOOR, "plain", (0.5, 0.5, 0.5), reflectance=0.5, contrast=0.0),
    "wall": Surface(WALL, "plain", (0.6, 0.5, 0.4), reflectance=0.6, contrast=0.0),
    "box": Surface(BOX, "checker", (0.3, 0.3, 0.6), (0.6, 0.6, 0.2), 0.3, contrast=0.0),
    "mover": Surface(MOVER, "plain", (0.8, 0.2, 0.2), reflectance=0.5, contrast=0.0),
}


def straight(start: Array, velocity: Array, seconds: float = 20.0) -> Trajectory:
    """Along a line for `seconds`, and back in no time worth a test."""
    knots = np.stack(
        [se3(np.eye(3), start + velocity * t) for t in np.linspace(0, seconds, 201)[:-1]]
    )
    return Trajectory(seconds, knots)


def box_mover(trajectory: Trajectory, instance: int, size: tuple[float, float, float]) -> Mover:
    """A box on the ground around its origin."""
    builder = MeshBuilder()
    half = np.array([size[0] / 2, size[1] / 2, 0.0])
    builder.add(boxes(-half, half + [0, 0, size[2]]), SURFACES["mover"])
    mesh = builder.mesh()
    mesh.instance[:] = instance
    return Mover(mesh, trajectory)


class TinyWorld:
    """Floor z = 0, wall x = `WALL_X`; `fill` adds what stands, `movers` what moves."""

    def __init__(
        self,
        movers: tuple[Mover, ...] = (),
        light: Light | None = None,
        fill: Callable[[MeshBuilder], None] | None = None,
        session: int = 0,
    ) -> None:
        self.kind, self.seed, self.session, self.split = "town", 4, session, "train"
        builder = MeshBuilder()
        floor = np.array([[-60, -60, 0], [60, -60, 0], [60, 60, 0], [-60, 60, 0.0]])
        builder.add(quads(floor), SURFACES["floor"])
        builder.begin()
        x = WALL_X
        wall = np.array([[x, -60, -1], [x, 60, -1], [x, 60, 8], [x, -60, 8.0]])
        builder.add(quads(wall), SURFACES["wall"])
        if fill:
            builder.begin()
            fill(builder)
        self.mesh = builder.mesh()
        self.movers = movers
        self.light = light or Light()
        self.ontology, self.assets = ontology, frozenset[str]()
        self.obstacles = np.empty((0, 5))

    def height(self, xy: Array) -> Array:
        return np.zeros(np.shape(xy)[:-1])


class Driving:
    """A robot on a circle: constant speed (m/s) and turn rate (rad/s), at the origin at time 0."""

    def __init__(self, speed: float = 2.0, turn: float = 0.2) -> None:
        self.speed, self.turn = speed, turn

    def at(self, t_s: Array) -> Array:
        yaw = self.turn * np.asarray(t_s, np.float64)
        radius = self.speed / self.turn
        out = np.zeros((len(yaw), 4, 4))
        c, s = np.cos(yaw), np.sin(yaw)
        out[:, 0, 0], out[:, 0, 1], out[:, 0, 3] = c, -s, radius * s
        out[:, 1, 0], out[:, 1, 1], out[:, 1, 3] = s, c, radius * (1 - c)
        out[:, 2, 2] = out[:, 3, 3] = 1.0
        return out
