"""Parameters of perception_node, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter
from condense_ros.perception import PerceptionConfig
from condense_ros.places.descriptors import RING_HEIGHT


@dataclass(frozen=True)
class PerceptionParameters:
    """Parameters of perception_node; names as on the command line and in YAML."""

    checkpoint: str = parameter("", "checkpoint with a segmentation head (.safetensors)")
    map: str = parameter("", "folder of a place map; empty answers 'unknown'")
    points_topic: str = parameter("/points", "topic of the clouds, sensor_msgs/PointCloud2")
    device: str = parameter("auto", "auto, cpu, cuda or cuda:N")
    threads: int = parameter(0, "CPU threads of the network; 0 leaves torch's choice", low=0)
    max_points: int = parameter(250_000, "of larger clouds the farthest points drop out", low=1)
    head: str = parameter("", "segmentation head; empty takes the only one")
    descriptor: str = parameter(RING_HEIGHT, "global descriptor: ring_height or backbone_gem")
    base_frame: str = parameter("base_link", "frame whose pose is published")
    map_frame: str = parameter("map", "frame of the poses, until a map names its own")
    max_age_s: float = parameter(
        1.0, "clouds that are older when their turn comes are dropped", low=0.01
    )
    relocalise_every_s: float = parameter(
        1.0, "least time between two relocalisations; 0 as often as possible", low=0.0
    )
    relocalise_mode: str = parameter("always", "always, until_found or off")
    candidates: int = parameter(10, "most similar places that are verified", low=1)
    accept_score: float = parameter(0.5, "score from which a pose is given", low=0.0, high=1.0)
    autostart: bool = parameter(False, "configure and activate without a lifecycle manager")
    report: str = parameter("", "JSON file with accounts and latencies, written at the end")

    def perception(self) -> PerceptionConfig:
        """The part that `Perceiver` takes."""
        return PerceptionConfig(
            device=self.device,
            threads=self.threads,
            max_points=self.max_points,
            head=self.head,
            descriptor=self.descriptor,
        )


#: parameters that may change while the node is configured
RUN_TIME = (
    "max_age_s",
    "relocalise_every_s",
    "relocalise_mode",
    "candidates",
    "accept_score",
    "report",
)
MODES = ("always", "until_found", "off")
