"""The trainer on a recipe small enough to predict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from condense_ros.errors import DatasetError, TrainingError
from condense_ros.frame import Frame, PointCloud
from condense_training.batches import BatchMaker, Quarantine
from condense_training.frames import epoch_order
from condense_training.recipe import Recipe, Stage
from condense_training.schedules import exponential, warmup_cosine
from condense_training.state import load_state, save_state
from condense_training.trainer import TrainerConfig, train


class Numbered:
    """Frames whose cloud holds their number; some are damaged, some have nothing to learn from."""

    def __init__(self, count: int, damaged: tuple[int, ...] = (), empty: tuple[int, ...] = ()):
        self.count, self.damaged, self.empty = count, damaged, empty

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Frame:
        if number in self.damaged:
            raise DatasetError(f"cloud {number} is truncated", "restore it")
        size = 0 if number in self.empty else 1
        return Frame(0, PointCloud(np.full((size, 3), number, np.float32)), index=number)

    def describe(self, number: int) -> str:
        return f"frame {number}"

    def manifest_hash(self) -> str:
        return str(self.count)


def _sample(frame: Frame, rng: np.random.Generator) -> dict[str, Any] | None:
    if len(frame.cloud) == 0:
        return None
    return {"number": frame.cloud.xyz[0, :1], "noise": rng.normal(size=1)}


def _collate(samples: Any) -> dict[str, torch.Tensor]:
    return {
        key: torch.from_numpy(np.concatenate([sample[key] for sample in samples])).float()
        for key in samples[0]
    }


def _stage(
    name: str = "fit", steps: int = 10, bad_steps: tuple[int, ...] = (), **more: Any
) -> Stage:
    seen = iter(range(10**6))

    def loss(parts: nn.ModuleDict, batch: dict[str, torch.Tensor]) -> Any:
        x = parts["net"](batch["number"][:, None] + torch.rand(1))
        value = (x - batch["noise"][:, None]).square().mean()
        if next(seen) in bad_steps:
            value = value * math.nan
        return value, {"seen": float(batch["number"].sum())}

    defaults: dict[str, Any] = {
        "name": name,
        "steps": steps,
        "batch_size": 2,
        "trainable": ("net",),
        "frozen": ("other",),
        "sample": _sample,
        "collate": _collate,
        "loss": loss,
        "optimiser": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        "schedule": exponential(0.5, 5),
    }
    return Stage(**{**defaults, **more})


def _recipe(*stages: Stage) -> Recipe:
    def build() -> nn.ModuleDict:
        net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        return nn.ModuleDict({"net": net, "other": nn.BatchNorm1d(1)})

    return Recipe("toy", {"stages": [stage.steps for stage in stages]}, build, stages, "net")


def _train(recipe: Recipe, source: Any, out: Path, resume: bool = True, **config: Any) -> Any:
    settings = TrainerConfig(progress=False, **config)
    return train(recipe, source, out, settings, resume=resume)


def _log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("samples_per_s")
    return lines


def test_every_epoch_visits_every_frame_once(tmp_path) -> None:
    result = _train(_recipe(_stage(steps=12)), Numbered(8), tmp_path)
    seen = [line["terms"]["seen"] for line in _log(tmp_path)]
    assert [sum(seen[i : i + 4]) for i in (0, 4, 8)] == [28.0] * 3  # 0 + 1 + ... + 7
    assert seen[:4] != seen[4:8]
    assert result.steps == 12
    assert sorted(epoch_order(8, 0, 0, 0)) == list(range(8))


def test_schedule_sets_the_rate(tmp_path) -> None:
    _train(_recipe(_stage(steps=11)), Numbered(4), tmp_path)
    rates = [line["learning_rate"] for line in _log(tmp_path)]
    assert rates == pytest.approx([0.01] * 5 + [0.005] * 5 + [0.0025])
    cosine = warmup_cosine(110, 10)
    assert [cosine(0), cosine(9), cosine(10), cosine(60)] == pytest.approx([0.1, 1, 1, 0.5])
    assert cosine(110) == pytest.approx(0)


@pytest.mark.parametrize(("stop_at", "left"), [(3, 16), (7, 12), (10, 6), (13, 4)])
def test_resume_repeats_the_uninterrupted_run(tmp_path, stop_at: int, left: int) -> None:
    def stages() -> tuple[Stage, Stage]:
        return _stage("first", 10), _stage("second", 6)

    whole = _train(_recipe(*stages()), Numbered(7), tmp_path / "whole", save_every_steps=4)

    class Stop(Exception):
        pass

    def stop(record: Any) -> None:
        done = record.step + (10 if record.stage == "second" else 0)
        if done == stop_at:
            raise Stop

    config = TrainerConfig(progress=False, save_every_steps=4)
    with pytest.raises(Stop):
        train(_recipe(*stages()), Numbered(7), tmp_path / "cut", config, on_step=stop)
    again = _train(_recipe(*stages()), Numbered(7), tmp_path / "cut", save_every_steps=4)
    assert _log(tmp_path / "cut") == _log(tmp_path / "whole")
    assert again.steps == whole.steps == 16
    assert again.steps_now == left
    for name, value in whole.parts.state_dict().items():
        assert torch.equal(value, again.parts.state_dict()[name]), name


def test_seeds_differ_and_prefetch_does_not_matter(tmp_path) -> None:
    for name, config in (("a", {}), ("b", {"prefetch": False}), ("c", {"seed": 1})):
        _train(_recipe(_stage()), Numbered(5), tmp_path / name, **config)
    assert _log(tmp_path / "a") == _log(tmp_path / "b")
    assert _log(tmp_path / "a") != _log(tmp_path / "c")


def test_other_settings_do_not_resume(tmp_path) -> None:
    _train(_recipe(_stage()), Numbered(5), tmp_path)
    with pytest.raises(TrainingError, match=r"seed: 0 -> 1.*resume=False"):
        _train(_recipe(_stage()), Numbered(5), tmp_path, seed=1)
    with pytest.raises(TrainingError, match="data: '5' -> '6'"):
        _train(_recipe(_stage()), Numbered(6), tmp_path)
    assert _train(_recipe(_stage()), Numbered(6), tmp_path, resume=False).steps_now == 10


def test_frozen_parameters_wait_for_their_step(tmp_path) -> None:
    weights: list[torch.Tensor] = []
    inner = _stage(steps=6, frozen_until={"net.0": 3})

    def loss(p: nn.ModuleDict, batch: Any) -> Any:
        weights.append(p["net"][0].weight.detach().clone())
        return inner.loss(p, batch)

    stage = _stage(steps=6, frozen_until={"net.0": 3}, loss=loss)
    _train(_recipe(stage), Numbered(5), tmp_path)
    assert all(torch.equal(weights[0], w) for w in weights[:4])
    assert not torch.equal(weights[3], weights[4])


def test_frames_with_nothing_to_learn_from_are_replaced(tmp_path) -> None:
    result = _train(_recipe(_stage()), Numbered(6, empty=(0, 1, 2)), tmp_path)
    assert result.quarantined_frames == 0
    assert all(line["terms"]["seen"] >= 6 for line in _log(tmp_path))
    with pytest.raises(TrainingError, match="nothing to learn from"):
        _train(_recipe(_stage()), Numbered(3, empty=(0, 1, 2)), tmp_path / "none")


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    source = Numbered(9)
    maker = BatchMaker(source, _stage(), 0, 5, Quarantine(source, 0.1))  # type: ignore[arg-type]
    again = BatchMaker(source, _stage(), 0, 5, Quarantine(source, 0.1))  # type: ignore[arg-type]
    ahead = [again(step) for step in (7, 3)]
    assert torch.equal(ahead[0]["noise"], maker(7)["noise"])
    assert torch.equal(ahead[1]["number"], maker(3)["number"])


def test_two_states_are_kept_and_loading_runs_no_code(tmp_path) -> None:
    for step in (1, 2, 3):
        save_state(tmp_path, step, {"step": step, "weight": torch.ones(2)})
    assert [p.name for p in sorted((tmp_path / "state").iterdir())] == [
        "000000002.state",
        "000000003.state",
    ]
    assert load_state(tmp_path)["step"] == 3  # type: ignore[index]
    assert load_state(tmp_path / "elsewhere") is None
