"""`FolderSource`: the samples of a simulated folder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.playback.simulated import Sample
from condense_ros.sim.folders.faults import IMU, LIDAR, ODOMETRY
from condense_ros.sim.folders.plan import Series
from condense_ros.sim.folders.render import Picture, Sweep
from condense_ros.sim.sensors.truth import ImageTruth


class FolderSource:
    """See `condense_ros.playback.simulated.Source`.

    Args:
        truth: also read the pixel truth, where there is any.

    Raises:
        DatasetError: files are missing or damaged.
    """

    def __init__(self, data: SimulatedFolder, *, truth: bool = False) -> None:
        self._data = data
        self.name, self.rig, self.motion = data.name, data.rig, data.truth.motion
        self.notes: tuple[str, ...] = ()
        pixel_truth = (data.path / "truth" / "semantic").is_dir()
        self._truth = truth and pixel_truth
        if truth and not pixel_truth:
            self.notes = ("the folder has no pixel truth: generate it with -p pixel_truth=true",)
        stamps = {LIDAR: data.stamps_ns, ODOMETRY: data.odometry_ns, **data.camera_stamps_ns}
        imu = data.imu()
        self.imu = np.zeros((0, 6))
        if imu is not None:
            stamps[IMU], self.imu = imu
        self.T_odom_base = data.odometry
        self.series = {
            sensor: Series(data.truth.sample_times(sensor), stamp_ns, data.truth.delivery(sensor))
            for sensor, stamp_ns in stamps.items()
        }

    def sweep(self, number: int, ahead: Sequence[Sample]) -> Sweep:
        """Sweep `number`, read now."""
        cloud, labels = self._data.sweep(number)
        return Sweep(cloud, labels, self._data.instance(number), self._data.visible(number))

    def picture(self, camera: str, number: int, ahead: Sequence[Sample]) -> Picture:
        """Image `number`, read now."""
        image, truth = self._data.image(camera, number), self._data.truth
        if not self._truth:
            return Picture(image, None)
        return Picture(
            image,
            ImageTruth(
                truth.semantic(number, camera),
                truth.instance_image(number, camera),
                truth.depth(number, camera),
            ),
        )

    def close(self) -> None:
        """Nothing is held open."""
