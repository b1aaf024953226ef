"""SE(3), cameras, and which LiDAR point is seen in which pixel.

Transforms are (4, 4) float64 and named `T_target_source`: `T_cam_lidar @ p_lidar = p_cam`. Camera
frames are optical (x right, y down, z forward); all others follow REP-103 (x forward, y left, z
up).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from condense_ros.errors import GeometryError
from condense_ros.lens import BrownConrady, Equidistant, brown_conrady

Array = npt.NDArray[np.float64]

#: camera model -> numbers of distortion coefficients it may have
_COEFFICIENTS = {"pinhole": (0, 4, 5, 8), "fisheye": (0, 4)}
#: nearer points are not seen
MIN_DISTANCE_M = 0.01

#: rotation from a REP-103 body frame (x forward) to an optical frame (z forward)
R_OPTICAL_BODY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


def check_se3(T: npt.ArrayLike, what: str = "transform") -> Array:
    """Returns `T` as (4, 4) float64 after checking that it is a rigid motion.

    Raises:
        GeometryError: not 4x4, not finite, or its rotation is not orthonormal within 1e-3.
    """
    matrix = np.asarray(T, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise GeometryError(f"{what} has shape {matrix.shape}", "give a 4x4 homogeneous matrix")
    if not np.isfinite(matrix).all():
        raise GeometryError(
            f"{what} contains NaN or infinity", "check the calibration or tf source"
        )
    rotation = matrix[:3, :3]
    skewed = np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0
    if skewed or np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise GeometryError(f"{what} is not a rigid motion", "check the calibration or tf source")
    return matrix


def se3(rotation: npt.ArrayLike, translation: npt.ArrayLike) -> Array:
    """(4, 4) transform from a (3, 3) rotation and a (3,) translation in metres."""
    T = np.eye(4)
    T[:3, :3] = rotation
    T[:3, 3] = translation
    return T


def inverse(T: Array) -> Array:
    """Inverse of rigid transforms (..., 4, 4)."""
    R_inv = np.swapaxes(T[..., :3, :3], -1, -2)
    out = np.zeros_like(T)
    out[..., :3, :3] = R_inv
    out[..., :3, 3] = -(R_inv @ T[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def transform(T: Array, xyz: npt.NDArray[np.floating]) -> Array:
    """Applies (4, 4) `T` to points (N, 3); computed and returned in float64."""
    return np.asarray(xyz, dtype=np.float64) @ T[:3, :3].T + T[:3, 3]


def rotation_from_quaternion(xyzw: npt.ArrayLike) -> Array:
    """(3, 3) rotation from a quaternion in ROS order (x, y, z, w).

    Raises:
        GeometryError: NaN, or a norm further than 1e-2 from one (a tf that was never filled in has
            norm 0; identity is never guessed).
    """
    q = np.asarray(xyzw, dtype=np.float64)
    norm = float(np.linalg.norm(q))
    if q.shape != (4,) or not np.isfinite(norm) or abs(norm - 1.0) > 1e-2:
        raise GeometryError(
            f"quaternion {q.tolist()} has norm {norm:.4g}", "publish a unit quaternion (x, y, z, w)"
        )
    x, y, z, w = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: npt.ArrayLike) -> Array:
    """Quaternion (x, y, z, w), w >= 0, of a (3, 3) rotation (Shepperd's method)."""
    R = np.asarray(rotation, dtype=np.float64)
    candidates = np.array([R[0, 0], R[1, 1], R[2, 2], np.trace(R)])
    i = int(candidates.argmax())
    if i == 3:
        q = [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + candidates[3]]
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q = [0.0] * 4
        q[i] = 1 - candidates[3] + 2 * R[i, i]
        q[j] = R[j, i] + R[i, j]
        q[k] = R[k, i] + R[i, k]
        q[3] = R[k, j] - R[j, k]
    quaternion = np.asarray(q) / np.linalg.norm(q)
    return quaternion if quaternion[3] >= 0 else -quaternion


def rotation_rpy(roll: float, pitch: float, yaw: float) -> Array:
    """(3, 3) rotation from fixed-axis roll, pitch, yaw in radians (REP-103)."""
    cr, sr, cp, sp = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch)
    cy, sy = np.cos(yaw), np.sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def yaw_of(T: Array) -> float:
    """Heading in radians of a transform whose x axis points forward."""
    return float(np.arctan2(T[1, 0], T[0, 0]))


def pose_error(T_estimate: Array, T_truth: Array) -> tuple[float, float]:
    """(translation error in metres, rotation error in degrees) between two poses."""
    delta = inverse(T_truth) @ T_estimate
    # the sine half keeps small angles exact where arccos of the trace loses digits
    skew = delta[:3, :3] - delta[:3, :3].T
    sine = 0.5 * np.linalg.norm([skew[2, 1], skew[0, 2], skew[1, 0]])
    cosine = 0.5 * (np.trace(delta[:3, :3]) - 1.0)
    return float(np.linalg.norm(delta[:3, 3])), float(np.degrees(np.arctan2(sine, cosine)))


def interpolate_pose(T_a: Array, T_b: Array, fraction: float) -> Array:
    """Pose between two poses: slerp for rotation, linear for translation; fraction 0 gives T_a."""
    q_a = quaternion_from_rotation(T_a[:3, :3])
    q_b = quaternion_from_rotation(T_b[:3, :3])
    if q_a @ q_b < 0:
        q_b = -q_b
    angle = np.arccos(np.clip(q_a @ q_b, -1.0, 1.0))
    if angle < 1e-6:
        q = (1 - fraction) * q_a + fraction * q_b
    else:
        q = (np.sin((1 - fraction) * angle) * q_a + np.sin(fraction * angle) * q_b) / np.sin(angle)
    translation = (1 - fraction) * T_a[:3, 3] + fraction * T_b[:3, 3]
    return se3(rotation_from_quaternion(q / np.linalg.norm(q)), translation)


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A calibrated camera, as in sensor_msgs/CameraInfo.

    Attributes:
        K: (3, 3) float64 intrinsics in pixels; the centre of the top left pixel is (0, 0).
        width, height: image size in pixels.
        D: float64 distortion. Pinhole: (0,), (4,), (5,) or (8,), order k1 k2 p1 p2 k3 k4 k5 k6
            (`plumb_bob` and `rational_polynomial` of CameraInfo). Fisheye: (0,) or (4,), k1 k2 k3
            k4 of the angle (`equidistant` of CameraInfo, `cv2.fisheye`).
        model: "pinhole" or "fisheye". A fisheye camera may see points beside and behind itself.

    Raises:
        GeometryError: K without positive focal lengths (an uncalibrated camera publishes K = 0),
            non-finite values, an empty image, another model or number of coefficients.
    """

    K: Array
    width: int
    height: int
    D: Array = field(default_factory=lambda: np.zeros(0))
    model: str = "pinhole"

    def __post_init__(self) -> None:
        K, D = np.array(self.K, dtype=np.float64), np.array(self.D, dtype=np.float64).ravel()
        if K.shape != (3, 3) or not np.isfinite(K).all() or not (K[0, 0] > 0 and K[1, 1] > 0):
            raise GeometryError(
                f"camera intrinsics are not usable: K = {K.tolist()}",
                "calibrate the camera; an uncalibrated driver publishes K = 0",
            )
        if self.width <= 0 or self.height <= 0:
            raise GeometryError(
                f"camera image size is {self.width}x{self.height}", "set width and height"
            )
        if self.model not in _COEFFICIENTS:
            raise GeometryError(
                f"camera model {self.model!r} is not known", f"use {' or '.join(_COEFFICIENTS)}"
            )
        if D.size not in _COEFFICIENTS[self.model] or not np.isfinite(D).all():
            raise GeometryError(
                f"{D.size} distortion coefficients of a {self.model} camera: {D.tolist()}",
                "give none, 4, 5 (plumb_bob) or 8 (rational) finite numbers"
                if self.model == "pinhole"
                else "give none or 4 finite numbers (k1 k2 k3 k4)",
            )
        object.__setattr__(self, "K", K)
        object.__setattr__(self, "D", D)

    @cached_property
    def _brown(self) -> BrownConrady | None:
        """The pinhole's distortion, None without any."""
        distorted = self.model == "pinhole" and self.D.any()
        return brown_conrady(tuple(self.D.tolist())) if distorted else None

    @cached_property
    def _fisheye(self) -> Equidistant:
        return Equidistant(self.D)

    def _plane(self, xyz: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        """Distorted normalised coordinates, and whether the lens can see the point at all."""
        if self.model == "fisheye":
            across = np.hypot(xyz[:, 0], xyz[:, 1])
            theta = np.arctan2(across, xyz[:, 2])
            near = np.hypot(across, xyz[:, 2]) <= MIN_DISTANCE_M
            valid = ~near & (theta < self._fisheye.max_angle)
            radius = self._fisheye.apply(np.where(valid, theta, 0.0))
            scale = radius / np.where(across > 0, across, 1.0)
            return xyz[:, 0] * scale, xyz[:, 1] * scale, valid
        valid = xyz[:, 2] > MIN_DISTANCE_M
        z = np.where(valid, xyz[:, 2], 1.0)
        x, y = xyz[:, 0] / z, xyz[:, 1] / z
        if self._brown is not None:
            valid &= self._brown.covers(x, y)
            x, y = self._brown.apply(np.where(valid, x, 0.0), np.where(valid, y, 0.0))
        return x, y, valid

    def project(
        self, xyz_cam: npt.NDArray[np.floating]
    ) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        """Projects points of the optical frame.

        Args:
            xyz_cam: (N, 3) metres.

        Returns:
            uv: (N, 2) float64 pixels (u right, v down), meaningful where `inside`.
            depth: (N,) float64, metres along z; a fisheye may see points with depth <= 0.
            inside: (N,) bool: within the image and seen by the lens: nearer to the axis than the
                distortion folds back, and in front of the camera (z > 1 cm) or, for a fisheye,
                farther than 1 cm.
        """
        xyz = np.asarray(xyz_cam, dtype=np.float64)
        x, y, valid = self._plane(xyz)
        u = self.K[0, 0] * x + self.K[0, 1] * y + self.K[0, 2]
        v = self.K[1, 1] * y + self.K[1, 2]
        # pixel i covers [i - 0.5, i + 0.5)
        inside = (
            valid & (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)
        )
        return np.stack([u, v], axis=1), xyz[:, 2], inside

    def rays(self, uv: npt.NDArray[np.floating] | None = None) -> Array:
        """Viewing directions (M, 3) in the optical frame: z = 1 for a pinhole, unit length for a
        fisheye, whose directions may point backwards.

        Pixels that no direction is seen in (beyond the fold of a barrel distortion, outside the
        image circle of a fisheye) are NaN.

        Args:
            uv: (M, 2) pixels; all pixel centres in row-major order when None.
        """
        if uv is None:
            return self._all_rays
        uv = np.asarray(uv, dtype=np.float64)
        y = (uv[:, 1] - self.K[1, 2]) / self.K[1, 1]
        x = (uv[:, 0] - self.K[0, 2] - self.K[0, 1] * y) / self.K[0, 0]
        if self.model == "fisheye":
            radius = np.hypot(x, y)
            theta = self._fisheye.remove(radius)
            scale = np.sin(theta) / np.where(radius > 0, radius, 1.0)
            return np.stack([x * scale, y * scale, np.cos(theta)], axis=1)
        if self._brown is not None:
            x, y = self._brown.remove(x, y)
        return np.stack([x, y, np.where(np.isfinite(x), 1.0, np.nan)], axis=1)

    @cached_property
    def _all_rays(self) -> Array:
        v, u = np.mgrid[0 : self.height, 0 : self.width]
        rays = self.rays(np.stack([u.ravel(), v.ravel()], axis=1))
        rays.flags.writeable = False  # shared by all callers
        return rays

    def unproject(
        self, uv: npt.NDArray[np.floating] | None, depth: npt.NDArray[np.floating]
    ) -> Array:
        """Points (M, 3) in metres, optical frame, of pixels (M, 2) with z depth (M,) in metres.

        NaN where no direction is seen (see `rays`), and where a fisheye looks sideways or back: no
        depth along the axis reaches there.

        Args:
            uv: all pixel centres in row-major order when None.
        """
        rays = self.rays(uv)
        depth = np.asarray(depth, dtype=np.float64)[:, None]
        if self.model == "fisheye":
            ahead = np.where(rays[:, 2:] > 1e-6, rays[:, 2:], np.nan)
            return np.asarray(rays * (depth / ahead))
        return np.asarray(rays * depth)

    def scaled(self, width: int, height: int) -> CameraModel:
        """The same camera for its image resized to (width, height)."""
        sx, sy = width / self.width, height / self.height
        K = self.K.copy()
        K[0, :2] *= sx
        K[1, 1] *= sy
        K[0, 2] = (K[0, 2] + 0.5) * sx - 0.5
        K[1, 2] = (K[1, 2] + 0.5) * sy - 0.5
        return CameraModel(K, width, height, self.D, self.model)


def same_camera(one: CameraModel, other: CameraModel) -> bool:
    """Whether two cameras map every point to the same pixel of images of the same size."""
    return (
        (one.model, one.width, one.height) == (other.model, other.width, other.height)
        and np.array_equal(one.K, other.K)
        and np.array_equal(
            np.pad(one.D, (0, 8 - one.D.size)), np.pad(other.D, (0, 8 - other.D.size))
        )
    )


@dataclass(frozen=True, eq=False)
class Projection:
    """Points of a cloud that a camera sees.

    Attributes:
        index: (M,) int64 rows of the cloud.
        uv: (M, 2) float64 pixels.
        depth: (M,) float64 metres along the optical axis; a fisheye may see points with depth <= 0.
    """

    index: npt.NDArray[np.int64]
    uv: Array
    depth: Array


def project_cloud(
    xyz: npt.NDArray[np.floating],
    T_cam_lidar: Array,
    camera: CameraModel,
    *,
    depth_test: bool = True,
    cell_px: float = 4.0,
    tolerance: float = 0.05,
) -> Projection:
    """Which points of a cloud are seen in which pixel of a camera.

    A LiDAR sits beside the camera, so it sees points that are hidden from the camera. The depth
    test drops a point if clearly nearer points surround it: pixels are gathered in cells of
    `cell_px`, and each of the four 2x2 blocks of cells that meet at the point's own cell must hold
    one nearer by more than `tolerance` (relative, plus 0.2 m). Asking all four sides spares ground
    and walls seen at a grazing angle, whose nearer parts lie to one side only. Near means depth for
    a pinhole and distance for a fisheye, which also looks sideways.

    Args:
        xyz: (N, 3) metres, lidar frame; non-finite rows are never seen.
        T_cam_lidar: (4, 4) lidar to optical frame.
        depth_test: drop points hidden behind nearer ones.

    Raises:
        GeometryError: T_cam_lidar is not a rigid motion.
    """
    T_cam_lidar = check_se3(T_cam_lidar, "T_cam_lidar")
    finite = np.isfinite(xyz).all(axis=1)
    xyz_cam = transform(T_cam_lidar, np.where(finite[:, None], xyz, -1.0))
    uv, depth, inside = camera.project(xyz_cam)
    index = np.nonzero(inside & finite)[0]
    uv, depth = uv[index], depth[index]
    if depth_test and index.size:
        fisheye = camera.model == "fisheye"
        distance = np.linalg.norm(xyz_cam[index], axis=1) if fisheye else depth
        columns = int(np.ceil(camera.width / cell_px)) + 2
        rows = int(np.ceil(camera.height / cell_px)) + 2
        col = ((uv[:, 0] + 0.5) / cell_px).astype(np.int64) + 1
        row = ((uv[:, 1] + 0.5) / cell_px).astype(np.int64) + 1
        # the one-cell border stays at infinity
        nearest = np.full((rows, columns), np.inf)
        np.minimum.at(nearest, (row, col), distance)
        # block[i, j] covers the cells i, i + 1 x j, j + 1
        block = np.minimum(nearest[:-1], nearest[1:])
        block = np.minimum(block[:, :-1], block[:, 1:])
        # the side with the farthest nearest point decides
        surround = np.full(index.size, -np.inf)
        for up in (0, 1):
            for left in (0, 1):
                surround = np.maximum(surround, block[row - up, col - left])
        visible = distance <= surround * (1 + tolerance) + 0.2
        index, uv, depth = index[visible], uv[visible], depth[visible]
    return Projection(index.astype(np.int64), uv, depth)
