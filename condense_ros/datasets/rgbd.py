"""RGB-D sequences in the 7-Scenes layout: colour, depth in millimetres, camera-to-world poses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from condense_ros.datasets.base import FIRST_STAMP_NS, check_index, read_image, read_numbers
from condense_ros.errors import CalibrationMissing, DatasetError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import R_OPTICAL_BODY, Array, CameraModel, check_se3, inverse, se3
from condense_ros.ontology import Ontology

#: the depth camera of 7-Scenes (Kinect) runs at 30 Hz and file names count its frames
FRAME_NS = 1e9 / 30
#: raw depth values that mean "no measurement"
NO_DEPTH = (0, 65535)


class RgbdSequence:
    """`frame-NNNNNN.color.*`, `.depth.png` (16-bit mm), `.pose.txt`, `camera-intrinsics.txt`.

    The lidar frame is the body frame (x forward) of the depth camera, so `T_cam_lidar` is a pure
    change of axes. The world is turned the same way: the frame whose pose is identity looks along
    its x axis, z up. The cloud holds every pixel with depth, in image order.

    Raises:
        DatasetError: no frames, or a frame of which a file is absent.
        CalibrationMissing: no camera-intrinsics.txt.
    """

    classes: Ontology | None = None
    T_base_lidar: Array | None = None
    notes = (
        "colour and depth taken as registered: the data set ships no extrinsics between them",
        "stamps count frames at the nominal 30 Hz",
        "the cloud is unprojected from depth; the lidar frame is the depth camera's body frame",
    )

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        self._color: dict[int, Path] = {}
        for path in sorted(self.folder.glob("frame-*.color.*")):
            if match := re.fullmatch(r"frame-(\d+)\.color\.(png|jpg)", path.name):
                self._color[int(match[1])] = path
        self._numbers = sorted(self._color)
        if not self._numbers:
            raise DatasetError(f"{folder} has no frame-NNNNNN.color.png or .jpg", "add them")
        intrinsics = self.folder / "camera-intrinsics.txt"
        if not intrinsics.is_file():
            raise CalibrationMissing(
                f"{folder} has no camera-intrinsics.txt",
                "add it: the 3x3 matrix K (7-Scenes: 585 0 320 / 0 585 240 / 0 0 1)",
            )
        self._K = read_numbers(intrinsics, 3)
        self._T_cam_lidar = se3(R_OPTICAL_BODY, np.zeros(3))
        steps = np.diff(self._numbers)
        self.period_s = float(np.median(steps)) * FRAME_NS * 1e-9 if steps.size else FRAME_NS * 1e-9
        self.poses: Array | None = self._read_poses()

    def _sibling(self, number: int, suffix: str) -> Path:
        path = self.folder / (self._color[number].name.split(".")[0] + suffix)
        if not path.is_file():
            raise DatasetError(f"{path} is missing", "restore it or remove its colour image")
        return path

    def _read_poses(self) -> Array:
        """T_world_lidar of all frames, the world turned to REP-103 axes."""
        C = self._T_cam_lidar
        poses = []
        for number in self._numbers:
            path = self._sibling(number, ".pose.txt")
            poses.append(inverse(C) @ check_se3(read_numbers(path, 4), f"pose in {path}") @ C)
        return np.array(poses)

    def _depth(self, number: int) -> npt.NDArray[np.float32]:
        path = self._sibling(number, ".depth.png")
        try:
            with Image.open(path) as image:
                raw = np.asarray(image)
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
            raise DatasetError(f"{path} is not a readable image ({error})", "restore it") from None
        if raw.ndim != 2 or raw.dtype.kind not in "ui" or raw.dtype.itemsize < 2:
            raise DatasetError(
                f"{path} is {raw.dtype} {raw.shape}, not 16-bit depth", "give depth in millimetres"
            )
        depth = (raw * np.float32(1e-3)).astype(np.float32)
        depth[np.isin(raw, NO_DEPTH)] = 0
        return depth

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Frame:
        row = check_index(index, len(self), self.name)
        number = self._numbers[row]
        stamp_ns = FIRST_STAMP_NS + round(number * FRAME_NS)
        pixels, depth = read_image(self._color[number]), self._depth(number)
        camera = CameraModel(self._K, pixels.shape[1], pixels.shape[0])
        if depth.shape != (camera.height, camera.width):
            raise DatasetError(
                f"depth of frame {number} in {self.folder} is {depth.shape}, colour "
                f"{pixels.shape[:2]}",
                "register depth to the colour image first",
            )
        seen = depth.ravel() > 0
        xyz_cam = camera.unproject(None, depth.ravel())[seen]
        image = CameraImage("color", stamp_ns, pixels, camera, self._T_cam_lidar, depth=depth)
        return Frame(
            stamp_ns,
            PointCloud((xyz_cam @ R_OPTICAL_BODY).astype(np.float32)),
            (image,),
            None if self.poses is None else self.poses[row],
            sequence=self.name,
            index=row,
            notes=self.notes,
        )
