"""Runs the cells of the component table one after the other."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from rich.console import Console

from condense_ros.errors import TrainingError
from condense_ros.files import write_json
from condense_ros.frame import Frame, PointCloud
from condense_ros.models import AnyBackboneConfig, Backbone, build_backbone
from condense_training.batch_norm import calibrate_batch_norm
from condense_training.evaluate import ablation
from condense_training.evaluate.ablation import RANDOM, AblationConfig, Cell
from condense_training.evaluate.finetune import finetune, same_classes
from condense_training.evaluate.metrics import Confusion
from condense_training.evaluate.probe import Prober
from condense_training.frames import FrameSource, spread
from condense_training.journal import first_and_last, learned_steps
from condense_training.recipe import Parts, Recipe
from condense_training.recipes import build_recipe
from condense_training.threads import cpu_threads
from condense_training.trainer import TrainerConfig, train

log = logging.getLogger(__name__)

#: clouds from which batch norm statistics are taken, as `pretrain` does
_STATISTICS_FRAMES = 20


@dataclass(frozen=True)
class _Table:
    """What all cells share."""

    config: AblationConfig
    data: FrameSource
    test: FrameSource
    out: Path
    trainer: TrainerConfig
    console: Console
    prober: Prober

    def trainer_of(self, seed: int) -> TrainerConfig:
        return replace(self.trainer, seed=seed)


def run(
    config: AblationConfig,
    data: FrameSource,
    test: FrameSource,
    todo: Sequence[Cell],
    out: Path,
    trainer: TrainerConfig,
    *,
    console: Console | None = None,
    on_cell: Callable[[Cell, dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Runs the cells that are not there yet, and returns all of `todo`.

    `out/cells/` gets a JSON file per cell, `out/runs/` what is being trained (removed when its cell
    is finished), `out/teachers/` the teacher of each seed.

    Raises:
        TrainingError: cells of other settings or data, data without labels.
        KeyboardInterrupt: stopped; the same call goes on where it was.
    """
    same_classes(data, test)
    results: list[dict[str, Any]] = []
    table: _Table | None = None
    for number, cell in enumerate(todo, 1):
        path = out / "cells" / cell.file
        identity = ablation.fingerprint(config, cell, data, test)
        result = ablation.read_cell(path, identity)
        if result is None:
            table = table or _open(config, data, test, out, trainer, console)
            table.console.print(f"cell {number} of {len(todo)}: {cell.name}, seed {cell.seed}")
            result = {"fingerprint": identity, **_run_cell(table, cell)}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, result)
            shutil.rmtree(_folder(out, cell), ignore_errors=True)
        results.append(result)
        if on_cell is not None:
            on_cell(cell, result)
    return results


def finished(
    config: AblationConfig, data: FrameSource, test: FrameSource, todo: Sequence[Cell], out: Path
) -> list[dict[str, Any]]:
    """Those of `todo` that are there, whichever shard has made them.

    Raises:
        TrainingError: cells of other settings or data.
    """
    found = (
        ablation.read_cell(out / "cells" / c.file, ablation.fingerprint(config, c, data, test))
        for c in todo
    )
    return [cell for cell in found if cell is not None]


def _open(
    config: AblationConfig,
    data: FrameSource,
    test: FrameSource,
    out: Path,
    trainer: TrainerConfig,
    console: Console | None,
) -> _Table:
    ontology = same_classes(data, test)
    chosen = [
        [_without_images(source[i]) for i in spread(len(source), wanted)]
        for source, wanted in ((data, config.probe_frames), (test, config.test_frames))
    ]
    prober = Prober(chosen[0], chosen[1], ontology, ablation.probe_config(config))
    return _Table(config, data, test, out, trainer, console or Console(stderr=True), prober)


def _without_images(frame: Frame) -> Frame:
    """All that judges look at, in a fraction of the memory."""
    return replace(frame, images=())


def _folder(out: Path, cell: Cell) -> Path:
    return out / "runs" / cell.file.removesuffix(".json")


def _run_cell(table: _Table, cell: Cell) -> dict[str, Any]:
    started = time.monotonic()
    pretraining, backbone = _pretrain(table, cell)
    with cpu_threads(table.trainer.threads):
        calibrate_batch_norm(backbone, _some_clouds(table.data))
    # the probe takes its own statistics, so the few-label judge starts from a copy
    weights = {name: value.clone() for name, value in backbone.state_dict().items()}
    probed = table.prober.pretrained(backbone, cell.name)
    few = _few(table, cell, backbone.config, weights)
    return {
        "name": cell.name,
        "row": cell.row,
        "labels": cell.labels.name if cell.labels else None,
        "seed": cell.seed,
        "classes": list(probed.classes),
        "lp_miou": probed.miou[0],
        "lp_iou": {name: values[0] for name, values in probed.iou.items()},
        "few_miou": [one.miou() for one in few],
        "few_iou": _per_class(few, table),
        "pretraining": pretraining,
        "few_label": asdict(ablation.few_config(table.config)),
        "seconds": round(time.monotonic() - started, 1),
    }


def _per_class(confusions: Sequence[Confusion], table: _Table) -> dict[str, float]:
    rows = [confusion.iou().tolist() for confusion in confusions]
    names = table.prober.ontology.names
    means = {name: fmean(row[i] for row in rows) for i, name in enumerate(names)}
    return {name: value for name, value in means.items() if value == value}


def _some_clouds(source: FrameSource) -> list[PointCloud]:
    return [source[number].cloud for number in spread(len(source), _STATISTICS_FRAMES)]


# pretraining


def _pretrain(table: _Table, cell: Cell) -> tuple[dict[str, Any], Backbone]:
    """What the log says of it, and the backbone; that of "random" is what all rows start from."""
    config = table.config
    recipe = build_recipe("olivine", config.preset, ablation.recipe_settings(config, cell))
    if cell.row == RANDOM:
        torch.manual_seed(cell.seed)
        return {"steps": 0}, cast(Backbone, recipe.build()[recipe.backbone])
    own = recipe.stages[-1]
    if len(recipe.stages) > 1:
        teacher, digest = _teacher(table, recipe, cell.seed)
        recipe = replace(
            recipe,
            build=partial(_with_teacher, recipe, teacher),
            stages=(own,),
            settings={**recipe.settings, "teacher_state": digest},
        )
    out = _folder(table.out, cell) / "pretraining"
    with cpu_threads(table.trainer.threads):
        result = train(recipe, table.data, out, table.trainer_of(cell.seed), console=table.console)
    summary = _read_log(out / "log.jsonl")
    summary |= {"batch": own.batch_size, "skipped_steps": result.skipped_steps}
    # the judges read clouds on the CPU
    return summary, cast(Backbone, result.parts[recipe.backbone]).cpu()


def _with_teacher(recipe: Recipe, image: dict[str, torch.Tensor]) -> Parts:
    parts = recipe.build()
    parts["image"].load_state_dict(image)
    return parts


def _teacher(table: _Table, recipe: Recipe, seed: int) -> tuple[dict[str, torch.Tensor], str]:
    """The image network of a seed, trained once, and the hash of its file."""
    # nothing a row changes has a say in the teacher's training
    prefixes = ("pixel_", "teacher_dim", "image_", "encoder_", "weight_decay")
    settings = {key: value for key, value in recipe.settings.items() if key.startswith(prefixes)}
    first = replace(recipe, name="olivine teacher", stages=recipe.stages[:-1], settings=settings)
    basis = json.dumps([settings, table.data.manifest_hash()], sort_keys=True)
    key = hashlib.sha256(basis.encode()).hexdigest()[:8]
    path = table.out / "teachers" / f"seed{seed}_{key}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    # of several shards the first trains it while the others wait
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _train_teacher(table, first, seed, path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _train_teacher(table: _Table, recipe: Recipe, seed: int, path: Path) -> None:
    out = table.out / "runs" / f"teacher_{path.stem}"
    with cpu_threads(table.trainer.threads):
        result = train(recipe, table.data, out, table.trainer_of(seed), console=table.console)
    part = path.with_suffix(".part")
    torch.save(result.parts["image"].state_dict(), part)
    part.replace(path)
    shutil.rmtree(out, ignore_errors=True)


def _read_log(path: Path) -> dict[str, Any]:
    """Steps, losses at both ends, share of steps with an active pull, and speed."""
    records = list(learned_steps(path))
    if not records:
        raise TrainingError(f"{path} holds no step that counted", "lower the learning rate")
    ends: dict[str, Any] = {
        **first_and_last([record["loss"] for record in records]),
        "samples_per_s": fmean(record["samples_per_s"] for record in records),
    }
    active = [record["terms"].get("kl_active") for record in records]
    known = [value for value in active if value is not None]
    if known:
        ends["kl_active"] = fmean(known)
    last = records[-max(1, len(records) // 10) :]
    names = sorted({name for record in last for name in record["terms"]})
    ends["terms_last"] = {
        name: fmean(r["terms"][name] for r in last if name in r["terms"]) for name in names
    }
    return ends


# judges


def _few(
    table: _Table, cell: Cell, architecture: AnyBackboneConfig, weights: dict[str, torch.Tensor]
) -> list[Confusion]:
    """Fine-tuning from a few labelled frames, once per draw."""
    config = ablation.few_config(table.config)
    test = table.test.subset(spread(len(table.test), table.config.test_frames))

    def start() -> Backbone:
        backbone = build_backbone(architecture)
        backbone.load_state_dict(weights)
        return backbone

    origin = hashlib.sha256()
    for name, value in weights.items():
        origin.update(name.encode() + value.contiguous().numpy().tobytes())
    confusions = []
    for draw in range(table.config.few_draws):
        frames = ablation.draw_frames(len(table.data), table.config.few_frames, draw)
        _, confusion = finetune(
            start,
            origin.hexdigest()[:16],
            table.data.subset(frames),
            test,
            _folder(table.out, cell) / f"few{draw}",
            config,
            table.trainer_of(draw),
            console=table.console,
        )
        confusions.append(confusion)
    return confusions
