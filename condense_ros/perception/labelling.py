"""Labels the clouds of a file, a folder, a bag or any other data set: `condense segment`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.errors import CheckpointError, ConfigError, DatasetError
from condense_ros.files import write_json
from condense_ros.frame import IGNORE, Frame, PointCloud
from condense_ros.models import HeadInfo
from condense_ros.perception.cloud_files import SUFFIXES, write_cloud
from condense_ros.perception.latency import LatencyLog
from condense_ros.perception.perceiver import Perceiver, Perception, PerceptionConfig

#: file of the statistics in the folder of results
STATISTICS = "statistics.json"
#: number of pictures drawn of a data set of many clouds
_PICTURES = 3


@dataclass
class SegmentReport:
    """What was labelled.

    Attributes:
        out: folder of the results.
        clouds, points: how many.
        supervision: where the head's labels came from.
        class_points: points by class name, "no label" for those left out.
        class_confidence: mean confidence by class name.
        left_out: points left out, by reason.
        latency_ms: p50, p99, max and count by stage.
        pictures: the pictures drawn.
        warnings: what to know about checkpoint and sensor.
    """

    out: Path
    clouds: int = 0
    points: int = 0
    supervision: str = ""
    class_points: dict[str, int] = field(default_factory=dict)
    class_confidence: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    latency_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def segment(
    source: Path | str,
    checkpoint: Path | str,
    out: Path | str,
    *,
    suffix: str = ".ply",
    config: PerceptionConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SegmentReport:
    """Labels every cloud of `source`, writes labelled clouds, pictures and statistics.

    Args:
        source: a cloud file (.bin .npy .npz .pcd .ply .feather) or anything `open_dataset` reads.
        out: folder for NAME.ply (or .pcd, .npz) with x, y, z, the input's fields, label,
            confidence and rgb, for NAME.png, and for statistics.json.
        progress: called with (clouds done, clouds in all).

    Raises:
        DatasetError: no data there, or a damaged file.
        CheckpointError: no usable checkpoint, or one without a segmentation head.
        FrameError: the clouds lack a field the backbone takes as input.
        StorageFull: no room left.
    """
    if suffix not in SUFFIXES:
        raise ConfigError(f"no format {suffix!r}", f"use one of {', '.join(SUFFIXES)}")
    source, out = Path(source), Path(out)
    count, frames = _frames(source)
    perceiver = Perceiver(checkpoint, config)
    if perceiver.head is None:
        raise CheckpointError(
            f"the checkpoint {checkpoint} has no segmentation head",
            f"fit one: condense probe {checkpoint} --train LABELLED_DATA --head OUT",
        )
    report = SegmentReport(out, supervision=perceiver.head.supervision)
    latency = LatencyLog()
    totals = np.zeros(256, np.int64)
    confidences = np.zeros(256)
    drawn = set(np.linspace(0, count - 1, min(_PICTURES, count)).astype(int).tolist())
    for row, (name, frame) in enumerate(frames):
        perception = perceiver.perceive(frame)
        write_cloud(out / f"{name}{suffix}", labelled_fields(perception, perceiver.head))
        if row in drawn and perception.cloud.finite().any():
            report.pictures.append(_draw(perception, perceiver.head, out / f"{name}.png", name))
        totals += np.bincount(perception.label, minlength=256)
        confidences += np.bincount(perception.label, perception.confidence, minlength=256)
        report.clouds += 1
        report.points += len(perception.cloud)
        for reason, points in perception.left_out.items():
            report.left_out[reason] = report.left_out.get(reason, 0) + points
        for stage, value in perception.timings_ms.items():
            latency.add(stage, value)
        if progress:
            progress(row + 1, count)
    for value, class_name in enumerate(perceiver.head.ontology.names):
        if totals[value]:
            report.class_points[class_name] = int(totals[value])
            report.class_confidence[class_name] = float(confidences[value] / totals[value])
    if totals[IGNORE]:
        report.class_points["no label"] = int(totals[IGNORE])
    report.latency_ms = latency.summary()
    report.warnings = list(perceiver.warnings)
    content = {name: value for name, value in asdict(report).items() if name != "out"}
    content["pictures"] = [path.name for path in report.pictures]
    write_json(out / STATISTICS, content)
    return report


def labelled_fields(perception: Perception, head: HeadInfo) -> dict[str, npt.NDArray[Any]]:
    """Per-point arrays of a perception by name, every field of the input kept."""
    cloud = perception.cloud
    fields: dict[str, npt.NDArray[Any]] = {
        "x": cloud.xyz[:, 0],
        "y": cloud.xyz[:, 1],
        "z": cloud.xyz[:, 2],
    }
    for name, values in (
        ("intensity", cloud.intensity),
        ("ring", cloud.ring),
        ("time", cloud.time_s),
    ):
        if values is not None:
            fields[name] = values
    colours = head.ontology.colourise(perception.label)
    fields["label"] = perception.label
    fields["confidence"] = perception.confidence
    fields |= {"red": colours[:, 0], "green": colours[:, 1], "blue": colours[:, 2]}
    return fields


def _frames(source: Path) -> tuple[int, Iterator[tuple[str, Frame | PointCloud]]]:
    from condense_ros.datasets import open_dataset, read_cloud

    if source.is_file() and source.suffix != ".mcap":
        cloud = read_cloud(source)
        return 1, iter([(source.stem, cloud)])
    dataset = open_dataset(source)
    count = len(dataset)
    if not count:
        raise DatasetError(f"{source} holds no clouds", "name another file or folder")
    return count, ((f"{row:06d}", dataset[row]) for row in range(count))


def _draw(perception: Perception, head: HeadInfo, path: Path, name: str) -> Path:
    from condense_ros.draw import draw_bird_view

    return draw_bird_view(
        perception.cloud,
        path,
        labels=perception.label,
        ontology=head.ontology,
        title=f"{name}: labels from {head.supervision}",
    )
