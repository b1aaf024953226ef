"""Fine-tuning and probe protocols: what learns, at which rate, on which frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_scenes import small_drive
from typer.testing import CliRunner

from condense_ros.cli.app import app
from condense_ros.errors import ConfigError, TrainingError
from condense_ros.models import Backbone, InputSpec, build_backbone, preset
from condense_training.evaluate import protocol
from condense_training.evaluate.finetune import (
    PRESETS,
    FinetuneConfig,
    build_recipe,
    finetune,
    steps_of,
)
from condense_training.evaluate.metrics import Confusion
from condense_training.frames import FrameSource
from condense_training.trainer import TrainerConfig

QUICK = FinetuneConfig(steps=3, batch=2, optimiser="adamw", lr=1e-3, head_lr=1e-2)
TRAINER = TrainerConfig(progress=False)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive"), images=False)


def start() -> Backbone:
    torch.manual_seed(5)
    return build_backbone(preset("demo", InputSpec(0.4, features=("one", "height"))))


def test_published_numbers_are_the_presets() -> None:
    paper = PRESETS["nuscenes_1"]
    assert (paper.lr, paper.head_lr, paper.batch, paper.epochs) == (0.02, 2.0, 16, 100)
    assert PRESETS["nuscenes_10"].epochs == 50
    kitti = PRESETS["semantickitti_1"]
    assert (kitti.lr, kitti.batch) == (0.05, 10)
    assert PRESETS["nuscenes_probe"].head_lr == 0.05
    assert steps_of(paper, 280) == 100 * 280 // 16


def test_groups_have_their_rates(drive: Path) -> None:
    config = FinetuneConfig(steps=2, batch=1)
    recipe = build_recipe(config, start, "x", 16, 6)
    parts = recipe.build()
    parameters = [p for name in recipe.stages[0].trainable for p in parts[name].parameters()]
    groups = recipe.stages[0].optimiser(parameters).param_groups
    assert [group["lr"] for group in groups] == [0.02, 2.0]
    assert groups[1]["params"] == [parts["head"].weight, parts["head"].bias]
    assert (groups[0]["dampening"], groups[0]["momentum"]) == (0.1, 0.9)


def test_a_probe_leaves_the_trunk_alone_and_fine_tuning_does_not(
    drive: Path, tmp_path: Path
) -> None:
    source = FrameSource([drive])
    before = start().state_dict()
    for mode in ("probe", "finetune"):
        config = FinetuneConfig(**{**QUICK.__dict__, "mode": mode})
        parts, confusion = finetune(start, "x", source, source, tmp_path / mode, config, TRAINER)
        same = all(
            torch.equal(before[name], value)
            for name, value in parts["backbone"].state_dict().items()
        )
        assert same == (mode == "probe")
        assert confusion.counts.sum() > 1000


def test_fine_tuning_learns_the_frames_it_sees(drive: Path, tmp_path: Path) -> None:
    source = FrameSource([drive]).subset([0])
    config = FinetuneConfig(steps=40, batch=1, optimiser="adamw", lr=4e-3, head_lr=4e-2)
    _, untrained = finetune(
        start,
        "x",
        source,
        source,
        tmp_path / "a",
        FinetuneConfig(steps=1, lr=0.0, head_lr=0.0),
        TRAINER,
    )
    _, trained = finetune(start, "x", source, source, tmp_path / "b", config, TRAINER)
    assert trained.accuracy() > max(0.6, untrained.accuracy() + 0.2)


def test_other_classes_are_refused(drive: Path, tmp_path: Path) -> None:
    source = FrameSource([drive])

    class Unlabelled(FrameSource):
        classes = None  # type: ignore[assignment]

    with pytest.raises(TrainingError, match="different classes"):
        finetune(start, "x", source, Unlabelled([drive]), tmp_path, QUICK, TRAINER)


def test_shares_are_of_each_data_set(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FrameSource([drive, drive])
    chosen = source.share(0.5)
    assert [chosen.describe(i)[-7:] for i in range(len(chosen))] == [
        "frame 0",
        "frame 2",
        "frame 4",
    ] * 2
    assert len(source.share(1.0)) == 12
    # whole scenes where a data set has them: of three scenes every second is the second
    monkeypatch.setattr(
        type(source.datasets[0]), "scene_rows", [[0, 1], [2, 3], [4, 5]], raising=False
    )
    chosen = source.share(0.5)
    assert [chosen.describe(i)[-7:] for i in range(len(chosen))] == ["frame 2", "frame 3"] * 2
    with pytest.raises(ConfigError, match="none"):
        source.share(0.1)


def test_absent_classes_by_both_conventions() -> None:
    confusion = Confusion(4)
    # class 0: 3 right, 1 taken for class 2; class 1 right; class 3 nowhere
    confusion.add(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 2, 1]))
    assert confusion.miou() == pytest.approx((0.75 + 1.0) / 2)
    assert confusion.miou_absent_is_one() == pytest.approx((0.75 + 1.0 + 0.0 + 1.0) / 4)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="mode"):
        build_recipe(FinetuneConfig(mode="head"), start, "x", 16, 6)
    with pytest.raises(ConfigError, match="no preset"):
        protocol.Protocol(preset="nothing").configs()
    shares = protocol.Protocol(fractions=(0.01, 1.0), settings={"batch": 3}).configs()
    assert [(one.fraction, one.batch) for one in shares] == [(0.01, 3), (1.0, 3)]


def test_a_subset_is_another_run_than_its_whole(drive: Path) -> None:
    source = FrameSource([drive])
    part = source.subset([1, 3])
    assert len(part) == 2
    assert part.describe(1).endswith("frame 3")
    assert part.manifest_hash() != source.manifest_hash()
    assert part.manifest_hash() != source.subset([1, 2]).manifest_hash()
    assert part.manifest_hash() == source.subset([1, 3]).manifest_hash()


def test_the_command_writes_a_table_and_goes_on(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from condense_ros.models import Checkpoint, save_checkpoint

    path = save_checkpoint(tmp_path / "b.safetensors", Checkpoint.of(start()))
    arguments = ["eval", "segmentation", str(path), "--train", str(drive), "--test", str(drive)]
    arguments += ["--out", str(tmp_path / "out"), "--fractions", "50,100", "-p", "steps=2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "pretrained finetune 50 %: mIoU" in result.output
    found = json.loads((tmp_path / "out" / "segmentation.json").read_text())["results"]
    assert [(r["network"], r["train_frames"]) for r in found] == [
        ("pretrained", 3),
        ("random", 3),
        ("pretrained", 6),
        ("random", 6),
    ]
    # what is finished is neither trained nor judged again
    monkeypatch.setattr(protocol, "finetune", None)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "out" / "segmentation.json").read_text())["results"] == found

    wrong = CliRunner().invoke(app, [*arguments[:-4], "--fractions", "0"])
    assert isinstance(wrong.exception, ConfigError)
