"""RGB-D: depth of one camera as another camera sees it, and organised clouds."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from condense_ros.errors import GeometryError
from condense_ros.geometry import Array, CameraModel, check_se3, transform

#: footprints reach this far from a pixel's centre: 0.5 would leave cracks between the pixels of a
#: slanted surface, whose footprints move apart by their parallax
_REACH_PX = 0.6
#: footprints that grow larger (a depth camera far coarser than the colour camera) are cut
_MAX_FOOTPRINT_PX = 16


def organised_cloud(depth: npt.NDArray[np.floating], camera: CameraModel) -> Array:
    """(H, W, 3) points in metres, optical frame; NaN where there is no depth.

    Args:
        depth: (H, W) metres along z, 0 or NaN = none.

    Raises:
        GeometryError: depth of another size than the camera's.
    """
    _check_size(depth, camera)
    flat = np.asarray(depth, dtype=np.float64).ravel()
    xyz = camera.unproject(None, np.where(flat > 0, flat, np.nan))
    return xyz.reshape(camera.height, camera.width, 3)


class DepthRegistration:
    """Carries depth images of one camera into the view of another (here called the colour camera).

    Every depth pixel is drawn over the pixels of the colour image that its footprint covers, the
    nearest surface wins (z-buffer), so neither a finer nor a coarser colour image gets holes on a
    surface. What the depth camera cannot see from where it sits stays empty: it is not invented.

    Args:
        depth_camera, colour_camera: of any lens and size.
    """

    def __init__(self, depth_camera: CameraModel, colour_camera: CameraModel) -> None:
        self.depth_camera = depth_camera
        self.colour_camera = colour_camera

    @cached_property
    def _rays(self) -> tuple[Array, ...]:
        """Directions with z = 1 of pixel centres and of the four corners of their footprints."""
        camera = self.depth_camera
        v, u = np.mgrid[0 : camera.height, 0 : camera.width]
        centre = np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64)
        r = _REACH_PX
        corners = ((0, 0), (-r, -r), (r, r), (-r, r), (r, -r))
        ones = np.ones(len(centre))
        return tuple(camera.unproject(centre + corner, ones) for corner in corners)

    def __call__(
        self, depth: npt.NDArray[np.floating], T_colour_depth: npt.ArrayLike
    ) -> npt.NDArray[np.float32]:
        """Depth in the colour camera.

        Args:
            depth: (h, w) metres along the depth camera's z, 0 or NaN = none.
            T_colour_depth: (4, 4) depth camera's to colour camera's optical frame.

        Returns:
            (H, W) float32 metres along the colour camera's z, 0 = none.

        Raises:
            GeometryError: depth of another size than its camera's, or a transform that is not
                rigid.
        """
        _check_size(depth, self.depth_camera)
        T = check_se3(T_colour_depth, "T_colour_depth")
        camera = self.colour_camera
        flat = np.asarray(depth, dtype=np.float64).ravel()
        rows = np.nonzero((flat > 0) & np.isfinite(self._rays[0][:, 0]))[0]
        flat = flat[rows]
        uv, z, inside = self._project(T, 0, rows, flat)
        keep = inside & (z > 0)
        rows, flat, uv, z = rows[keep], flat[keep], uv[keep], z[keep]
        low, high = self._footprints(T, rows, flat, uv)
        nearest = np.full(camera.height * camera.width, np.inf)
        size = high - low
        for dv in range(int(size[:, 1].max(initial=-1)) + 1):
            for du in range(int(size[:, 0].max(initial=-1)) + 1):
                covered = (size[:, 0] >= du) & (size[:, 1] >= dv)
                pixel = (low[covered, 1] + dv) * camera.width + low[covered, 0] + du
                np.minimum.at(nearest, pixel, z[covered])
        nearest[~np.isfinite(nearest)] = 0.0
        return nearest.astype(np.float32).reshape(camera.height, camera.width)

    def _project(
        self, T: Array, corner: int, rows: npt.NDArray[np.int64], depth: Array
    ) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        points = transform(T, self._rays[corner][rows] * depth[:, None])
        return self.colour_camera.project(points)

    def _footprints(
        self, T: Array, rows: npt.NDArray[np.int64], depth: Array, uv: Array
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First and last pixel (u, v) that each depth pixel covers; at least the nearest one."""
        first, last = uv.copy(), uv.copy()
        for corner in range(1, 5):
            at, _, _ = self._project(T, corner, rows, depth)
            # a corner beyond the fold of either lens says nothing
            sane = np.abs(at - uv).max(axis=1) <= _MAX_FOOTPRINT_PX
            at = np.where(sane[:, None], at, uv)
            first, last = np.minimum(first, at), np.maximum(last, at)
        middle = np.rint(uv).astype(np.int64)
        # pixels whose centres lie in the footprint
        low = np.minimum(np.ceil(first).astype(np.int64), middle)
        high = np.maximum(np.floor(last).astype(np.int64), middle)
        limit = np.array([self.colour_camera.width, self.colour_camera.height]) - 1
        return np.clip(low, 0, limit), np.clip(high, 0, limit)


def _check_size(depth: npt.NDArray[np.floating], camera: CameraModel) -> None:
    if depth.shape != (camera.height, camera.width):
        raise GeometryError(
            f"depth image is {depth.shape}, its camera {(camera.height, camera.width)}",
            "give the intrinsics of exactly this image size",
        )
