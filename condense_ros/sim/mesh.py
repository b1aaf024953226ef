"""Triangle soups: the primitives everything in a world is made of, and the builder that gathers
them.

A shape is an array (T, 3, 3) float64 of triangle corners in metres, in its own frame (x forward,
y left, z up, origin on the ground).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.materials import Surface, SurfaceTable


@dataclass(frozen=True, eq=False)
class Mesh:
    """All triangles of a world.

    Attributes:
        triangles: (T, 3, 3) float32 metres, world frame.
        surface: (T,) int32 rows of `surfaces`.
        instance: (T,) int32 object number; 0 is the ground.
        surfaces: what the triangles are made of.
    """

    triangles: npt.NDArray[np.float32]
    surface: npt.NDArray[np.int32]
    instance: npt.NDArray[np.int32]
    surfaces: SurfaceTable


class MeshBuilder:
    """Gathers placed shapes; `begin` starts a new object instance."""

    def __init__(self, instance: int = 0) -> None:
        self._shapes: list[Array] = []
        self._rows: list[tuple[int, int, int]] = []
        self._surfaces: list[Surface] = []
        self._known: dict[Surface, int] = {}
        self._instance = self._last = instance

    def begin(self) -> int:
        """Starts the next object; shapes added from now on belong to it."""
        self._last += 1
        self._instance = self._last
        return self._instance

    def triangle_count(self) -> int:
        """How many triangles were added so far."""
        return sum(count for count, _, _ in self._rows)

    @contextmanager
    def of(self, instance: int) -> Iterator[None]:
        """Shapes added inside belong to an object that was begun before."""
        latest, self._instance = self._instance, instance
        try:
            yield
        finally:
            self._instance = latest

    def add(self, shape: Array, surface: Surface, T: Array | None = None) -> None:
        """Adds (T, 3, 3) triangles made of `surface`, moved by the (4, 4) transform `T`."""
        if not len(shape):
            return
        if T is not None:
            shape = shape @ T[:3, :3].T + T[:3, 3]
        row = self._known.setdefault(surface, len(self._surfaces))
        if row == len(self._surfaces):
            self._surfaces.append(surface)
        self._shapes.append(shape)
        self._rows.append((len(shape), row, self._instance))

    def mesh(self) -> Mesh:
        counts, rows, instances = np.array(self._rows, np.int64).T
        return Mesh(
            np.concatenate(self._shapes).astype(np.float32),
            np.repeat(rows, counts).astype(np.int32),
            np.repeat(instances, counts).astype(np.int32),
            SurfaceTable(self._surfaces),
        )


def pose2d(x: float, y: float, yaw: float, z: float = 0.0) -> Array:
    """(4, 4) transform that puts a shape at (x, y, z), turned by yaw radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def quads(corners: Array) -> Array:
    """Triangles of quadrilaterals (Q, 4, 3) whose corners go around."""
    corners = np.asarray(corners, np.float64).reshape(-1, 4, 3)
    return corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)


_BOX = np.array(
    [
        [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]],
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],
        [[1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]],
        [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]],
    ],
    np.float64,
)
_BOX_TRIANGLES = quads(_BOX)


def boxes(low: npt.ArrayLike, high: npt.ArrayLike) -> Array:
    """Axis-aligned boxes between corners (B, 3) and (B, 3)."""
    low = np.asarray(low, np.float64).reshape(-1, 1, 1, 3)
    high = np.asarray(high, np.float64).reshape(-1, 1, 1, 3)
    low, high = np.broadcast_arrays(low, high)
    return np.asarray(low + _BOX_TRIANGLES * (high - low)).reshape(-1, 3, 3)


def loft(rings: Array, *, capped: bool = True) -> Array:
    """Surface through closed rings (R, V, 3), with flat caps at both ends."""
    a, b = rings[:-1], rings[1:]
    sides = quads(
        np.stack([a, np.roll(a, -1, axis=1), np.roll(b, -1, axis=1), b], axis=2).reshape(-1, 4, 3)
    )
    if not capped:
        return sides
    caps = []
    for ring, turn in ((rings[0], -1), (rings[-1], 1)):
        fan = np.stack([np.broadcast_to(ring.mean(axis=0), ring.shape), ring, np.roll(ring, -1, 0)])
        caps.append(np.swapaxes(fan, 0, 1)[:, ::turn])
    return np.concatenate([sides, *caps])


def tube(path: Array, radius: npt.ArrayLike, sides: int = 6) -> Array:
    """A round bar along a polyline (P, 3), radius a number or one per point."""
    path = np.asarray(path, np.float64)
    radius = np.broadcast_to(np.asarray(radius, np.float64), (len(path),))
    forward = np.gradient(path, axis=0)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    helper = np.where(np.abs(forward[:, 2:]) > 0.9, (1.0, 0, 0), (0, 0, 1.0))
    right = np.cross(forward, helper)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(right, forward)
    angle = np.arange(sides) * (2 * np.pi / sides)
    circle = (
        np.cos(angle)[None, :, None] * right[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    )
    return loft(path[:, None] + radius[:, None, None] * circle)


def revolve(profile: Array, sides: int = 8) -> Array:
    """Turns a profile (P, 2) of (radius, z) around the z axis."""
    profile = np.asarray(profile, np.float64)
    angle = np.arange(sides) * (2 * np.pi / sides)
    rings = np.empty((len(profile), sides, 3))
    rings[:, :, 0] = profile[:, :1] * np.cos(angle)
    rings[:, :, 1] = profile[:, :1] * np.sin(angle)
    rings[:, :, 2] = profile[:, 1:]
    return loft(rings)


def extrude(outline: Array, width_low: npt.ArrayLike, width_high: npt.ArrayLike) -> Array:
    """A side view (P, 2) of (x, z), convex or star-shaped about its centre, widened along y.

    Args:
        width_low, width_high: y of the right and the left side, a number or one per point.
    """
    outline = np.asarray(outline, np.float64)
    right, left = (
        np.column_stack([outline[:, 0], np.broadcast_to(w, len(outline)), outline[:, 1]])
        for w in (width_low, width_high)
    )
    return loft(np.stack([right, left]))


def strip(left: Array, right: Array) -> Array:
    """Ribbon between two polylines (P, 3) of equal length."""
    return quads(np.stack([right[:-1], right[1:], left[1:], left[:-1]], axis=1))


def leaves(centres: Array, size: npt.ArrayLike, rng: np.random.Generator) -> Array:
    """Randomly turned square faces (two triangles each) around centres (N, 3)."""
    n = len(centres)
    a = rng.normal(size=(n, 3))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.cross(a, rng.normal(size=(n, 3)))
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    half = np.broadcast_to(np.asarray(size, np.float64), (n,))[:, None] / 2
    a, b = a * half, b * half * rng.uniform(0.6, 1.0, (n, 1))
    return quads(np.stack([centres - a - b, centres + a - b, centres + a + b, centres - a + b], 1))
