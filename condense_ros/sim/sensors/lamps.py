"""Light of the lamps of a building: the nearest few, each with its own shadow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.sensors import shading
from condense_ros.sim.sensors.raycast import Float
from condense_ros.sim.sensors.stage import Stage

Values = npt.NDArray[np.floating]

#: lamps farther away light nothing, metres
REACH_M = 10.0
_CELL_M = 2.0
_PER_CELL, _PER_POINT = 16, 3


class Lamps:
    """Point lights, found by a grid of cells that each list the lamps around."""

    def __init__(self, xyz: npt.ArrayLike, rgb: tuple[float, float, float]) -> None:
        self.xyz: Float = np.asarray(xyz, np.float32).reshape(-1, 3)
        self.rgb = np.asarray(rgb, np.float32)
        if not len(self.xyz):
            return
        self._low = (self.xyz.min(axis=0) - REACH_M).astype(np.float32)
        size = np.ceil((np.ptp(self.xyz, axis=0) + 2 * REACH_M) / _CELL_M).astype(int)
        self._cells = np.full((*size, _PER_CELL), -1, np.int32)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1)
        centres = self._low + (grid + 0.5) * _CELL_M
        for index in np.ndindex(*size):
            distance = np.linalg.norm(self.xyz - centres[index], axis=1)
            near = np.argsort(distance, kind="stable")[:_PER_CELL]
            near = near[distance[near] < REACH_M + _CELL_M]
            self._cells[index][: len(near)] = near

    def __len__(self) -> int:
        return len(self.xyz)

    def light(self, stage: Stage, xyz: Float, normal: Float, t_s: float) -> Float:
        """(N, 3) light that lamps throw on surfaces at xyz (N, 3) with normals (N, 3).

        Of all lamps within reach, the three that would give most are asked, by a ray each, whether
        they are seen.
        """
        n = len(xyz)
        chosen = np.empty((n, _PER_POINT), np.int32)
        weight = np.empty((n, _PER_POINT), np.float32)
        shading.lamp_choice(
            self.xyz, self._cells, self._low, _CELL_M, xyz, normal, REACH_M, chosen, weight
        )
        total = np.zeros(n, np.float32)
        for slot in range(_PER_POINT):
            rows = np.nonzero(chosen[:, slot] >= 0)[0]
            way = self.xyz[chosen[rows, slot]] - xyz[rows]
            distance = np.linalg.norm(way, axis=1)
            # the lamp itself may hang in a shade of triangles
            hidden = stage.hidden(
                xyz[rows], way / distance[:, None], np.maximum(distance - 0.3, 0), t_s
            )
            total[rows[~hidden]] += weight[rows[~hidden], slot]
        return total[:, None] * self.rgb


def facing(normal: Float, direction: npt.NDArray[np.floating]) -> Float:
    """Normals (N, 3) turned to the side that rays (N, 3) come from."""
    away = np.einsum("ij,ij->i", normal, direction) > 0
    return np.asarray(np.where(away[:, None], -normal, normal), np.float32)


def off_surface(eye: Array, direction: Values, range_m: Values, normal: Float) -> Float:
    """(N, 3) points a little above the surfaces that rays hit."""
    off = 2e-3 + 2e-4 * range_m
    return (eye + direction * range_m[:, None] + normal * off[:, None]).astype(np.float32)
