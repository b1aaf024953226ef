"""Surfaces at followed corners: planes through the LiDAR points that are seen around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from condense_ros.geometry import Array, transform

#: points that make one plane, and how far from the corner the farthest may be seen
NEIGHBOURS = 12
REACH_PX = 16.0
#: points lie on their plane within this share of their depth (root mean square), plus noise
FLAT_SHARE = 0.006
FLAT_M = 0.03
#: variance of the plane's depth at the corner, in units of that of one point
MAX_LEVERAGE = 0.6
#: least |cosine| between plane normal and viewing ray: at a grazing angle a little noise of the
#: plane's slope moves its depth by metres
MIN_COSINE = 0.12


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes `normal . x = offset` in the frame of the points.

    Attributes:
        rows: (M,) corners that have one.
        normal: (M, 3); offset: (M,) metres.
    """

    rows: npt.NDArray[np.int64]
    normal: Array
    offset: Array


def planes_at(
    rays: Array, points: Array, T_cam_points: Array, focal_px: float, max_depth_m: float
) -> Planes:
    """Fits a plane to the points seen around each viewing ray.

    The inverse depth of a plane is linear in normalised image coordinates, so the fit is one small
    linear system per ray. Rays whose surroundings are not one surface (edges, foliage, points seen
    through something) get none: there a corner has no certain depth.

    Args:
        rays: (N, 3) with z = 1, optical frame.
        points: (P, 3) metres.
        T_cam_points: (4, 4) to the optical frame.
        focal_px: pixels per unit of normalised coordinates.
    """
    cam = transform(T_cam_points, points)
    cam = cam[(cam[:, 2] > 1.0) & (cam[:, 2] < max_depth_m)]
    none = Planes(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0))
    if len(cam) < NEIGHBOURS or len(rays) == 0:
        return none
    seen = cam[:, :2] / cam[:, 2:]
    margin = REACH_PX / focal_px
    low, high = rays[:, :2].min(0) - margin, rays[:, :2].max(0) + margin
    inside = ((seen > low) & (seen < high)).all(1)
    seen, inverse_depth = seen[inside], 1.0 / cam[inside, 2]
    if len(seen) < NEIGHBOURS:
        return none
    tree = cKDTree(seen, balanced_tree=False, compact_nodes=False)
    found = tree.query(rays[:, :2], NEIGHBOURS, distance_upper_bound=REACH_PX / focal_px)
    distance, near = np.asarray(found[0]), np.asarray(found[1])
    rows = np.nonzero(np.isfinite(distance).all(1))[0]
    near = near[rows]
    # coordinates relative to the corner: the constant of the fit is then the inverse depth there
    around = (seen[near] - rays[rows, None, :2]) * focal_px
    A = np.concatenate([around, np.ones((*near.shape, 1))], axis=2)
    normal_matrix = np.einsum("nki,nkj->nij", A, A)
    right = np.einsum("nki,nk->ni", A, inverse_depth[near])
    # corners along one ring: the plane may turn about it
    solvable = np.linalg.eigvalsh(normal_matrix)[:, 0] > 1e-3
    rows, near, A = rows[solvable], near[solvable], A[solvable]
    if rows.size == 0:
        return none
    inverse_matrix = np.linalg.inv(normal_matrix[solvable])
    fit = np.einsum("nij,nj->ni", inverse_matrix, right[solvable])
    leverage = inverse_matrix[:, 2, 2]
    residual = np.einsum("nki,ni->nk", A, fit) - inverse_depth[near]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = 1.0 / fit[:, 2]
        rough = np.sqrt((residual**2).mean(1)) * depth * depth
    # n . X = 1 in the optical frame, from a x + b y + c = 1 / z
    n = np.column_stack([fit[:, :2] * focal_px, fit[:, 2]])
    n[:, 2] -= (n[:, :2] * rays[rows, :2]).sum(1)
    cosine = np.abs(fit[:, 2]) / (
        np.linalg.norm(n, axis=1) * np.linalg.norm(rays[rows], axis=1) + 1e-12
    )
    good = (fit[:, 2] > 1.0 / max_depth_m) & (rough < FLAT_M + FLAT_SHARE * depth)
    good &= (leverage < MAX_LEVERAGE) & (cosine > MIN_COSINE)
    n, R, t = n[good], T_cam_points[:3, :3], T_cam_points[:3, 3]
    # X = R x + t, so n . X = 1 is (n R) . x = 1 - n . t
    return Planes(rows[good], n @ R, 1.0 - n @ t)
