"""Where depth jumps, brightness usually changes: calibration from single frames.

Needs no motion and no poses, but many scenes: an outline in depth need not show in the image, and
most edges of an image are not outlines. Levinson and Thrun, "Automatic online calibration of
cameras and lasers", RSS 2013, with directed edges and an interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from condense_ros.calibration.solve import PRIOR, STEP, Guess
from condense_ros.calibration.tracks import grey
from condense_ros.frame import CameraImage, PointCloud
from condense_ros.geometry import Array, CameraModel, transform

#: a jump: the neighbour lies farther by this share of the range, and by this many metres
JUMP_SHARE = 0.08
JUMP_M = 0.5
#: neighbours in angle that are looked at
NEIGHBOURS = 8
#: widths of the blur, coarse to fine, as shares of the image width
BLURS = (1 / 160, 1 / 400)
#: outlines of a frame that are used at most
MOST_POINTS = 800
#: sectors of a frame whose outlines err independently
SECTORS = 8


@dataclass(frozen=True, eq=False)
class EdgeFrame:
    """Outlines of one sweep, and the edges of its image.

    Attributes:
        camera: intrinsics.
        points: (N, 3) metres, lidar frame at the image's time: on the outline, at its depth.
        across: (N, 3) small steps across the outline, to the background.
        maps: per blur (2, H, W) float32: edges across u, and across v; 0 to 1.
        sector: (N,) which part of the frame an outline lies in.
    """

    camera: CameraModel
    points: Array
    across: Array
    maps: tuple[npt.NDArray[np.float32], ...]
    sector: npt.NDArray[np.int64]


def outlines(xyz: Array) -> tuple[Array, Array]:
    """Points of a sweep behind which depth jumps back.

    The outline runs somewhere between the last ray on the object and the first beside it: halfway.

    Args:
        xyz: (N, 3) finite metres, lidar frame.

    Returns:
        points: (M, 3) on the outline, at the object's range.
        across: (M, 3) steps from there towards the background.
    """
    reach = np.linalg.norm(xyz, axis=1)
    keep = reach > 1.0
    xyz, reach = xyz[keep], reach[keep]
    if len(xyz) <= NEIGHBOURS:
        return np.zeros((0, 3)), np.zeros((0, 3))
    unit = xyz / reach[:, None]
    distance, near = (np.asarray(x) for x in cKDTree(unit).query(unit, NEIGHBOURS + 1))
    distance, near = distance[:, 1:], near[:, 1:]
    behind = reach[near] > (reach * (1 + JUMP_SHARE) + JUMP_M)[:, None]
    # rays far apart tell little; the nearest neighbour tells how dense rays are here
    behind &= distance < np.maximum(4 * distance[:, :1], 0.004)
    first = np.argmax(behind, axis=1)
    rows = np.nonzero(behind.any(1))[0]
    other = unit[near[rows, first[rows]]]
    middle = unit[rows] + other
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    range_m = reach[rows, None]
    return middle * range_m, (other - unit[rows]) * range_m


def edge_frame(cloud: PointCloud, image: CameraImage, max_depth_m: float) -> EdgeFrame | None:
    """Outlines and edge maps of one frame; None where no outline can be in the image."""
    xyz = cloud.xyz[cloud.finite()].astype(np.float64)
    if image.ego_motion is not None:
        xyz = transform(image.ego_motion, xyz)
    cam = transform(image.T_cam_lidar, xyz)
    wide = (cam[:, 2] > 1.0) & (cam[:, 2] < max_depth_m)
    uv, _, _ = image.camera.project(cam)
    size = np.array([image.camera.width, image.camera.height])
    wide &= ((uv > -0.2 * size) & (uv < 1.2 * size)).all(1)
    points, across = outlines(xyz[wide])
    if len(points) < 20:
        return None
    some = np.unique(np.linspace(0, len(points) - 1, MOST_POINTS).astype(np.int64))
    points, across = points[some], across[some]
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    order = np.argsort(np.argsort(azimuth))
    return EdgeFrame(
        image.camera, points, across, edge_maps(image.pixels), order * SECTORS // len(order)
    )


def edge_maps(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], ...]:
    """Edges across u and across v, blurred at every width."""
    import cv2

    flat = cv2.GaussianBlur(grey(pixels).astype(np.float32), (0, 0), 1.0)
    maps = []
    for blur in BLURS:
        both = []
        for dx, dy in ((1, 0), (0, 1)):
            slope = np.abs(cv2.Sobel(flat, cv2.CV_32F, dx, dy, ksize=3)) / 8
            # strong edges are not better edges
            # strong edges are not better edges
            both.append(cv2.GaussianBlur(slope / (slope + 8), (0, 0), blur * pixels.shape[1]))
        maps.append(np.stack(both).astype(np.float32))
    return tuple(maps)


def score(frame: EdgeFrame, guess: Guess, level: int) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """How much edge there is at every outline.

    Returns:
        (N,) edge strength at the outlines, 0 outside the image.
        (N, 6) its derivative by rotation (rad) and translation (m) of the camera.
        (N,) bool: in the image.
    """
    cam = transform(guess.T_cam_lidar, frame.points)
    uv, _, inside = frame.camera.project(cam)
    end, _, _ = frame.camera.project(transform(guess.T_cam_lidar, frame.points + frame.across))
    rows = np.nonzero(inside)[0]
    d = end[rows] - uv[rows]
    share = d * d / np.maximum((d * d).sum(1, keepdims=True), 1e-12)
    value, slope = np.zeros(len(cam)), np.zeros((len(cam), 6))
    v, g = _look_up(frame.maps[level], uv[rows])
    value[rows] = (share * v.T).sum(1)
    by_uv = np.einsum("nk,kni->ni", share, g)
    # for a lens with distortion the slope of the plain pinhole is near enough to climb by
    x, y, z = cam[rows].T
    fx, fy = frame.camera.K[0, 0], frame.camera.K[1, 1]
    by_cam = np.stack(
        [
            by_uv[:, 0] * fx / z,
            by_uv[:, 1] * fy / z,
            -(by_uv[:, 0] * fx * x + by_uv[:, 1] * fy * y) / z**2,
        ],
        axis=1,
    )
    slope[rows, :3] = np.cross(cam[rows], by_cam)
    slope[rows, 3:] = by_cam
    return value, slope, inside


def _look_up(maps: npt.NDArray[np.float32], uv: Array) -> tuple[Array, Array]:
    """Bilinear values (2, N) of two maps at pixels, and their slopes (2, N, 2)."""
    _, height, width = maps.shape
    u = np.clip(uv[:, 0], 0, width - 1.001)
    v = np.clip(uv[:, 1], 0, height - 1.001)
    i, j = u.astype(np.int64), v.astype(np.int64)
    a, b = u - i, v - j
    m00, m10 = maps[:, j, i], maps[:, j, i + 1]
    m01, m11 = maps[:, j + 1, i], maps[:, j + 1, i + 1]
    value = (m00 * (1 - a) + m10 * a) * (1 - b) + (m01 * (1 - a) + m11 * a) * b
    du = (m10 - m00) * (1 - b) + (m11 - m01) * b
    dv = (m01 - m00) * (1 - a) + (m11 - m10) * a
    return value.astype(np.float64), np.stack([du, dv], axis=-1).astype(np.float64)


def align_edges(
    frames: Sequence[EdgeFrame], start: Guess, frames_per_block: int = 4
) -> tuple[Array, Array, int]:
    """The mounting at which outlines lie on edges, from coarse to fine.

    Returns:
        error: (6,) of the given mounting, rad and m.
        information: (6, 6) of it, by the spread of parts of the frames (Godambe 1960).
        dof: degrees of freedom.
    """
    count = sum(len(frame.points) for frame in frames)
    unit, weak = STEP[:6], PENALTY * (STEP[:6] / PRIOR[:6]) ** 2

    def objective(y: Array, level: int) -> tuple[float, Array]:
        guess = start.moved(np.append(y * unit, 0.0))
        total, slope = 0.0, np.zeros(6)
        for frame in frames:
            value, by, _ = score(frame, guess, level)
            total += float(value.sum())
            slope += by.sum(0)
        # a mounting far from the given one has to be worth it
        height = -total / count + float(weak @ (y * y))
        return height, np.asarray(-slope * unit / count + 2 * weak * y)

    # scipy's stubs do not know that the function may also give its slope
    optimise: Any = minimize

    def climb(y: Array, level: int) -> tuple[float, Array]:
        options = {"gtol": 1e-6, "maxiter": 40}
        end = optimise(objective, y, (level,), jac=True, method="BFGS", options=options)
        return float(end.fun), np.asarray(end.x)

    # rows of outlines may lie on the wrong rows of edges: look around before climbing
    around = [
        np.array([*np.radians(degrees), 0.0, 0.0, 0.0]) / unit
        for degrees in itertools.product(LOOK_DEG, LOOK_DEG, (-1.0, 0.0, 1.0))
    ]
    best, y = np.inf, np.zeros(6)
    for begin in sorted(around, key=lambda begin: objective(begin, 0)[0])[:FOLLOWED]:
        end = begin
        for level in range(len(BLURS)):
            height, end = climb(end, level)
        if height < best:
            best, y = height, end
    # the finest level has ripples: look about from the best, one axis at a time
    for axis, side in itertools.product((1, 0, 3, 2, 4, 5), (-RIPPLE, RIPPLE)):
        begin = y + side * np.eye(6)[axis]
        height, end = climb(begin, len(BLURS) - 1)
        if height < best - 1e-6:
            best, y = height, end
    level = len(BLURS) - 1
    H = np.zeros((6, 6))
    for k in range(6):
        h = np.zeros(6)
        h[k] = 0.4
        H[:, k] = (objective(y + h, level)[1] - objective(y - h, level)[1]) / (2 * h[k])
    H = (H + H.T) / 2 - 2 * np.diag(weak)
    guess = start.moved(np.append(y * unit, 0.0))
    blocks: dict[tuple[int, int], Array] = {}
    for number, frame in enumerate(frames):
        _, by, _ = score(frame, guess, level)
        for sector in range(SECTORS):
            key = (number // frames_per_block, sector)
            gradient = by[frame.sector == sector].sum(0) * unit / count
            blocks[key] = blocks.get(key, np.zeros(6)) + gradient
    G = np.array(list(blocks.values()))
    G = G - G.mean(0)
    spread = G.T @ G * len(G) / max(len(G) - 1, 1)
    values, vectors = np.linalg.eigh(H)
    H = (vectors * np.maximum(values, 1e-6)) @ vectors.T
    information = H @ np.linalg.pinv(spread) @ H / np.outer(unit, unit)
    return y * unit, information, max(len(G) - 1, 1)


#: rotations about x and y at which the search looks; and how many of the best it follows
LOOK_DEG = (-1.4, -0.7, 0.0, 0.7, 1.4)
FOLLOWED = 4
#: how far, in units of `STEP`
RIPPLE = 2.0
#: score per point that a mounting a standard deviation of `PRIOR` away has to bring
PENALTY = 0.002
