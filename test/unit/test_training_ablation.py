"""The component table: what each row changes, cells that are kept, and figures by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from training_scenes import small_drive
from typer.testing import CliRunner

from condense_ros.cli.app import app
from condense_ros.errors import ConfigError, DatasetError, TrainingError
from condense_training.evaluate import ablation, ablation_report, ablation_run
from condense_training.evaluate.ablation import AblationConfig, Cell, LabelSource, label_source
from condense_training.frames import FrameSource
from condense_training.recipes.olivine_config import OlivineConfig
from condense_training.trainer import TrainerConfig

SMALL: dict[str, Any] = {
    "steps": 3,
    "vmf_collection_steps": 1,
    "vmf_min_updates": 1,
    "pixel_steps": 2,
    "pixel_batch": 1,
    "pixel_crop_px": 32,
    "pixel_matches": 32,
    "view_width_px": 64,
    "view_height_px": 32,
    "voxel_size_m": 0.5,
    "view_min_pairs": 16,
    "pairs": 64,
}
NOISY = LabelSource("truth20", {"labels": "truth", "label_noise": 0.2, "classes": 16})


def config(**changes: Any) -> AblationConfig:
    return AblationConfig(
        preset="quick",
        settings=SMALL,
        **{
            "seeds": (0,),
            "few_frames": 2,
            "few_draws": 2,
            "few_settings": {"steps": 2},
            "probe_frames": 3,
            "test_frames": 2,
            **changes,
        },
    )


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("drives")
    return small_drive(root / "a"), small_drive(root / "b", seed=3, images=False)


def test_rows_change_what_they_say() -> None:
    """Weights of (pairs, classes, pull, regression) and the sampling of each row."""
    found = {}
    for row in ablation.ROWS:
        source = NOISY if ablation.needs_labels(row) else None
        settings = ablation.recipe_settings(config(), Cell(row, source, 0))
        full = OlivineConfig(**settings)
        weights = full.point_weight, full.class_weight, full.consistency_weight
        found[row] = (*weights, full.regression_weight, full.sampling, full.labels)
    assert found == {
        "random": (1.0, 0.0, 0.0, 0.0, "uniform", "none"),
        "ppkt": (1.0, 0.0, 0.0, 0.0, "uniform", "none"),
        "class_contrast": (0.5, 0.5, 0.0, 0.0, "uniform", "truth"),
        "vmf": (1.0, 0.0, 1.0, 0.0, "uniform", "truth"),
        "class_contrast+vmf": (0.5, 0.5, 1.0, 0.0, "uniform", "truth"),
        "class_contrast+dcas": (0.5, 0.5, 0.0, 0.0, "density_category", "truth"),
        "full": (0.5, 0.5, 1.0, 0.0, "density_category", "truth"),
        "regression": (0.0, 0.0, 0.0, 1.0, "uniform", "none"),
        "regression+dcas": (0.0, 0.0, 0.0, 1.0, "density_category", "truth"),
    }


def test_one_cell_per_label_source_where_labels_are_read() -> None:
    sources = [NOISY, LabelSource("clusters", {})]
    todo = ablation.cells(config(rows=("random", "ppkt", "full"), seeds=(4, 5)), sources)
    assert [cell.file for cell in todo[:4]] == [
        "random_seed4.json",
        "ppkt_seed4.json",
        "full@truth20_seed4.json",
        "full@clusters_seed4.json",
    ]
    assert len(todo) == 8


@pytest.mark.parametrize("text", ["noise20", "truth200", "truthy", "=folder", "name="])
def test_unknown_label_sources_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="label source"):
        label_source(text, 16)


def test_label_sources(tmp_path: Path) -> None:
    assert label_source("truth20", 16) == NOISY
    assert label_source("truth", 16).settings["label_noise"] == 0.0
    (tmp_path / "front").mkdir()
    cv2.imwrite(str(tmp_path / "front" / "000000.png"), np.zeros((4, 4), np.uint8))
    found = label_source(f"mine={tmp_path}", 9)
    assert found.settings == {"labels": "folder", "label_folder": str(tmp_path), "classes": 9}
    cv2.imwrite(str(tmp_path / "front" / "000000.png"), np.ones((4, 4), np.uint8))
    assert label_source(f"mine={tmp_path}", 9).identity != found.identity
    with pytest.raises(DatasetError, match="no label images"):
        label_source(f"mine={tmp_path / 'nothing'}", 9)


def test_unknown_rows_and_presets_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown rows"):
        ablation.cells(config(rows=("olivine",)), [NOISY])
    with pytest.raises(ConfigError, match="no labels"):
        ablation.cells(config(), [])
    with pytest.raises(ConfigError, match="no preset"):
        ablation.cells(config(few_preset="x"), [NOISY])


def test_cells_are_kept_and_rows_differ(drives: tuple[Path, Path], tmp_path: Path) -> None:
    data, test = (FrameSource([path]) for path in drives)
    rows = ("random", "ppkt", "full", "regression+dcas")
    chosen = config(rows=rows)
    todo = ablation.cells(chosen, [NOISY])
    trainer = TrainerConfig(progress=False)
    first = ablation_run.run(chosen, data, test, todo[:2], tmp_path, trainer)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert len(stamps) == 2
    results = ablation_run.run(chosen, data, test, todo, tmp_path, trainer)
    assert results[:2] == first
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    by_row = {cell["row"]: cell for cell in results}
    assert by_row["random"]["pretraining"]["steps"] == 0
    assert by_row["full"]["pretraining"]["kl_active"] == pytest.approx(2 / 3)
    assert "kl_active" not in by_row["ppkt"]["pretraining"]
    assert set(by_row["regression+dcas"]["pretraining"]["terms_last"]) >= {"regression_loss"}
    assert len({cell["lp_miou"] for cell in results}) == 4
    assert len(by_row["full"]["few_miou"]) == 2
    assert not list((tmp_path / "runs").glob("*seed0"))
    # one teacher for all rows, and another one where its own settings differ
    (teacher,) = (tmp_path / "teachers").glob("seed0_*.pt")
    other = replace(chosen, settings={**SMALL, "pixel_steps": 1})
    ablation_run.run(other, data, test, todo[1:2], tmp_path / "other", trainer)
    (second,) = (tmp_path / "other" / "teachers").glob("seed0_*.pt")
    assert second.name != teacher.name
    assert [path.name for path in (tmp_path / "teachers").glob("*.pt")] == [teacher.name]

    other = config(rows=rows, few_draws=1)
    with pytest.raises(TrainingError, match="other few"):
        ablation_run.run(other, data, test, todo[:1], tmp_path, trainer)
    (tmp_path / "cells" / todo[0].file).write_text("{")
    with pytest.raises(TrainingError, match="no cell"):
        ablation_run.run(chosen, data, test, todo[:1], tmp_path, trainer)


def cell(name: str, seed: int, lp: float, few: list[float]) -> dict[str, Any]:
    row, _, labels = name.partition("@")
    return {
        "name": name,
        "row": row,
        "labels": labels or None,
        "seed": seed,
        "lp_miou": lp,
        "few_miou": few,
        "lp_iou": {"car": lp},
        "few_iou": {"car": few[0]},
        "pretraining": {"steps": 7},
    }


def test_figures_by_hand(tmp_path: Path) -> None:
    results = [
        cell("full@t", 0, 0.5, [0.4, 0.6]),
        cell("ppkt", 1, 0.2, [0.3, 0.3]),
        cell("ppkt", 0, 0.4, [0.4, 0.4]),
        cell("full@t", 1, 0.4, [0.2, 0.2]),
        cell("random", 0, 0.1, [0.1, 0.1]),
    ]
    summary = ablation_report.write(results, tmp_path)
    assert [row["name"] for row in summary["rows"]] == ["random", "ppkt", "full@t"]
    ppkt = summary["rows"][1]
    assert ppkt["seeds"] == [0, 1]
    assert ppkt["lp_miou_mean"] == pytest.approx(0.3)
    assert ppkt["lp_miou_std"] == pytest.approx(0.02**0.5)
    assert ppkt["few_miou_mean"] == pytest.approx(0.35)
    pair = {(d["better"], d["worse"]): d for d in summary["differences"]["lp"]}[("full@t", "ppkt")]
    # 0.5 - 0.4 and 0.4 - 0.2: mean 0.15, standard deviation 0.1 / sqrt(2), error 0.05
    assert pair["values"] == pytest.approx([0.1, 0.2])
    assert pair["mean"] == pytest.approx(0.15)
    assert pair["standard_error"] == pytest.approx(0.05)
    assert pair["all_positive"]
    assert pair["over_two_errors"]
    few = {(d["better"], d["worse"]): d for d in summary["differences"]["few"]}[("full@t", "ppkt")]
    assert few["values"] == pytest.approx([0.1, -0.1])
    assert not few["all_positive"]
    one = {(d["better"], d["worse"]): d for d in summary["differences"]["lp"]}[("ppkt", "random")]
    assert one["seeds"] == [0]
    assert one["standard_error"] is None
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert "| ppkt | 2 | 7 |  | 30.00 ± 14.14 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "ablation.png").stat().st_size > 5000
    with pytest.raises(TrainingError, match="no cell"):
        ablation_report.summarise([])


def test_the_command_on_own_data(drives: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["eval", "ablation", "--data", str(drives[0]), "--test", str(drives[1])]
    arguments += ["--out", str(tmp_path), "--quick", "--seeds", "1", "--rows", "random,ppkt"]
    for name, value in SMALL.items():
        arguments += ["-p", f"{name}={value}"]
    arguments += ["--labels", "truth20"]
    result = CliRunner().invoke(app, [*arguments, "--shard", "1/2"])
    assert result.exit_code == 0, result.output
    assert "| ppkt | 1 | 3 |" in result.output
    assert "| random |" not in result.output
    # the table is of all cells that are there, whoever made them
    result = CliRunner().invoke(app, [*arguments, "--shard", "0/2"])
    assert result.exit_code == 0, result.output
    assert "| random | 1 | 0 |" in result.output
    assert "| ppkt | 1 | 3 |" in result.output
    assert len(list((tmp_path / "cells").iterdir())) == 2


def test_the_command_refuses_what_would_go_wrong(
    drives: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problem(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["eval", "ablation", "--out", str(tmp_path), *arguments])
        assert isinstance(result.exception, ConfigError), result.output
        return result.exception.problem

    assert "--data without --test" in problem("--data", str(drives[0]))
    assert "shard" in problem("--shard", "2/2")
    assert "unknown rows" in problem("--rows", "olivine")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun" in problem()
    assert not list(tmp_path.iterdir())
