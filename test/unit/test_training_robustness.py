"""Corruption error and resilience rate against printed tables, and the command on a small drive."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_scenes import small_drive
from typer.testing import CliRunner

from condense_ros.cli.app import app, main
from condense_ros.errors import ConfigError, FrameError, TrainingError
from condense_ros.frame import Frame, PointCloud
from condense_ros.models import (
    Checkpoint,
    InputSpec,
    build_backbone,
    load_checkpoint,
    save_checkpoint,
)
from condense_training import fit_head
from condense_training.evaluate.corruptions import CORRUPTIONS
from condense_training.evaluate.robustness import RobustnessConfig, evaluate_robustness
from condense_training.evaluate.robustness_metrics import (
    Baseline,
    corruption_error,
    mean_resilience,
    read_baseline,
    resilience_rate,
)
from condense_training.evaluate.segmentation import evaluate_segmentation
from condense_training.frames import FrameSource

#: MinkUNet-34 on SemanticKITTI-C as printed: light, moderate, heavy, CE, RR
MINKUNET_34 = {
    "fog": (61.84, 56.66, 42.12, 105.28, 83.94),
    "wet_ground": (59.76, 52.42, 50.64, 99.39, 85.09),
    "snow": (53.32, 50.29, 46.91, 106.66, 78.66),
    "motion_blur": (45.62, 31.44, 24.33, 98.69, 52.99),
    "beam_missing": (61.42, 57.96, 52.66, 97.64, 89.92),
    "crosstalk": (60.45, 58.53, 56.16, 99.90, 91.53),
    "incomplete_echo": (57.92, 54.82, 51.89, 99.01, 86.05),
    "cross_sensor": (58.07, 52.63, 30.16, 98.33, 73.61),
}


def test_by_hand() -> None:
    # (0.5 + 0.6 + 0.7) / (0.4 + 0.5 + 0.6), and (0.5 + 0.4 + 0.3) / (3 * 0.8)
    assert corruption_error([0.5, 0.4, 0.3], [0.6, 0.5, 0.4]) == pytest.approx(1.2)
    assert resilience_rate([0.5, 0.4, 0.3], 0.8) == pytest.approx(0.5)
    reference = Baseline("r", "d", {"fog": (0.6, 0.5, 0.4), "snow": (0.0, 0.0, 0.0)})
    miou = {"fog": (0.5, 0.4, 0.3), "snow": (0.2, 0.2, 0.2)}
    assert reference.errors(miou) == pytest.approx({"fog": 1.2, "snow": 0.8})
    assert reference.mce(miou) == pytest.approx(1.0)
    assert mean_resilience(miou, 0.8) == pytest.approx((0.5 + 0.25) / 2)


def test_the_printed_rows_of_semantickitti_c() -> None:
    reference = read_baseline("semantickitti_c")
    miou = {name: tuple(v / 100 for v in row[:3]) for name, row in MINKUNET_34.items()}
    for name, error in reference.errors(miou).items():
        assert 100 * error == pytest.approx(MINKUNET_34[name][3], abs=0.011)
        rate = 100 * resilience_rate(miou[name], 0.6378)
        assert rate == pytest.approx(MINKUNET_34[name][4], abs=0.011)
    assert 100 * reference.mce(miou) == pytest.approx(100.61, abs=0.006)
    assert 100 * mean_resilience(miou, 0.6378) == pytest.approx(80.22, abs=0.006)
    assert reference.mce(reference.miou) == pytest.approx(1.0)
    assert 100 * mean_resilience(reference.miou, 0.6276) == pytest.approx(81.90, abs=0.006)


@pytest.mark.parametrize(
    ("means", "mce"),
    [
        ((56.91, 74.93, 37.50, 75.24, 70.10, 29.32, 64.96, 52.96), 96.37),  # MinkUNet-34
        ((69.59, 75.52, 71.83, 59.43, 64.47, 66.78, 61.86, 42.30), 92.55),  # GFNet
        ((72.66, 74.31, 66.22, 66.14, 65.96, 57.44, 59.87, 39.85), 92.63),  # Seal
    ],
)
def test_the_printed_rows_of_nuscenes_c(means: tuple[float, ...], mce: float) -> None:
    miou = {name: (m / 100,) * 3 for name, m in zip(CORRUPTIONS, means, strict=True)}
    assert 100 * read_baseline("nuscenes_c").mce(miou) == pytest.approx(mce, abs=0.012)


def test_a_baseline_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    with pytest.raises(ConfigError, match="nuscenes_c"):
        read_baseline(path)
    good = {"network": "n", "data": "d", "miou": {"fog": [0.1, 0.2, 0.3]}}
    for content in (
        "[1]",
        "{",
        json.dumps({**good, "miou": {"fog": [0.1, 0.2]}}),
        json.dumps({**good, "miou": {"fog": [0.1, 0.2, 30.0]}}),
        json.dumps({**good, "miou": {"fog": [1.0, 1.0, 1.0]}}),
        json.dumps({**good, "miou": {"fog": ["a", "b", "c"]}}),
        json.dumps({"network": "n", "data": "d"}),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError):
            read_baseline(path)
    path.write_text(json.dumps(good))
    with pytest.raises(ConfigError, match="snow"):
        read_baseline(path).errors({"snow": (0.1, 0.1, 0.1)})


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_drive(tmp_path_factory.mktemp("robust") / "town", frames=3, images=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, drive: Path) -> Path:
    """A random backbone with a head fitted on the drive."""
    torch.manual_seed(0)
    spec = InputSpec(voxel_size_m=0.4, max_range_m=30.0, features=("one", "height", "intensity"))
    backbone = build_backbone("demo", spec)
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    save_checkpoint(path, Checkpoint.of(backbone, {}, recipe="none", data_hash="", metadata={}))
    source = FrameSource([drive])
    return fit_head(path, [source[i] for i in range(len(source))], source.classes)


def test_clean_is_what_segmentation_says(checkpoint: Path, drive: Path) -> None:
    source = FrameSource([drive], limit=2)
    loaded = load_checkpoint(checkpoint)
    config = RobustnessConfig(corruptions=("cross_sensor", "incomplete_echo"))
    seen: list[tuple[int, int]] = []
    result = evaluate_robustness(loaded, source, config, progress=lambda *now: seen.append(now))
    confusion = evaluate_segmentation(loaded, [source[0], source[1]])
    assert result.clean == pytest.approx(confusion.miou())
    assert result.clean > 0.05
    names = source.classes.names
    for name, value in result.clean_iou.items():
        assert value == pytest.approx(confusion.iou()[names.index(name)])
    assert seen[-1] == (14, 14)
    assert result.frames == 2
    rates = [sum(result.miou[n]) / (3 * result.clean) for n in config.corruptions]
    assert result.mrr == pytest.approx(np.mean(rates))
    assert result.untouched["cross_sensor"] == 0
    again = evaluate_robustness(loaded, source, config)
    assert again == result


def test_what_the_data_lack_is_named(checkpoint: Path, drive: Path) -> None:
    loaded, frame = load_checkpoint(checkpoint), FrameSource([drive])[0]
    with pytest.raises(ConfigError, match="rain"):
        evaluate_robustness(loaded, [frame], RobustnessConfig(corruptions=("rain",)))
    with pytest.raises(ConfigError, match="vehicle_classes"):
        evaluate_robustness(loaded, [frame], RobustnessConfig(vehicle_classes=("tank",)))
    with pytest.raises(ConfigError, match="ground_classes"):
        evaluate_robustness(loaded, [frame], RobustnessConfig(ground_classes=()))
    with pytest.raises(TrainingError, match="labels"):
        evaluate_robustness(loaded, [Frame(0, frame.cloud)])
    with pytest.raises(TrainingError, match="no frame"):
        evaluate_robustness(loaded, [])
    bare = Frame(0, PointCloud(frame.cloud.xyz, frame.cloud.intensity), labels=frame.labels)
    with pytest.raises(FrameError, match="ring"):
        evaluate_robustness(loaded, [bare])
    evaluate_robustness(loaded, [bare], RobustnessConfig(corruptions=("motion_blur",)))


def test_the_command(checkpoint: Path, drive: Path, tmp_path: Path) -> None:
    figures, pictures = tmp_path / "r.json", tmp_path / "pictures"
    command = ["eval", "robustness", str(checkpoint), "--data", str(drive), "--json", str(figures)]
    command += ["-p", "max_frames=1"]
    done = CliRunner().invoke(app, [*command, "--out", str(pictures)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in pictures.iterdir()} == {"corruptions.png", "robustness.png"}
    content = json.loads(figures.read_text())
    assert list(content["miou"]) == list(CORRUPTIONS)
    assert "mRR" in done.output
    assert "incomplete echo" in done.output
    # a network is its own reference: every corruption error is 1
    again = tmp_path / "again.json"
    command[command.index(str(figures))] = str(again)
    done = CliRunner().invoke(app, [*command, "--baseline", str(figures)])
    assert done.exit_code == 0, done.output
    assert "other data" not in done.output
    errors = json.loads(again.read_text())["baseline"]
    assert errors["mce"] == pytest.approx(1.0)
    assert errors["errors"] == pytest.approx(dict.fromkeys(CORRUPTIONS, 1.0))


def test_the_command_without_what_it_needs(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["eval", "robustness", "--data", str(drive)])
    assert end.value.code == 2
    assert "condense probe" in capsys.readouterr().err
