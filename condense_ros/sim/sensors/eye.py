"""`Eye`: where and when the pixels of a camera look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from condense_ros.errors import GeometryError
from condense_ros.geometry import Array
from condense_ros.sim.sensors.raycast import Hits
from condense_ros.sim.sensors.rays import Motion, Rays, cone_around
from condense_ros.sim.sensors.rig import CameraSpec
from condense_ros.sim.sensors.stage import Stage


class Eye:
    """A camera's rays and what depends on its lens alone.

    Attributes:
        unit: (N, 3) unit vectors, optical frame.
        axial: (N,) their cosine to the optical axis.
        dark: (N,) pixels outside a fisheye's image circle, or None.
    """

    def __init__(self, camera: CameraSpec) -> None:
        self.camera, self.model = camera, camera.model
        self.size = (camera.height, camera.width)
        directions = self.model.rays()
        lost: npt.NDArray[np.bool_] = np.asarray(~np.isfinite(directions).all(axis=1))
        self.dark: npt.NDArray[np.bool_] | None = None
        if lost.any():
            if camera.lens == "pinhole":
                raise GeometryError(
                    f"distortion of camera {camera.name!r} cannot be undone in all of its image",
                    "give coefficients that stay one-to-one up to the corners",
                )
            self.dark = lost
            directions = np.where(lost[:, None], (0.0, 0.0, 1.0), directions)
        self.unit: Array = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        self.axial = self.unit[:, 2].copy()
        self._flat = self.unit.astype(np.float32)
        self._cone = cone_around(self.unit[~lost])
        self.pixel_rad = 1.0 / float(np.sqrt(camera.fx * camera.fy))
        self.vignette = np.empty(0, np.float32)
        if camera.vignetting > 0 or self.dark is not None:
            fall = 1 - camera.vignetting * (1 - np.clip(self.axial, 0, 1) ** 4)
            self.vignette = np.where(lost, 0.0, np.clip(fall, 0, 1)).astype(np.float32)

    def rays(self, motion: Motion, start_s: float, *, exact: bool = True) -> Rays:
        """Its rays in the world, for a frame that starts at `start_s`.

        Args:
            exact: directions are float64, not float32.
        """
        camera = self.camera
        time_s = start_s + camera.row_times_s()
        T = np.asarray(motion.at(time_s)) @ camera.T_base_cam
        unit: npt.NDArray[np.floating] = self.unit if exact else self._flat
        R: npt.NDArray[np.floating] = T[:, :3, :3].astype(unit.dtype)
        if len(T) == 1:
            axis, angle = self._cone
            cone = (R[0].astype(np.float64) @ axis, angle)
            return Rays(unit @ R[0].T, T[:, :3, 3].copy(), time_s, cone=cone)
        rows = unit.reshape(*self.size, 3)
        direction = np.einsum("hij,hwj->hwi", R, rows).reshape(-1, 3)
        block = np.repeat(np.arange(camera.height, dtype=np.int32), camera.width)
        axis, angle = self._cone
        towards = T[:, :3, :3] @ axis
        middle = towards.mean(axis=0) / np.linalg.norm(towards.mean(axis=0))
        turn = float(np.arccos(np.clip((towards @ middle).min(), -1, 1)))
        return Rays(direction, T[:, :3, 3].copy(), time_s, block, (middle, angle + turn))

    def look(self, stage: Stage, rays: Rays, *, exact: bool = True) -> Hits:
        """What its pixels see; nothing where no light reaches the sensor."""
        hits = stage.cast(rays, exact=exact)
        if self.dark is not None:
            hits.triangle[self.dark], hits.range_m[self.dark] = -1, np.inf
            seen = ~self.dark[hits.moved]
            hits = replace(hits, moved=hits.moved[seen], T_world_object=hits.T_world_object[seen])
        return hits
