"""The component table: every row is pretrained with several seeds and judged by few labels.

One JSON file per cell (row, label source, pretraining seed), written when the cell is finished, so
that a stopped table goes on with the cell it was at. All rows of a seed share the teacher, the
starting weights, the steps and the judges; what differs is the row.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from condense_ros import config as _config
from condense_ros.config import parameter
from condense_ros.errors import ConfigError, TrainingError
from condense_training.evaluate import finetune
from condense_training.evaluate.finetune import FinetuneConfig
from condense_training.evaluate.probe import ProbeConfig
from condense_training.frames import FrameSource
from condense_training.labels.folder import LabelFolder
from condense_training.labels.store import HEADER
from condense_training.pair_labels import open_pixel_labels
from condense_training.recipes.olivine_presets import ABLATIONS, PRESETS

log = logging.getLogger(__name__)

RANDOM = "random"
#: rows in the order of the table: what each changes of the full method
ROWS: dict[str, dict[str, Any] | None] = {
    RANDOM: None,
    "ppkt": ABLATIONS["ppkt"],
    "class_contrast": ABLATIONS["table5_2"],
    "vmf": ABLATIONS["table5_3"],
    "class_contrast+vmf": ABLATIONS["table5_4"],
    "class_contrast+dcas": ABLATIONS["table5_5"],
    "full": ABLATIONS["table5_6"],
    "regression": ABLATIONS["scalr"],
    "regression+dcas": {
        "point_weight": 0.0,
        "class_weight": 0.0,
        "consistency_weight": 0.0,
        "regression_weight": 1.0,
        "head": "mlp",
    },
}

#: what the rows share beside the demo preset. The pull's weight is a two-hundredth of the released
#: one: with few steps features still share a direction when classes are collected, and at weight 1
#: all classes are pulled into it.
SETTINGS: dict[str, Any] = {
    "steps": 500,
    "pairs": 2048,
    "vmf_collection_steps": 200,
    "consistency_weight": 0.005,
    "teacher_dim": 32,
    "pixel_steps": 300,
}


@dataclass(frozen=True)
class AblationConfig:
    """Everything a cell depends on, beside the data."""

    preset: str = parameter("demo", "preset of recipe olivine that all rows change")
    settings: Mapping[str, Any] = field(
        default_factory=lambda: dict(SETTINGS),
        metadata={"help": "recipe parameters that all rows share"},
    )
    seeds: tuple[int, ...] = parameter((0, 1, 2), "pretraining seeds")
    rows: tuple[str, ...] = parameter(tuple(ROWS), "rows of the table")
    few_frames: int = parameter(5, "labelled frames of the few-label judge", low=1)
    few_draws: int = parameter(5, "random draws of them", low=1)
    few_preset: str = parameter("demo", "preset of fine-tuning")
    few_settings: Mapping[str, Any] = field(
        default_factory=lambda: {"steps": 60},
        metadata={"help": "fine-tuning parameters that differ from it"},
    )
    probe_frames: int = parameter(200, "training frames of the linear probe, evenly spread", low=1)
    test_frames: int = parameter(100, "test frames, evenly spread", low=1)


#: `--quick`: all of the chain in minutes, too little to tell the rows apart
QUICK: dict[str, Any] = {
    "preset": "quick",
    "settings": {
        "steps": 30,
        "pixel_steps": 30,
        "vmf_collection_steps": 10,
        "consistency_weight": 0.005,
    },
    "few_frames": 3,
    "few_draws": 2,
    "few_settings": {"steps": 20},
    "probe_frames": 16,
    "test_frames": 12,
}


@dataclass(frozen=True)
class LabelSource:
    """Where the classes of pairs come from.

    Attributes:
        name: in the table, as ROW@NAME.
        settings: of the recipe.
        identity: of label images, changes with them; empty for labels that the data holds.
    """

    name: str
    settings: Mapping[str, Any]
    identity: str = ""


@dataclass(frozen=True)
class Cell:
    """One pretraining run and its judges."""

    row: str
    labels: LabelSource | None
    seed: int

    @property
    def name(self) -> str:
        """The row in the table."""
        return self.row if self.labels is None else f"{self.row}@{self.labels.name}"

    @property
    def file(self) -> str:
        """Name of the cell's JSON file."""
        return f"{self.name}_seed{self.seed}.json"


def label_source(text: str, classes: int) -> LabelSource:
    """`truth`, `truthNN` (NN % of patches wrong) or `NAME=FOLDER` of label images.

    Raises:
        ConfigError: another text.
        DatasetError: the folder holds no labels.
    """
    name, equals, folder = text.partition("=")
    if equals and name and folder:
        count = classes
        if (Path(folder) / HEADER).is_file():
            count = len(LabelFolder(Path(folder)).header.ontology)
        settings = {"labels": "folder", "label_folder": folder, "classes": count}
        return LabelSource(name, settings, open_pixel_labels(Path(folder)).identity())
    noise = text.removeprefix("truth")
    if not text.startswith("truth") or (noise and not noise.isdigit()) or int(noise or 0) > 100:
        raise ConfigError(
            f"label source {text!r}", "give truth, truth20 (20 % of it wrong) or NAME=FOLDER"
        )
    share = int(noise or 0) / 100
    return LabelSource(text, {"labels": "truth", "label_noise": share, "classes": classes})


def needs_labels(row: str) -> bool:
    """Whether a row looks at classes, so that there is one cell per label source."""
    changes = ROWS[row]
    return changes is not None and changes.get("labels", "folder") != "none"


def cells(config: AblationConfig, sources: Sequence[LabelSource]) -> list[Cell]:
    """All cells, seeds outermost, so that a table that is stopped early has whole columns.

    Raises:
        ConfigError: an unknown row or preset, or rows with classes and no label source.
    """
    unknown = [row for row in config.rows if row not in ROWS]
    if unknown:
        raise ConfigError(f"unknown rows {', '.join(unknown)}", f"use {', '.join(ROWS)}")
    if config.preset not in PRESETS:
        raise ConfigError(f"unknown preset {config.preset!r}", f"use {', '.join(PRESETS)}")
    if any(needs_labels(row) for row in config.rows) and not sources:
        raise ConfigError("rows with classes and no labels", "name --labels truth20 or NAME=FOLDER")
    few_config(config)
    return [
        Cell(row, source, seed)
        for seed in config.seeds
        for row in config.rows
        for source in (sources if needs_labels(row) else (None,))
    ]


def few_config(config: AblationConfig) -> FinetuneConfig:
    """How the few-label judge trains (ConfigError: no such preset, unknown parameters)."""
    if config.few_preset not in finetune.PRESETS:
        raise ConfigError(
            f"fine-tuning has no preset {config.few_preset!r}",
            f"use {', '.join(finetune.PRESETS)}",
        )
    return _config.changed(finetune.PRESETS[config.few_preset], config.few_settings)


def probe_config(config: AblationConfig) -> ProbeConfig:
    """The linear probe of all cells; its point sample is the same for all."""
    return ProbeConfig(seeds=(0,), max_frames=max(config.probe_frames, config.test_frames))


def recipe_settings(config: AblationConfig, cell: Cell) -> dict[str, Any]:
    """What a cell sets of the recipe's preset."""
    changes = ROWS[cell.row]
    if changes is None:  # what is not trained needs no labels
        changes = ABLATIONS["ppkt"]
    of_labels = dict(cell.labels.settings) if cell.labels else {}
    return {**config.settings, **of_labels, **changes}


def fingerprint(
    config: AblationConfig, cell: Cell, data: FrameSource, test: FrameSource
) -> dict[str, Any]:
    """Everything the result of a cell depends on, as plain JSON."""
    # where labels lie does not matter, but what they are
    settings = recipe_settings(config, cell)
    settings.pop("label_folder", None)
    content = {
        "format": 2,
        "row": cell.row,
        "seed": cell.seed,
        "preset": config.preset,
        "settings": settings,
        "labels": cell.labels.identity if cell.labels else "",
        "few": {
            "frames": config.few_frames,
            "draws": config.few_draws,
            "preset": config.few_preset,
            "settings": dict(config.few_settings),
        },
        "probe_frames": config.probe_frames,
        "test_frames": config.test_frames,
        "train_data": data.manifest_hash(),
        "test_data": test.manifest_hash(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def read_cell(path: Path, expected: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """A finished cell, or None where there is none yet.

    Args:
        expected: its fingerprint; None takes any.

    Raises:
        TrainingError: it is no cell, or one of other settings or data.
    """
    if not path.exists():
        return None
    try:
        cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        then = cell["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is no cell ({error})", "remove the file") from None
    if expected is not None and then != dict(expected):
        changed = sorted(k for k in {*then, *expected} if then.get(k) != expected.get(k))
        raise TrainingError(
            f"{path} was made with other {', '.join(changed)}",
            "use another --out, or the same settings and data",
        )
    return cell


def draw_frames(count: int, wanted: int, draw: int) -> list[int]:
    """The labelled frames of a draw: the same for every row and seed."""
    rng = np.random.default_rng([draw, count, 5])
    return sorted(rng.choice(count, size=min(wanted, count), replace=False).tolist())
