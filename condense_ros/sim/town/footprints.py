"""`Footprints`: which rectangles of the ground are taken."""

from __future__ import annotations

import numpy as np

from condense_ros.geometry import Array


class Footprints:
    """Rectangles on the ground that are taken."""

    def __init__(self, rows: Array | None = None) -> None:
        self._count = 0 if rows is None else len(rows)
        self._rows = np.empty((256 + self._count, 5))
        if rows is not None:
            self._rows[: self._count] = rows

    def add(self, x: float, y: float, yaw: float, half_x: float, half_y: float) -> None:
        """Takes a rectangle: centre, heading in radians, half length and half width in metres."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._count] = x, y, yaw, half_x, half_y
        self._count += 1

    def array(self) -> Array:
        """(F, 5) x, y, yaw, half length, half width of all."""
        return self._rows[: self._count]

    def clear(self, x: float, y: float, yaw: float, half_x: float, half_y: float) -> bool:
        """Whether a rectangle overlaps none that is taken (separating axes)."""
        other = self.array()
        delta = other[:, :2] - (x, y)
        near = np.linalg.norm(delta, axis=1) < np.hypot(other[:, 3], other[:, 4]) + np.hypot(
            half_x, half_y
        )
        if not near.any():
            return True
        delta, other = delta[near], other[near]
        turns = np.stack([np.full((2, len(other)), yaw), np.tile(other[:, 2], (2, 1))])
        turns[:, 1] += np.pi / 2
        angles = turns.reshape(4, -1)
        apart = np.abs(delta[:, 0] * np.cos(angles) + delta[:, 1] * np.sin(angles))
        reach = (
            half_x * np.abs(np.cos(angles - yaw))
            + half_y * np.abs(np.sin(angles - yaw))
            + other[:, 3] * np.abs(np.cos(angles - other[:, 2]))
            + other[:, 4] * np.abs(np.sin(angles - other[:, 2]))
        )
        return bool((apart > reach).any(axis=0).all())
