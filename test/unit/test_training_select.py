"""Which checkpoint of a run is exported, and every recipe in bfloat16."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_scenes import TINY, small_drive

from condense_ros.errors import ConfigError, TrainingError
from condense_ros.models import load_checkpoint
from condense_training import PretrainConfig, pretrain
from condense_training.journal import validation_losses
from condense_training.trainer_config import TrainerConfig

SETTINGS = {**TINY, "pixel_steps": 2, "lift_steps": 7}
TRAINER = TrainerConfig(
    progress=False, threads=1, keep_every_steps=2, validation_fraction=0.3, keep_checkpoints=2
)
CONFIG = PretrainConfig(settings=SETTINGS, trainer=TRAINER)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive") / "town", frames=7)


@pytest.fixture(scope="module")
def finished(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    pretrain([drive], out, replace(CONFIG, select="best"))
    return out


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(value, b.state[name]) for name, value in a.state.items())


def test_the_best_on_held_out_frames_is_exported(finished: Path) -> None:
    losses = validation_losses(finished / "log.jsonl")
    assert list(losses) == [2, 4, 6, 8, 9]  # after stage 1, then in stage 2
    best = min((4, 6, 8, 9), key=lambda step: losses[step])
    exported = load_checkpoint(finished / "backbone.safetensors")
    files = sorted(path.stem for path in (finished / "checkpoints").glob("*.safetensors"))
    assert files == sorted({f"step_{step:06d}" for step in (best, 8, 9)})
    assert same(
        exported, load_checkpoint(finished / "checkpoints" / f"step_{best:06d}.safetensors")
    )
    about = exported.metadata
    assert (about["select"], about["steps"]) == ("best", best)
    assert about["validation_loss"] == losses[best]
    assert json.loads((finished / "config.json").read_text()) == about


def test_another_choice_needs_no_training(drive: Path, finished: Path) -> None:
    seen: list[Any] = []
    exported = {}
    for select in ("last", "8", "best", "last"):
        path = pretrain([drive], finished, replace(CONFIG, select=select), on_step=seen.append)
        exported[select] = load_checkpoint(path)
        assert exported[select].metadata["select"] == select
    assert not seen
    assert exported["8"].metadata["steps"] == 8
    assert not same(exported["8"], exported["last"])
    # what is exported at the end is what was kept after the last step
    assert same(
        exported["last"], load_checkpoint(finished / "checkpoints" / "step_000009.safetensors")
    )


def test_a_choice_that_is_not_there(drive: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="4, 6, 8, 9"):
        pretrain([drive], tmp_path, replace(CONFIG, select="7"))
    (finished / "checkpoints" / "step_000008.safetensors").unlink()
    with pytest.raises(TrainingError, match="no checkpoint for select=8"):
        pretrain([drive], finished, replace(CONFIG, select="8"))


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("janda", {**TINY, "pixel_steps": 2, "lift_steps": 2}),
        (
            "olivine",
            {
                "pixel_steps": 2,
                "pixel_batch": 2,
                "pixel_matches": 64,
                "pixel_crop_px": 32,
                "steps": 3,
                "pairs": 64,
                "voxel_size_m": 0.4,
                "view_width_px": 96,
                "view_height_px": 64,
                "view_min_pairs": 16,
                "vmf_collection_steps": 2,
                "head": "mlp",
                "regression_weight": 1.0,
            },
        ),
        ("supervised", {"steps": 2, "voxel_size_m": 0.4}),
    ],
)
def test_every_recipe_runs_in_bfloat16(
    drive: Path, tmp_path: Path, recipe: str, settings: dict[str, Any]
) -> None:
    """The first loss is that of float32 but for rounding; weights are float32."""
    first = []
    for precision in ("float32", "bfloat16"):
        trainer = TrainerConfig(progress=False, threads=1, precision=precision)
        preset = "quick" if recipe == "supervised" else "demo"
        config = PretrainConfig(recipe, preset, settings, trainer=trainer)
        out = tmp_path / precision
        checkpoint = load_checkpoint(pretrain([drive], out, config))
        assert checkpoint.metadata["precision"] == precision
        assert {
            value.dtype for value in checkpoint.state.values() if value.is_floating_point()
        } == {torch.float32}
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert not any(line["skipped"] for line in lines)
        stage = lines[-1]["stage"]
        first.append(next(line["loss"] for line in lines if line["stage"] == stage))
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.05)
