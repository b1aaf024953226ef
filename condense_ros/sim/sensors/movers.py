"""`Crowd`: the moving things of a world, met by rays exactly where they are at the ray's time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.scenery import Mover
from condense_ros.sim.sensors.compiled import compiled
from condense_ros.sim.sensors.raycast import Float, Hits, RayScene
from condense_ros.sim.sensors.rays import Rays

#: consecutive rays that are tested together first
_RUN = 64


@compiled
def _run_cones(direction, run, axis, spread):  # type: ignore[no-untyped-def]
    """Fills axis (M, 3) and the cosine and sine of the half angle (M, 2) of cones around runs."""
    for m in range(len(axis)):
        first, last = m * run, min((m + 1) * run, len(direction))
        x, y, z = 0.0, 0.0, 0.0
        for k in range(first, last):
            x += direction[k, 0]
            y += direction[k, 1]
            z += direction[k, 2]
        length = max(np.sqrt(x * x + y * y + z * z), 1e-12)
        x, y, z = x / length, y / length, z / length
        least = 1.0
        for k in range(first, last):
            least = min(least, x * direction[k, 0] + y * direction[k, 1] + z * direction[k, 2])
        axis[m, 0], axis[m, 1], axis[m, 2] = x, y, z
        # float32 directions are unit to 1e-7 only
        half = np.arccos(max(least, -1.0)) + 1e-3
        spread[m, 0], spread[m, 1] = np.cos(half), np.sin(half)


@compiled
def _near_sphere(  # type: ignore[no-untyped-def]
    origin, block, direction, limit, centre, radius, run, axis, spread, rows
):
    """Rays that meet a sphere before `limit` (N,); centre (K, 3) as origin.

    Runs of rays whose cone misses the sphere are passed over.

    Returns:
        how many of `rows` (N,) are filled.
    """
    count = 0
    square = radius * radius
    for m in range(len(axis)):
        first, last = m * run, min((m + 1) * run, len(direction))
        a, b = (block[first], block[last - 1]) if len(block) else (0, 0)
        x = centre[a, 0] - origin[a, 0]
        y = centre[a, 1] - origin[a, 1]
        z = centre[a, 2] - origin[a, 2]
        distance = np.sqrt(x * x + y * y + z * z)
        # sphere and eye move a little while the run leaves
        wide = radius + np.sqrt(
            (centre[b, 0] - origin[b, 0] - x) ** 2
            + (centre[b, 1] - origin[b, 1] - y) ** 2
            + (centre[b, 2] - origin[b, 2] - z) ** 2
        )
        if distance > wide:
            along = (x * axis[m, 0] + y * axis[m, 1] + z * axis[m, 2]) / distance
            # the cone widened by the sphere's angle; past a half turn it holds everything
            sine = wide / distance
            cosine = np.sqrt(1 - sine * sine)
            if (
                spread[m, 1] * cosine + spread[m, 0] * sine > 0
                and along < spread[m, 0] * cosine - spread[m, 1] * sine
            ):
                continue
        for k in range(first, last):
            eye = block[k] if len(block) else 0
            x = centre[eye, 0] - origin[eye, 0]
            y = centre[eye, 1] - origin[eye, 1]
            z = centre[eye, 2] - origin[eye, 2]
            along = x * direction[k, 0] + y * direction[k, 1] + z * direction[k, 2]
            if along < -radius or along - radius > limit[k]:
                continue
            if x * x + y * y + z * z - along * along <= square:
                rows[count] = k
                count += 1
    return count


@compiled
def _run_boxes(xyz, side, up, along, run, boxes):  # type: ignore[no-untyped-def]
    """Fills boxes (M, 5): bounds of runs of points across rays (side, up), least along them."""
    for m in range(len(boxes)):
        a0, a1, b0, b1, c0 = np.inf, -np.inf, np.inf, -np.inf, np.inf
        for k in range(m * run, min((m + 1) * run, len(xyz))):
            x, y, z = xyz[k, 0], xyz[k, 1], xyz[k, 2]
            a = x * side[0] + y * side[1] + z * side[2]
            b = x * up[0] + y * up[1] + z * up[2]
            a0, a1, b0, b1 = min(a0, a), max(a1, a), min(b0, b), max(b1, b)
            c0 = min(c0, x * along[0] + y * along[1] + z * along[2])
        boxes[m, 0], boxes[m, 1], boxes[m, 2], boxes[m, 3], boxes[m, 4] = a0, a1, b0, b1, c0


@compiled
def _near_line(xyz, side, up, u, v, radius, reach, run, boxes, rows):  # type: ignore[no-untyped-def]
    """Points in whose way, along parallel rays, a sphere may stand.

    The centre is given by its coordinates (u, v) on the plane across the rays and `reach`, its
    coordinate along them.

    Returns:
        how many of `rows` (N,) are filled.
    """
    count = 0
    for m in range(len(boxes)):
        if u < boxes[m, 0] - radius or u > boxes[m, 1] + radius:
            continue
        if v < boxes[m, 2] - radius or v > boxes[m, 3] + radius or reach + radius < boxes[m, 4]:
            continue
        for k in range(m * run, min((m + 1) * run, len(xyz))):
            a = xyz[k, 0] * side[0] + xyz[k, 1] * side[1] + xyz[k, 2] * side[2] - u
            b = xyz[k, 0] * up[0] + xyz[k, 1] * up[1] + xyz[k, 2] * up[2] - v
            if a * a + b * b <= radius * radius:
                rows[count] = k
                count += 1
    return count


class Crowd:
    """All movers of a world.

    Movers of the same shape share one Embree scene. A ray is tested against a mover only if it
    passes the mover's sphere, which stands where the mover is at the ray's own time.
    """

    def __init__(self, movers: Sequence[Mover], first_triangle: int) -> None:
        self.movers = tuple(movers)
        known: dict[bytes, RayScene] = {}
        self._scenes: list[RayScene] = []
        self._first: list[int] = []
        for mover in self.movers:
            key = hashlib.sha256(mover.mesh.triangles.tobytes()).digest()
            if key not in known:
                known[key] = RayScene(mover.mesh)
            self._scenes.append(known[key])
            self._first.append(first_triangle)
            first_triangle += len(mover.mesh.triangles)
        self.normals = [scene.normal for scene in self._scenes]
        self._radius = np.array([mover.radius_m for mover in self.movers])
        counts = [len(mover.trajectory.knots) for mover in self.movers]
        self._count = np.array(counts, np.int64)
        self._start = np.cumsum([0, *counts[:-1]]) if counts else np.empty(0, np.int64)
        self._period = np.array([mover.trajectory.period_s for mover in self.movers])
        knots = [mover.trajectory.knots[:, :3, 3] for mover in self.movers]
        self._knots = np.concatenate(knots) if knots else np.empty((0, 3))
        #: (movers,) fastest, m/s
        self._speed = np.array(
            [
                np.linalg.norm(np.roll(k, -1, 0) - k, axis=1).max() * len(k) / p
                for k, p in zip(knots, self._period, strict=True)
            ]
        )

    def __len__(self) -> int:
        return len(self.movers)

    def owner(self, triangle: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """(N,) movers that triangles (N,) of the stage belong to."""
        return np.searchsorted(np.array(self._first), triangle, side="right") - 1

    def centres(self, t_s: float) -> Array:
        """(movers, 3) positions of all at one time."""
        place = (t_s / self._period % 1.0) * self._count
        low = np.floor(place).astype(np.int64) % self._count
        share = (place - np.floor(place))[:, None]
        a = self._knots[self._start + low]
        b = self._knots[self._start + (low + 1) % self._count]
        return a + share * (b - a)

    def _path(self, mover: int, t_s: Array) -> Array:
        """(N, 3) positions of one mover."""
        place = (t_s / self._period[mover] % 1.0) * self._count[mover]
        low = np.floor(place)
        share = (place - low)[:, None]
        first = low.astype(np.int64) % self._count[mover]
        a = self._knots[self._start[mover] + first]
        b = self._knots[self._start[mover] + (first + 1) % self._count[mover]]
        return np.asarray(a + share * (b - a))

    def near(self, rays: Rays, max_range_m: float) -> npt.NDArray[np.int64]:
        """Movers that any of the rays may meet within a range."""
        if not len(self):
            return np.empty(0, np.int64)
        middle = (rays.time_s.min() + rays.time_s.max()) / 2
        eye = (rays.origin.min(0) + rays.origin.max(0)) / 2
        slack = (
            self._radius
            + self._speed * (np.ptp(rays.time_s) / 2)
            + np.linalg.norm(np.ptp(rays.origin, axis=0)) / 2
        )
        offset = self.centres(middle) - eye
        distance = np.linalg.norm(offset, axis=1)
        possible = distance < max_range_m + slack
        if rays.cone is not None:
            axis, half_angle = rays.cone
            angle = np.arccos(np.clip(offset @ axis / np.maximum(distance, 1e-9), -1, 1))
            spread = np.arcsin(np.clip(slack / np.maximum(distance, 1e-9), 0, 1))
            possible &= (angle < half_angle + spread) | (distance <= slack)
        return np.nonzero(possible)[0]

    def cast(self, rays: Rays, behind: Hits, max_range_m: float) -> Hits:
        """What rays meet first: a mover, or what they meet `behind`.

        Returns:
            `behind` itself where no ray meets a mover; else new hits of the same precision.
        """
        triangle, range_m = behind.triangle, behind.range_m
        limit = np.minimum(range_m, max_range_m).astype(np.float32)
        direction = np.ascontiguousarray(rays.direction, np.float32)
        origin = np.ascontiguousarray(rays.origin)
        owner, T_all = np.full(len(triangle), -1, np.int32), []
        rows = np.empty(len(triangle), np.int64)
        axis = np.empty((-(-len(triangle) // _RUN), 3))
        spread = np.empty((len(axis), 2))
        base = 0
        near = self.near(rays, max_range_m).tolist()
        if near:
            _run_cones(direction, _RUN, axis, spread)
        for m in near:
            centre = self._path(m, rays.time_s)
            count = _near_sphere(
                origin,
                rays.block,
                direction,
                limit,
                centre,
                self._radius[m],
                _RUN,
                axis,
                spread,
                rows,
            )
            if not count:
                continue
            pick = rows[:count].copy()
            eye = rays.block[pick] if len(rays.block) else np.zeros(count, np.int32)
            times, at = np.unique(eye, return_inverse=True)
            T_world_object = self.movers[m].trajectory.at(rays.time_s[times])
            start, along = _into_frame(
                T_world_object, at, rays.origin[eye], np.asarray(rays.direction[pick], np.float64)
            )
            met = self._scenes[m].cast(start, along, max_range_m)
            nearer = np.nonzero((met.triangle >= 0) & (met.range_m < range_m[pick]))[0]
            if not len(nearer):
                continue
            if triangle is behind.triangle:
                triangle, range_m = triangle.copy(), range_m.copy()
            hit = pick[nearer]
            triangle[hit] = met.triangle[nearer] + self._first[m]
            range_m[hit] = met.range_m[nearer]
            limit[hit] = met.range_m[nearer]
            owner[hit] = base + np.arange(len(hit))
            base += len(hit)
            T_all.append(T_world_object[at[nearer]])
        if not T_all:
            return behind
        moved = np.nonzero(owner >= 0)[0]
        return Hits(triangle, range_m, moved, np.concatenate(T_all)[owner[moved]])

    def blocks_sun(self, xyz: Float, sun: Array, t_s: float) -> npt.NDArray[np.bool_]:
        """Whether movers stand between points (N, 3) and the sun at a time."""
        shaded = np.zeros(len(xyz), np.bool_)
        if not len(self) or not len(xyz):
            return shaded
        side = np.cross(sun, (0.0, 0.0, 1.0) if abs(sun[2]) < 0.9 else (1.0, 0.0, 0.0))
        side /= np.linalg.norm(side)
        up = np.cross(side, sun)
        centres = self.centres(t_s)
        a, b, c = centres @ side, centres @ up, centres @ sun
        boxes = np.empty((-(-len(xyz) // _RUN), 5))
        _run_boxes(xyz, side, up, sun, _RUN, boxes)
        low, high, r = boxes.min(axis=0), boxes.max(axis=0), self._radius
        near = (a > low[0] - r) & (a < high[1] + r) & (b > low[2] - r) & (b < high[3] + r)
        rows = np.empty(len(xyz), np.int64)
        for m in np.nonzero(near & (c > low[4] - r))[0].tolist():
            count = _near_line(xyz, side, up, a[m], b[m], r[m], c[m], _RUN, boxes, rows)
            if not count:
                continue
            pick = rows[:count].copy()
            T = self.movers[m].trajectory.at([t_s])
            at = np.zeros(count, np.int64)
            start, along = _into_frame(T, at, xyz[pick], np.broadcast_to(sun, (count, 3)))
            shaded[pick] |= self._scenes[m].blocked(
                start.astype(np.float32), along.astype(np.float32)
            )
        return shaded

    def blocks(
        self, xyz: Float, direction: Float, distance_m: Float, t_s: float
    ) -> npt.NDArray[np.bool_]:
        """Whether movers stand on the way from points (N, 3) along (N, 3) for (N,) metres."""
        shaded = np.zeros(len(xyz), np.bool_)
        if not len(self) or not len(xyz):
            return shaded
        centres = self.centres(t_s)
        reach = self._radius + float(distance_m.max())
        near = (centres > xyz.min(0) - reach[:, None]) & (centres < xyz.max(0) + reach[:, None])
        block, rows = np.arange(len(xyz), dtype=np.int32), np.empty(len(xyz), np.int64)
        origin = xyz.astype(np.float64)
        axis = direction.astype(np.float64)
        spread = np.tile((np.cos(1e-3), np.sin(1e-3)), (len(xyz), 1))
        for m in np.nonzero(near.all(axis=1))[0].tolist():
            centre = np.ascontiguousarray(np.broadcast_to(centres[m], origin.shape))
            count = _near_sphere(
                origin,
                block,
                direction,
                distance_m,
                centre,
                self._radius[m],
                1,
                axis,
                spread,
                rows,
            )
            if not count:
                continue
            pick = rows[:count].copy()
            T, at = self.movers[m].trajectory.at([t_s]), np.zeros(count, np.int64)
            start, along = _into_frame(T, at, origin[pick], direction[pick].astype(np.float64))
            shaded[pick] |= self._scenes[m].blocked(
                start.astype(np.float32), along.astype(np.float32), distance_m[pick]
            )
        return shaded


def _into_frame(
    T_world_object: Array,
    at: npt.NDArray[np.int64],
    origin: npt.NDArray[np.floating],
    direction: Array,
) -> tuple[Array, Array]:
    """Rays (N, 3), (N, 3) in the object's frame; `at` (N,) says which pose each ray meets."""
    if len(T_world_object) == 1:
        R, p = T_world_object[0, :3, :3], T_world_object[0, :3, 3]
        return (origin - p) @ R, direction @ R
    R, p = T_world_object[at, :3, :3], T_world_object[at, :3, 3]
    return np.einsum("nji,nj->ni", R, origin - p), np.einsum("nji,nj->ni", R, direction)
