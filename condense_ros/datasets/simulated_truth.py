"""What only a simulation knows: classes and instances, exact poses, calibration and delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.datasets.simulated_files import AGAIN, FolderFiles, Stamps, poses_of
from condense_ros.errors import CondenseError, DatasetError
from condense_ros.geometry import Array, inverse
from condense_ros.sim.driving.motion import Motion, Stops
from condense_ros.sim.folders.encode import NO_INSTANCE
from condense_ros.sim.folders.faults import IMU, LIDAR, ODOMETRY, Delivery
from condense_ros.sim.folders.plan import world_times
from condense_ros.sim.sensors.rig import CameraSpec, Rig


class SimulatedTruth:
    """The truth of a simulated folder; `SimulatedFolder` reads what the robot got to see.

    Attributes:
        rig: sensors as they are mounted.
        stamps_ns: (T,) int64 when the sweeps began.
        motion: `at(seconds since sim.scenery.EPOCH_NS)` gives T_world_base.

    Raises:
        DatasetError: files are missing or damaged.
    """

    def __init__(self, files: FolderFiles) -> None:
        self._files = files
        try:
            self.rig = Rig.from_yaml(files.path / "truth" / "rig.yaml")
        except CondenseError as error:
            raise DatasetError(f"{files.path}: {error.problem}", AGAIN) from error
        self.stamps_ns, at_sweeps = files.rows("truth/lidar.txt", LIDAR, 12)
        self.motion = self._motion(poses_of(at_sweeps))

    def base_poses(self, stamps_ns: npt.ArrayLike) -> Array:
        """(N, 4, 4) T_world_base at any true times (N,), nanoseconds."""
        return self.motion.at(world_times(np.asarray(stamps_ns, np.int64)))

    def lidar_poses(self) -> Array:
        """(T, 4, 4) T_world_lidar when the sweeps began."""
        return np.asarray(self.base_poses(self.stamps_ns) @ self.rig.lidar.T_base_lidar)

    def camera_stamps(self, camera: str) -> Stamps:
        """(K,) int64 when a camera's images were taken, nanoseconds."""
        return self._files.rows(f"truth/cameras/{camera}.txt", camera, 12)[0]

    def sample_times(self, sensor: str) -> Stamps:
        """(K,) int64 when a sensor's samples were taken, nanoseconds."""
        if sensor == LIDAR:
            return self.stamps_ns
        if sensor in (ODOMETRY, IMU):
            return self._files.rows(f"truth/{sensor}.txt", sensor, 0)[0]
        return self.camera_stamps(sensor)

    def camera_poses(self, camera: str) -> Array:
        """(K, 4, 4) T_world_cam of a camera's images."""
        spec = self._spec(camera)
        return np.asarray(self.base_poses(self.camera_stamps(camera)) @ spec.T_base_cam)

    def T_cam_lidar(self, camera: str) -> Array:
        """(4, 4) lidar frame to optical frame."""
        return inverse(self._spec(camera).T_base_cam) @ self.rig.lidar.T_base_lidar

    def delivery(self, sensor: str) -> Delivery:
        """What the transport does with a sensor's messages when the folder is played.

        Raises:
            DatasetError: no such sensor, or its file is damaged.
        """
        samples = self._files.samples
        if sensor not in samples:
            raise DatasetError(
                f"{self._files.path} has no sensor {sensor!r}", f"use one of: {', '.join(samples)}"
            )
        lost, rest = self._files.rows(f"truth/delivery/{sensor}.txt", sensor, 2)
        return Delivery(lost.astype(bool), rest[:, 0], rest[:, 1].astype(np.uint8))

    def instance(self, index: int) -> npt.NDArray[np.int32]:
        """(N,) int32 object number of every point of a sweep; 0 is the ground."""
        return np.ascontiguousarray(self._files.points(index)["instance"]).astype(np.int32)

    def visible(self, index: int) -> npt.NDArray[np.uint8]:
        """(N,) uint8: bit k says that camera k of the rig sees the point."""
        return np.ascontiguousarray(self._files.points(index)["visible"])

    def semantic(self, number: int, camera: str) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 class of every pixel of image `number`, 255 = sky.

        Raises:
            DatasetError: the folder was generated without `pixel_truth`.
        """
        return np.asarray(self._pixels("semantic", camera, number, "png"), np.uint8)

    def instance_image(self, number: int, camera: str) -> npt.NDArray[np.int32]:
        """(H, W) int32 object number of every pixel, -1 = sky, 0 = the ground.

        Raises:
            DatasetError: the folder was generated without `pixel_truth`.
        """
        raw = self._pixels("instance", camera, number, "png").astype(np.int32)
        return np.where(raw == NO_INSTANCE, -1, raw).astype(np.int32)

    def depth(self, number: int, camera: str) -> npt.NDArray[np.float32]:
        """(H, W) float32 exact metres along z of every pixel, 0 = sky.

        Raises:
            DatasetError: the folder was generated without `pixel_truth`.
        """
        return np.asarray(self._pixels("depth", camera, number, "tiff"), np.float32)

    def _spec(self, camera: str) -> CameraSpec:
        for spec in self.rig.cameras:
            if spec.name == camera:
                return spec
        raise DatasetError(
            f"{self._files.path} has no camera {camera!r}",
            f"use one of: {', '.join(spec.name for spec in self.rig.cameras)}",
        )

    def _pixels(self, kind: str, camera: str, number: int, ending: str) -> npt.NDArray[Any]:
        folder = Path("truth") / kind / camera
        if not (self._files.path / folder).is_dir():
            raise DatasetError(
                f"{self._files.path} has no {kind} of the pixels of {camera!r}",
                "generate it with -p pixel_truth=true",
            )
        return self._files.picture(folder / f"{number:06d}.{ending}")

    def _motion(self, at_sweeps: Array) -> Motion | Stops:
        path = self._files.path / "truth" / "motion.npy"
        if not path.exists():
            return Stops(world_times(self.stamps_ns), at_sweeps)
        try:
            samples = np.load(path, allow_pickle=False)
            return Motion(samples[:, 0], samples[:, 1:])
        except (OSError, ValueError, EOFError, IndexError, CondenseError) as error:
            raise DatasetError(f"cannot read {path}: {error}", AGAIN) from error
