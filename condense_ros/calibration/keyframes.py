"""`KeyFrames`: frames in, followed corners with the LiDAR's points around them out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.calibration.tracks import Follower, grey
from condense_ros.calibration.trajectory import Aligner, Trajectory
from condense_ros.deskew import log_se3
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, CameraModel, inverse, transform

#: directions closer than this show the same
CELL_RAD = np.radians(0.35)


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """What one key image says about the calibration.

    Attributes:
        camera: its intrinsics.
        stamps_ns: (A,) of the key image and the ones after it, by the camera's clock.
        rays: (A, N, 3) with z = 1: where corners are seen in them; NaN where lost.
        points: (P, 3) float64 metres, odometry frame: the sweeps around the key image.
    """

    camera: CameraModel
    stamps_ns: npt.NDArray[np.int64]
    rays: Array
    points: Array


class KeyFrames:
    """Collects key frames from a stream of frames of one camera.

    Attributes:
        done: key frames that are complete.
        singles: frames on their own, now and then.
        stamps_ns, poses: of every frame with a pose; poses are aligned.
        aligned: how many were aligned with the sweeps before.
        stamp_ns: of the last frame.
    """

    def __init__(self, config: CalibrationConfig) -> None:
        self.config = config
        self.done: deque[KeyFrame] = deque(maxlen=config.max_keyframes)
        self.stamps_ns: list[int] = []
        self.poses: list[Array] = []
        self.aligned = 0
        self.singles: deque[tuple[PointCloud, CameraImage]] = deque(maxlen=config.edge_frames)
        self.stamp_ns: int | None = None
        self._last_single = 0
        self._aligner = Aligner(config.register_voxel_m)
        self._odometry: Array | None = None
        self._sweeps: deque[Array] = deque(maxlen=2 * config.sweeps + 1)
        self._open: list[_Open] = []
        self._last_key: Array | None = None

    def add(self, frame: Frame, image: CameraImage) -> None:
        """Takes the next frame; frames come in order of time. Without a pose it is kept alone."""
        c = self.config
        self.stamp_ns = frame.stamp_ns
        rested = frame.stamp_ns - self._last_single >= c.edge_period_s * 1e9
        if c.edge_frames and (rested or not self.singles):
            self._last_single = frame.stamp_ns
            self.singles.append((frame.cloud, image))
        if frame.T_world_lidar is None:
            return
        xyz = frame.cloud.xyz[frame.cloud.finite()].astype(np.float64)
        pose = frame.T_world_lidar
        if self._odometry is not None:
            step, aligned = self._aligner.step(xyz, inverse(self._odometry) @ pose)
            self.aligned += aligned
            refined = self.poses[-1] @ step
        else:
            self._aligner.step(xyz, np.eye(4))
            refined = pose
        self._odometry = pose
        self.stamps_ns.append(frame.stamp_ns)
        self.poses.append(refined)
        self._sweeps.append(self._near(xyz, refined, image))
        picture = grey(image.pixels)
        for key in self._open:
            if key.follower.images <= c.follow_frames:
                key.follower.follow(picture)
                key.stamps_ns.append(image.stamp_ns)
            key.sweeps.append(self._sweeps[-1])
            key.age += 1
        if self._moved(refined):
            self._last_key = refined
            before = list(self._sweeps)[-1 - c.sweeps :]
            self._open.append(
                _Open(Follower(picture, c), [image.stamp_ns], before, image.camera, refined[:3, 3])
            )
        for key in [key for key in self._open if key.age >= max(c.follow_frames, c.sweeps)]:
            self._open.remove(key)
            self.done.append(key.close(c.sweeps))

    def trajectory(self) -> Trajectory | None:
        """Aligned poses from the oldest key frame on; None before the second frame."""
        if len(self.poses) < 2:
            return None
        stamps = np.array(self.stamps_ns, np.int64)
        first = 0
        if self.done:
            first = int(np.searchsorted(stamps, self.done[0].stamps_ns[0] - 1_000_000_000))
        first = min(first, len(stamps) - 2)
        return Trajectory(stamps[first:], np.array(self.poses[first:]))

    def _near(self, xyz: Array, pose: Array, image: CameraImage) -> Array:
        """Points of a sweep that a camera near its calibrated mounting may see, odometry frame."""
        cam = transform(image.T_cam_lidar, xyz)
        u, v = np.meshgrid(np.linspace(0, image.camera.width - 1, 9), (0, image.camera.height - 1))
        border = forward(image.camera.rays(np.stack([u.ravel(), v.ravel()], axis=1)))
        # a lens whose corners look sideways: its rays with z > 0.2 reach to 5
        reach = np.where(np.isnan(border[:, :2]), 5.0, np.abs(border[:, :2])).max(0) + 0.25
        depth = np.maximum(cam[:, 2], 0.1)
        seen = (np.abs(cam[:, :2]) < reach * depth[:, None] + 1).all(1) & (cam[:, 2] > 0)
        return transform(pose, xyz[seen & (depth < self.config.max_depth_m + 5)])

    def _moved(self, pose: Array) -> bool:
        if self._last_key is None:
            return True
        step = inverse(self._last_key) @ pose
        return bool(
            np.linalg.norm(step[:3, 3]) >= self.config.keyframe_step_m
            or np.linalg.norm(log_se3(step)[3:]) >= np.radians(self.config.keyframe_step_deg)
        )


@dataclass(eq=False)
class _Open:
    follower: Follower
    stamps_ns: list[int]
    sweeps: list[Array]
    camera: CameraModel
    origin: Array
    age: int = 0

    def close(self, around: int) -> KeyFrame:
        uv, alive = self.follower.tracks()
        rays = np.full((*uv.shape[:2], 3), np.nan)
        for a, rows in enumerate(alive):
            rays[a, rows] = forward(self.camera.rays(uv[a, rows]))
        sweeps = self.sweeps[: 2 * around + 1]
        return KeyFrame(
            self.camera,
            np.array(self.stamps_ns),
            rays,
            thinned(np.concatenate(sweeps), self.origin),
        )


def thinned(points: Array, origin: Array) -> Array:
    """At most one point per small cell of direction: several sweeps would lie on each other."""
    ray = points - origin
    azimuth = np.arctan2(ray[:, 1], ray[:, 0])
    elevation = np.arctan2(ray[:, 2], np.hypot(ray[:, 0], ray[:, 1]))
    cell = np.floor(azimuth / CELL_RAD).astype(np.int64) * 100_000
    cell += np.floor(elevation / CELL_RAD).astype(np.int64)
    # a fixed shuffle: the first of a cell would always be the oldest sweep's
    order = np.random.default_rng(0).permutation(len(points))
    _, first = np.unique(cell[order], return_index=True)
    return points[order[first]]


def forward(rays: Array) -> Array:
    """Rays scaled to z = 1; NaN where a lens sees beside or behind itself."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = rays[:, 2:]
        return np.where(z > 0.2 * np.linalg.norm(rays, axis=1, keepdims=True), rays / z, np.nan)
