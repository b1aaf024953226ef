"""Two processes under gloo against one process, written down independently of the trainer."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import training_toy as toy
from torch import Tensor, nn

from condense_ros.errors import TrainingError
from condense_training.losses import (
    VmfStatistics,
    class_contrast,
    info_nce,
    superpixel_contrast,
    vmf_nll,
)
from condense_training.recipe import Batch, Parts
from condense_training.state import load_state
from condense_training.trainer import train
from condense_training.trainer_config import TrainerConfig

SEED, FRAMES = 3, 9


def run(out: Path, recipe: Any = None, source: Any = None, **options: Any) -> Any:
    on_step, on_keep = options.pop("on_step", None), options.pop("on_keep", None)
    config = TrainerConfig(**{"seed": SEED, "progress": False, "save_every_steps": 2, **options})
    source = source or toy.Numbered(FRAMES)
    return train(recipe or toy.recipe(), source, out, config, on_step=on_step, on_keep=on_keep)


def log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in lines]


def error_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except TrainingError as error:
        return str(error)
    return "none"


# what both processes do, in one launch; what they find is compared below


def poisoned(bad_rank: int, where: str) -> Callable:
    """The loss or, with a finite loss, the gradient of the second step is NaN in one process."""
    calls = iter(range(10**6))

    def wrap(loss: Callable) -> Callable:
        def poison(parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
            value, terms = loss(parts, batch)
            if next(calls) == 1 and dist.get_rank() == bad_rank:
                if where == "loss":
                    value = value * math.nan
                else:
                    weight = parts["pixels"].weight
                    value = value + (weight * 0).sum().sqrt()
            return value, terms

        return poison

    return wrap


def nan_scenario(folder: Path, where: str) -> dict[str, Any]:
    states: list[dict[str, Tensor]] = []
    parts: list[Parts] = []

    def wrap(loss: Callable) -> Callable:
        inner = poisoned(1, where)(loss)

        def keep(p: Parts, batch: Batch) -> Any:
            parts[:] = [p]
            return inner(p, batch)

        return keep

    def look(_record: Any) -> None:
        states.append({k: v.clone() for k, v in parts[0].state_dict().items()})

    result = run(folder / f"nan {where}", toy.recipe(wrap=wrap), on_step=look)
    return {
        "skipped": result.skipped_steps,
        "unchanged": all(torch.equal(states[0][k], states[1][k]) for k in states[0]),
        "changed": not torch.equal(states[1]["pixels.weight"], states[2]["pixels.weight"]),
        "finite": all(torch.isfinite(v).all() for v in states[-1].values()),
    }


def stopped(folder: Path, rank: int) -> dict[str, Any]:
    """SIGTERM to one process stops both after the same step; then they go on."""

    def stop(record: Any) -> None:
        if rank == 1 and record.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run(folder / "resumed", on_step=stop, ema_decay=0.5)
    dist.barrier()
    state = load_state(folder / "resumed")
    assert state is not None
    dist.barrier()
    again = run(folder / "resumed", ema_decay=0.5)
    return {
        "position": state["position"]["total"],
        "steps_now": again.steps_now,
        "parts": again.parts.state_dict(),
    }


def lonely_rows(rank: int) -> tuple[float, Tensor]:
    """Class contrast where only one process has pairs."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 5, DIM, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0, 2])
    mine = slice(0, 5 if rank == 0 else 0)
    rows = q[mine].clone().requires_grad_()
    value = class_contrast(rows, k[mine], labels[mine], temperature=0.5, negatives="gathered")
    value.backward()
    assert rows.grad is not None
    return float(value.detach()), rows.grad


def superpixels(ranks: list[int], negatives: str) -> float:
    """Segments of these processes' images, counted through them."""
    points, segments = [], []
    for rank in ranks:
        generator = torch.Generator().manual_seed(rank)
        points.append(torch.randn(2, 12, DIM, generator=generator, dtype=torch.float64))
        segments.append(torch.arange(12) % 4 + 4 * len(segments))
    rows, numbers = torch.cat(points, 1), torch.cat(segments)
    value = superpixel_contrast(
        rows[0], numbers, rows[1], numbers, temperature=0.5, negatives=negatives
    )
    return float(value)


DIM = 4


def equal_statistics() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    statistics = VmfStatistics(2, DIM, decay=0.9)
    for _ in range(3):
        rows = nn.functional.normalize(torch.randn(20, DIM, generator=generator), dim=1)
        statistics.update(rows, torch.arange(20) % 2)
    return statistics.mean


def process(rank: int, place: str) -> None:
    torch.set_num_threads(1)
    folder = Path(place)
    dist.init_process_group("gloo", f"file://{place}/meeting", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for negatives in ("per_rank", "gathered"):
        recipe = toy.recipe(negatives)
        found[negatives] = run(folder / negatives, recipe).parts.state_dict()
    found["averaged"] = run(folder / "averaged", ema_decay=0.5).parts.state_dict()
    found["stopped"] = stopped(folder, rank)
    found["nan"] = {where: nan_scenario(folder, where) for where in ("loss", "gradient")}
    found["lonely"] = lonely_rows(rank)
    found["superpixels"] = superpixels([rank], "gathered")
    found["statistics"] = equal_statistics()
    uneven = toy.recipe(batch_size=3)
    found["uneven"] = error_of(lambda: run(folder / "uneven", uneven))
    found["settings"] = error_of(lambda: run(folder / "settings", seed=rank))
    damaged = toy.Numbered(FRAMES, damaged=(1, 4, 6))
    found["quarantined"] = run(
        folder / "damaged", source=damaged, max_quarantined_fraction=0.4
    ).quarantined_frames
    kept: list[int] = []
    source = toy.Numbered(12)
    run(
        folder / "validated",
        source=source,
        validation_fraction=0.25,
        keep_every_steps=2,
        on_keep=lambda _parts, step: kept.append(step),
    )
    found["kept"] = kept
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()
    die(rank, folder)


def die(rank: int, folder: Path) -> None:
    """As torchrun starts them; one ends in the middle, the other has to notice."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = (folder / "port").read_text()

    def leave(record: Any) -> None:
        if rank == 1 and record.step == 2:
            os._exit(0)

    error = error_of(lambda: run(folder / "dying", on_step=leave, rank_timeout_s=60.0))
    (folder / "died").write_text(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    mp.spawn(process, args=(str(folder),), nprocs=2)  # type: ignore[attr-defined]
    return folder


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


# one process on the joint batch


def joint_batch(step: int) -> tuple[Batch, list[Batch]]:
    """All samples of a step, and the halves that the processes make."""
    samples = []
    for slot in range(4):
        place = 4 * step + slot
        order = np.random.default_rng([SEED, 0, place // FRAMES, 1]).permutation(FRAMES)
        frame = toy.Numbered(FRAMES)[int(order[place % FRAMES])]
        samples.append(toy.sample(frame, np.random.default_rng([SEED, 0, step, slot, 0, 2])))
    return toy.collate(samples), [toy.collate(samples[:2]), toy.collate(samples[2:])]


def reference(negatives: str) -> dict[str, Tensor]:
    """The network sees all clouds and images as one batch; losses are taken per half, or of all."""
    torch.manual_seed(SEED)
    parts = toy.build()
    parts.train()
    optimiser = torch.optim.SGD(parts.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    statistics: Any = parts["statistics"]
    for step in range(5):
        batch, halves = joint_batch(step)
        drawn, first = [], 0
        for part, half in enumerate(halves):
            seeds = np.random.SeedSequence([SEED, 0, step, part])
            torch.manual_seed(int(seeds.generate_state(1)[0]))
            drawn.append(toy.draw(half) + first)
            first += len(half["label"])
        points, pixels, every = toy.drawn_rows(parts, batch, torch.cat(drawn))
        labels = batch["label"][torch.cat(drawn)]
        cuts = [slice(0, len(drawn[0])), slice(len(drawn[0]), None)]
        value = torch.zeros((), dtype=torch.float64)
        for cut in cuts if negatives == "per_rank" else [slice(None)]:
            share = 0.5 if negatives == "per_rank" else 1.0
            value = value + share * info_nce(points[cut], pixels[cut], temperature=0.3)
            value = value + share * class_contrast(
                points[cut], pixels[cut], labels[cut], temperature=0.3
            )
        active = not statistics.collecting
        statistics.update(every, batch["label"])
        border = len(halves[0]["label"])
        for rows, half in ((every[:border], halves[0]), (every[border:], halves[1])):
            if active:
                nll = vmf_nll(rows, half["label"], statistics.distributions())
                value = value + nll / 20
            if bool(half["odd"].any()):
                value = value + toy.extra(parts, half) / 2
        optimiser.zero_grad()
        value.backward()
        optimiser.param_groups[0]["lr"] = 0.05 * (1.0 - 0.1 * step)
        optimiser.step()
    return parts.state_dict()


@pytest.mark.parametrize("negatives", ["per_rank", "gathered"])
def test_two_processes_equal_one_on_the_joint_batch(
    two: list[dict[str, Any]], negatives: str
) -> None:
    want = reference(negatives)
    for name, value in two[0][negatives].items():
        torch.testing.assert_close(value, want[name], rtol=1e-6, atol=1e-9, msg=lambda m: f"{m}")
        assert torch.equal(value, two[1][negatives][name]), name
    initial = toy.build().state_dict()
    assert want.keys() == initial.keys()


def test_kinds_of_negatives_differ() -> None:
    a, b = reference("per_rank"), reference("gathered")
    assert not torch.allclose(a["pixels.weight"], b["pixels.weight"], rtol=1e-3)


def test_unused_weights(two: list[dict[str, Any]]) -> None:
    """One that no process uses stays as it is (no decay); one that one of them uses learns."""
    torch.manual_seed(SEED)
    before, after = toy.build().state_dict(), two[0]["per_rank"]
    assert torch.equal(before["never.weight"], after["never.weight"])
    assert not torch.equal(before["sometimes.weight"], after["sometimes.weight"])


def test_log_is_written_once_with_means(folder: Path, two: list[dict[str, Any]]) -> None:
    lines = log(folder / "per_rank")
    assert [line["step"] for line in lines] == list(range(5))
    for step, line in enumerate(lines):
        _, halves = joint_batch(step)
        rows = [len(half["label"]) // 2 for half in halves]
        assert line["terms"]["rows"] == sum(rows) / 2


def test_a_signal_to_one_process_stops_both_and_they_resume_bit_equally(
    folder: Path, two: list[dict[str, Any]]
) -> None:
    for found in two:
        assert found["stopped"]["position"] == 3
        assert found["stopped"]["steps_now"] == 2
        for name, value in found["averaged"].items():
            assert torch.equal(found["stopped"]["parts"][name], value), name
    assert log(folder / "resumed") == log(folder / "averaged")


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nan_in_one_process_skips_the_step_in_all(
    folder: Path, two: list[dict[str, Any]], where: str
) -> None:
    for found in two:
        assert found["nan"][where] == {
            "skipped": 1,
            "unchanged": True,
            "changed": True,
            "finite": True,
        }
    assert [line["skipped"] for line in log(folder / f"nan {where}")] == [False, True] + [False] * 3


def test_a_process_without_pairs_takes_part(two: list[dict[str, Any]]) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 5, DIM, generator=generator, dtype=torch.float64)
    q.requires_grad_()
    want = class_contrast(q, k, torch.tensor([0, 1, 1, 0, 2]), temperature=0.5)
    want.backward()
    values = [found["lonely"][0] for found in two]
    assert sum(values) / 2 == pytest.approx(float(want.detach()), rel=1e-12)
    assert q.grad is not None
    # gradients are averaged over two processes afterwards
    torch.testing.assert_close(two[0]["lonely"][1] / 2, q.grad)
    assert len(two[1]["lonely"][1]) == 0


def test_superpixels_of_all_processes(two: list[dict[str, Any]]) -> None:
    values = [found["superpixels"] for found in two]
    assert sum(values) / 2 == pytest.approx(superpixels([0, 1], "per_rank"), rel=1e-12)


def test_equal_data_gives_the_statistics_of_one_process(two: list[dict[str, Any]]) -> None:
    for found in two:
        torch.testing.assert_close(found["statistics"], equal_statistics())


def test_what_cannot_be_divided_or_differs_is_refused(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert "3 samples of a step" in found["uneven"]
        assert "multiple of 2" in found["uneven"]
        assert "different settings" in found["settings"]


def test_quarantines_are_merged(folder: Path, two: list[dict[str, Any]]) -> None:
    assert [found["quarantined"] for found in two] == [3, 3]
    listed = json.loads((folder / "damaged" / "quarantine.json").read_text())
    assert [entry["frame"] for entry in listed] == ["frame 1", "frame 4", "frame 6"]


def test_validation_and_kept_checkpoints(folder: Path, two: list[dict[str, Any]]) -> None:
    assert two[0]["kept"] == [2, 4, 5]
    assert two[1]["kept"] == []
    lines = [line for line in log(folder / "validated") if "validation_loss" in line]
    assert [line["total_step"] for line in lines] == [2, 4, 5]
    assert all(math.isfinite(line["validation_loss"]) for line in lines)


def test_other_numbers_of_processes_do_not_resume(folder: Path, two: Any) -> None:
    with pytest.raises(TrainingError, match="world_size: 2 -> 1"):
        run(folder / "per_rank")


def test_a_process_that_dies_is_an_error_of_the_others(folder: Path, two: Any) -> None:
    error = (folder / "died").read_text()
    assert "another of the 2 processes ended" in error
    assert "the same command goes on" in error
    state = load_state(folder / "dying")
    assert state is not None
    assert state["position"]["total"] == 2
