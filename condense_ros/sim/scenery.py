"""What every world offers to sensors and drives: light, things that move, and the world itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.ontology import Ontology
from condense_ros.sim.mesh import Mesh
from condense_ros.sim.network import Network

#: worlds stand at time 0 at this stamp; a stamp before it is a negative time
EPOCH_NS = 1_700_000_000 * 10**9


def world_time_s(stamp_ns: int) -> float:
    """Seconds since `EPOCH_NS`, the time that movers go by."""
    return (stamp_ns - EPOCH_NS) * 1e-9


@dataclass(frozen=True)
class Light:
    """Light and weather of one session. Colours are linear RGB radiance; 1 is a white wall in sun.

    Attributes:
        sun: unit vector towards the sun, world frame.
        sun_rgb: of a surface that faces it; zeros indoors and under a closed sky.
        ambient_rgb: from everywhere, brighter from above.
        horizon_rgb, zenith_rgb: the sky.
        clouds: share of the sky that is covered, 0..1.
        haze_m: distance over which 63 % of an object's contrast is lost.
        wet: 0 dry .. 1 wet: darker ground that mirrors the sky a little and sends back less laser
            light.
        lamps: point lights (x, y, z) indoors; each surface is lit by the nearest ones it sees.
        lamp_rgb: radiance of a white surface that faces a lamp from 1 m.
    """

    sun: tuple[float, float, float] = (0.5, 0.3, 0.812403840463596)
    sun_rgb: tuple[float, float, float] = (1.25, 1.18, 1.02)
    ambient_rgb: tuple[float, float, float] = (0.42, 0.48, 0.58)
    horizon_rgb: tuple[float, float, float] = (0.78, 0.82, 0.86)
    zenith_rgb: tuple[float, float, float] = (0.28, 0.46, 0.78)
    clouds: float = 0.2
    haze_m: float = 400.0
    wet: float = 0.0
    lamps: tuple[tuple[float, float, float], ...] = ()
    lamp_rgb: tuple[float, float, float] = (2.0, 1.9, 1.7)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A closed way that is travelled for ever, smooth in time.

    Attributes:
        period_s: seconds of one round.
        knots: (K, 4, 4) T_world_object at times k * period_s / K; the last leads back to the first.
            Positions and headings in between are interpolated.
    """

    period_s: float
    knots: Array

    def at(self, t_s: npt.ArrayLike) -> Array:
        """(N, 4, 4) T_world_object at times (N,) seconds; any time, also negative.

        The heading (yaw) is interpolated the short way round; pitch and roll linearly.
        """
        t = np.atleast_1d(np.asarray(t_s, np.float64))
        count = len(self.knots)
        place = (t / self.period_s % 1.0) * count
        low = np.floor(place).astype(np.int64) % count
        high, share = (low + 1) % count, (place - np.floor(place))[:, None]
        position = self.knots[:, :3, 3]
        R = self.knots[:, :3, :3]
        yaw = np.arctan2(R[:, 1, 0], R[:, 0, 0])
        tilt = np.stack(
            [np.arcsin(np.clip(-R[:, 2, 0], -1, 1)), np.arctan2(R[:, 2, 1], R[:, 2, 2])], 1
        )
        turn = (yaw[high] - yaw[low] + np.pi) % (2 * np.pi) - np.pi
        a = yaw[low] + share[:, 0] * turn
        p, r = (tilt[low] + share * (tilt[high] - tilt[low])).T
        ca, sa, cp, sp, cr, sr = np.cos(a), np.sin(a), np.cos(p), np.sin(p), np.cos(r), np.sin(r)
        T = np.zeros((len(t), 4, 4))
        T[:, 0, 0], T[:, 0, 1], T[:, 0, 2] = ca * cp, ca * sp * sr - sa * cr, ca * sp * cr + sa * sr
        T[:, 1, 0], T[:, 1, 1], T[:, 1, 2] = sa * cp, sa * sp * sr + ca * cr, sa * sp * cr - ca * sr
        T[:, 2, 0], T[:, 2, 1], T[:, 2, 2] = -sp, cp * sr, cp * cr
        T[:, :3, 3] = position[low] + share * (position[high] - position[low])
        T[:, 3, 3] = 1.0
        return T


@dataclass(frozen=True, eq=False)
class Mover:
    """One rigid thing that moves: a car in traffic, a person walking.

    Attributes:
        mesh: its triangles in its own frame (x forward, origin on the ground); every triangle
            carries the mover's own instance number, which no other object of the world has.
        trajectory: where it is at any time.
        radius_m: of a sphere around its origin that holds all triangles.
    """

    mesh: Mesh
    trajectory: Trajectory
    radius_m: float = field(default=0.0)

    def __post_init__(self) -> None:
        if not self.radius_m:
            far = np.linalg.norm(self.mesh.triangles.reshape(-1, 3), axis=1).max()
            object.__setattr__(self, "radius_m", float(far) + 1e-3)


class Scenery(Protocol):
    """A world that sensors can be put into. Made from (kind, seed, session, split) alone.

    Attributes:
        kind: "town", "building" or "terrain".
        seed: of everything that stays from session to session.
        session: 0, 1, ...: another day: other light, parked cars, people, plants, a building site.
        split: "train" or "test"; the two draw from disjoint assets (`assets`).
        mesh: all triangles that stand still.
        movers: what moves.
        light: sun, sky, weather, lamps.
        ontology: classes of this kind of world.
        assets: names of all assets (models of cars, houses, trees, textures ...) it was made of.
        network: the ways a robot may drive, and the height of the ground.
        obstacles: (O, 5) things on the ground: x, y, yaw, half length, half width, metres.
    """

    kind: str
    seed: int
    session: int
    split: str
    mesh: Mesh
    movers: tuple[Mover, ...]
    light: Light
    ontology: Ontology
    assets: frozenset[str]
    network: Network
    obstacles: Array

    def height(self, xy: Array) -> Array:
        """Ground height (...,) at positions (..., 2), metres."""
        ...
