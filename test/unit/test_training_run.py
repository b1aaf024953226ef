"""Micro-batches, averaged weights, precision, validation, kept checkpoints and curves of a run."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_toy as toy
from torch import Tensor, nn

from condense_ros.errors import ConfigError, EnvironmentProblem, TrainingError
from condense_training.checkpoints import KeptCheckpoints, check_selection, kept_steps
from condense_training.ema import WeightAverage
from condense_training.journal import validation_losses
from condense_training.recipe import Batch, Parts, Recipe, Sample, Stage
from condense_training.trainer import train
from condense_training.trainer_config import TrainerConfig
from condense_training.validation import split_frames


class Stopped(Exception):
    pass


def run(recipe: Recipe, source: Any, out: Path, *, stop_after: int = 0, **options: Any) -> Any:
    """Trains; with `stop_after`, is interrupted without a warning after so many steps."""
    on_keep, on_step = options.pop("on_keep", None), options.pop("on_step", None)
    done = iter(range(1, 10**6))

    def step(record: Any) -> None:
        if on_step is not None:
            on_step(record)
        if next(done) == stop_after:
            raise Stopped

    config = TrainerConfig(**{"progress": False, "save_every_steps": 2, **options})
    return train(recipe, source, out, config, on_step=step, on_keep=on_keep)


def log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in lines]


# a line fitted to points, in float64, with a loss that is a mean over samples


def points(frame: Any, rng: np.random.Generator) -> Sample:
    return {"x": rng.normal(size=(1, 3)), "number": np.array([frame.index])}


def stack(samples: Sequence[Sample]) -> Batch:
    return {
        name: torch.from_numpy(np.concatenate([one[name] for one in samples]))
        for name in ("x", "number")
    }


def fit(parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    wrong = parts["net"](batch["x"])[:, 0] - batch["x"].sum(1)
    return wrong.square().mean(), {"noise": float(torch.rand(()))}


def line(steps: int = 10, batch_size: int = 4, **changes: Any) -> Recipe:
    stage: dict[str, Any] = {
        "name": "fit",
        "steps": steps,
        "batch_size": batch_size,
        "trainable": ("net",),
        "frozen": (),
        "sample": points,
        "collate": stack,
        "loss": fit,
        "optimiser": lambda p: torch.optim.AdamW(p, lr=0.05),
        "schedule": lambda step: 1.0,
    }

    def build() -> Parts:
        return nn.ModuleDict({"net": nn.Linear(3, 1).double()})

    return Recipe("line", {}, build, (Stage(**{**stage, **changes}),), "net")


# micro-batches


def test_micro_batches_equal_one_batch(tmp_path: Path) -> None:
    whole = run(line(), toy.Numbered(7), tmp_path / "whole")
    for count in (2, 4):
        parts = run(line(), toy.Numbered(7), tmp_path / str(count), accumulate=count).parts
        torch.testing.assert_close(
            parts["net"].weight, whole.parts["net"].weight, rtol=1e-12, atol=1e-14
        )
        for a, b in zip(log(tmp_path / "whole"), log(tmp_path / str(count)), strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-12)
            assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-12)


def test_each_micro_batch_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    drawn: list[float] = []

    def loss(parts: Parts, batch: Batch) -> Any:
        value, terms = fit(parts, batch)
        drawn.append(terms["noise"])
        return value, terms

    run(line(steps=3, loss=loss), toy.Numbered(7), tmp_path, accumulate=2)
    assert len(set(drawn)) == 6
    for number, value in enumerate(drawn):
        seeds = np.random.SeedSequence([0, 0, number // 2, number % 2])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        assert value == float(torch.rand(()))
    terms = [record["terms"]["noise"] for record in log(tmp_path)]
    assert terms == [pytest.approx(sum(drawn[i : i + 2]) / 2) for i in (0, 2, 4)]


@pytest.mark.parametrize("bad", [0, 1])
def test_a_bad_micro_batch_skips_the_whole_step(tmp_path: Path, bad: int) -> None:
    """The steps after it see the samples they would have seen."""
    seen: list[list[int]] = []

    def loss(parts: Parts, batch: Batch) -> Any:
        seen.append(batch["number"].tolist())
        value, terms = fit(parts, batch)
        return value * (np.nan if len(seen) == 3 + bad else 1.0), terms

    recipe = line(steps=4, loss=loss)
    assert run(recipe, toy.Numbered(9), tmp_path / "bad", accumulate=2).skipped_steps == 1
    assert [record["skipped"] for record in log(tmp_path / "bad")] == [False, True, False, False]
    with_bad, seen = seen[3 + bad :], []

    def watch(parts: Parts, batch: Batch) -> Any:
        seen.append(batch["number"].tolist())
        return fit(parts, batch)

    run(line(steps=4, loss=watch), toy.Numbered(9), tmp_path / "good", accumulate=2)
    assert seen[4:] == with_bad[-4:]


def test_batches_that_cannot_be_divided_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"4 samples of a step.*1 processes with 3.*of 3"):
        run(line(), toy.Numbered(7), tmp_path, accumulate=3)


# averaged weights


def skipping(weights: list[Tensor]) -> Any:
    """Notes the weights before each step; the third step is skipped."""

    def loss(parts: Parts, batch: Batch) -> Any:
        weights.append(parts["net"].weight.detach().clone())
        value, terms = fit(parts, batch)
        return value * (np.nan if len(weights) == 3 else 1.0), terms

    return loss


def test_average_is_the_closed_form(tmp_path: Path) -> None:
    weights: list[Tensor] = []
    recipe = line(steps=6, loss=skipping(weights))
    average = run(recipe, toy.Numbered(7), tmp_path / "a", ema_decay=0.8)
    plain = run(line(steps=6, loss=skipping([])), toy.Numbered(7), tmp_path / "b").parts["net"]
    assert not torch.allclose(plain.weight, average.parts["net"].weight)
    del weights[2]  # the skipped step began where the next one did
    after = [*weights[1:], plain.weight]  # after each step that was taken
    n = len(after)
    want = 0.8**n * weights[0] + sum(0.2 * 0.8 ** (n - k) * w for k, w in enumerate(after, 1))
    torch.testing.assert_close(average.parts["net"].weight, want, rtol=1e-12, atol=1e-14)
    assert average.skipped_steps == 1


def test_average_copies_buffers_and_leaves_frozen_parts() -> None:
    parts = nn.ModuleDict({"a": nn.BatchNorm1d(2), "b": nn.Linear(2, 2)})
    average = WeightAverage(parts, 0.5)
    with torch.no_grad():
        parts["a"].weight.fill_(3.0)
        parts["b"].weight.fill_(7.0)
    parts["a"](torch.randn(8, 2))
    average.update(parts, ["a"])
    assert average.parts["a"].weight.tolist() == [2.0, 2.0]
    assert torch.equal(average.parts["a"].running_mean, parts["a"].running_mean)
    assert int(average.parts["a"].num_batches_tracked) == 1
    assert not torch.equal(average.parts["b"].weight, parts["b"].weight)
    assert not any(p.requires_grad for p in average.parts.parameters())


@pytest.mark.parametrize("stop_after", [3, 6])
def test_resume_is_exact_with_average_micro_batches_and_validation(
    tmp_path: Path, stop_after: int
) -> None:
    options: dict[str, Any] = {
        "ema_decay": 0.9,
        "accumulate": 2,
        "validation_fraction": 0.2,
        "keep_every_steps": 3,
    }
    whole = run(toy.recipe(steps=8), toy.Numbered(9), tmp_path / "whole", **options)
    cut = tmp_path / "cut"
    with pytest.raises(Stopped):
        run(toy.recipe(steps=8), toy.Numbered(9), cut, stop_after=stop_after, **options)
    again = run(toy.recipe(steps=8), toy.Numbered(9), cut, **options)
    assert again.steps_now < 8
    for name, value in whole.parts.state_dict().items():
        assert torch.equal(value, again.parts.state_dict()[name]), name
    assert log(cut) == log(tmp_path / "whole")


def test_settings_that_change_what_is_learned_do_not_resume(tmp_path: Path) -> None:
    run(line(), toy.Numbered(7), tmp_path)
    for change in ({"ema_decay": 0.5}, {"accumulate": 2}, {"precision": "bfloat16"}):
        with pytest.raises(TrainingError, match=f"{next(iter(change))}: "):
            run(line(), toy.Numbered(7), tmp_path, **change)
    assert run(line(), toy.Numbered(7), tmp_path, keep_every_steps=3).steps_now == 0


# precision


def test_bfloat16_learns_with_float32_weights_and_losses(tmp_path: Path) -> None:
    """A sparse and a dense network, and a head; products are in bfloat16, the rest is not."""
    kinds: list[torch.dtype] = []

    def build() -> Parts:
        parts = toy.build().float()
        parts["net"].register_forward_hook(lambda *a: kinds.append(a[2].features.dtype))
        parts["image"].register_forward_hook(lambda *a: kinds.append(a[2].dtype))
        return parts

    def collate(samples: Sequence[Sample]) -> Batch:
        batch = toy.collate(samples)
        return {k: v.float() if v.is_floating_point() else v for k, v in batch.items()}

    def loss(parts: Parts, batch: Batch) -> Any:
        torch.manual_seed(0)  # the same pairs every time
        rows = toy.draw(batch)
        a, b, _ = toy.drawn_rows(parts, batch, rows)
        value = toy.info_nce(a, b, temperature=0.2)
        kinds.append(value.dtype)
        return value, {}

    def recipe() -> Recipe:
        stage = Stage(
            **{
                **toy.recipe(steps=40).stages[0].__dict__,
                "sample": lambda frame, rng: toy.sample(frame, np.random.default_rng(frame.index)),
                "collate": collate,
                "loss": loss,
                "optimiser": lambda p: torch.optim.AdamW(p, lr=0.02),
                "schedule": lambda step: 1.0,
            }
        )
        return Recipe("low", {}, build, (stage,), "net")

    result = run(recipe(), toy.Numbered(4), tmp_path, precision="bfloat16")
    losses = [record["loss"] for record in log(tmp_path)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert kinds[:3] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert {value.dtype for value in result.parts.parameters()} == {torch.float32}
    exact = tmp_path / "float32"
    run(recipe(), toy.Numbered(4), exact)
    assert log(exact)[0]["loss"] == pytest.approx(losses[0], rel=0.05)
    assert log(exact)[0]["loss"] != losses[0]


def test_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        run(line(), toy.Numbered(7), tmp_path, precision="float16")


# validation and kept checkpoints


def test_frames_held_out_are_the_ends_of_data_sets() -> None:
    taught, held = split_frames([10, 1, 4], 0.2)
    assert held == [8, 9, 14]
    assert taught == [*range(8), 10, 11, 12, 13]
    assert split_frames([5], 0.0) == (list(range(5)), [])
    with pytest.raises(TrainingError, match="validation_fraction"):
        split_frames([1], 0.2)


def test_held_out_frames_are_never_trained_on(tmp_path: Path) -> None:
    seen: dict[bool, set[int]] = {True: set(), False: set()}

    def loss(parts: Parts, batch: Batch) -> Any:
        seen[torch.is_grad_enabled()] |= set(batch["number"].tolist())
        return fit(parts, batch)

    source = toy.Numbered(10, 5)
    options = {"validation_fraction": 0.2, "keep_every_steps": 4}
    run(line(steps=30, loss=loss), source, tmp_path, **options)
    assert seen[False] == {8, 9, 14}
    assert seen[True] == set(range(15)) - seen[False]
    validations = [record for record in log(tmp_path) if "validation_loss" in record]
    assert [record["total_step"] for record in validations] == [*range(4, 30, 4), 30]
    assert [record["step"] for record in validations] == [*range(3, 29, 4), 29]
    assert validations[0]["validation_loss"] > validations[-1]["validation_loss"]
    assert {record["frames"] for record in validations} == {3}


def test_validation_does_not_change_the_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"validation_fraction": 0.2}
    with_it = run(
        toy.recipe(), toy.Numbered(9), tmp_path / "a", keep_every_steps=2, **options
    ).parts.state_dict()
    without = run(toy.recipe(), toy.Numbered(9), tmp_path / "b", **options).parts.state_dict()
    for name, value in without.items():
        assert torch.equal(value, with_it[name]), name
    steps = [record for record in log(tmp_path / "a") if "validation_loss" not in record]
    assert steps == log(tmp_path / "b")


def test_validation_is_of_the_weights_that_are_exported(tmp_path: Path) -> None:
    kept: dict[int, Tensor] = {}

    def keep(parts: Parts, step: int) -> None:
        kept[step] = parts["net"].weight.detach().clone()

    options = {"validation_fraction": 0.2, "keep_every_steps": 5, "ema_decay": 0.9}
    result = run(line(), toy.Numbered(10), tmp_path, on_keep=keep, **options)
    assert list(kept) == [5, 10]
    assert torch.equal(kept[10], result.parts["net"].weight)
    assert not torch.equal(kept[5], kept[10])
    rngs = [np.random.default_rng([0, 0, 0, slot, 0, 2]) for slot in range(4)]
    x = np.concatenate([rng.normal(size=(1, 3)) for rng in rngs])
    bias = float(result.parts["net"].bias.detach())
    want = np.square(x @ kept[10].numpy()[0] + bias - x.sum(1)).mean()
    assert validation_losses(tmp_path / "log.jsonl")[10] == pytest.approx(want, rel=1e-9)


def touch(kept: KeptCheckpoints, out: Path, step: int, loss: float | None) -> None:
    path = kept.new_path(step)
    path.write_bytes(b"")
    path.with_name(path.name + ".sha256").write_bytes(b"")
    record = {"validation_loss": loss, "total_step": step}
    with open(out / "log.jsonl", "a") as file:
        file.write(json.dumps({"stage": "fit", "step": step, "loss": 1.0}) + "\n")
        file.write(json.dumps(record) + "\n")
    kept.prune()


@pytest.mark.parametrize(
    ("select", "there", "chosen"),
    [("best", [20, 50, 60], 20), ("30", [20, 30, 50, 60], 30), ("last", [20, 50, 60], None)],
)
def test_the_newest_the_best_and_the_selected_stay(
    tmp_path: Path, select: str, there: list[int], chosen: int | None
) -> None:
    kept = KeptCheckpoints(tmp_path, 2, select)
    for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0), (40, None), (50, 1.5), (60, 1.0)):
        touch(kept, tmp_path, step, loss)
    assert kept.steps() == there
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2 * len(there)
    assert kept.best() == 20  # the earlier of two equals
    if chosen is not None:
        assert kept.selected() == chosen
    # a run that was killed and goes on from step 45 forgets what came after
    kept.new_path(50)
    assert max(kept.steps()) == 50
    kept.clear()
    assert kept.steps() == []


def test_a_selection_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    two = Recipe("two", {}, toy.build, (line(10).stages[0], line(7).stages[0]), "net")
    assert kept_steps(two, 3) == [13, 16, 17]
    keeping = TrainerConfig(keep_every_steps=3)
    check_selection("16", two, keeping)
    check_selection("last", two, TrainerConfig())
    check_selection("best", two, TrainerConfig(keep_every_steps=3, validation_fraction=0.1))
    for select, config, said in (
        ("best", TrainerConfig(), "keep_every_steps"),
        ("best", keeping, "validation_fraction"),
        ("15", keeping, "13, 16, 17"),
        ("first", keeping, "last, best"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_selection(select, two, config)
    with pytest.raises(TrainingError, match="there are none"):
        KeptCheckpoints(tmp_path, 2, "16").selected()


# curves


def events(folder: Path) -> list[Any]:
    """Events of all files in the order in which readers take them; the framing is TensorFlow's:
    length, its checksum, the message, its checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            found.append(event_pb2.Event.FromString(data[place + 12 : place + 12 + size]))
            place += size + 16
    return sorted(found, key=lambda event: event.wall_time)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: a restart takes back all points from its step on."""
    shown: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.HasField("session_log") and event.session_log.status == 1:
            shown = {tag: [p for p in ps if p[0] < event.step] for tag, ps in shown.items()}
        for value in event.summary.value:
            shown.setdefault(value.tag, []).append((event.step, value.simple_value))
    return shown


def test_tensorboard_shows_every_step_once_after_a_resume(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "tensorboard": True,
        "validation_fraction": 0.2,
        "keep_every_steps": 5,
        "save_every_steps": 4,
    }
    with pytest.raises(Stopped):
        run(line(), toy.Numbered(10), tmp_path, stop_after=7, **options)
    run(line(), toy.Numbered(10), tmp_path, **options)
    shown = curves(tmp_path / "tensorboard")
    records = [record for record in log(tmp_path) if "loss" in record]
    assert [step for step, _ in shown["fit/loss"]] == list(range(1, 11))
    written = [value for _, value in shown["fit/loss"]]
    assert written == pytest.approx([record["loss"] for record in records], rel=1e-6)
    for tag in ("learning_rate", "gradient_norm", "samples_per_s", "terms/noise"):
        assert [step for step, _ in shown[f"fit/{tag}"]] == list(range(1, 11)), tag
    assert [step for step, _ in shown["fit/validation_loss"]] == [5, 10]
    # begun again, nothing of the old run is left
    config = TrainerConfig(progress=False, tensorboard=True)
    train(line(steps=2), toy.Numbered(10), tmp_path, config, resume=False)
    assert [step for step, _ in curves(tmp_path / "tensorboard")["fit/loss"]] == [1, 2]


def test_without_tensorboardx_it_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(EnvironmentProblem, match="pip install tensorboardX"):
        run(line(), toy.Numbered(7), tmp_path, tensorboard=True)
