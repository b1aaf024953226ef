"""What a LiDAR makes of its hits: glass it looks through, intensity, noise, lost returns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from condense_ros.sim.sensors.raycast import Float, Hits
from condense_ros.sim.sensors.rays import Rays
from condense_ros.sim.sensors.rig import LidarSpec
from condense_ros.sim.sensors.stage import Stage

Values = npt.NDArray[np.floating]

#: panes that one pulse may pass on its way
_PANES = 4
#: share of the energy that comes back through a pane it passed twice
_THROUGH = 0.7


def cast_through(
    stage: Stage, rays: Rays, spec: LidarSpec, rng: np.random.Generator
) -> tuple[Hits, Float]:
    """What pulses are sent back by: glass lets its share of them through.

    Returns:
        hits, and the share (N,) of energy that the panes on the way left.
    """
    hits = stage.cast(rays, spec.max_range_m)
    left = np.ones(len(hits.triangle), np.float32)
    rows = np.nonzero(hits.triangle >= 0)[0]
    for _ in range(_PANES):
        glass = stage.surfaces.glass[stage.surface[hits.triangle[rows]]]
        rows = rows[rng.random(len(rows)) < glass * min(spec.dropout, 1.0)]
        if not len(rows):
            break
        eye = rays.block[rows] if len(rays.block) else np.zeros(len(rows), np.int32)
        direction = np.asarray(rays.direction[rows], np.float64)
        done = hits.range_m[rows] + 1e-3
        onwards = Rays(
            direction,
            rays.origin[eye] + direction * done[:, None],
            rays.time_s[eye],
            np.arange(len(rows), dtype=np.int32),
        )
        behind = stage.cast(onwards, spec.max_range_m)
        hits = _replaced(hits, rows, behind, done)
        left[rows] *= _THROUGH
        rows = rows[behind.triangle >= 0]
    return hits, left


def _replaced(hits: Hits, rows: npt.NDArray[np.int64], new: Hits, done: Values) -> Hits:
    triangle, range_m = hits.triangle.copy(), hits.range_m.copy()
    triangle[rows], range_m[rows] = new.triangle, new.range_m + done
    kept = ~np.isin(hits.moved, rows)
    moved = np.concatenate([hits.moved[kept], rows[new.moved]])
    T = np.concatenate([hits.T_world_object[kept], new.T_world_object])
    order = np.argsort(moved, kind="stable")
    return replace(
        hits, triangle=triangle, range_m=range_m, moved=moved[order], T_world_object=T[order]
    )


def behind_body(spec: LidarSpec, direction: Values) -> npt.NDArray[np.bool_]:
    """Which pulses (N, 3), lidar frame, end on the robot itself. Units report those returns far
    nearer than anything else; here they are left out."""
    if not spec.body:
        return np.zeros(len(direction), np.bool_)
    T = spec.T_base_lidar
    towards = direction @ T[:3, :3].T
    towards = np.where(np.abs(towards) < 1e-12, 1e-12, towards)
    corners = np.reshape(spec.body, (2, 1, 3))
    # slabs: a ray is inside the box between its last entry and its first exit
    ends = (corners - T[:3, 3]) / towards
    enters, leaves = ends.min(axis=0).max(axis=1), ends.max(axis=0).min(axis=1)
    return np.asarray(leaves >= np.maximum(enters, 0.0))


def measure(
    spec: LidarSpec,
    range_m: Values,
    cosine: Values,
    reflectance: Float,
    glass: Float,
    retro: Float,
    rng: np.random.Generator,
) -> tuple[Values, Values, npt.NDArray[np.bool_]]:
    """One return per hit.

    Args:
        range_m, cosine: (N,) true range and cosine of the angle of incidence.
        reflectance, glass, retro: (N,) of the surfaces, as in `materials.Surface`.

    Returns:
        range_m (N,) with noise, intensity (N,) 0..1, kept (N,) bool. A return is lost where too
        little light comes back (far, dark, grazing, wet).
    """
    n = len(range_m)
    draws = rng.random(n)
    speckle, jitter = rng.standard_normal((2, n))
    # Lambert's law, softened: rough surfaces send more light back at grazing incidence
    returned = reflectance * (0.15 + 0.85 * cosine) * (1 - 0.8 * glass)
    # units compensate for range only in part, so intensity still falls with distance
    intensity = returned / (1 + (range_m / 60.0) ** 2)
    # foil sends light back the way it came, far more than a white wall does
    intensity = intensity + retro * (0.3 + 0.7 * cosine) * 2.0
    # units deliver it as one byte
    intensity = np.clip(intensity * (1 + spec.intensity_noise * speckle), 0, 1)
    intensity = np.round(intensity * 255) / 255
    # share of the energy at which half of the returns are found
    energy = (reflectance * cosine + 20 * retro) * (30.0 / np.maximum(range_m, 1.0)) ** 2
    lost = 1 / (1 + (energy / 0.012) ** 2)
    missing = np.maximum(np.clip(spec.dropout * lost, 0, 1), np.clip(0.01 * spec.dropout, 0, 1))
    kept = (draws >= missing) & (range_m >= spec.min_range_m)
    spread = spec.range_noise_m + spec.range_noise_share * range_m
    return range_m + spread * jitter, intensity, kept


def wet_reflectance(reflectance: Float, normal: Float, cosine: Values, wet: float) -> Float:
    """Reflectance (N,) of surfaces in the rain: water on what faces up darkens it, and mirrors
    light away the more the flatter it comes in."""
    if wet == 0:
        return reflectance
    flat = np.abs(normal[:, 2]) > 0.7
    return np.asarray(
        np.where(flat, reflectance * (1 - wet * (0.5 + 0.48 * (1 - cosine))), reflectance),
        np.float32,
    )
