"""`Trajectory`: lidar poses between their samples; sweeps aligned so that poses do not drift."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from condense_ros.deskew import exp_se3, log_se3
from condense_ros.geometry import Array, inverse, transform

#: fewer points are not aligned
LEAST_POINTS = 100
#: farther points are thin, and bring little
RANGE_M = 50.0
#: neighbours whose spread makes a surface, and how far they may lie off it
NEIGHBOURS = 14
FLAT_M = 0.04
#: farther from odometry than this, an alignment is not believed
MAX_SHIFT_M = 0.5
MAX_TURN_DEG = 3.0


class Trajectory:
    """Poses at stamps, joined smoothly.

    Between two samples the twist from the first is a cubic through the two samples to each side
    (Lagrange), which follows a vehicle that begins a turn; a constant twist would cut the corner.

    Args:
        stamps_ns: (T,) increasing, T >= 2.
        poses: (T, 4, 4) T_odom_lidar.
    """

    def __init__(self, stamps_ns: npt.NDArray[np.int64], poses: Array) -> None:
        self.stamps_ns, self.poses = stamps_ns, poses
        self._pieces: dict[int, tuple[Array, Array]] = {}

    def at(self, stamp_ns: int, offset_s: float = 0.0) -> tuple[Array, Array]:
        """Pose and motion at a stamp plus an offset; beyond the ends the last motion goes on.

        Returns:
            T_odom_lidar: (4, 4).
            twist: (6,) (v, w) in the lidar frame, m/s and rad/s.
        """
        shifted = stamp_ns + round(offset_s * 1e9)
        last = len(self.stamps_ns) - 2
        k = int(np.searchsorted(self.stamps_ns, shifted, side="right")) - 1
        beyond = not 0 <= k <= last
        k = min(max(k, 0), last)
        times, twists = self._piece(k)
        elapsed = float(stamp_ns - int(self.stamps_ns[k])) * 1e-9 + offset_s
        if beyond:
            step = 1 + int(k > 0)
            rate = twists[step] / times[step]
            return self.poses[k] @ exp_se3(rate * elapsed), rate
        weights, slopes = _lagrange(times, elapsed)
        return self.poses[k] @ exp_se3(weights @ twists), slopes @ twists

    def _piece(self, k: int) -> tuple[Array, Array]:
        """Times (M,) and twists (M, 6) of the samples around segment k, from its first sample."""
        if k not in self._pieces:
            around = range(max(k - 1, 0), min(k + 3, len(self.stamps_ns)))
            back = inverse(self.poses[k])
            self._pieces[k] = (
                (self.stamps_ns[list(around)] - self.stamps_ns[k]).astype(np.float64) * 1e-9,
                np.array([log_se3(back @ self.poses[m]) for m in around]),
            )
        return self._pieces[k]


def _lagrange(times: Array, t: float) -> tuple[Array, Array]:
    """Weights (M,) of samples in their interpolating polynomial at t, and in its derivative."""
    weights, slopes = np.ones(len(times)), np.zeros(len(times))
    for m, here in enumerate(times):
        others = np.delete(times, m)
        factors = (t - others) / (here - others)
        weights[m] = factors.prod()
        slopes[m] = sum(
            np.delete(factors, n).prod() / (here - other) for n, other in enumerate(others)
        )
    return weights, slopes


class Aligner:
    """Aligns each sweep with the few before it, starting from odometry.

    Wheel odometry has a wrong scale and a drifting heading; a LiDAR against its own sweeps has not.
    Point to plane (Chen and Medioni, "Object modelling by registration of multiple range images",
    1992), and only against points that certainly lie on a surface: the rings of a sweep on the
    ground move along with the vehicle, and covariances of points on one ring would pull it back.

    Args:
        voxel_m: spacing of the points that have a surface.
        sweeps: how many sweeps the next one is aligned with.
    """

    def __init__(self, voxel_m: float, sweeps: int = 5) -> None:
        self._voxel_m = voxel_m
        #: sweeps, and the surfaces found in them with their normals, in the frame of the newest
        self._sweeps: deque[Array] = deque(maxlen=sweeps)
        self._surfaces: deque[tuple[Array, Array]] = deque(maxlen=sweeps)

    def step(self, xyz: Array, T_last_now: Array) -> tuple[Array, bool]:
        """Motion since the sweep before.

        Args:
            xyz: (N, 3) finite metres, lidar frame.
            T_last_now: (4, 4) the same motion by odometry.

        Returns:
            T_last_now: (4, 4) aligned, or odometry's where the sweeps do not agree.
            aligned: whether they did.
        """
        near = xyz[(xyz * xyz).sum(1) < RANGE_M**2]
        thin = _thin(near, self._voxel_m)
        T, agrees = T_last_now, False
        if self._surfaces and len(thin) >= LEAST_POINTS:
            points = np.concatenate([points for points, _ in self._surfaces])
            normals = np.concatenate([normals for _, normals in self._surfaces])
            found = _point_to_plane(points, normals, _thin(thin, 3 * self._voxel_m), T_last_now)
            if found is not None:
                apart = log_se3(inverse(T_last_now) @ found)
                if np.linalg.norm(apart[:3]) < MAX_SHIFT_M and (
                    np.linalg.norm(apart[3:]) < np.radians(MAX_TURN_DEG)
                ):
                    T, agrees = found, True
        back = inverse(T)
        for k, sweep in enumerate(self._sweeps):
            self._sweeps[k] = transform(back, sweep)
        for k, (points, normals) in enumerate(self._surfaces):
            self._surfaces[k] = transform(back, points), normals @ back[:3, :3].T
        self._sweeps.append(thin)
        self._surfaces.append(_surface(thin, np.concatenate(self._sweeps)))
        return T, agrees


def _thin(xyz: Array, voxel_m: float) -> Array:
    """One point per voxel: the first."""
    cell = np.floor(xyz / voxel_m).astype(np.int64)
    _, rows = np.unique(cell @ np.array([1, 1 << 20, 1 << 40]), return_index=True)
    return xyz[rows]


def _surface(xyz: Array, around: Array) -> tuple[Array, Array]:
    """Those of the points that lie on a surface, and its normals, from their neighbours."""
    if len(around) < LEAST_POINTS or len(xyz) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    near = np.asarray(
        cKDTree(around, balanced_tree=False, compact_nodes=False).query(xyz, NEIGHBOURS)[1]
    )
    spread = around[near]
    spread = spread - spread.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(np.swapaxes(spread, 1, 2) @ spread / NEIGHBOURS)
    flat = (values[:, 0] < FLAT_M**2) & (values[:, 1] > 16 * values[:, 0])
    # points of a single ring make a line, whose normal is anything
    flat &= values[:, 1] > 0.05 * values[:, 2]
    return xyz[flat], vectors[flat, :, 0]


def _point_to_plane(points: Array, normals: Array, source: Array, T: Array) -> Array | None:
    """Motion of a source cloud onto surfaces; None where too little matches."""
    if len(points) < LEAST_POINTS:
        return None
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    for iteration in range(12):
        moved = transform(T, source)
        found = tree.query(moved, distance_upper_bound=max(0.6**iteration, 0.3))
        distance, near = np.asarray(found[0]), np.asarray(found[1])
        rows = np.nonzero(np.isfinite(distance))[0]
        if len(rows) < LEAST_POINTS:
            return None
        p, n = moved[rows], normals[near[rows]]
        error = ((p - points[near[rows]]) * n).sum(1)
        scale = max(2 * float(np.median(np.abs(error))), 0.01)
        weight = 1 / (1 + (error / scale) ** 2) ** 2
        J = np.concatenate([n, np.cross(p, n)], axis=1)
        H = (J * weight[:, None]).T @ J
        values = np.linalg.eigvalsh(H[:3, :3])
        if values[0] < 1e-3 * len(rows):  # a tunnel, or a plain: motion along it is not seen
            return None
        step = -np.linalg.solve(H, (J * weight[:, None]).T @ error)
        T = exp_se3(step) @ T
        if np.abs(step).max() < 1e-4:
            break
    return T
