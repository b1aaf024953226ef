"""What corruptions work on: a sweep with labels, and what is known of the sensor that made it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from condense_ros.errors import FrameError
from condense_ros.frame import IGNORE, Frame, PointCloud
from condense_ros.geometry import Array
from condense_ros.ontology import Ontology

#: names of severities 0, 1 and 2
SEVERITIES = ("light", "moderate", "heavy")
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Sensor:
    """What the physics needs to know beside the points.

    Attributes:
        intensity_scale: intensity of the brightest return (1 or 255).
        beams: number of rings; 0: the highest ring number of the cloud, plus one.
        ground: label values of roads, pavements and other flat ground.
        vehicles: label values of vehicles, whose dark paint loses echoes.
    """

    intensity_scale: float = 1.0
    beams: int = 0
    ground: frozenset[int] = frozenset()
    vehicles: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Sweep:
    """Points with labels, and where a corruption took them from.

    Attributes:
        cloud: (N) finite points in the lidar frame.
        labels: (N,) uint8, `IGNORE` where a point has no class (any more).
        source: (N,) int64 row of the clean sweep of each point.
        noise: (N,) bool: points that measure fog, a snowflake or another sensor's light.
    """

    cloud: PointCloud
    labels: npt.NDArray[np.uint8]
    source: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    noise: Mask = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def of(cls, cloud: PointCloud, labels: npt.NDArray[np.uint8] | None = None) -> Sweep:
        """The clean sweep of a cloud's finite points; without labels all are `IGNORE`."""
        finite = cloud.finite()
        if labels is None:
            labels = np.full(len(cloud), IGNORE, np.uint8)
        rows = int(finite.sum())
        return cls(cloud.select(finite), labels[finite], np.arange(rows), np.zeros(rows, bool))

    @classmethod
    def of_frame(cls, frame: Frame) -> Sweep:
        """The clean sweep of a frame."""
        return cls.of(frame.cloud, frame.labels)

    def __len__(self) -> int:
        return len(self.cloud)

    @property
    def ranges(self) -> Array:
        """(N,) float64 distance of each point from the sensor, metres."""
        return np.asarray(np.linalg.norm(self.cloud.xyz.astype(np.float64), axis=1))

    def brightness(self, sensor: Sensor) -> Array:
        """(N,) float64 intensity as a share of the brightest return, 0..1.

        Raises:
            FrameError: the cloud has no intensity, or one beyond the sensor's scale.
        """
        if self.cloud.intensity is None:
            raise FrameError(
                "the cloud has no intensity, which fog, wet ground and snow act on",
                "use data of a LiDAR that measures intensity",
            )
        share = self.cloud.intensity.astype(np.float64) / sensor.intensity_scale
        if len(share) and share.max() > 1.001:
            raise FrameError(
                f"the cloud has intensity {self.cloud.intensity.max():g} where the brightest "
                f"return is said to have {sensor.intensity_scale:g}",
                "set intensity_scale to the sensor's own (255 for nuScenes, 1 for KITTI)",
            )
        return np.clip(share, 0.0, 1.0)

    def with_brightness(self, share: Array, sensor: Sensor) -> Sweep:
        """The sweep with other intensities, given as shares of the brightest return."""
        intensity = (share * sensor.intensity_scale).astype(np.float32)
        return replace(self, cloud=replace(self.cloud, intensity=intensity))

    def rings(self, sensor: Sensor) -> tuple[npt.NDArray[np.int64], int]:
        """(N,) beam number of each point, and how many beams there are.

        Raises:
            FrameError: the cloud has no rings, or more than the sensor is said to have.
        """
        if self.cloud.ring is None:
            raise FrameError(
                "the cloud has no ring numbers, so beams cannot be told apart",
                "use data with a ring field, or leave beam_missing and cross_sensor out",
            )
        rings = self.cloud.ring.astype(np.int64)
        highest = int(rings.max(initial=-1)) + 1
        if sensor.beams and highest > sensor.beams:
            raise FrameError(
                f"the cloud has ring {highest - 1} where there are {sensor.beams} beams",
                "set beams to the sensor's own number, or to 0",
            )
        return rings, sensor.beams or highest

    def keep(self, rows: Mask) -> Sweep:
        """The sweep of some of its points."""
        return replace(
            self,
            cloud=self.cloud.select(rows),
            labels=self.labels[rows],
            source=self.source[rows],
            noise=self.noise[rows],
        )

    def scatter(self, rows: Mask, xyz: Array) -> Sweep:
        """The sweep with the points of `rows` moved to `xyz` (n, 3), where nothing solid is."""
        moved = self.cloud.xyz.copy()
        moved[rows] = xyz
        labels = self.labels.copy()
        labels[rows] = IGNORE
        return replace(
            self,
            cloud=replace(self.cloud, xyz=moved),
            labels=labels,
            noise=self.noise | rows,
        )


def has_class(labels: npt.NDArray[np.uint8], classes: frozenset[int]) -> Mask:
    """(N,) bool: labels that are one of these classes."""
    return np.asarray(np.isin(labels, sorted(classes)))


def class_values(ontology: Ontology, names: Iterable[str]) -> frozenset[int]:
    """Label values of the classes of these names; case, "-" and "_" do not matter."""

    def plain(name: str) -> str:
        return name.lower().replace("-", " ").replace("_", " ")

    wanted = {plain(name) for name in names}
    return frozenset(k for k, name in enumerate(ontology.names) if plain(name) in wanted)
