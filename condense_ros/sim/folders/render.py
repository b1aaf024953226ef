"""`Renderer`: the samples of a plan, one at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense_ros.frame import CameraImage, PointCloud
from condense_ros.sim.folders.faults import LIDAR
from condense_ros.sim.folders.plan import Plan
from condense_ros.sim.sensors.simulator import Simulator
from condense_ros.sim.sensors.truth import ImageTruth


@dataclass(frozen=True, eq=False)
class Sweep:
    """One turn of the LiDAR with its truth.

    Attributes:
        cloud: points as the sensor sends them.
        labels: (N,) uint8 classes.
        instance: (N,) int32 object numbers, 0 for the ground.
        visible: (N,) uint8: bit k is set where camera k of the rig sees the point.
    """

    cloud: PointCloud
    labels: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]
    visible: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image, and what lies behind its pixels where it was asked for."""

    image: CameraImage
    truth: ImageTruth | None


class Renderer:
    """Renders the samples of a plan; each depends on the plan and its number alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.simulator = Simulator(plan.world, plan.rig)
        lidar = plan.series[LIDAR].true_ns
        # an image belongs to the sweep during which, or after which, it was taken
        self._frame_of = {
            name: np.clip(np.searchsorted(lidar, self._triggers(name), side="right") - 1, 0, None)
            for name in plan.cameras
        }

    def images_of(self, frame: int) -> list[tuple[str, int]]:
        """(camera, number) of the images that are rendered with a sweep."""
        return [
            (name, int(number))
            for name, frames in self._frame_of.items()
            for number in np.flatnonzero(frames == frame)
        ]

    def sweep(self, index: int, *, visibility: bool = True) -> Sweep:
        """Sweep `index` of the drive; its points are seen by the images nearest in time.

        Args:
            visibility: find out which cameras see the points; else none does.
        """
        plan, simulator = self.plan, self.simulator
        stamp_ns = int(plan.series[LIDAR].true_ns[index])
        taken = simulator.sweep(plan.motion, stamp_ns)
        visible = np.zeros(len(taken.cloud), np.uint8)
        for k, spec in enumerate(plan.rig.cameras):
            if visibility and spec.name in plan.series:
                triggers = self._triggers(spec.name)
                at_ns = int(triggers[np.abs(triggers - stamp_ns).argmin()])
                seen = simulator.visible(taken, spec.name, plan.motion, at_ns)
                visible |= (seen << np.uint8(k)).astype(np.uint8)
        return Sweep(taken.cloud, taken.labels, taken.instance, visible)

    def picture(self, camera: str, number: int, *, truth: bool = False) -> Picture:
        """Image `number` of a camera."""
        stamp_ns = int(self._triggers(camera)[number])
        taken = self.simulator.picture(camera, self.plan.motion, stamp_ns, truth=truth)
        return Picture(taken.image, taken.truth)

    def _triggers(self, camera: str) -> npt.NDArray[np.int64]:
        """(N,) when exposures were begun, a camera's own delay before its stamps."""
        return self.plan.series[camera].true_ns - self.plan.delay_ns(camera)
