"""`Simulator`: what a rig's sensors see on their way through a world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, inverse
from condense_ros.sim.scenery import EPOCH_NS, Scenery, world_time_s
from condense_ros.sim.sensors.camera import Painter, expose
from condense_ros.sim.sensors.eye import Eye
from condense_ros.sim.sensors.lidar import behind_body, cast_through, measure, wet_reflectance
from condense_ros.sim.sensors.raycast import Float, Hits, selected
from condense_ros.sim.sensors.rays import Motion, Rays, as_motion
from condense_ros.sim.sensors.rgbd import deliver_depth
from condense_ros.sim.sensors.rig import CameraSpec, Rig
from condense_ros.sim.sensors.stage import Stage
from condense_ros.sim.sensors.truth import (
    ImageTruth,
    SimulatedFrame,
    SimulatedImage,
    SimulatedSweep,
    image_truth,
)
from condense_ros.sim.sensors.visibility import visible


class Simulator:
    """A rig in a world. Every output is a function of world, rig, motion and stamp.

    Noise is drawn from (world seed, session, stamp, sensor): neither what was simulated before nor
    which process does it has an influence.

    What moves in the world is met where it is when a pulse leaves or a row is exposed. The robot's
    own motion shows in pictures (`rolling_shutter_s`, `delay_s`, `blur_s`) and, with
    `motion_distortion`, in the cloud: each point then lies in the lidar frame as it stands at the
    point's own time. Without, points are as if all pulses left from the pose at the stamp.

    `motion` says where base_link is at any time; a (4, 4) pose T_world_base is a robot at rest.

    Raises:
        GeometryError: a pinhole camera whose distortion folds its image.
    """

    def __init__(self, world: Scenery, rig: Rig | None = None) -> None:
        self.world, self.rig = world, rig or Rig()
        self.stage = Stage(world)
        self._painter = Painter(self.stage, world.light, world.seed * 1000 + world.session)
        self._eyes = {camera.name: Eye(camera) for camera in self.rig.cameras}

    def frame(
        self, motion: Motion | Array, stamp_ns: int, *, images: bool = True, index: int = 0
    ) -> Frame:
        """One sweep and, with `images`, one picture per camera.

        Args:
            motion: see the class.
            stamp_ns: start of the sweep; also seeds the noise of this frame.

        Returns:
            Frame whose labels come from the truth and whose `T_world_lidar` is exact (at the
            stamp); missing returns are left out of the cloud.

        Raises:
            GeometryError: a pose that is no rigid motion.
        """
        return self._frame(motion, stamp_ns, images, index, truth=False).frame

    def frame_truth(
        self, motion: Motion | Array, stamp_ns: int, *, images: bool = True, index: int = 0
    ) -> SimulatedFrame:
        """The same frame, with the truth about its points and pixels and which cameras see them."""
        return self._frame(motion, stamp_ns, images, index, truth=True)

    def truth(self, motion: Motion | Array, stamp_ns: int = EPOCH_NS) -> dict[str, ImageTruth]:
        """Class, instance and depth of every pixel, per camera name."""
        found, motion = {}, as_motion(motion)
        for name, eye in self._eyes.items():
            hits = eye.look(self.stage, eye.rays(motion, world_time_s(stamp_ns)))
            found[name] = image_truth(self.stage, hits, eye.axial, eye.size)
        return found

    def picture(
        self, camera: str, motion: Motion | Array, stamp_ns: int, *, truth: bool = False
    ) -> SimulatedImage:
        """What one camera delivers at a stamp, and with `truth` what its pixels show."""
        motion = as_motion(motion)
        return self._picture(self._spec(camera), motion, stamp_ns, truth)[0]

    def sweep(self, motion: Motion | Array, stamp_ns: int) -> SimulatedSweep:
        """What the LiDAR (or the depth camera in its place) delivers of a sweep, with its truth."""
        motion, lidar = as_motion(motion), self.rig.lidar
        if lidar.pattern == "depth_camera":
            taken = self._picture(self._spec(lidar.camera), motion, stamp_ns, False)
            return self._cloud_of(taken[0].image, taken[1], taken[2], world_time_s(stamp_ns))
        return self._sweep(motion, stamp_ns)

    def visible(
        self, sweep: SimulatedSweep, camera: str, motion: Motion | Array, stamp_ns: int
    ) -> npt.NDArray[np.bool_]:
        """(N,) whether a picture taken at a stamp shows the surfaces that gave a sweep's points."""
        start_s = world_time_s(stamp_ns)
        return visible(self.stage, self._eyes[camera], as_motion(motion), start_s, sweep)

    def _spec(self, name: str) -> CameraSpec:
        return self._eyes[name].camera

    def _rng(self, stamp_ns: int, sensor: int) -> np.random.Generator:
        world = self.world
        return np.random.default_rng([world.seed, world.session, stamp_ns & (2**63 - 1), sensor])

    def _frame(
        self, motion: Motion | Array, stamp_ns: int, images: bool, index: int, *, truth: bool
    ) -> SimulatedFrame:
        motion, start_s = as_motion(motion), world_time_s(stamp_ns)
        lidar = self.rig.lidar
        from_depth = lidar.camera if lidar.pattern == "depth_camera" else ""
        pictures: list[SimulatedImage] = []
        sweep = None if from_depth else self._sweep(motion, stamp_ns)
        for camera in self.rig.cameras:
            if not images and camera.name != from_depth:
                continue
            picture, rays, hits = self._picture(camera, motion, stamp_ns, truth)
            if images:
                pictures.append(picture)
            if camera.name == from_depth:
                sweep = self._cloud_of(picture.image, rays, hits, start_s)
        assert sweep is not None
        name = f"{self.world.kind}_{self.world.seed}"
        frame = Frame(
            stamp_ns,
            sweep.cloud,
            tuple(picture.image for picture in pictures),
            np.asarray(motion.at(np.array([start_s]))[0] @ lidar.T_base_lidar),
            sweep.labels,
            f"{name}_session_{self.world.session}" if self.world.session else name,
            index,
        )
        truths = {p.image.name: p.truth for p in pictures if p.truth is not None}
        seen = {name: self.visible(sweep, name, motion, stamp_ns) for name in truths}
        return SimulatedFrame(frame, sweep, truths, seen)

    def _sweep(self, motion: Motion, stamp_ns: int) -> SimulatedSweep:
        spec, rng = self.rig.lidar, self._rng(stamp_ns, 0)
        shots = spec.shots(stamp_ns)
        time_s = world_time_s(stamp_ns) + shots.time_s
        when = time_s if spec.motion_distortion else time_s[:1]
        T = np.asarray(motion.at(when)) @ spec.T_base_lidar
        if spec.motion_distortion:
            direction = np.einsum("nij,nj->ni", T[shots.block, :3, :3], shots.direction)
        else:
            direction = shots.direction @ T[0, :3, :3].T
        origin = np.ascontiguousarray(np.broadcast_to(T[:, :3, 3], (len(time_s), 3)))
        rays = Rays(direction, origin, time_s, shots.block)
        hits, left = cast_through(self.stage, rays, spec, rng)
        seen = (hits.triangle >= 0) & (hits.range_m < spec.max_range_m)
        ray = np.nonzero(seen & ~behind_body(spec, shots.direction))[0]
        hits = selected(hits, ray)
        normal = self.stage.normals(hits)
        cosine = np.abs(np.einsum("ij,ij->i", normal, direction[ray]))
        surfaces, surface = self.stage.surfaces, self.stage.surface[hits.triangle]
        reflectance = surfaces.reflectance[surface] * left[ray]
        if not self.world.light.lamps:
            reflectance = wet_reflectance(reflectance, normal, cosine, self.world.light.wet)
        range_m, intensity, kept = measure(
            spec,
            hits.range_m,
            cosine,
            reflectance,
            surfaces.glass[surface],
            surfaces.retro[surface],
            rng,
        )
        pick = np.nonzero(kept)[0]
        ray = ray[pick]
        block = shots.block[ray]
        cloud = PointCloud(
            (shots.direction[ray] * range_m[pick, None]).astype(np.float32),
            intensity[pick].astype(np.float32),
            shots.ring[ray],
            shots.time_s[block].astype(np.float32),
        )
        world = origin[block] + direction[ray] * hits.range_m[pick, None]
        return self._with_truth(cloud, selected(hits, pick), shots.time_s[block], world)

    def _cloud_of(
        self, image: CameraImage, rays: Rays, hits: Hits, start_s: float
    ) -> SimulatedSweep:
        """The cloud of a depth image, in the body frame of its camera; intensity is its grey."""
        spec, eye = self.rig.lidar, self._eyes[image.name]
        assert image.depth is not None
        step, depth = spec.pixel_stride, image.depth.ravel()
        grid = np.zeros(eye.size, np.bool_)
        grid[step // 2 :: step, step // 2 :: step] = True
        pixel = np.nonzero(grid.ravel() & (depth > 0) & (hits.triangle >= 0))[0]
        range_m = depth[pixel] / eye.axial[pixel]
        within = (range_m >= spec.min_range_m) & (range_m < spec.max_range_m)
        pixel, range_m = pixel[within], range_m[within]
        R_lidar_cam = inverse(image.T_cam_lidar)[:3, :3]
        block = rays.block[pixel] if len(rays.block) else np.zeros(len(pixel), np.int32)
        cloud = PointCloud(
            (eye.unit[pixel] * range_m[:, None] @ R_lidar_cam.T).astype(np.float32),
            image.pixels.reshape(-1, 3)[pixel].mean(axis=1).astype(np.float32) / 255,
            np.zeros(len(pixel), np.uint16),
            (rays.time_s[block] - start_s).astype(np.float32),
        )
        world = rays.origin[block] + rays.direction[pixel] * hits.range_m[pixel, None]
        time_s = rays.time_s[block] - start_s
        return self._with_truth(cloud, selected(hits, pixel), time_s, world)

    def _with_truth(
        self, cloud: PointCloud, hits: Hits, time_s: Array, xyz_world: Array
    ) -> SimulatedSweep:
        stage = self.stage
        return SimulatedSweep(
            cloud,
            stage.semantic[hits.triangle],
            stage.instance[hits.triangle],
            time_s,
            np.asarray(xyz_world, np.float64),
            hits,
        )

    def _picture(
        self, camera: CameraSpec, motion: Motion, stamp_ns: int, truth: bool
    ) -> tuple[SimulatedImage, Rays, Hits]:
        eye, start_s, lidar = self._eyes[camera.name], world_time_s(stamp_ns), self.rig.lidar
        rng = self._rng(stamp_ns, 1 + list(self._eyes).index(camera.name))
        exact = truth or camera.depth
        rays = eye.rays(motion, start_s, exact=exact)
        hits = eye.look(self.stage, rays, exact=exact)
        radiance = self._radiance(eye, rays, hits, motion, start_s)
        if camera.infrared:
            radiance[:] = radiance.mean(axis=1, keepdims=True)
        pixels = expose(radiance, camera, eye.vignette, rng)
        ego_motion = None
        if camera.delay_s:
            T = np.asarray(motion.at(np.array([start_s, start_s + camera.delay_s])))
            if not np.array_equal(T[0], T[1]):
                ego_motion = inverse(T[1] @ lidar.T_base_lidar) @ T[0] @ lidar.T_base_lidar
        image = CameraImage(
            camera.name,
            stamp_ns + round(camera.delay_s * 1e9),
            pixels.reshape(*eye.size, 3),
            eye.model,
            inverse(camera.T_base_cam) @ lidar.T_base_lidar,
            ego_motion,
            deliver_depth(self.stage, eye, rays, hits, rng) if camera.depth else None,
        )
        found = image_truth(self.stage, hits, eye.axial, eye.size) if truth else None
        return SimulatedImage(image, found), rays, hits

    def _radiance(self, eye: Eye, rays: Rays, hits: Hits, motion: Motion, start_s: float) -> Float:
        camera = eye.camera
        if camera.blur_s == 0:
            flat = replace(rays, direction=rays.direction.astype(np.float32, copy=False))
            return self._painter.radiance(flat, hits, camera.width, eye.pixel_rad)
        total = np.zeros((len(eye.unit), 3), np.float32)
        for k in range(camera.blur_samples):
            share = (k + 0.5) / camera.blur_samples - 0.5
            some = eye.rays(motion, start_s + share * camera.blur_s, exact=False)
            met = eye.look(self.stage, some, exact=False)
            total += self._painter.radiance(some, met, camera.width, eye.pixel_rad)
        return total / np.float32(camera.blur_samples)
