"""`Simulator`: what a rig's sensors see at a pose in a world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.errors import GeometryError
from condense_ros.frame import IGNORE, CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, check_se3, inverse
from condense_ros.sim.camera import expose, shade
from condense_ros.sim.lidar import measure
from condense_ros.sim.raycast import RayScene
from condense_ros.sim.rig import CameraSpec, Rig
from condense_ros.sim.world import World


@dataclass(frozen=True, eq=False)
class ImageTruth:
    """What lies behind each pixel of a camera.

    Attributes:
        semantic: (H, W) uint8 label, `IGNORE` for sky.
        instance: (H, W) int32 object number, -1 for sky, 0 for the ground.
        depth: (H, W) float32 metres along z, 0 for sky.
    """

    semantic: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]
    depth: npt.NDArray[np.float32]


class Simulator:
    """A rig in a world. Every output is a function of world, rig, pose and stamp.

    Raises:
        GeometryError: a camera whose distortion folds its image.
    """

    def __init__(self, world: World, rig: Rig | None = None) -> None:
        self.world, self.rig = world, rig or Rig()
        self.scene = RayScene(world.mesh)
        self._rays: dict[str, Array] = {}
        for camera in self.rig.cameras:
            rays = camera.model.rays()
            if not np.isfinite(rays).all():
                raise GeometryError(
                    f"distortion of camera {camera.name!r} cannot be undone in all of its image",
                    "give coefficients that stay one-to-one up to the corners",
                )
            self._rays[camera.name] = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        self._beams = self.rig.lidar.directions()

    def frame(
        self, T_world_base: Array, stamp_ns: int, *, images: bool = True, index: int = 0
    ) -> Frame:
        """One sweep and, with `images`, one picture per camera, all taken at the stamp.

        The world holds still during a sweep: per-point times tell when a beam fired, while all
        points are as if compensated for the robot's motion to the stamp.

        Args:
            T_world_base: (4, 4) base_link to world.
            stamp_ns: also seeds the noise of this frame.

        Returns:
            Frame whose labels come from the truth and whose `T_world_lidar` is exact; missing
            returns are left out of the cloud.
        """
        T_world_base = check_se3(T_world_base, "T_world_base")
        T_world_lidar = T_world_base @ self.rig.lidar.T_base_lidar
        cloud, labels = self._sweep(T_world_lidar, stamp_ns)
        pictures = []
        if images:
            for number, camera in enumerate(self.rig.cameras):
                pictures.append(self._picture(camera, T_world_base, stamp_ns, number))
        return Frame(
            stamp_ns,
            cloud,
            tuple(pictures),
            T_world_lidar,
            labels,
            f"town_{self.world.seed}",
            index,
        )

    def truth(self, T_world_base: Array) -> dict[str, ImageTruth]:
        """Class, instance and depth of every pixel, per camera name."""
        found = {}
        for camera in self.rig.cameras:
            T_world_cam = check_se3(T_world_base) @ camera.T_base_cam
            rays = self._rays[camera.name]
            hits = self.scene.cast(T_world_cam[:3, 3], rays @ T_world_cam[:3, :3].T)
            seen = hits.triangle >= 0
            mesh, size = self.world.mesh, (camera.height, camera.width)
            semantic = np.where(
                seen, mesh.surfaces.semantic[mesh.surface[hits.triangle]], IGNORE
            ).astype(np.uint8)
            instance = np.where(seen, mesh.instance[hits.triangle], -1).astype(np.int32)
            depth = np.where(seen, hits.range_m, 0.0) * rays[:, 2]
            found[camera.name] = ImageTruth(
                semantic.reshape(size),
                instance.reshape(size),
                depth.astype(np.float32).reshape(size),
            )
        return found

    def _rng(self, stamp_ns: int, sensor: int) -> np.random.Generator:
        return np.random.default_rng([self.world.seed, stamp_ns & (2**63 - 1), sensor])

    def _sweep(
        self, T_world_lidar: Array, stamp_ns: int
    ) -> tuple[PointCloud, npt.NDArray[np.uint8]]:
        spec = self.rig.lidar
        hits = self.scene.cast(
            T_world_lidar[:3, 3], self._beams @ T_world_lidar[:3, :3].T, spec.max_range_m
        )
        beam = np.nonzero((hits.triangle >= 0) & (hits.range_m < spec.max_range_m))[0]
        triangle, direction = hits.triangle[beam], self._beams[beam]
        normal = self.scene.normal[triangle]
        cosine = np.abs(np.einsum("ij,ij->i", normal, direction @ T_world_lidar[:3, :3].T))
        mesh = self.world.mesh
        range_m, intensity, kept = measure(
            spec,
            hits.range_m[beam],
            cosine,
            mesh.surfaces.reflectance[mesh.surface[triangle]],
            mesh.surfaces.glass[mesh.surface[triangle]],
            self._rng(stamp_ns, 0),
        )
        beam, range_m = beam[kept], range_m[kept]
        cloud = PointCloud(
            (direction[kept] * range_m[:, None]).astype(np.float32),
            intensity[kept].astype(np.float32),
            (beam % spec.beams).astype(np.uint16),
            (beam // spec.beams * (spec.period_s / spec.azimuth_steps)).astype(np.float32),
        )
        return cloud, mesh.surfaces.semantic[mesh.surface[triangle[kept]]]

    def _picture(
        self, camera: CameraSpec, T_world_base: Array, stamp_ns: int, number: int
    ) -> CameraImage:
        T_world_cam = T_world_base @ camera.T_base_cam
        rays = self._rays[camera.name]
        direction = rays @ T_world_cam[:3, :3].T
        radiance, hits = shade(self.scene, self.world.sun, T_world_cam[:3, 3], direction)
        pixels = expose(radiance, camera, self._rng(stamp_ns, 1 + number))
        size = (camera.height, camera.width)
        depth = None
        if camera.depth:
            flat = np.where(np.isfinite(hits.range_m), hits.range_m, 0.0) * rays[:, 2]
            depth = flat.astype(np.float32).reshape(size)
        return CameraImage(
            camera.name,
            stamp_ns,
            pixels.reshape(*size, 3),
            camera.model,
            inverse(camera.T_base_cam) @ self.rig.lidar.T_base_lidar,
            depth=depth,
        )
