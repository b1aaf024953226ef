"""`Frame`, the one sample: readers, bags and nodes produce it, learning and serving consume it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from condense_ros.errors import FrameError
from condense_ros.geometry import Array, CameraModel, check_se3

#: label value of points and pixels that have no class
IGNORE = 255


def _check(condition: bool, problem: str, fix: str) -> None:
    if not condition:
        raise FrameError(problem, fix)


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points of one sweep in the lidar frame (REP-103: x forward, y left, z up).

    Attributes:
        xyz: (N, 3) float32 metres. May hold NaN rows: a driver's missing returns keep their place.
        intensity: (N,) float32, in the sensor's own unit, or None.
        ring: (N,) uint16 beam number, or None.
        time_s: (N,) float32 seconds after the frame's stamp, or None.
        frame_id: name of the lidar frame.

    Raises:
        FrameError: arrays of other shapes, or of lengths that differ.
    """

    xyz: npt.NDArray[np.float32]
    intensity: npt.NDArray[np.float32] | None = None
    ring: npt.NDArray[np.uint16] | None = None
    time_s: npt.NDArray[np.float32] | None = None
    frame_id: str = "lidar"

    def __post_init__(self) -> None:
        xyz = np.asarray(self.xyz, dtype=np.float32)
        _check(
            xyz.ndim == 2 and xyz.shape[1] == 3,
            f"cloud xyz has shape {xyz.shape}",
            "give an (N, 3) array in metres",
        )
        object.__setattr__(self, "xyz", xyz)
        for name, dtype in (("intensity", np.float32), ("ring", np.uint16), ("time_s", np.float32)):
            values = getattr(self, name)
            if values is not None:
                values = np.asarray(values, dtype=dtype)
                _check(
                    values.shape == (len(xyz),),
                    f"cloud {name} has shape {values.shape} for {len(xyz)} points",
                    "give one value per point",
                )
                object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.xyz)

    def finite(self) -> npt.NDArray[np.bool_]:
        """(N,) bool: rows whose coordinates are all finite."""
        return np.asarray(np.isfinite(self.xyz).all(axis=1))

    def select(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> PointCloud:
        """The cloud of some rows (mask or indices), every field kept."""
        picked = {
            name: values[rows]
            for name in ("intensity", "ring", "time_s")
            if (values := getattr(self, name)) is not None
        }
        return replace(self, xyz=self.xyz[rows], **picked)


@dataclass(frozen=True, eq=False)
class CameraImage:
    """One image with all that is needed to look points up in it.

    Attributes:
        name: camera name, unique in the frame (`CAM_FRONT`, `image_02`, ...).
        stamp_ns: its own stamp, nanoseconds.
        pixels: (H, W, 3) uint8 RGB.
        camera: intrinsics and distortion of exactly this image size.
        T_cam_lidar: (4, 4) the mounting: lidar frame to optical frame, as calibrated.
        ego_motion: (4, 4) maps lidar-frame points at the cloud's stamp into the lidar frame at the
            image's stamp (the vehicle moved in between), or None where it is unknown or zero.
        depth: (H, W) float32 metres along z, 0 = none, or None.

    Raises:
        FrameError: pixels or depth of another size or dtype.
        GeometryError: T_cam_lidar is not rigid.
    """

    name: str
    stamp_ns: int
    pixels: npt.NDArray[np.uint8]
    camera: CameraModel
    T_cam_lidar: Array
    ego_motion: Array | None = None
    depth: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        _check(
            self.pixels.dtype == np.uint8 and self.pixels.shape == (*size, 3),
            f"image {self.name!r} is {self.pixels.dtype} {self.pixels.shape}, its camera is {size}",
            "give (height, width, 3) uint8 RGB and the intrinsics of that size",
        )
        if self.depth is not None:
            _check(
                self.depth.shape == size and self.depth.dtype == np.float32,
                f"depth of {self.name!r} is {self.depth.dtype} {self.depth.shape}, not {size}",
                "register depth to the image first and give float32 metres",
            )
        object.__setattr__(
            self, "T_cam_lidar", check_se3(self.T_cam_lidar, f"T_cam_lidar of {self.name!r}")
        )
        if self.ego_motion is not None:
            object.__setattr__(
                self, "ego_motion", check_se3(self.ego_motion, f"ego_motion of {self.name!r}")
            )

    @property
    def T_cam_cloud(self) -> Array:
        """(4, 4) lidar frame at the cloud's stamp to the optical frame at the image's stamp."""
        if self.ego_motion is None:
            return self.T_cam_lidar
        return self.T_cam_lidar @ self.ego_motion


@dataclass(frozen=True, eq=False)
class Frame:
    """One synchronised, calibrated sample.

    Attributes:
        stamp_ns: the cloud's stamp, nanoseconds.
        cloud: points in the lidar frame.
        images: images seen at about that time (may be empty).
        T_world_lidar: (4, 4) pose of the lidar in a fixed world or odometry frame, or None.
        labels: (N,) uint8 class per point, `IGNORE` where none, or None.
        sequence, index: where the sample comes from; together they name it.
        notes: what the reader had to assume ("colour and depth taken as registered ...").
    """

    stamp_ns: int
    cloud: PointCloud
    images: tuple[CameraImage, ...] = ()
    T_world_lidar: Array | None = None
    labels: npt.NDArray[np.uint8] | None = None
    sequence: str = ""
    index: int = 0
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        names = [image.name for image in self.images]
        _check(
            len(set(names)) == len(names),
            f"two images share a name: {names}",
            "name each camera once",
        )
        if self.T_world_lidar is not None:
            object.__setattr__(
                self, "T_world_lidar", check_se3(self.T_world_lidar, "T_world_lidar")
            )
        if self.labels is not None:
            _check(
                self.labels.shape == (len(self.cloud),) and self.labels.dtype == np.uint8,
                f"labels are {self.labels.dtype} {self.labels.shape} for {len(self.cloud)} points",
                "give one uint8 label per point",
            )


def calibration_id(images: tuple[CameraImage, ...]) -> str:
    """Twelve hex digits that change when any intrinsic, distortion or extrinsic changes.

    Values are rounded to 1e-9 first, so the id survives a trip through message bytes.
    """
    digest = hashlib.sha256()
    for image in sorted(images, key=lambda image: image.name):
        digest.update(image.name.encode())
        digest.update(np.array([image.camera.width, image.camera.height], np.int64).tobytes())
        if image.camera.model != "pinhole":
            digest.update(image.camera.model.encode())
        for values in (image.camera.K, image.camera.D, image.T_cam_lidar):
            # adding 0.0 turns -0.0 into 0.0, which has other bytes
            digest.update((np.round(values, 9) + 0.0).tobytes())
    return digest.hexdigest()[:12]
