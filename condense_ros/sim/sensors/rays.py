"""`Rays`: where and when a sensor looks; `Motion`: where the robot is meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array, check_se3


class Motion(Protocol):
    """A robot under way."""

    def at(self, t_s: Array) -> Array:
        """(N, 4, 4) T_world_base at times (N,), seconds after `scenery.EPOCH_NS`."""
        ...


@dataclass(frozen=True, eq=False)
class Standing:
    """A robot that stands still.

    Raises:
        GeometryError: the pose is no rigid motion.
    """

    T_world_base: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "T_world_base", check_se3(self.T_world_base, "T_world_base"))

    def at(self, t_s: Array) -> Array:
        """(N, 4, 4) the same pose at all times."""
        return np.broadcast_to(self.T_world_base, (len(t_s), 4, 4))


def as_motion(motion: Motion | Array) -> Motion:
    """A (4, 4) pose T_world_base as a robot that stands still there; motions stay as they are.

    Raises:
        GeometryError: a pose that is no rigid motion.
    """
    return motion if hasattr(motion, "at") else Standing(motion)


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays in the world. Those that leave at the same time share one row of K.

    Attributes:
        direction: (N, 3) unit vectors, float32 or float64.
        origin: (K, 3) float64 metres.
        time_s: (K,) float64 seconds after `scenery.EPOCH_NS`.
        block: (N,) int32 row of origin and time; (0,) where K = 1.
        cone: unit vector and half angle in radians that hold all directions, or None.
    """

    direction: npt.NDArray[np.floating]
    origin: Array
    time_s: Array
    block: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    cone: tuple[Array, float] | None = None

    def start(self) -> Array:
        """(N, 3) or (3,) origins, one per ray where they differ."""
        return self.origin[self.block] if len(self.block) else self.origin[0]


def cone_around(direction: Array) -> tuple[Array, float]:
    """Axis (3,) and half angle, radians, of a cone around unit vectors (N, 3)."""
    axis = direction.mean(axis=0)
    length = float(np.linalg.norm(axis))
    if length < 0.1:
        return np.array([0.0, 0.0, 1.0]), float(np.pi)
    axis /= length
    return axis, float(np.arccos(np.clip((direction @ axis).min(), -1.0, 1.0)))
