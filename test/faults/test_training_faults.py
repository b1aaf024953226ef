"""Training survives kills, bad samples, bad numbers and full disks."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_scenes import TINY, TWO_CAMERAS, small_drive

from condense_ros.datasets import open_dataset
from condense_ros.errors import DatasetError, StorageFull, TrainingError
from condense_ros.models import load_checkpoint
from condense_training import PretrainConfig, pretrain
from condense_training.state import load_state, save_state
from condense_training.trainer import TrainerConfig

SETTINGS = {**TINY, "pixel_steps": 6, "lift_steps": 8}


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive") / "town", frames=6)


def config(**trainer: Any) -> PretrainConfig:
    run = TrainerConfig(progress=False, **{"save_every_steps": 3, "threads": 1, **trainer})
    return PretrainConfig(settings=SETTINGS, trainer=run)


def losses(out: Path) -> list[tuple[str, int, float, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(row["stage"], row["step"], row["loss"], row["gradient_norm"]) for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(drive, tmp_path_factory) -> tuple[list[Any], dict[str, torch.Tensor]]:
    out = tmp_path_factory.mktemp("whole")
    checkpoint = pretrain([drive], out, config())
    return losses(out), load_checkpoint(checkpoint).state


PROGRAM = """
import json, sys, time
from pathlib import Path
from condense_training import PretrainConfig, pretrain
from condense_training.trainer import TrainerConfig
drive, out, settings, options = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
def slow(record):
    print(record.stage, record.step, flush=True)
    time.sleep(0.05)
run = TrainerConfig(progress=False, save_every_steps=3, threads=1, **options)
pretrain([Path(drive)], Path(out), PretrainConfig(settings=settings, trainer=run), on_step=slow)
"""


def start(drive: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "training"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(drive), str(out), json.dumps(SETTINGS)]
        + [json.dumps(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for printed in process.stdout:
        if printed.strip() == line:
            return
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize("at", ["pixel contrast 4", "lift to 3D 4"])
def test_67_killed_and_resumed_run_is_bit_equal(drive, uninterrupted, tmp_path, at) -> None:
    process = start(drive, tmp_path)
    wait_for(process, at)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    checkpoint = pretrain([drive], tmp_path, config())
    expected_losses, expected_state = uninterrupted
    assert losses(tmp_path) == expected_losses
    for name, value in load_checkpoint(checkpoint).state.items():
        assert torch.equal(value, expected_state[name]), name


def test_67_the_same_with_averaged_weights_and_micro_batches(drive, tmp_path) -> None:
    options = {
        "ema_decay": 0.8,
        "accumulate": 2,
        "validation_fraction": 0.2,
        "keep_every_steps": 4,
    }
    whole = load_checkpoint(pretrain([drive], tmp_path / "whole", config(**options)))
    out = tmp_path / "cut"
    process = start(drive, out, **options)
    wait_for(process, "lift to 3D 5")
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    again = load_checkpoint(pretrain([drive], out, config(**options)))
    for name, value in whole.state.items():
        assert torch.equal(value, again.state[name]), name
    kept = [
        load_checkpoint(p / "checkpoints" / "step_000010.safetensors")
        for p in (tmp_path / "whole", out)
    ]
    for name, value in kept[0].state.items():
        assert torch.equal(value, kept[1].state[name]), name
    lines = [
        [line for line in (folder / "log.jsonl").read_text().splitlines() if "validation" in line]
        for folder in (tmp_path / "whole", out)
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 4


def test_stopped_by_the_user_it_saves_and_says_how_to_go_on(drive, uninterrupted, tmp_path) -> None:
    process = start(drive, tmp_path)
    wait_for(process, "lift to 3D 1")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    said = " ".join(error.split())
    assert "state saved in" in said
    assert "Run the same command again to continue" in said
    saved = load_state(tmp_path)
    assert saved is not None
    assert saved["position"]["total"] == len(losses(tmp_path))  # not one step lost
    pretrain([drive], tmp_path, config())
    assert losses(tmp_path) == uninterrupted[0]


def test_finished_run_returns_its_checkpoint(drive, tmp_path) -> None:
    first = pretrain([drive], tmp_path, config())
    before = first.read_bytes()
    assert pretrain([drive], tmp_path, config()) == first
    assert first.read_bytes() == before


def damage(drive: Path, copy: Path, numbers: list[int]) -> Path:
    import shutil

    shutil.copytree(drive, copy)
    for number in numbers:
        file = copy / "clouds" / f"{number:06d}.npy"
        file.write_bytes(file.read_bytes()[:200])
    return copy


def test_68_corrupt_sample_is_quarantined_and_counted(drive, tmp_path) -> None:
    broken = damage(drive, tmp_path / "data", [2])
    run = config(max_quarantined_fraction=0.2)
    checkpoint = pretrain([broken], tmp_path / "out", run)
    listed = json.loads((tmp_path / "out" / "quarantine.json").read_text())
    assert len(listed) == 1
    assert listed[0]["frame"].endswith("frame 2")
    assert "DatasetError" in listed[0]["reason"]
    assert load_checkpoint(checkpoint).metadata["quarantined_frames"] == 1


def test_68_too_many_corrupt_samples_stop_the_run(drive, tmp_path) -> None:
    broken = damage(drive, tmp_path / "data", [0, 1, 2, 3])
    with pytest.raises(TrainingError, match=r"of 6 frames cannot be used.*quarantine\.json"):
        pretrain([broken], tmp_path / "out", config(max_quarantined_fraction=0.2))


OLIVINE = {
    "steps": 8,
    "pairs": 64,
    "vmf_collection_steps": 3,
    "view_width_px": 64,
    "view_height_px": 32,
    "view_min_pairs": 32,
    "voxel_size_m": 0.4,
    "pixel_steps": 6,
    "pixel_batch": 2,
    "pixel_matches": 64,
    "pixel_crop_px": 32,
}


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_68_a_corrupt_image_costs_one_view_and_not_the_frame(
    image_format: str, tmp_path, caplog
) -> None:
    """Of two cameras, one image is cut short and one is gone: training goes on without them."""
    data = small_drive(tmp_path / "town", frames=4, rig=TWO_CAMERAS, image_format=image_format)
    cut = data / "images" / "back" / f"000001.{image_format}"
    cut.write_bytes(cut.read_bytes()[:-200])
    (data / "images" / "front" / f"000002.{image_format}").unlink()
    with pytest.raises(DatasetError, match="back/000001"):  # nobody is told, so nobody is misled
        open_dataset(data)[1]

    run = TrainerConfig(progress=False, threads=1, max_quarantined_fraction=0.0)
    preset = PretrainConfig("olivine", "demo", OLIVINE, trainer=run)
    checkpoint = pretrain([data], tmp_path / "out", preset)
    assert load_checkpoint(checkpoint).metadata["quarantined_frames"] == 0
    listed = json.loads((tmp_path / "out" / "quarantine.json").read_text())
    assert [(Path(row["frame"]).name, row["image"]) for row in listed] == [
        ("town frame 1", "back"),
        ("town frame 2", "front"),
    ]
    assert all(row["reason"].startswith("DatasetError") for row in listed)
    # each was met many times, and told about once
    told = [r.getMessage() for r in caplog.records if "is used without image" in r.getMessage()]
    assert len(told) == 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 14
    assert not any(row["skipped"] for row in rows)


def test_68_a_frame_without_any_image_left_is_quarantined(tmp_path) -> None:
    data = small_drive(tmp_path / "town", frames=4, rig=TWO_CAMERAS)
    for camera in ("front", "back"):
        (data / "images" / camera / "000001.jpg").write_bytes(b"")
    run = TrainerConfig(progress=False, threads=1, max_quarantined_fraction=0.25)
    pretrain([data], tmp_path / "out", PretrainConfig("olivine", "demo", OLIVINE, trainer=run))
    listed = json.loads((tmp_path / "out" / "quarantine.json").read_text())
    assert len(listed) == 1
    assert listed[0]["frame"].endswith("frame 1")
    assert "image" not in listed[0]


class Poison:
    """Makes the loss of chosen steps NaN, after the forward pass has updated batch statistics."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
        from condense_training.recipes import janda

        self.calls, self.bad, self.original = 0, bad, janda.info_nce
        monkeypatch.setattr(janda, "info_nce", self)

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.calls += 1
        loss = self.original(*args, **kwargs)
        return loss * math.nan if self.calls in self.bad else loss


def test_70_nan_loss_skips_the_step_and_counts_it(drive, tmp_path, monkeypatch) -> None:
    Poison(monkeypatch, {3})
    checkpoint = load_checkpoint(pretrain([drive], tmp_path, config()))
    assert checkpoint.metadata["skipped_steps"] == 1
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["skipped"] for row in rows] == [False, True] + [False] * 12
    assert rows[1]["loss"] is None
    assert all(torch.isfinite(value).all() for value in checkpoint.state.values())


def test_70_a_bad_step_leaves_weights_and_statistics_alone(drive, monkeypatch) -> None:
    from condense_ros.datasets import open_dataset
    from condense_training.recipes import build_recipe
    from condense_training.steps import set_modes
    from condense_training.steps import train_step as _train_step

    recipe, frame = build_recipe("janda", "demo", SETTINGS), open_dataset(drive)[0]
    parts = recipe.build()
    Poison(monkeypatch, {1})
    for stage in recipe.stages:
        sample = stage.sample(frame, np.random.default_rng(0))
        assert sample is not None
        optimiser = stage.optimiser(set_modes(parts, stage, 0))
        before = {name: value.clone() for name, value in parts.state_dict().items()}
        with monkeypatch.context() as patch:
            Poison(patch, set(range(100)))
            *_, skipped = _train_step(parts, stage, stage.collate([sample]), optimiser)
        assert skipped
        for name, value in parts.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_70_endless_nan_stops_the_run(drive, tmp_path, monkeypatch) -> None:
    Poison(monkeypatch, set(range(1000)))
    with pytest.raises(TrainingError, match=r"4 steps in a row.*learning rate"):
        pretrain([drive], tmp_path, config(max_bad_steps=4))


def test_71_full_disk_keeps_the_previous_state(tmp_path) -> None:
    """A limit on file size stands in for the full disk: the write fails half way, by the kernel."""
    import resource

    save_state(tmp_path, 1, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(StorageFull, match=r"000000002\.state.*intact"):
            save_state(tmp_path, 2, {"step": 2, "weight": torch.randn(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["000000001.state"]
    state = load_state(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_damaged_state_falls_back_to_the_one_before(tmp_path, caplog) -> None:
    save_state(tmp_path, 1, {"step": 1})
    newest = save_state(tmp_path, 2, {"step": 2})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    state = load_state(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert "is damaged" in caplog.text
    (tmp_path / "state" / "000000001.state").write_bytes(b"")
    with pytest.raises(TrainingError, match="every training state"):
        load_state(tmp_path)


def test_one_of_several_processes_without_the_others(drive, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"one of 2 processes.*torchrun"):
        pretrain([drive], tmp_path, config())
