"""A checkpoint under fine-tuning protocols: shares of the labels, seeds, and a random network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from condense_ros import config as _config
from condense_ros.errors import ConfigError, TrainingError
from condense_ros.files import write_json
from condense_ros.models import Backbone, build_backbone, load_checkpoint
from condense_ros.models.files import read_hashed
from condense_training.evaluate.finetune import (
    PRESETS,
    FinetuneConfig,
    finetune,
    same_classes,
    steps_of,
)
from condense_training.evaluate.metrics import Confusion
from condense_training.evaluate.segmentation import evaluate_segmentation
from condense_training.frames import FrameSource
from condense_training.trainer import TrainerConfig

Result = dict[str, Any]
RESULT = "result.json"


@dataclass(frozen=True)
class Protocol:
    """What is run.

    Attributes:
        preset, settings: of `FinetuneConfig`.
        fractions: shares of the labels, 0..1; empty: the preset's.
        seeds: of heads, batches and random networks.
        random: also from a random network, on the same labels.
    """

    preset: str = "demo"
    settings: Mapping[str, Any] = field(default_factory=dict)
    fractions: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    random: bool = True

    def configs(self) -> list[FinetuneConfig]:
        """One per share (ConfigError: no such preset, values out of range)."""
        if self.preset not in PRESETS:
            raise ConfigError(f"no preset {self.preset!r}", f"use one of: {', '.join(PRESETS)}")
        base = _config.changed(PRESETS[self.preset], self.settings)
        return [replace(base, fraction=share) for share in self.fractions] or [base]


def run(
    checkpoint: Path,
    train: Sequence[Path],
    test: Sequence[Path],
    out: Path,
    protocol: Protocol,
    *,
    device: str = "cpu",
    progress: bool = True,
) -> list[Result]:
    """One result per network, share and seed; each is kept in `out` as JSON once finished.

    Raises:
        CheckpointError, ConfigError, DatasetError, TrainingError, StorageFull, KeyboardInterrupt.
    """
    configs = protocol.configs()
    loaded = load_checkpoint(checkpoint)
    architecture = loaded.build_backbone().config
    digest = hashlib.sha256(read_hashed(checkpoint)).hexdigest()
    starts: dict[str, tuple[str, Callable[[], Backbone]]] = {
        "pretrained": (digest[:16], loaded.build_backbone)
    }
    if protocol.random:
        starts["random"] = ("random", lambda: build_backbone(architecture))
    source, judged = FrameSource(train), FrameSource(test)
    names = same_classes(source, judged).names
    results = []
    for network, config, seed in _grid(starts, configs, protocol.seeds):
        origin, start = starts[network]
        frames = source.share(config.fraction)
        folder = out / f"{network}_{config.mode}_{100 * config.fraction:g}_seed{seed}"
        identity = {
            "origin": origin,
            "architecture": architecture.to_dict(),
            "protocol": asdict(config),
            "train_data": frames.manifest_hash(),
            "test_data": judged.manifest_hash(),
        }
        if (known := _finished(folder / RESULT, identity)) is not None:
            results.append(known)
            continue
        trainer = TrainerConfig(seed=seed, device=device, progress=progress)
        _, confusion = finetune(start, origin, frames, judged, folder, config, trainer)
        result = {
            "identity": identity,
            "network": network,
            "checkpoint": str(checkpoint) if network == "pretrained" else None,
            "seed": seed,
            "train_frames": len(frames),
            "test_frames": len(judged),
            "steps": steps_of(config, len(frames)),
            **figures(confusion, names),
        }
        write_json(folder / RESULT, result)
        results.append(result)
    return results


def _grid(
    networks: Mapping[str, Any], configs: Sequence[FinetuneConfig], seeds: Sequence[int]
) -> Iterator[tuple[str, FinetuneConfig, int]]:
    for config in configs:
        for network in networks:
            for seed in seeds:
                yield network, config, seed


def figures(confusion: Confusion, names: Sequence[str]) -> Result:
    """mIoU by both conventions, accuracy, and IoU of the classes that are present."""
    iou = confusion.iou().tolist()
    return {
        "miou": confusion.miou(),
        "miou_absent_is_one": confusion.miou_absent_is_one(),
        "accuracy": confusion.accuracy(),
        "iou": {name: value for name, value in zip(names, iou, strict=True) if value == value},
    }


def judge_head(checkpoint: Path, test: Sequence[Path], head: str = "segmentation") -> Result:
    """How well the checkpoint's own head labels test frames.

    Raises:
        CheckpointError: no such head.
        TrainingError: data with other classes than the head's.
    """
    loaded, source = load_checkpoint(checkpoint), FrameSource(test)
    ontology = loaded.build_head(head).info.ontology
    if source.classes != ontology:
        raise TrainingError(
            f"the head of {checkpoint} knows other classes than the data has",
            "give data of the ontology it was trained with, or fit a head by --train",
        )
    confusion = evaluate_segmentation(loaded, (source[i] for i in range(len(source))), head)
    return {
        "network": "head",
        "checkpoint": str(checkpoint),
        "supervision": loaded.heads[head].supervision,
        "test_frames": len(source),
        **figures(confusion, ontology.names),
    }


def columns(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Heading of the per-class table -> results of all its seeds."""
    found: dict[str, list[Result]] = {}
    for one in results:
        protocol = one.get("identity", {}).get("protocol", {})
        share = f" {protocol['mode']} {100 * protocol['fraction']:g} %" if protocol else ""
        found.setdefault(one["network"] + share, []).append(one)
    return found


def _finished(path: Path, identity: Mapping[str, Any]) -> Result | None:
    """The result of an earlier call on the same network, data and protocol; another one's run is
    refused by the trainer."""
    if not path.exists():
        return None
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    plain = json.loads(json.dumps(identity))
    return result if result.get("identity") == plain else None
