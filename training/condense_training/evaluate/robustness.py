"""How a checkpoint's segmentation head stands up to corrupted sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, TrainingError
from condense_ros.files import write_json
from condense_ros.frame import Frame
from condense_ros.models import Checkpoint
from condense_ros.ontology import Ontology
from condense_training.evaluate.corruptions import CORRUPTIONS, SEVERITIES, Sensor, Sweep, corrupt
from condense_training.evaluate.corruptions.sweep import class_values
from condense_training.evaluate.features import labels_of
from condense_training.evaluate.metrics import Confusion
from condense_training.evaluate.robustness_metrics import mean_resilience, resilience_rate
from condense_training.evaluate.segmentation import Segmenter
from condense_training.frames import FrameSource
from condense_training.threads import cpu_threads

#: classes of flat ground and of vehicles in nuScenes, SemanticKITTI, Argoverse and simulated worlds
_GROUND = (
    *("driveable_surface", "other_flat", "sidewalk", "road", "parking", "other_ground"),
    *("pavement", "track", "floor"),
)
_VEHICLES = (
    *("bicycle", "bus", "car", "construction_vehicle", "motorcycle", "trailer", "truck", "van"),
    *("other_vehicle", "vehicle", "regular_vehicle", "large_vehicle", "box_truck", "truck_cab"),
    *("articulated_bus", "school_bus", "vehicular_trailer"),
)


@dataclass(frozen=True)
class RobustnessConfig:
    """What is corrupted, and what the corruptions need to know of the data."""

    head: str = parameter("segmentation", "the checkpoint's head that is evaluated")
    corruptions: tuple[str, ...] = parameter(tuple(CORRUPTIONS), "which corruptions")
    max_frames: int = parameter(50, "frames used, evenly spread over the data", low=1)
    seed: int = parameter(0, "seed of everything random", low=0, high=2**31)
    intensity_scale: float = parameter(
        0.0, "intensity of the brightest return (255 nuScenes, 1 KITTI); 0: the checkpoint's", low=0
    )
    beams: int = parameter(0, "beams of the sensor; 0: the cloud's highest ring plus one", low=0)
    ground_classes: tuple[str, ...] = parameter(_GROUND, "classes of flat ground")
    vehicle_classes: tuple[str, ...] = parameter(_VEHICLES, "classes whose echoes get lost")


@dataclass(frozen=True)
class Robustness:
    """One network on one collection of frames.

    Attributes:
        network, data: what was evaluated on what.
        classes: names present in the clean frames.
        clean: mIoU (0..1) without corruption, `clean_iou` by class.
        miou: corruption -> mIoU at each severity; `iou`: the same by class, None where a corruption
            leaves no point of the class.
        untouched: corruption -> frames that its heaviest severity left as they were.
    """

    network: str
    data: str
    classes: tuple[str, ...]
    clean: float
    clean_iou: dict[str, float]
    miou: dict[str, tuple[float, ...]]
    iou: dict[str, dict[str, tuple[float | None, ...]]]
    frames: int
    untouched: dict[str, int]
    protocol: dict[str, Any]

    @property
    def resilience(self) -> dict[str, float]:
        """RR of each corruption."""
        return {name: resilience_rate(values, self.clean) for name, values in self.miou.items()}

    @property
    def mrr(self) -> float:
        """Mean resilience rate."""
        return mean_resilience(self.miou, self.clean)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `read_baseline` reads them back as a reference."""
        return {
            **asdict(self),
            "severities": list(SEVERITIES),
            "resilience": self.resilience,
            "mrr": self.mrr,
        }

    def save(self, path: Path) -> None:
        """Writes JSON, atomically."""
        write_json(path, self.to_dict())


def sensor_of(ontology: Ontology, config: RobustnessConfig, intensity_scale: float) -> Sensor:
    """What the corruptions need to know, with classes found by name.

    Raises:
        ConfigError: an unknown corruption, or one that acts on classes the data does not have.
    """
    for name in config.corruptions:
        if name not in CORRUPTIONS:
            raise ConfigError(
                f"unknown corruption {name!r}", f"use some of: {', '.join(CORRUPTIONS)}"
            )
    if not config.corruptions:
        raise ConfigError("no corruption to evaluate", f"use some of: {', '.join(CORRUPTIONS)}")
    ground = class_values(ontology, config.ground_classes)
    vehicles = class_values(ontology, config.vehicle_classes)
    needs = {"wet_ground": ("ground_classes", ground), "snow": ("ground_classes", ground)}
    needs["incomplete_echo"] = ("vehicle_classes", vehicles)
    for corruption, (setting, found) in needs.items():
        if corruption in config.corruptions and not found:
            raise ConfigError(
                f"{corruption} acts on classes that these data do not have",
                f"name them, -p {setting}=[...], out of: {', '.join(ontology.names)}; or leave it "
                "out of -p corruptions=[...]",
            )
    return Sensor(config.intensity_scale or intensity_scale, config.beams, ground, vehicles)


def evaluate_robustness(
    checkpoint: Checkpoint,
    frames: Sequence[Frame] | FrameSource,
    config: RobustnessConfig | None = None,
    *,
    network: str = "",
    data: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Segments every frame clean and under every corruption at every severity.

    Args:
        frames: labelled with the classes of the checkpoint's head; read one at a time, once.
        network, data: names for the report.
        progress: called with (done, all) forward passes.

    Raises:
        CheckpointError: no such head.
        ConfigError: see `sensor_of`.
        FrameError: clouds without intensity or rings, which some corruptions need.
        TrainingError: no frames, or frames without labels of the head's classes.
    """
    config = config or RobustnessConfig()
    head = checkpoint.build_head(config.head)
    segmenter, ontology = Segmenter(checkpoint.build_backbone(), head), head.info.ontology
    sensor = sensor_of(ontology, config, segmenter.backbone.input.intensity_scale)
    cells = [(name, level) for name in config.corruptions for level in range(len(SEVERITIES))]
    counts = {cell: Confusion(len(ontology)) for cell in [("clean", 0), *cells]}
    untouched = dict.fromkeys(config.corruptions, 0)
    total = len(frames) * len(counts)
    done = 0
    with cpu_threads():
        for number in range(len(frames)):
            frame = frames[number]
            labels_of(frame, len(ontology))
            clean = Sweep.of_frame(frame)
            for cell, confusion in counts.items():
                sweep = clean
                if cell[0] != "clean":
                    sweep = corrupt(clean, sensor, *cell, seed=config.seed, frame=_name(frame))
                    if cell[1] == len(SEVERITIES) - 1:
                        untouched[cell[0]] += same(clean, sweep)
                segmenter.count(sweep.cloud, sweep.labels, confusion)
                done += 1
                if progress is not None:
                    progress(done, total)
    if not total:
        raise TrainingError("no frame to evaluate on", "give test data")
    base = counts["clean", 0]
    if not base.counts.any():
        raise TrainingError(
            "no labelled point within the backbone's range", "give frames with labels"
        )
    present = [k for k in range(len(ontology)) if base.counts[k].sum()]
    clean_iou = {ontology.names[k]: float(base.iou()[k]) for k in present}
    iou = {}
    for corruption in config.corruptions:
        levels = [counts[corruption, level].iou() for level in range(len(SEVERITIES))]
        iou[corruption] = {
            ontology.names[k]: tuple(None if v[k] != v[k] else float(v[k]) for v in levels)
            for k in present
        }
    return Robustness(
        network=network,
        data=data,
        classes=tuple(clean_iou),
        clean=base.miou(),
        clean_iou=clean_iou,
        miou={
            corruption: tuple(counts[corruption, k].miou() for k in range(len(SEVERITIES)))
            for corruption in config.corruptions
        },
        iou=iou,
        frames=len(frames),
        untouched=untouched,
        protocol=asdict(replace(config, intensity_scale=sensor.intensity_scale)),
    )


def _name(frame: Frame) -> str:
    return f"{frame.sequence}/{frame.index}"


def draw_corruptions(
    frame: Frame,
    sensor: Sensor,
    out: Path,
    *,
    names: Sequence[str] = tuple(CORRUPTIONS),
    seed: int = 0,
) -> Path:
    """Draws a frame from above under every corruption at every severity, as it is evaluated.

    Raises:
        FrameError: no intensity or rings where a corruption needs them.
    """
    from condense_ros.draw import CloudPanel, draw_cloud_grid

    clean = Sweep.of_frame(frame)
    columns: dict[str, list[CloudPanel | None]] = {
        "clean": [CloudPanel(clean.cloud), *[None] * (len(SEVERITIES) - 1)]
    }
    for name in names:
        panels: list[CloudPanel | None] = []
        for severity in range(len(SEVERITIES)):
            sweep = corrupt(clean, sensor, name, severity, seed=seed, frame=_name(frame))
            gone = np.ones(len(clean), bool)
            gone[sweep.source] = False
            panels.append(CloudPanel(sweep.cloud, sweep.noise, clean.cloud.xyz[gone]))
        columns[name.replace("_", " ")] = panels
    return draw_cloud_grid(
        columns, SEVERITIES, out, range_m=30.0, marked_as="nothing solid", lost_as="lost"
    )


def same(one: Sweep, other: Sweep) -> bool:
    """Whether a corruption left every point, its intensity and its label as it was."""
    if len(one) != len(other) or not np.array_equal(one.cloud.xyz, other.cloud.xyz):
        return False
    if not np.array_equal(one.labels, other.labels):
        return False
    before, after = one.cloud.intensity, other.cloud.intensity
    return before is None or after is None or np.array_equal(before, after)
