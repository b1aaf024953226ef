"""From camera rays to pixels: textures, sun and shadow, sky, exposure and noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.raycast import Hits, RayScene
from condense_ros.sim.rig import CameraSpec

Float = npt.NDArray[np.float32]
_SUN = np.array([1.25, 1.18, 1.02], np.float32)
_AMBIENT = np.array([0.42, 0.48, 0.58], np.float32)
_HORIZON = np.array([0.78, 0.82, 0.86], np.float32)
_ZENITH = np.array([0.28, 0.46, 0.78], np.float32)


def sky(direction: Float) -> Float:
    """(N, 3) colour of the sky: a gradient from the horizon to the zenith."""
    share = np.clip(direction[:, 2:], 0, 1) ** 0.5
    return np.asarray(_HORIZON + share * (_ZENITH - _HORIZON), np.float32)


def shade(scene: RayScene, sun: Array, eye: Array, direction: Array) -> tuple[Float, Hits]:
    """Linear RGB (N, 3) seen along unit rays (N, 3) from `eye`, and where they ended.

    Lambert's law under one sun with hard shadows (a second ray) and an ambient sky that is
    brighter from above; distance fades into haze.
    """
    hits = scene.cast(eye, direction)
    d = direction.astype(np.float32)
    colour = sky(d)
    seen = np.nonzero(hits.triangle >= 0)[0]
    triangle, d = hits.triangle[seen], d[seen]
    range_m = hits.range_m[seen].astype(np.float32)
    xyz = eye.astype(np.float32) + d * range_m[:, None]
    normal = scene.normal[triangle]
    # every face is two-sided and faces the eye
    away = np.einsum("ij,ij->i", normal, d) > 0
    normal = np.where(away[:, None], -normal, normal)
    surfaces = scene.mesh.surfaces
    albedo = surfaces.albedo(scene.mesh.surface[triangle], xyz, normal, range_m)
    light = sun.astype(np.float32)
    lambert = np.clip(normal @ light, 0, None)
    lit = np.nonzero(lambert > 0)[0]
    start = xyz[lit] + normal[lit] * (2e-3 + 2e-4 * range_m[lit, None])
    lambert[lit[scene.blocked(start, light)]] = 0.0
    glow = 0.65 + 0.35 * normal[:, 2]
    shaded = albedo * (lambert[:, None] * _SUN + glow[:, None] * _AMBIENT)
    haze = 1 - np.exp(-range_m / 400)[:, None]
    colour[seen] = shaded + haze * (_HORIZON * 0.9 - shaded)
    return colour, hits


def expose(radiance: Float, camera: CameraSpec, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Automatic exposure, shot and read noise, and sRGB-like coding of (N, 3) radiance to uint8."""
    gain = 0.36 / max(float(radiance.mean()), 1e-3)
    gain *= float(np.exp(camera.exposure_jitter * rng.standard_normal()))
    signal = np.clip(radiance * np.float32(gain), 0, 1)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise *= camera.noise * np.sqrt(signal + np.float32(0.03))
    coded = np.clip(signal + noise, 0, 1) ** np.float32(1 / 2.2)
    return (coded * 255 + 0.5).astype(np.uint8)
