"""What a depth camera makes of true depth: noise, holes and its limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array
from condense_ros.sim.sensors.eye import Eye
from condense_ros.sim.sensors.raycast import Float, Hits
from condense_ros.sim.sensors.rays import Rays
from condense_ros.sim.sensors.rig import CameraSpec
from condense_ros.sim.sensors.stage import Stage

#: where the projector of a depth camera stands, metres along the image's x (a Kinect's baseline)
PROJECTOR_M = 0.075


def axial_noise_m(depth_m: Array, angle: Array) -> Array:
    """Standard deviation of depth: grows with its square, and at grazing incidence.

    Nguyen, Izadi and Lovell, "Modeling Kinect sensor noise for improved 3D reconstruction and
    tracking", 3DIMPVT 2012, equations 2 and 3 (a first Kinect, 0.4 to 4 m).

    Args:
        depth_m: (N,) along the optical axis.
        angle: (N,) radians between viewing ray and surface normal.
    """
    base = 0.0012 + 0.0019 * (depth_m - 0.4) ** 2
    angle = np.minimum(angle, 1.5)
    grazing = 0.0001 / np.sqrt(np.maximum(depth_m, 0.1)) * (angle / (np.pi / 2 - angle)) ** 2
    return np.asarray(base + np.where(angle > np.pi / 3, grazing, 0.0))


def measure_depth(
    camera: CameraSpec,
    depth: Float,
    cosine: Float,
    reflectance: Float,
    mirrored: Float,
    unlit: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Float:
    """Depth as delivered; 0 where none.

    Args:
        depth: (H, W) true, metres along z, 0 where nothing is.
        cosine, reflectance: (H, W) of the angle of incidence; of the surface.
        mirrored: (H, W) share of light that surfaces mirror or let through.
        unlit: (H, W) the projector does not reach the surface.
    """
    size, present = depth.shape, depth > 0
    draws, jitter = rng.random(size), rng.standard_normal(size)
    measured = depth.astype(np.float64)
    if camera.depth_noise > 0:
        spread = axial_noise_m(measured, np.arccos(np.clip(cosine, 0, 1)))
        measured = measured + camera.depth_noise * spread * jitter
    if camera.depth_holes > 0:
        strength = camera.depth_holes
        # the pattern fades with distance, on dark surfaces and at grazing incidence
        energy = reflectance * cosine * (3.0 / np.maximum(depth, 0.5)) ** 2
        faint = 1 / (1 + (energy / 0.03) ** 2)
        chance = 1 - (1 - np.clip(strength * faint, 0, 1)) * (
            1 - np.clip(strength * mirrored, 0, 1)
        )
        # beside an edge the correlation window sees two depths
        edge = np.zeros(size, np.bool_)
        for axis in (0, 1):
            step = np.abs(np.diff(depth, axis=axis)) > 0.02 + 0.03 * np.minimum(
                depth.take(range(size[axis] - 1), axis), depth.take(range(1, size[axis]), axis)
            )
            first = [slice(None), slice(None)]
            second = [slice(None), slice(None)]
            first[axis], second[axis] = slice(0, -1), slice(1, None)
            edge[tuple(first)] |= step
            edge[tuple(second)] |= step
        chance = np.where(edge, np.maximum(chance, min(0.7 * strength, 1.0)), chance)
        present = present & (draws >= chance) & ~unlit
    present &= (measured >= camera.depth_min_m) & (measured <= camera.depth_max_m)
    return np.where(present, measured, 0.0).astype(np.float32)


def deliver_depth(
    stage: Stage, eye: Eye, rays: Rays, hits: Hits, rng: np.random.Generator
) -> Float:
    """(H, W) float32 depth that a camera delivers, metres along z, 0 where none."""
    camera, size = eye.camera, eye.size
    seen = hits.triangle >= 0
    depth = np.where(seen, hits.range_m, 0.0) * eye.axial
    flat = depth.astype(np.float32).reshape(size)
    if camera.depth_noise == 0 and camera.depth_holes == 0:
        within = (flat >= camera.depth_min_m) & (flat <= camera.depth_max_m)
        return np.where(within, flat, np.float32(0))
    surface, surfaces = stage.surface[hits.triangle], stage.surfaces
    cosine = np.abs(np.einsum("ij,ij->i", stage.normals(hits), rays.direction))
    unlit = np.zeros(len(seen), np.bool_)
    if camera.depth_holes > 0:
        rows = np.nonzero(seen & (depth <= camera.depth_max_m))[0]
        unlit[rows] = _unlit(stage, eye, rays, hits, rows)
    return measure_depth(
        camera,
        flat,
        cosine.astype(np.float32).reshape(size),
        surfaces.reflectance[surface].reshape(size),
        np.maximum(surfaces.shine[surface], surfaces.glass[surface]).reshape(size),
        unlit.reshape(size),
        rng,
    )


def _unlit(
    stage: Stage, eye: Eye, rays: Rays, hits: Hits, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether the projector beside the camera does not reach what pixels see."""
    direction = rays.direction[rows]
    start = rays.start()[rows] if len(rays.block) else rays.start()
    # the image's x axis in the world, from two rays of its middle row
    height, width = eye.size
    pair = height // 2 * width + np.array([0, width - 1])
    axis = np.diff(rays.direction[pair] / eye.axial[pair, None], axis=0)[0]
    axis = axis / np.linalg.norm(axis)
    xyz = start + direction * (hits.range_m[rows] - 2e-3)[:, None]
    way = start + PROJECTOR_M * axis - xyz
    distance = np.linalg.norm(way, axis=1)
    return stage.hidden(
        xyz.astype(np.float32),
        (way / distance[:, None]).astype(np.float32),
        (distance - 1e-3).astype(np.float32),
        float(rays.time_s.mean()),
    )
