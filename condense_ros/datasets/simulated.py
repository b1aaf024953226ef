"""Reads the folders that `condense_ros.sim.folders.writer` writes and describes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from condense_ros.datasets.base import check_index, gather_images
from condense_ros.datasets.simulated_files import AGAIN, FolderFiles, Stamps, poses_of
from condense_ros.datasets.simulated_truth import SimulatedTruth
from condense_ros.errors import CondenseError, DatasetError
from condense_ros.frame import CameraImage, Frame, PointCloud
from condense_ros.geometry import Array, interpolate_pose, inverse
from condense_ros.ontology import Ontology
from condense_ros.sim.folders.faults import IMU, LIDAR, ODOMETRY
from condense_ros.sim.folders.writer import FORMAT
from condense_ros.sim.sensors.rig import Rig


class SimulatedFolder:
    """A simulated drive as Frames: what the robot got to see, with poses and labels of the truth.

    Stamps and calibration are the published ones; where faults were injected they differ from
    those in `truth`. A frame's `T_world_lidar` is the exact pose at its published stamp.

    Attributes:
        name, period_s, classes: as every data set.
        manifest: how it was made: `config`, `world`, `samples`.
        truth: classes, instances and visibility, exact times, poses and mounting.
        rig: sensors and their mounting, as published.
        samples: number of samples per sensor.
        stamps_ns: (T,) int64 stamps of the sweeps.
        camera_stamps_ns: stamps of each camera's images.
        T_world_base: (T, 4, 4) exact poses of base_link at these stamps.
        odometry_ns, odometry: (K,) and (K, 4, 4) T_odom_base of wheel odometry, which drifts.
        T_odom_base: (T, 4, 4) odometry at the stamps of the sweeps.

    Raises:
        DatasetError: no such folder, another format, damaged, or its generation did not finish.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.manifest = self._manifest()
        try:
            self.name: str = str(self.manifest["name"])
            self.period_s: float = float(self.manifest["period_s"])
            self.classes: Ontology = Ontology.from_dict(self.manifest["ontology"])
            self._format = str(self.manifest["config"]["image_format"])
            self.samples: dict[str, int] = dict(self.manifest["samples"])
            self._names = tuple(self.manifest["cameras"])
            count = self.samples[LIDAR]
        except (KeyError, TypeError, ValueError, CondenseError) as error:
            raise DatasetError(
                f"{self.path / 'manifest.json'} is damaged: {error!r}", "generate the folder anew"
            ) from error
        self._files = files = FolderFiles(self.path, self.samples)
        self.truth = SimulatedTruth(files)
        self.rig = self._rig()
        self._specs = [camera for camera in self.rig.cameras if camera.name in self._names]
        self.stamps_ns, _ = files.rows("lidar.txt", LIDAR, 0)
        self.odometry_ns, odometry = files.rows("odometry.txt", ODOMETRY, 12)
        self.odometry: Array = poses_of(odometry)
        self.camera_stamps_ns: dict[str, Stamps] = {
            name: files.rows(f"cameras/{name}.txt", name, 0)[0] for name in self._names
        }
        self.T_world_base: Array = self.truth.base_poses(self.stamps_ns)
        self.T_odom_base: Array = _between(self.odometry_ns, self.odometry, self.stamps_ns)
        there = {file.name for file in (self.path / "clouds").glob("*.npy")}
        missing = [i for i in range(count) if f"{i:06d}.npy" not in there]
        if missing:
            raise DatasetError(f"{self.path} lacks {len(missing)} of {count} frames", AGAIN)

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether a folder looks like one of these, of any version."""
        try:
            return '"condense-simulated-' in (Path(path) / "manifest.json").read_text()
        except (OSError, UnicodeDecodeError):
            return False

    @property
    def T_base_lidar(self) -> Array:
        """(4, 4) lidar frame to base_link, as published."""
        return self.rig.lidar.T_base_lidar

    @property
    def poses(self) -> Array:
        """(T, 4, 4) poses of the lidar in the world, those of the frames."""
        return np.asarray(self.T_world_base @ self.T_base_lidar)

    @property
    def T_base_cam(self) -> dict[str, Array]:
        """(4, 4) optical frame to base_link, per camera name, as published."""
        return {camera.name: camera.T_base_cam for camera in self._specs}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that have images."""
        return tuple(camera.name for camera in self._specs)

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`, with each camera's image nearest to it; negative numbers count from the
        end.

        Raises:
            IndexError: no such frame.
            DatasetError: a file of the frame is missing or damaged.
        """
        index = check_index(index, len(self), self.name)
        stamp_ns = int(self.stamps_ns[index])
        cloud, labels = self.sweep(index)
        images = gather_images(
            (camera.name, partial(self.image, camera.name, number, at_ns=stamp_ns))
            for camera in self._specs
            if (number := self.image_number(index, camera.name)) is not None
        )
        pose = self.T_world_base[index] @ self.T_base_lidar
        return Frame(stamp_ns, cloud, images, pose, labels, self.name, index)

    def sweep(self, index: int) -> tuple[PointCloud, npt.NDArray[np.uint8]]:
        """The cloud of a frame and the class of every point.

        Raises:
            DatasetError: its file is missing or damaged.
        """
        points = self._files.points(index)
        cloud = PointCloud(
            np.stack([points["x"], points["y"], points["z"]], axis=1),
            points["intensity"].astype(np.float32) / np.float32(255),
            points["ring"].astype(np.uint16),
            np.ascontiguousarray(points["time"]),
        )
        return cloud, np.ascontiguousarray(points["label"])

    def image_number(self, index: int, camera: str) -> int | None:
        """Number of the camera's image whose stamp is nearest to a frame's, None if there is none
        within a period of the slower of both sensors."""
        stamps = self.camera_stamps_ns[camera]
        gap = np.abs(stamps - self.stamps_ns[index])
        number = int(gap.argmin())
        rate = float(self.manifest["config"]["camera_hz"])
        period_s = max(self.period_s, 1 / rate if rate else 0.0)
        return number if gap[number] <= 1.01e9 * period_s else None

    def image(self, camera: str, number: int, *, at_ns: int | None = None) -> CameraImage:
        """Image `number` of a camera.

        Args:
            at_ns: stamp of a cloud, to which `ego_motion` will refer.

        Raises:
            DatasetError: its file is missing or damaged.
        """
        spec = next(spec for spec in self._specs if spec.name == camera)
        stamp_ns = int(self.camera_stamps_ns[camera][number])
        name = f"{number:06d}"
        bgr = self._files.picture(
            Path("images") / camera / f"{name}.{self._format}", cv2.IMREAD_COLOR
        )
        depth = None
        if spec.depth:
            raw = self._files.picture(Path("depth") / camera / f"{name}.png")
            depth = raw.astype(np.float32) / np.float32(1000)
        ego_motion = None
        if at_ns is not None and at_ns != stamp_ns:
            T_world_lidar, T_world_later = (
                self.truth.base_poses([at_ns, stamp_ns]) @ self.T_base_lidar
            )
            ego_motion = inverse(T_world_later) @ T_world_lidar
        return CameraImage(
            camera,
            stamp_ns,
            cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8),
            spec.model,
            inverse(spec.T_base_cam) @ self.T_base_lidar,
            ego_motion,
            depth,
        )

    def _manifest(self) -> dict[str, Any]:
        path = self.path / "manifest.json"
        try:
            manifest = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DatasetError(
                f"cannot read {path}: {error}", "give a folder made by `condense sim generate`"
            ) from error
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found == "condense-simulated-1":
            raise DatasetError(
                f"{self.path} is of the older format {found}; this version reads {FORMAT}",
                "generate it anew: its configuration stands in its manifest.json",
            )
        if found != FORMAT:
            raise DatasetError(
                f"{self.path} is no simulated folder of format {FORMAT}",
                "generate it anew, or use the version of condense_ros that made it",
            )
        return dict(manifest)

    def _rig(self) -> Rig:
        try:
            return Rig.from_yaml(self.path / "rig.yaml")
        except CondenseError as error:
            raise DatasetError(f"{self.path / 'rig.yaml'}: {error.problem}", AGAIN) from error

    def imu(self) -> tuple[Stamps, Array] | None:
        """(K,) stamps and (K, 6) rad/s and m/s^2 of the inertial unit; None where there is none."""
        return self._files.rows("imu.txt", IMU, 6) if IMU in self.samples else None

    def instance(self, index: int) -> npt.NDArray[np.int32]:
        """(N,) int32 object number of every point of a frame; 0 is the ground."""
        return self.truth.instance(check_index(index, len(self), self.name))

    def visible(self, index: int) -> npt.NDArray[np.uint8]:
        """(N,) uint8: bit k says that camera k of the rig sees the point."""
        return self.truth.visible(check_index(index, len(self), self.name))

    def semantic(self, index: int, camera: str) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 class of every pixel of the frame's image, 255 = sky.

        Raises:
            DatasetError: the folder was generated without `pixel_truth`, or the frame has no image.
        """
        return self.truth.semantic(self._number(index, camera), camera)

    def instance_image(self, index: int, camera: str) -> npt.NDArray[np.int32]:
        """(H, W) int32 object number of every pixel of the frame's image, -1 = sky."""
        return self.truth.instance_image(self._number(index, camera), camera)

    def depth_truth(self, index: int, camera: str) -> npt.NDArray[np.float32]:
        """(H, W) float32 exact metres along z of the frame's image, 0 = sky."""
        return self.truth.depth(self._number(index, camera), camera)

    def _number(self, index: int, camera: str) -> int:
        if camera not in self._names:
            raise DatasetError(f"{self.name} has no camera {camera!r}", f"use {self._names}")
        number = self.image_number(check_index(index, len(self), self.name), camera)
        if number is None:
            raise DatasetError(f"frame {index} has no image of {camera!r}", "use another frame")
        return number


def _between(known_ns: Stamps, poses: Array, asked_ns: Stamps) -> Array:
    """Poses at stamps between known ones (the nearest ones at both ends)."""
    out = []
    for stamp in np.clip(asked_ns, known_ns.min(), known_ns.max()).tolist():
        high = int(np.searchsorted(known_ns, stamp))
        if known_ns[high] == stamp:
            out.append(poses[high])
            continue
        span = int(known_ns[high] - known_ns[high - 1])
        share = float(stamp - known_ns[high - 1]) / max(span, 1)
        out.append(interpolate_pose(poses[high - 1], poses[high], share))
    return np.array(out).reshape(-1, 4, 4)
