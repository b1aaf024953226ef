"""Linear probe: how much of the classes a frozen backbone already separates.

Closed protocol, the same for every network compared: batch norm statistics recomputed on the
training clouds, random labelled points of each training frame, standardised features, L-BFGS
logistic regression from zero, IoU over all labelled points in range of the test frames, mean over
the classes present there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from condense_ros.config import parameter
from condense_ros.errors import TrainingError
from condense_ros.files import write_json
from condense_ros.frame import Frame
from condense_ros.models import AnyBackboneConfig, Backbone, build_backbone, load_checkpoint
from condense_ros.ontology import Ontology
from condense_training.batch_norm import calibrate_batch_norm
from condense_training.evaluate.features import LabelledVoxels, labelled_voxels, sample_points
from condense_training.evaluate.linear import LinearClassifier, fit_linear
from condense_training.evaluate.metrics import Confusion
from condense_training.frames import FrameSource, spread
from condense_training.threads import cpu_threads


@dataclass(frozen=True)
class ProbeConfig:
    """The protocol's few numbers, recorded with every result."""

    seeds: tuple[int, ...] = parameter((0, 1, 2), "seeds of point samples and random networks")
    points_per_frame: int = parameter(1000, "labelled points drawn per training frame", low=1)
    steps: int = parameter(60, "L-BFGS iterations", low=1)
    l2: float = parameter(1e-3, "weight penalty", low=0.0)
    max_frames: int = parameter(60, "frames used of each data set, evenly spread", low=1)


@dataclass(frozen=True)
class ProbeResult:
    """One network under the protocol, over all seeds.

    Attributes:
        network: "random" or the checkpoint's path.
        classes: names present in the test frames.
        iou: class name -> IoU per seed (0..1).
        miou: mean over present classes, per seed.
        accuracy: share of right points, per seed.
    """

    network: str
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    iou: dict[str, list[float]]
    miou: list[float]
    accuracy: list[float]
    train_frames: int
    test_frames: int
    protocol: dict[str, Any]

    @property
    def miou_mean(self) -> float:
        return statistics.fmean(self.miou)

    @property
    def miou_std(self) -> float:
        return statistics.stdev(self.miou) if len(self.miou) > 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "miou_mean": self.miou_mean, "miou_std": self.miou_std}


@dataclass(frozen=True)
class Comparison:
    """The same protocol and seeds for a pretrained and a random backbone of one architecture."""

    random: ProbeResult
    pretrained: ProbeResult

    @property
    def differences(self) -> list[float]:
        """Pretrained minus random mIoU, paired by seed."""
        return [p - r for p, r in zip(self.pretrained.miou, self.random.miou, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """The `probe` part of summary.json, with everything behind it."""
        differences = self.differences
        error = (
            statistics.stdev(differences) / math.sqrt(len(differences))
            if len(differences) > 1
            else 0.0
        )
        return {
            "classes": list(self.pretrained.classes),
            "seeds": list(self.pretrained.seeds),
            "random": self.random.to_dict(),
            "pretrained": self.pretrained.to_dict(),
            "differences": differences,
            "difference_mean": statistics.fmean(differences),
            "difference_standard_error": error,
        }

    def save(self, path: Path) -> None:
        """Writes JSON, atomically."""
        write_json(path, self.to_dict())


def evaluate_classifier(
    classifier: LinearClassifier, clouds: Sequence[LabelledVoxels], classes: int
) -> Confusion:
    """Confusion over all labelled points of the clouds."""
    confusion = Confusion(classes)
    for cloud in clouds:
        prediction = classifier(cloud.features).argmax(1)
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        counts.index_add_(0, prediction, cloud.votes)
        confusion.counts += counts.T.numpy()
    return confusion


class Prober:
    """Labelled training and test frames, held so that several networks are probed on the same.

    Args:
        train, test: labelled frames; different worlds, for the figure to mean anything.
        ontology: classes of both.
    """

    def __init__(
        self, train: Sequence[Frame], test: Sequence[Frame], ontology: Ontology, config: ProbeConfig
    ) -> None:
        if not train or not test:
            raise TrainingError("a probe without frames", "give training and test data")
        self.train, self.test = list(train), list(test)
        self.ontology, self.config = ontology, config

    def _features(self, backbone: Backbone) -> tuple[list[LabelledVoxels], list[LabelledVoxels]]:
        classes = len(self.ontology)
        with cpu_threads():
            calibrate_batch_norm(backbone, (frame.cloud for frame in self.train))
            train, test = (
                [labelled_voxels(backbone, frame, classes) for frame in frames]
                for frames in (self.train, self.test)
            )
        return train, test

    def _one_seed(
        self, train: Sequence[LabelledVoxels], test: Sequence[LabelledVoxels], seed: int
    ) -> Confusion:
        config, classes = self.config, len(self.ontology)
        generator = torch.Generator().manual_seed(seed)
        features, labels = sample_points(train, config.points_per_frame, generator)
        with cpu_threads():
            classifier = fit_linear(features, labels, classes, steps=config.steps, l2=config.l2)
        return evaluate_classifier(classifier, test, classes)

    def _result(self, network: str, confusions: Sequence[Confusion]) -> ProbeResult:
        present = confusions[0].counts.sum(1) > 0
        names = [name for name, here in zip(self.ontology.names, present, strict=True) if here]
        iou = [confusion.iou()[present] for confusion in confusions]
        return ProbeResult(
            network=network,
            classes=tuple(names),
            seeds=self.config.seeds,
            iou={name: [float(row[i]) for row in iou] for i, name in enumerate(names)},
            miou=[confusion.miou() for confusion in confusions],
            accuracy=[confusion.accuracy() for confusion in confusions],
            train_frames=len(self.train),
            test_frames=len(self.test),
            protocol=asdict(self.config),
        )

    def pretrained(self, backbone: Backbone, name: str) -> ProbeResult:
        """Probes a backbone as it is (but for its batch norm statistics)."""
        train, test = self._features(backbone)
        return self._result(name, [self._one_seed(train, test, s) for s in self.config.seeds])

    def random(self, architecture: AnyBackboneConfig) -> ProbeResult:
        """Probes randomly initialised backbones, another one for each seed."""
        confusions = []
        for seed in self.config.seeds:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                backbone = build_backbone(architecture)
            confusions.append(self._one_seed(*self._features(backbone), seed))
        return self._result("random", confusions)


def open_prober(train: Sequence[Path], test: Sequence[Path], config: ProbeConfig) -> Prober:
    """A prober on the frames of data sets.

    Raises:
        DatasetError: no data set.
        TrainingError: data without classes, or with different ones.
    """
    sources = FrameSource(train), FrameSource(test)
    ontologies = [source.classes for source in sources]
    if ontologies[0] is None or ontologies[0] != ontologies[1]:
        raise TrainingError(
            "probe data without labels, or with different classes for training and test",
            "give data sets with the same ontology, for example simulated worlds",
        )
    frames = [[source[i] for i in spread(len(source), config.max_frames)] for source in sources]
    return Prober(frames[0], frames[1], ontologies[0], config)


def probe(
    checkpoint: Path | None,
    train: Sequence[Path],
    test: Sequence[Path],
    config: ProbeConfig | None = None,
    *,
    architecture: AnyBackboneConfig | None = None,
) -> ProbeResult:
    """Linear probe of a checkpoint, or of random networks of `architecture` where it is None.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        DatasetError, TrainingError: data that cannot be read or has no labels.
    """
    prober = open_prober(train, test, config or ProbeConfig())
    if checkpoint is None:
        if architecture is None:
            raise TrainingError("no checkpoint and no architecture to probe", "give one of them")
        return prober.random(architecture)
    return prober.pretrained(load_checkpoint(checkpoint).build_backbone(), str(checkpoint))


def compare(
    checkpoint: Path,
    train: Sequence[Path],
    test: Sequence[Path],
    config: ProbeConfig | None = None,
) -> Comparison:
    """A checkpoint against random networks of its own architecture, paired by seed.

    Raises: as `probe`.
    """
    backbone = load_checkpoint(checkpoint).build_backbone()
    prober = open_prober(train, test, config or ProbeConfig())
    return Comparison(
        random=prober.random(backbone.config),
        pretrained=prober.pretrained(backbone, str(checkpoint)),
    )
