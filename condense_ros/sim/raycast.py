"""Ray casting against a world's triangles, with Embree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from embreex import mesh_construction, rtcore_scene

from condense_ros.geometry import Array
from condense_ros.sim.mesh import Mesh

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays ended.

    Attributes:
        triangle: (N,) int32 row of the mesh, -1 where a ray left the world.
        range_m: (N,) float64 along the (unit) ray, infinity where it left.
    """

    triangle: npt.NDArray[np.int32]
    range_m: Array


class RayScene:
    """A mesh ready for ray queries."""

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

    def cast(self, origin: Array, direction: Array, max_range_m: float = np.inf) -> Hits:
        """First triangle along each ray.

        Embree finds the triangle in float32; the range is then solved against that triangle's plane
        in float64.

        Args:
            origin: (3,) or (N, 3) metres, world frame.
            direction: (N, 3) unit vectors.
        """
        start = np.broadcast_to(origin, direction.shape)
        found = self._scene.run(
            np.ascontiguousarray(start, np.float32),
            np.ascontiguousarray(direction, np.float32),
            dists=np.full(len(direction), min(max_range_m, 1e30), np.float32),
            query="INTERSECT",
            output=True,
        )
        triangle = found["primID"]
        hit = triangle >= 0
        range_m = np.full(len(direction), np.inf)
        plane = self._plane[triangle[hit]]
        towards = np.einsum("ij,ij->i", plane[:, :3], direction[hit])
        offset = plane[:, 3] - np.einsum("ij,ij->i", plane[:, :3], start[hit])
        # a ray that grazes its plane keeps Embree's range: dividing by nearly zero is worse
        grazing = np.abs(towards) < 1e-5
        exact = offset / np.where(grazing, 1.0, towards)
        coarse = found["tfar"][hit].astype(np.float64)
        grazing |= np.abs(exact - coarse) > 0.01 + 1e-3 * coarse
        range_m[hit] = np.where(grazing, coarse, exact)
        return Hits(triangle, range_m)

    def blocked(self, origin: Float, direction: Float) -> npt.NDArray[np.bool_]:
        """Whether anything lies along rays: origin (N, 3), direction (3,)."""
        towards = np.ascontiguousarray(np.broadcast_to(direction, origin.shape), np.float32)
        found = self._scene.run(np.ascontiguousarray(origin, np.float32), towards, query="OCCLUDED")
        return np.asarray(found >= 0)
