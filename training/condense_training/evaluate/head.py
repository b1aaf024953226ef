"""Fits a segmentation head on a frozen backbone from labelled frames, and says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from condense_ros.config import parameter
from condense_ros.frame import Frame
from condense_ros.models import HeadInfo, LinearHead, load_checkpoint, save_checkpoint
from condense_ros.ontology import Ontology
from condense_training.evaluate.features import LabelledVoxels, labelled_voxels, sample_points
from condense_training.evaluate.linear import fit_linear
from condense_training.threads import cpu_threads


@dataclass(frozen=True)
class HeadConfig:
    """How the head is fitted."""

    name: str = parameter("segmentation", "name of the head in the checkpoint")
    label_source: str = parameter("", "where the labels come from, in words: simulated, ...")
    points_per_frame: int = parameter(2000, "labelled points drawn per frame", low=1)
    steps: int = parameter(100, "L-BFGS iterations", low=1)
    l2: float = parameter(1e-3, "weight penalty", low=0.0)
    seed: int = parameter(0, "seed of the point sample", low=0)


def fit_head(
    checkpoint: Path,
    frames: Iterable[Frame],
    ontology: Ontology,
    out: Path | None = None,
    config: HeadConfig | None = None,
) -> Path:
    """Adds a linear head to a checkpoint; the backbone stays as it is, bit by bit.

    The head records "<N> labelled <source> frames" as its supervision. Frames are read one at a
    time.

    Args:
        checkpoint: of a pretrained backbone; heads it already has are kept.
        out: where to write; `checkpoint` itself (atomically replaced) when None.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        TrainingError: no frames, or frames without labels.
        StorageFull: no room; what was there is intact.
    """
    config = config or HeadConfig()
    loaded = load_checkpoint(checkpoint)
    backbone = loaded.build_backbone()
    count = 0

    def clouds() -> Iterator[LabelledVoxels]:
        nonlocal count
        for frame in frames:
            count += 1
            yield labelled_voxels(backbone, frame, len(ontology))

    generator = torch.Generator().manual_seed(config.seed)
    with cpu_threads():
        features, labels = sample_points(clouds(), config.points_per_frame, generator)
        fitted = fit_linear(features, labels, len(ontology), steps=config.steps, l2=config.l2)
    supervision = " ".join(f"{count} labelled {config.label_source} frames".split())
    head = LinearHead(HeadInfo(ontology, supervision, backbone.out_channels))
    with torch.no_grad():
        head.weight.copy_(fitted.weight)
        head.bias.copy_(fitted.bias)
    prefix = f"heads.{config.name}."
    kept = {name: value for name, value in loaded.state.items() if not name.startswith(prefix)}
    new = {f"{prefix}{name}": value.detach() for name, value in head.state_dict().items()}
    heads = {**loaded.heads, config.name: head.info}
    changed = replace(loaded, state={**kept, **new}, heads=heads)
    return save_checkpoint(out or checkpoint, changed)
