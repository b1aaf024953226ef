"""`Stage`: a world ready for ray queries, what stands still and what moves in one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.materials import SurfaceTable
from condense_ros.sim.mesh import Mesh
from condense_ros.sim.scenery import Scenery
from condense_ros.sim.sensors.movers import Crowd
from condense_ros.sim.sensors.raycast import Float, Hits, Index, RayScene
from condense_ros.sim.sensors.rays import Rays


class Stage:
    """Triangles of a world followed by those of its movers, numbered through.

    Attributes:
        normal: (T, 3) float32 unit normals; of movers, in their own frame.
        surface: (T,) int32 rows of `surfaces`.
        instance: (T,) int32.
        surfaces: all materials.
        semantic: (T,) uint8 label values.
    """

    def __init__(self, world: Scenery) -> None:
        meshes = [world.mesh, *(mover.mesh for mover in world.movers)]
        rows = np.cumsum([0, *(len(mesh.surfaces) for mesh in meshes[:-1])])
        self.static = RayScene(world.mesh)
        self.crowd = Crowd(world.movers, len(world.mesh.triangles))
        self.normal: Float = np.concatenate([self.static.normal, *self.crowd.normals])
        self.surface: Index = np.concatenate(
            [mesh.surface + np.int32(row) for mesh, row in zip(meshes, rows, strict=True)]
        )
        self.instance: Index = np.concatenate([mesh.instance for mesh in meshes])
        self.surfaces = SurfaceTable.join([mesh.surfaces for mesh in meshes])
        self.semantic: npt.NDArray[np.uint8] = self.surfaces.semantic[self.surface]
        self._clear = _without_glass(self.static) if world.light.lamps else self.static

    def cast(self, rays: Rays, max_range_m: float = np.inf, *, exact: bool = True) -> Hits:
        """What rays meet first, movers where they are at each ray's own time.

        Args:
            exact: solve ranges in float64; else they are Embree's float32.
        """
        hits = self.static.cast(rays.start(), rays.direction, max_range_m, exact=exact)
        return self.crowd.cast(rays, hits, max_range_m)

    def normals(self, hits: Hits) -> Float:
        """(N, 3) float32 normals in the world; meaningless where nothing was hit."""
        normal = self.normal[hits.triangle]
        if len(hits.moved):
            turned = np.einsum("nij,nj->ni", hits.T_world_object[:, :3, :3], normal[hits.moved])
            normal[hits.moved] = turned
        return normal

    def in_shadow(self, xyz: Float, sun: Array, t_s: float) -> npt.NDArray[np.bool_]:
        """Whether something stands between points (N, 3) and the sun (3,)."""
        shaded = self._clear.blocked(xyz, sun.astype(np.float32))
        if len(self.crowd):
            rest = np.nonzero(~shaded)[0]
            shaded[rest] = self.crowd.blocks_sun(xyz[rest], sun, t_s)
        return shaded

    def hidden(
        self, xyz: Float, direction: Float, distance_m: Float, t_s: float
    ) -> npt.NDArray[np.bool_]:
        """Whether something stands on the way from points (N, 3) along (N, 3) for (N,) metres."""
        shaded = self._clear.blocked(xyz, direction, distance_m)
        if len(self.crowd):
            rest = np.nonzero(~shaded)[0]
            shaded[rest] = self.crowd.blocks(xyz[rest], direction[rest], distance_m[rest], t_s)
        return shaded


def _without_glass(static: RayScene) -> RayScene:
    """What light does not go through; indoors, windows and glass walls let it in."""
    mesh = static.mesh
    solid = mesh.surfaces.glass[mesh.surface] < 0.5
    if solid.all():
        return static
    return RayScene(
        Mesh(mesh.triangles[solid], mesh.surface[solid], mesh.instance[solid], mesh.surfaces)
    )
