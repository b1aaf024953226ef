"""One nuScenes sample: six cameras and a 32-beam LiDAR, with ego motion between their stamps."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros.datasets.base import check_index, gather_images, read_image
from condense_ros.datasets.boxes import Box3D
from condense_ros.datasets.clouds import read_cloud
from condense_ros.errors import DatasetError, GeometryError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, CameraModel, check_se3, inverse, rotation_rpy, se3
from condense_ros.ontology import Ontology

#: the lidar frame of nuScenes has x right and y forward; Frames have x forward (REP-103)
T_LIDAR_NUSCENES = se3(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.zeros(3))


class NuScenesSample:
    """`sample.json` in the layout of mmdetection3d's info files, beside its images and cloud.

    `lidar2cam` of that file runs through both ego poses. It is split into the mounting
    (`T_cam_lidar`, from the sensors' poses on the vehicle) and `ego_motion`, what the vehicle
    moved between the stamps of cloud and image.

    Raises:
        DatasetError: sample.json is damaged, lacks an entry, or names a file that is absent.
    """

    classes: Ontology | None = None
    #: key frames of nuScenes are 0.5 s apart
    period_s = 0.5

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        path = self.folder / "sample.json"
        try:
            content = json.loads(path.read_text())
            categories: dict[str, int] = content["metainfo"]["categories"]
            self._samples: list[dict[str, Any]] = content["data_list"]
            self._names = {index: name for name, index in categories.items()}
            lidars = [sample["lidar_points"] for sample in self._samples]
            self._T_base_lidar = [
                check_se3(lidar["lidar2ego"], f"lidar2ego in {path}") @ inverse(T_LIDAR_NUSCENES)
                for lidar in lidars
            ]
            self.poses: Array | None = np.array(
                [
                    check_se3(sample["ego2global"], f"ego2global in {path}") @ T_base_lidar
                    for sample, T_base_lidar in zip(self._samples, self._T_base_lidar, strict=True)
                ]
            )
            self.T_base_lidar: Array | None = self._T_base_lidar[0]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DatasetError(
                f"{path} is no nuScenes sample ({error!r})", "convert it with mmdetection3d's tools"
            ) from None

    def __len__(self) -> int:
        return len(self._samples)

    def _image(self, name: str, entry: dict[str, Any], T_base_lidar: Array) -> CameraImage:
        pixels = read_image(self.folder / Path(entry["img_path"]).name)
        camera = CameraModel(np.array(entry["cam2img"])[:3, :3], pixels.shape[1], pixels.shape[0])
        mounting = inverse(check_se3(entry["cam2ego"], f"cam2ego of {name}")) @ T_base_lidar
        through_ego = check_se3(entry["lidar2cam"], f"lidar2cam of {name}") @ inverse(
            T_LIDAR_NUSCENES
        )
        motion = inverse(mounting) @ through_ego
        return CameraImage(
            name, _stamp_ns(entry["timestamp"]), pixels, camera, mounting, ego_motion=motion
        )

    def __getitem__(self, index: int) -> Frame:
        row = check_index(index, len(self), self.name)
        sample, T_base_lidar = self._samples[row], self._T_base_lidar[row]
        try:
            raw = read_cloud(self.folder / Path(sample["lidar_points"]["lidar_path"]).name)
            xyz = raw.xyz @ T_LIDAR_NUSCENES[:3, :3].T.astype(np.float32)
            cloud = PointCloud(xyz, raw.intensity, raw.ring)
            images = gather_images(
                (name, partial(self._image, name, entry, T_base_lidar))
                for name, entry in sample["images"].items()
            )
            stamp_ns = _stamp_ns(sample["timestamp"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DatasetError(
                f"sample {row} of {self.folder}/sample.json is incomplete ({error!r})",
                "convert it again with mmdetection3d's tools",
            ) from None
        return Frame(
            stamp_ns,
            cloud,
            images,
            None if self.poses is None else self.poses[row],
            sequence=self.name,
            index=row,
            notes=("points turned from nuScenes' lidar axes (x right) to REP-103 (x forward)",),
        )

    def boxes(self, index: int) -> tuple[Box3D, ...]:
        """Annotated boxes in the lidar frame (REP-103), with the annotators' point counts.

        Raises:
            DatasetError: a box is malformed.
        """
        row = check_index(index, len(self), self.name)
        boxes = []
        for instance in self._samples[row].get("instances", ()):
            try:
                x, y, z, length, width, height, yaw = map(float, instance["bbox_3d"])
                name = self._names.get(instance["bbox_label_3d"], "unknown")
                pose = T_LIDAR_NUSCENES @ se3(rotation_rpy(0, 0, yaw), (x, y, z))
                size = np.array([length, width, height])
                boxes.append(Box3D(name, pose, size, int(instance["num_lidar_pts"])))
            except (KeyError, TypeError, ValueError, GeometryError) as error:
                raise DatasetError(
                    f"a box of {self.folder}/sample.json is malformed ({error!r})", "convert again"
                ) from None
        return tuple(boxes)


def _stamp_ns(seconds: float) -> int:
    """Seconds as a float hold microseconds today, not nanoseconds."""
    return round(float(seconds) * 1e6) * 1000
