"""Ray casting against triangles, with Embree."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from embreex import mesh_construction, rtcore_scene

from condense_ros.geometry import Array
from condense_ros.sim.mesh import Mesh
from condense_ros.sim.sensors.compiled import compiled

Float = npt.NDArray[np.float32]
Index = npt.NDArray[np.int32]
_FAR = np.float32(1e30)


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays ended.

    Attributes:
        triangle: (N,) int32 row of the mesh, -1 where a ray left the world.
        range_m: (N,) float64 along the (unit) ray, infinity where it left; float32 where the
            cast was asked for no more.
        moved: (M,) int64 rays that ended on something that moves.
        T_world_object: (M, 4, 4) where that was at the ray's own time.
    """

    triangle: Index
    range_m: npt.NDArray[np.floating]
    moved: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    T_world_object: Array = field(default_factory=lambda: np.empty((0, 4, 4)))


@compiled
def _unit_normals(triangles, out):  # type: ignore[no-untyped-def]
    for k in range(len(triangles)):
        ax, ay, az = triangles[k, 0, 0], triangles[k, 0, 1], triangles[k, 0, 2]
        ux, uy, uz = triangles[k, 1, 0] - ax, triangles[k, 1, 1] - ay, triangles[k, 1, 2] - az
        vx, vy, vz = triangles[k, 2, 0] - ax, triangles[k, 2, 1] - ay, triangles[k, 2, 2] - az
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = max(np.sqrt(np.float64(x) * x + np.float64(y) * y + np.float64(z) * z), 1e-12)
        out[k, 0], out[k, 1], out[k, 2] = x / length, y / length, z / length


@compiled
def _solve(triangles, triangle, origin, direction, coarse, out):  # type: ignore[no-untyped-def]
    """Range (N,) to the planes of the triangles hit, in float64.

    A ray that grazes its plane keeps Embree's range: dividing by nearly zero is worse.
    """
    for k in range(len(triangle)):
        hit = triangle[k]
        if hit < 0:
            out[k] = np.inf
            continue
        a = triangles[hit, 0].astype(np.float64)
        u, v = triangles[hit, 1] - a, triangles[hit, 2] - a
        x = u[1] * v[2] - u[2] * v[1]
        y = u[2] * v[0] - u[0] * v[2]
        z = u[0] * v[1] - u[1] * v[0]
        start = origin[k] if len(origin) > 1 else origin[0]
        towards = x * direction[k, 0] + y * direction[k, 1] + z * direction[k, 2]
        offset = x * (a[0] - start[0]) + y * (a[1] - start[1]) + z * (a[2] - start[2])
        near = np.float64(coarse[k])
        out[k] = near
        if abs(towards) > 1e-5 * np.sqrt(x * x + y * y + z * z):
            exact = offset / towards
            if abs(exact - near) <= 0.01 + 1e-3 * near:
                out[k] = exact


class RayScene:
    """Triangles ready for ray queries."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        # watertight: no ray slips between triangles that share an edge; costs a seventh of the time
        self._scene = rtcore_scene.EmbreeScene(robust=True)
        self._geometry = mesh_construction.TriangleMesh(self._scene, mesh.triangles)
        #: (T, 3) float32 unit normals
        self.normal: Float = np.empty((len(mesh.triangles), 3), np.float32)
        _unit_normals(mesh.triangles, self.normal)

    def cast(
        self,
        origin: npt.NDArray[np.floating],
        direction: npt.NDArray[np.floating],
        max_range_m: float = np.inf,
        *,
        exact: bool = True,
    ) -> Hits:
        """First triangle along each ray.

        Embree finds the triangle in float32; with `exact`, the range is then solved against that
        triangle's plane in float64.

        Args:
            origin: (3,) or (N, 3) metres, world frame.
            direction: (N, 3) unit vectors.
        """
        start = np.broadcast_to(origin, direction.shape)
        found = self._scene.run(
            np.ascontiguousarray(start, np.float32),
            np.ascontiguousarray(direction, np.float32),
            dists=np.full(len(direction), min(max_range_m, float(_FAR)), np.float32),
            query="INTERSECT",
            output=True,
        )
        triangle, coarse = found["primID"], found["tfar"]
        if not exact:
            coarse[triangle < 0] = np.inf
            return Hits(triangle, coarse)
        range_m = np.empty(len(direction))
        eye = np.asarray(origin, np.float64).reshape(-1, 3)
        along = np.asarray(direction, np.float64)
        _solve(self.mesh.triangles, triangle, eye, along, coarse, range_m)
        return Hits(triangle, range_m)

    def blocked(
        self, origin: Float, direction: Float, distance_m: Float | None = None
    ) -> npt.NDArray[np.bool_]:
        """Whether anything lies along rays: origin (N, 3), direction (3,) or (N, 3) unit vectors.

        Args:
            distance_m: (N,) how far to look; all the way when None.
        """
        towards = np.ascontiguousarray(np.broadcast_to(direction, origin.shape), np.float32)
        reach = None if distance_m is None else np.array(distance_m, np.float32)
        found = self._scene.run(
            np.ascontiguousarray(origin, np.float32), towards, dists=reach, query="OCCLUDED"
        )
        return np.asarray(found >= 0)


def selected(hits: Hits, rows: npt.NDArray[np.int64]) -> Hits:
    """The hits of some rays, in ascending order."""
    place = np.full(len(hits.triangle), -1, np.int64)
    place[rows] = np.arange(len(rows))
    kept = place[hits.moved] >= 0
    return Hits(
        hits.triangle[rows],
        hits.range_m[rows],
        place[hits.moved[kept]],
        hits.T_world_object[kept],
    )
