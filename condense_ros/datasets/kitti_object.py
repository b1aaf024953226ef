"""KITTI object detection layout: unrelated pairs with calibration and annotated 3D boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from condense_ros.datasets.base import (
    FIRST_STAMP_NS,
    check_index,
    describe_folder,
    read_image,
    require,
)
from condense_ros.datasets.boxes import Box3D
from condense_ros.datasets.clouds import read_cloud
from condense_ros.datasets.kitti import KittiCalibration, read_calibration
from condense_ros.errors import DatasetError
from condense_ros.frame import CameraImage, Frame
from condense_ros.geometry import Array, CameraModel, inverse, se3
from condense_ros.ontology import Ontology


class KittiObject:
    """`velodyne/`, `image_2/`, `calib/`, optionally `label_2/`, one file of each per frame.

    Frames come from different drives, so there are no poses; stamps are one second apart.

    Raises:
        DatasetError: no scans, or a scan without image or calibration.
    """

    classes: Ontology | None = None
    poses: Array | None = None
    period_s = 1.0

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        self._stems = sorted(p.stem for p in (self.folder / "velodyne").glob("*.bin"))
        if not self._stems:
            raise DatasetError(
                f"{folder} has no velodyne/*.bin scans (it holds {describe_folder(self.folder)})",
                "point to the folder that holds velodyne/, image_2/ and calib/",
            )
        for stem in self._stems:
            require((self._path("image_2", stem), self._path("calib", stem)), self.name)
        # every frame has its own calibration file; the mounting on the vehicle is that of the first
        self.T_base_lidar = self.calibration(0).T_imu_lidar

    def _path(self, kind: str, stem: str) -> Path:
        suffix = {"image_2": ".png", "velodyne": ".bin"}.get(kind, ".txt")
        return self.folder / kind / (stem + suffix)

    def __len__(self) -> int:
        return len(self._stems)

    def calibration(self, index: int) -> KittiCalibration:
        """Calibration of one frame; errors of `read_calibration`."""
        return read_calibration(self._path("calib", self._stems[index]))

    def __getitem__(self, index: int) -> Frame:
        row = check_index(index, len(self), self.name)
        stem, calibration = self._stems[row], self.calibration(row)
        stamp_ns = FIRST_STAMP_NS * (row + 1)
        pixels = read_image(self._path("image_2", stem))
        camera = CameraModel(calibration.K, pixels.shape[1], pixels.shape[0])
        return Frame(
            stamp_ns,
            read_cloud(self._path("velodyne", stem)),
            (CameraImage("image_2", stamp_ns, pixels, camera, calibration.T_cam_lidar),),
            sequence=self.name,
            index=row,
            notes=("frames of different drives: stamps are made up, one second apart",),
        )

    def camera_boxes(self, index: int) -> tuple[Box3D, ...]:
        """Annotated boxes in the optical frame of `image_2`, in file order, without DontCare.

        Raises:
            DatasetError: the label file is missing or malformed.
        """
        row = check_index(index, len(self), self.name)
        path = self._path("label_2", self._stems[row])
        require((path,), self.name)
        T_cam_cam0 = self.calibration(row).T_cam_cam0
        boxes = []
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if not line.strip() or line.startswith("DontCare"):
                continue
            try:
                name, *fields = line.split()
                height, width, length, x, y, z, yaw = map(float, fields[7:14])
            except ValueError:
                raise DatasetError(
                    f"line {number} of {path} is no KITTI label: {line!r}", "restore the file"
                ) from None
            # y points down in the camera, and KITTI gives the centre of the box's underside
            axes = [[np.cos(yaw), np.sin(yaw), 0], [0, 0, -1], [-np.sin(yaw), np.cos(yaw), 0]]
            pose = se3(axes, (x, y - height / 2, z))
            boxes.append(Box3D(name, T_cam_cam0 @ pose, np.array([length, width, height])))
        return tuple(boxes)

    def boxes(self, index: int) -> tuple[Box3D, ...]:
        """Annotated boxes in the lidar frame, moved there through the calibration."""
        row = check_index(index, len(self), self.name)
        T_lidar_cam = inverse(self.calibration(row).T_cam_lidar)
        return tuple(box.moved(T_lidar_cam) for box in self.camera_boxes(row))
