"""Movers that would drive into the robot are taken out of its drive."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from condense_ros.geometry import Array
from condense_ros.sim.driving.motion import Motion
from condense_ros.sim.scenery import Mover, Scenery

#: movers are looked at this often along a drive, seconds
_STEP_S = 0.1


@dataclass(frozen=True)
class Keepout:
    """The ground around base_link that no mover may come onto, metres."""

    ahead_m: float
    behind_m: float
    sideways_m: float

    @classmethod
    def of(cls, world: Scenery) -> Keepout:
        """3 m before and behind, and a car's width; indoors what a small robot needs."""
        if world.kind == "building":
            return cls(0.8, 0.8, 0.45)
        return cls(3.0, 3.0, 1.1)


def in_the_way(mover: Mover, motion: Motion, start_s: float, end_s: float, keep: Keepout) -> bool:
    """Whether a mover comes onto the keepout of a robot between two times."""
    t = np.arange(start_s, end_s + _STEP_S, _STEP_S)
    T_robot, T_mover = motion.at(t), mover.trajectory.at(t)
    reach = mover.radius_m + np.hypot(max(keep.ahead_m, keep.behind_m), keep.sideways_m)
    close = np.linalg.norm(T_robot[:, :2, 3] - T_mover[:, :2, 3], axis=1) < reach
    if not close.any():
        return False
    return bool(_overlap(T_robot[close], T_mover[close], _footprint(mover), keep).any())


def _footprint(mover: Mover) -> tuple[Array, Array]:
    """(2,) low and high corner of the mover's triangles in its own x and y."""
    corners = mover.mesh.triangles.reshape(-1, 3)[:, :2].astype(np.float64)
    return corners.min(axis=0), corners.max(axis=0)


def _overlap(T_robot: Array, T_mover: Array, box: tuple[Array, Array], keep: Keepout) -> Array:
    """(N,) bool: two rectangles overlap (separating axes)."""
    low, high = box
    mover = T_mover[:, :2, :2] @ np.array([low, [low[0], high[1]], high, [high[0], low[1]]]).T
    mover = np.swapaxes(mover, 1, 2) + T_mover[:, None, :2, 3]
    x, y = (-keep.behind_m, keep.ahead_m), (-keep.sideways_m, keep.sideways_m)
    own = T_robot[:, :2, :2] @ np.array([[x[0], x[0], x[1], x[1]], [y[0], y[1], y[1], y[0]]])
    own = np.swapaxes(own, 1, 2) + T_robot[:, None, :2, 3]
    apart = np.zeros(len(T_robot), bool)
    for axes in (T_robot[:, :2, :2], T_mover[:, :2, :2]):
        for k in range(2):
            axis = axes[:, :, k]
            a, b = (np.einsum("nci,ni->nc", shape, axis) for shape in (mover, own))
            apart |= (a.max(axis=1) < b.min(axis=1)) | (b.max(axis=1) < a.min(axis=1))
    return ~apart


def clear_way(
    world: Scenery, motion: Motion, start_s: float, end_s: float
) -> tuple[Any, tuple[int, ...]]:
    """The world without the movers that would meet the robot, and their instance numbers."""
    keep, out = Keepout.of(world), []
    stay = []
    for mover in world.movers:
        if in_the_way(mover, motion, start_s, end_s, keep):
            out.append(int(mover.mesh.instance[0]))
        else:
            stay.append(mover)
    if not out:
        return world, ()
    cleared = copy.copy(world)
    object.__setattr__(cleared, "movers", tuple(stay))
    return cleared, tuple(sorted(out))
