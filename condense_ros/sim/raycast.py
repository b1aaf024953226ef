"""Ray casting against triangles, with Embree."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from embreex import mesh_construction, rtcore_scene

from condense_ros.geometry import Array
from condense_ros.sim.mesh import Mesh

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


class RayScene:
    """Triangles ready for ray queries."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._scene = rtcore_scene.EmbreeScene()
        self._geometry = mesh_construction.TriangleMesh(self._scene, mesh.triangles)
        corners = mesh.triangles.astype(np.float64)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        #: (T, 4) plane of each triangle: n . x = d
        self._plane = np.concatenate([normal, (normal * corners[:, 0]).sum(1)[:, None]], axis=1)
        #: (T, 3) float32 unit normals
        self.normal: Float = normal.astype(np.float32)

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
        hit = np.nonzero(triangle >= 0)[0]
        range_m = np.full(len(direction), np.inf)
        plane, along = self._plane[triangle[hit]], direction[hit].astype(np.float64)
        towards = np.einsum("ij,ij->i", plane[:, :3], along)
        offset = plane[:, 3] - np.einsum("ij,ij->i", plane[:, :3], start[hit])
        # a ray that grazes its plane keeps Embree's range: dividing by nearly zero is worse
        grazing = np.abs(towards) < 1e-5
        solved = offset / np.where(grazing, 1.0, towards)
        near = coarse[hit].astype(np.float64)
        grazing |= np.abs(solved - near) > 0.01 + 1e-3 * near
        range_m[hit] = np.where(grazing, near, solved)
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
