"""From camera rays to pixels: light on what they hit, exposure and noise."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from condense_ros.sim.scenery import Light
from condense_ros.sim.sensors import shading
from condense_ros.sim.sensors.lamps import Lamps, facing, off_surface
from condense_ros.sim.sensors.raycast import Float, Hits
from condense_ros.sim.sensors.rays import Rays
from condense_ros.sim.sensors.rig import CameraSpec
from condense_ros.sim.sensors.stage import Stage


def light_columns(light: Light, seed: int) -> Float:
    """`light` as the compiled code reads it; `seed` places the clouds."""
    clouds = np.random.default_rng([seed, 1207]).uniform(0, 512, 2)
    values = (
        *light.sun,
        *light.sun_rgb,
        *light.ambient_rgb,
        *light.horizon_rgb,
        *light.zenith_rgb,
        light.clouds,
        light.haze_m,
        light.wet,
        float(bool(light.lamps)),
        *clouds.tolist(),
        *light.lamp_rgb,
    )
    return np.array(values, np.float32)


class Painter:
    """The light of one session on a stage."""

    def __init__(self, stage: Stage, light: Light, seed: int) -> None:
        self.stage, self.light = stage, light
        self._columns = light_columns(light, seed)
        self._sun = np.asarray(light.sun, np.float64)
        self._sunny = max(light.sun_rgb) > 0
        self._lamps = Lamps(light.lamps, light.lamp_rgb)

    def radiance(self, rays: Rays, hits: Hits, width: int, pixel_rad: float) -> Float:
        """Linear RGB (N, 3) seen along the rays of an image, row by row.

        Lambert's law under one sun with hard shadows (a second ray), lamps, and an ambient sky
        that is brighter from above; distance fades into haze. Of every 2x2 pixels one asks for the
        sun; the others ask only where their neighbours disagree or lie on another surface.
        Shadows are those of the middle of the exposure.

        Args:
            rays: float32 directions.
            width: pixels per row.
            pixel_rad: angle that a pixel covers.
        """
        stage, n = self.stage, len(hits.triangle)
        range_m = hits.range_m.astype(np.float32, copy=False)
        normal = (
            stage.normals(hits)[hits.moved] if len(hits.moved) else np.empty((0, 3), np.float32)
        )
        cosine, lit = np.zeros(n, np.float32), np.zeros(n, np.uint8)
        t_s = float(rays.time_s.mean())
        if self._sunny:
            self._sunlight(rays, hits, range_m, normal, width, t_s, cosine, lit)
        lamp = self._lamplight(rays, hits, range_m, t_s)
        moved, local = np.empty(0, np.int32), np.empty((0, 3), np.float32)
        if len(hits.moved):
            moved = np.full(n, -1, np.int32)
            moved[hits.moved] = np.arange(len(hits.moved))
            eye = rays.start()[hits.moved] if len(rays.block) else rays.start()
            xyz = eye + rays.direction[hits.moved] * range_m[hits.moved, None]
            R, p = hits.T_world_object[:, :3, :3], hits.T_world_object[:, :3, 3]
            local = np.einsum("nji,nj->ni", R, xyz - p).astype(np.float32)
        out = np.empty((n, 3), np.float32)
        shading.shade(
            shading.noise(),
            self._columns,
            stage.surfaces.columns,
            stage.surfaces.texture,
            stage.surface,
            stage.normal,
            rays.origin,
            rays.block,
            rays.direction,
            hits.triangle,
            range_m,
            cosine,
            lit,
            lamp,
            moved,
            local,
            stage.normal[hits.triangle[hits.moved]],
            normal,
            pixel_rad,
            out,
        )
        return out

    def _sunlight(
        self,
        rays: Rays,
        hits: Hits,
        range_m: Float,
        moved_normal: Float,
        width: int,
        t_s: float,
        cosine: Float,
        lit: npt.NDArray[np.uint8],
    ) -> None:
        """Fills cosine (N,) and lit (N,)."""
        stage, sun, height = self.stage, self._sun, len(cosine) // width
        shading.faces_sun(sun, rays.direction, hits.triangle, stage.normal, cosine)
        moved = hits.moved
        cosine[moved] = 0.0

        def ask(rows: npt.NDArray[np.int64]) -> None:
            start = np.empty((len(rows), 3), np.float32)
            shading.starts(
                rows,
                rays.origin,
                rays.block,
                rays.direction,
                range_m,
                hits.triangle,
                stage.normal,
                start,
            )
            lit[rows] = ~stage.in_shadow(start, sun, t_s)

        sampled = np.zeros((height, width), np.bool_)
        sampled[::2, ::2] = True
        ask(np.nonzero(sampled.ravel() & (cosine > 0))[0])
        rest = np.empty(len(cosine), np.int64)
        count = shading.spread_shadows(
            height, width, hits.triangle, stage.surface, stage.normal, range_m, cosine, lit, rest
        )
        ask(rest[:count])
        if len(moved):
            direction = rays.direction[moved]
            normal = facing(moved_normal, direction)
            cosine[moved] = np.maximum(normal @ sun, 0.0)
            eye = rays.start()[moved] if len(rays.block) else rays.start()
            start = off_surface(eye, direction, range_m[moved], normal)
            lit[moved] = ~stage.in_shadow(start, sun, t_s)

    def _lamplight(self, rays: Rays, hits: Hits, range_m: Float, t_s: float) -> Float:
        if not len(self._lamps):
            return np.empty((0, 3), np.float32)
        light = np.zeros((len(range_m), 3), np.float32)
        rows = np.nonzero(hits.triangle >= 0)[0]
        direction = rays.direction[rows]
        normal = facing(self.stage.normals(hits)[rows], direction)
        eye = rays.start()[rows] if len(rays.block) else rays.start()
        start = off_surface(eye, direction, range_m[rows], normal)
        light[rows] = self._lamps.light(self.stage, start, normal, t_s)
        return light


@cache
def _tone_curve() -> npt.NDArray[np.uint8]:
    """sRGB-like coding of a linear signal 0..1 in 4096 steps."""
    return (255 * np.linspace(0, 1, 4096) ** (1 / 2.2) + 0.5).astype(np.uint8)


def expose(
    radiance: Float, camera: CameraSpec, vignette: Float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Automatic exposure, vignetting, shot and read noise, and sRGB-like coding to uint8.

    Args:
        radiance: (N, 3) linear RGB.
        vignette: (N,) share of the light that reaches each pixel, or (0,).
    """
    gain = 0.36 / max(float(radiance.mean()), 1e-3)
    gain *= float(np.exp(camera.exposure_jitter * rng.standard_normal()))
    table = shading.normal_draws()
    offsets = rng.integers(0, len(table), camera.height)
    out = np.empty(radiance.shape, np.uint8)
    shading.develop(radiance, gain, vignette, camera.noise, table, offsets, _tone_curve(), out)
    return out
