"""Which cameras see the surfaces that gave a sweep's points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array, inverse
from condense_ros.sim.sensors.eye import Eye
from condense_ros.sim.sensors.raycast import Hits
from condense_ros.sim.sensors.rays import Motion, Rays
from condense_ros.sim.sensors.stage import Stage
from condense_ros.sim.sensors.truth import SimulatedSweep

#: something nearer than the point by more than this hides it, metres
_TOLERANCE_M = 0.01


def visible(
    stage: Stage, eye: Eye, motion: Motion, start_s: float, sweep: SimulatedSweep
) -> npt.NDArray[np.bool_]:
    """Whether a camera sees what gave each point.

    The point's surface is followed to the time at which the camera exposes the row it lands in.
    It is seen if the ray from there to it is free, and if the centre of the pixel that it lands in
    shows the same object and class: at an edge, half a pixel decides which side a pixel shows.

    Args:
        start_s: world time of the picture's stamp.

    Returns:
        (N,) bool.
    """
    camera, hits, n = eye.camera, sweep.hits, len(sweep.xyz_world)
    rows_s = camera.row_times_s()
    objects = _in_object(stage, sweep.xyz_world, hits)
    at = np.full(n, len(rows_s) // 2)
    poses = np.asarray(motion.at(start_s + rows_s)) @ camera.T_base_cam
    xyz = sweep.xyz_world.copy()
    for _ in range(1 if len(rows_s) == 1 else 6):
        for rows, mover, local in objects:
            T = stage.crowd.movers[mover].trajectory.at(start_s + rows_s[at[rows]])
            xyz[rows] = np.einsum("nij,nj->ni", T[:, :3, :3], local) + T[:, :3, 3]
        T_cam_world = inverse(poses)[at]
        xyz_cam = np.einsum("nij,nj->ni", T_cam_world[:, :3, :3], xyz) + T_cam_world[:, :3, 3]
        uv, _, inside = eye.model.project(xyz_cam)
        if len(rows_s) > 1:
            row = np.nan_to_num(np.round(uv[:, 1]), nan=0.0, posinf=0.0, neginf=0.0)
            at = np.clip(row, 0, len(rows_s) - 1).astype(np.int64)
    seen = np.zeros(n, np.bool_)
    pick = np.nonzero(inside)[0]
    if not len(pick):
        return seen
    column, row = np.round(uv[pick]).astype(np.int64).T
    # the row that the pixel lies in, also where following the point to it has not settled
    at = row if len(rows_s) > 1 else np.zeros(len(pick), np.int64)
    origin, time_s = poses[at, :3, 3], start_s + rows_s[at]
    block = np.arange(len(pick), dtype=np.int32)
    way = xyz[pick] - origin
    distance = np.linalg.norm(way, axis=1)
    to_point = stage.cast(Rays(way / distance[:, None], origin, time_s, block))
    unit = eye.unit[row * camera.width + column]
    direction = np.einsum("nij,nj->ni", poses[at, :3, :3], unit)
    pixel = stage.cast(Rays(direction, origin, time_s, block))
    shown, own = pixel.triangle, hits.triangle[pick]
    semantic = stage.semantic
    same = (stage.instance[shown] == stage.instance[own]) & (semantic[shown] == semantic[own])
    seen[pick] = (to_point.range_m > distance - _TOLERANCE_M) & same & (shown >= 0)
    return seen


def _in_object(
    stage: Stage, xyz_world: Array, hits: Hits
) -> list[tuple[npt.NDArray[np.int64], int, Array]]:
    """Points on movers: (rows, mover, positions in its own frame)."""
    if not len(hits.moved):
        return []
    owner = stage.crowd.owner(hits.triangle[hits.moved])
    R, p = hits.T_world_object[:, :3, :3], hits.T_world_object[:, :3, 3]
    local = np.einsum("nji,nj->ni", R, xyz_world[hits.moved] - p)
    return [
        (hits.moved[owner == mover], int(mover), local[owner == mover])
        for mover in np.unique(owner)
    ]
