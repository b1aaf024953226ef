"""What is true of a simulated frame: class and instance of pixels and points, and who sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from condense_ros.frame import IGNORE, CameraImage, Frame, PointCloud
from condense_ros.geometry import Array
from condense_ros.sim.sensors.raycast import Hits
from condense_ros.sim.sensors.stage import Stage


@dataclass(frozen=True, eq=False)
class ImageTruth:
    """What lies behind each pixel of a camera, at the pixel's own time.

    Attributes:
        semantic: (H, W) uint8 label, `IGNORE` for sky.
        instance: (H, W) int32 object number, -1 for sky, 0 for the ground.
        depth: (H, W) float32 metres along z, 0 for sky.
    """

    semantic: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]
    depth: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SimulatedImage:
    """A picture and, where it was asked for, the truth about its pixels."""

    image: CameraImage
    truth: ImageTruth | None = None


@dataclass(frozen=True, eq=False)
class SimulatedSweep:
    """A sweep and the truth about its points.

    Attributes:
        cloud: as the sensor delivers it.
        labels: (N,) uint8 classes.
        instance: (N,) int32 object numbers, 0 for the ground.
        time_s: (N,) float64 seconds after the stamp, as `cloud.time_s` without its rounding.
        xyz_world: (N, 3) float64 where the surfaces that gave the points were at each point's own
            time, without noise.
        hits: what the points lie on.
    """

    cloud: PointCloud
    labels: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]
    time_s: Array
    xyz_world: Array
    hits: Hits


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """A frame and the truth about it.

    Attributes:
        frame: as sensors deliver it; its labels are the true classes of its points.
        sweep: the same cloud with the truth about its points.
        images: truth of each picture, by camera name; empty where not asked for.
        visible: (N,) bool per camera name: the surface that gave the point is what the camera's
            pixel at its projection sees; empty where not asked for.
    """

    frame: Frame
    sweep: SimulatedSweep
    images: Mapping[str, ImageTruth] = field(default_factory=dict)
    visible: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


def image_truth(stage: Stage, hits: Hits, axial: Array, size: tuple[int, int]) -> ImageTruth:
    """Truth of an image from its pixels' hits.

    Args:
        axial: (H * W,) cosine between each pixel's ray and the optical axis.
        size: (H, W).
    """
    seen = hits.triangle >= 0
    semantic = stage.semantic[hits.triangle]
    depth = np.where(seen, hits.range_m, 0.0) * axial
    return ImageTruth(
        np.where(seen, semantic, IGNORE).astype(np.uint8).reshape(size),
        np.where(seen, stage.instance[hits.triangle], -1).astype(np.int32).reshape(size),
        depth.astype(np.float32).reshape(size),
    )
