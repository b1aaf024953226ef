"""`pretrain`: data in, checkpoint out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from torch import nn

from condense_ros.config import parameter
from condense_ros.errors import CondenseError, TrainingError
from condense_ros.files import write_json
from condense_ros.frame import PointCloud
from condense_ros.models import (
    Backbone,
    Checkpoint,
    HeadInfo,
    LinearHead,
    load_checkpoint,
    save_checkpoint,
)
from condense_training.batch_norm import calibrate_batch_norm
from condense_training.checkpoints import LAST, KeptCheckpoints, check_selection
from condense_training.distributed import process_group, rank, wait_for_all
from condense_training.frames import FrameSource, spread
from condense_training.journal import (
    StepRecord,
    first_and_last,
    learned_steps,
    validation_losses,
)
from condense_training.recipe import Parts, Recipe
from condense_training.recipes import build_recipe
from condense_training.threads import cpu_threads
from condense_training.trainer import train
from condense_training.trainer_config import TrainerConfig
from condense_training.validation import split_frames

CHECKPOINT_NAME = "backbone.safetensors"
#: clouds from which the exported batch norm statistics are taken
_STATISTICS_FRAMES = 20


@dataclass(frozen=True)
class PretrainConfig:
    """What is trained, on which part of the data, and how."""

    recipe: str = parameter("janda", "name of the recipe")
    preset: str = parameter("demo", "set of the recipe's parameters")
    settings: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "recipe parameters that differ from the preset"}
    )
    frame_stride: int = parameter(1, "use every n-th frame", low=1)
    frame_limit: int | None = parameter(None, "at most so many frames of each data set", low=1)
    select: str = parameter(
        LAST, "checkpoint to export: last, best (lowest validation loss), or a step of the run"
    )
    trainer: TrainerConfig = field(
        default_factory=TrainerConfig, metadata={"help": "how the recipe is run"}
    )


def _some_clouds(source: FrameSource, fraction: float) -> Iterator[PointCloud]:
    """Clouds of frames that are not held out."""
    taught, _ = split_frames(source.lengths, fraction)
    for place in spread(len(taught), _STATISTICS_FRAMES):
        # damaged frames were reported and counted while training
        with suppress(CondenseError):
            yield source[taught[place]].cloud


def _losses(path: Path) -> dict[str, dict[str, Any]]:
    """Stage name -> steps, first and last tenth's mean loss; skipped steps left out."""
    by_stage: dict[str, list[float]] = {}
    for record in learned_steps(path):
        by_stage.setdefault(record["stage"], []).append(record["loss"])
    return {stage: first_and_last(losses) for stage, losses in by_stage.items()}


def _heads(recipe: Recipe, parts: Parts, source: FrameSource) -> dict[str, LinearHead]:
    """The trained segmentation head as the checkpoint stores it."""
    if not recipe.head:
        return {}
    trained = cast(nn.Linear, parts[recipe.head])
    if source.classes is None or len(source.classes) != trained.out_features:
        known = "none" if source.classes is None else str(len(source.classes))
        raise TrainingError(
            f"the head has {trained.out_features} classes, the data {known}",
            "set the recipe's parameter classes to the size of the data's ontology",
        )
    supervision = f"{len(source)} labelled frames"
    head = LinearHead(HeadInfo(source.classes, supervision, trained.in_features))
    head.load_state_dict(trained.state_dict())
    return {"segmentation": head}


def _checkpoint(
    recipe: Recipe,
    parts: Parts,
    source: FrameSource,
    out: Path,
    config: PretrainConfig,
    **account: Any,
) -> Checkpoint:
    """The backbone with the running statistics of some clouds, and how it came to be."""
    # a copy: plain batch norms on the CPU, and nothing of the run is touched
    backbone = Checkpoint.of(cast(Backbone, parts[recipe.backbone])).build_backbone()
    calibrate_batch_norm(backbone, _some_clouds(source, config.trainer.validation_fraction))
    stages = _losses(out / "log.jsonl")
    last = stages.get(recipe.stages[-1].name, {})
    metadata = {
        "supervision": recipe.supervision,
        "preset": config.preset,
        "settings": recipe.settings,
        "seed": config.trainer.seed,
        "frames": len(source),
        "stages": stages,
        "loss_first": last.get("loss_first"),
        "loss_last": last.get("loss_last"),
        "ema_decay": config.trainer.ema_decay,
        "precision": config.trainer.precision,
        **account,
    }
    return Checkpoint.of(
        backbone,
        _heads(recipe, parts, source),
        recipe=recipe.name,
        data_hash=source.manifest_hash(),
        metadata=metadata,
    )


def pretrain(
    data: Sequence[Path],
    out: Path,
    config: PretrainConfig | None = None,
    resume: bool = True,
    *,
    on_step: Callable[[StepRecord], None] | None = None,
    console: Console | None = None,
) -> Path:
    """Trains a 3D backbone by a recipe and writes `out/backbone.safetensors`.

    Recipes learn from images alone; `supervised` learns from labels, and its checkpoint says so and
    holds the segmentation head too.

    Run again with the same arguments after a stop of any kind, it goes on where it was; after the
    end, it returns the checkpoint at once. Under torchrun it runs as one of several processes, of
    which the first writes.

    Args:
        data: data set folders and bags with clouds and images.
        out: folder for the checkpoint, `log.jsonl`, `state/`, `config.json`, `quarantine.json`,
            and `checkpoints/` and `tensorboard/` where they are wanted.
        resume: continue the run in `out`; False starts again.
        on_step: called after each optimiser step.

    Raises:
        ConfigError: values that do not fit together, or a selection that cannot be made.
        DatasetError, TrainingError, StorageFull, KeyboardInterrupt: see `train`.
    """
    config = config or PretrainConfig()
    out = Path(out)
    recipe = build_recipe(config.recipe, config.preset, config.settings)
    check_selection(config.select, recipe, config.trainer)
    source = FrameSource(data, stride=config.frame_stride, limit=config.frame_limit)
    with process_group(config.trainer.rank_timeout_s), cpu_threads(config.trainer.threads):
        path = _train_and_export(recipe, source, out, config, resume, on_step, console)
        wait_for_all()
    return path


def _train_and_export(
    recipe: Recipe,
    source: FrameSource,
    out: Path,
    config: PretrainConfig,
    resume: bool,
    on_step: Callable[[StepRecord], None] | None,
    console: Console | None,
) -> Path:
    started = time.monotonic()
    kept = KeptCheckpoints(out, config.trainer.keep_checkpoints, config.select)
    if not resume and rank() == 0:
        kept.clear()

    def keep(parts: Parts, step: int) -> None:
        checkpoint = _checkpoint(recipe, parts, source, out, config, steps=step)
        save_checkpoint(kept.new_path(step), checkpoint)
        kept.prune()

    result = train(
        recipe,
        source,
        out,
        config.trainer,
        resume=resume,
        on_step=on_step,
        on_keep=keep,
        console=console,
    )
    path = out / CHECKPOINT_NAME
    if rank() > 0:
        return path
    if resume and path.exists() and result.steps_now == 0:
        before = load_checkpoint(path).metadata
        if before.get("select", LAST) == config.select:
            return path
    if config.select == LAST:
        checkpoint = _checkpoint(recipe, result.parts, source, out, config, steps=result.steps)
    else:
        checkpoint = load_checkpoint(kept.path(kept.selected()))
    losses = validation_losses(out / "log.jsonl")
    checkpoint.metadata.update(
        select=config.select,
        validation_loss=losses.get(checkpoint.metadata["steps"]),
        skipped_steps=result.skipped_steps,
        quarantined_frames=result.quarantined_frames,
        seconds=round(time.monotonic() - started, 1),
    )
    write_json(out / "config.json", checkpoint.metadata)
    return save_checkpoint(path, checkpoint)
