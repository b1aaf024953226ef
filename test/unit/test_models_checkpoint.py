"""Checkpoints: exact round trips, refusals with a reason, crashes and full disks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros.errors import CheckpointError, StorageFull
from condense_ros.frame import PointCloud
from condense_ros.models import (
    BackboneConfig,
    Checkpoint,
    HeadInfo,
    InputSpec,
    LinearHead,
    build_backbone,
    load_checkpoint,
    save_checkpoint,
)
from condense_ros.ontology import Ontology

ONTOLOGY = Ontology(("ground", "wall"), np.array([[90, 90, 90], [200, 10, 10]]))
CONFIG = BackboneConfig(
    InputSpec(0.25, 30.0, features=("one", "range")), (4, 4, 4, 8, 8, 8, 4, 4, 4), (1,) * 8
)


def make(seed: int = 0, **options: Any) -> Checkpoint:
    torch.manual_seed(seed)
    backbone = build_backbone(CONFIG)
    head = LinearHead(HeadInfo(ONTOLOGY, "20 labelled simulated frames", 4))
    return Checkpoint.of(backbone, {"semantic": head}, recipe="janda", **options)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", make(metadata={"steps": 7}))


def rewrite(
    path: Path, change: Any = None, drop: str = "", add: dict[str, Any] | None = None
) -> None:
    """Changes description or tensors and makes the hash right again."""
    with safetensors.safe_open(path, "pt") as file:
        text = file.metadata()["condense"]
    state = safetensors.torch.load_file(path)
    values = json.loads(text)
    if change:
        change(values)
    state = {k: v for k, v in state.items() if k != drop} | (add or {})
    data = safetensors.torch.save(state, {"condense": json.dumps(values)})
    put(path, data)


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")


def test_round_trip_is_bit_equal(saved: Path, rng: np.random.Generator) -> None:
    first, again = make(), load_checkpoint(saved)
    assert again.backbone == CONFIG
    assert again.recipe == "janda"
    assert again.metadata == {"steps": 7}
    assert again.software_version
    assert again.heads["semantic"].supervision == "20 labelled simulated frames"
    assert again.heads["semantic"].ontology == ONTOLOGY
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)
    assert again.identity() == first.identity() != make(seed=1).identity()
    state = torch.get_rng_state()
    net, head = again.build_backbone(), again.build_head("semantic")
    assert torch.equal(torch.get_rng_state(), state), "loading must not draw random numbers"
    assert not net.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in net.parameters())
    voxels = net.input.voxelize(PointCloud(rng.normal(size=(200, 3)) * 5))
    expected = first.build_backbone()(voxels)
    assert torch.equal(net(voxels), expected)
    assert head(expected).shape == (len(voxels), 2)
    # the hash file is what sha256sum -c reads
    line = saved.with_name(saved.name + ".sha256").read_text()
    assert line == f"{hashlib.sha256(saved.read_bytes()).hexdigest()}  {saved.name}\n"


def test_built_modules_do_not_share_memory_with_the_checkpoint(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    net = checkpoint.build_backbone()
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    assert checkpoint.identity() == make().identity()


def test_heads_do_not_change_the_identity(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    bare = Checkpoint.of(checkpoint.build_backbone())
    assert bare.identity() == checkpoint.identity()
    with pytest.raises(CheckpointError, match="no head 'semantic'"):
        bare.build_head("semantic")


def test_truncated_altered_and_missing_files(saved: Path) -> None:
    data = saved.read_bytes()
    for damaged in (data[:-1], data[:50], b"", data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]):
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="SHA-256"):
            load_checkpoint(saved)
    for cut in (data[:-1], data[:50], b"", b"\xff" * 100, b"{}"):
        put(saved, cut)
        with pytest.raises(CheckpointError, match="no safetensors"):
            load_checkpoint(saved)
    saved.write_bytes(data)
    beside = saved.with_name(saved.name + ".sha256")
    beside.write_text("")
    with pytest.raises(CheckpointError, match="hash file"):
        load_checkpoint(saved)
    beside.unlink()
    with pytest.raises(CheckpointError, match="sha256sum"):
        load_checkpoint(saved)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(saved.with_name("other.safetensors"))
    with pytest.raises(CheckpointError, match="readable file"):
        load_checkpoint(saved.parent)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("kind", ["torch", "torch-legacy", "pickle", "pickle-2"])
def test_pickles_are_refused_and_never_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    if kind.startswith("torch"):
        torch.save({"x": Bomb()}, path, _use_new_zipfile_serialization=kind == "torch")
    else:
        path.write_bytes(pickle.dumps(Bomb(), protocol=2 if kind == "pickle-2" else 4))
    put(path, path.read_bytes())
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_tensors_that_do_not_fit(saved: Path) -> None:
    data = saved.read_bytes()
    name = "backbone.net.stem.0.weight"
    for options, message in (
        ({"drop": name}, "lacks tensors of its architecture: backbone.net.stem.0.weight"),
        (
            {"add": {"backbone.extra": torch.zeros(1)}},
            "that its architecture lacks: backbone.extra",
        ),
        ({"add": {name: torch.zeros(27, 3, 4)}}, r"\(27, 3, 4\).*instead of \(27, 2, 4\)"),
        ({"add": {name: torch.zeros(27, 2, 4).half()}}, "float16"),
        ({"add": {name: torch.full((27, 2, 4), float("nan"))}}, "NaN or infinite"),
    ):
        put(saved, data)
        rewrite(saved, **options)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["backbone"].update(architecture="ptv3"), "architecture 'ptv3'"),
        (lambda v: v["backbone"].update(widths=[8, 8, 8, 16, 16, 16, 8, 8, 4]), "instead of"),
        # a network of 100 GB and one of a billion blocks: refused without building them
        (
            lambda v: v["backbone"].update(widths=[4096] * 8 + [4]),
            "that its architecture lacks: backbone",
        ),
        (lambda v: v["backbone"].update(blocks=[10**9] * 8), "out of range"),
        (lambda v: v["backbone"].update(widths="wide"), "widths"),
        (lambda v: v["backbone"].update(widths=[4] * 7), "9 positive"),
        (lambda v: v["backbone"].update(stem_kernel=2), "stem_kernel"),
        (lambda v: v["heads"]["semantic"].update(supervision=" "), "supervision"),
        (lambda v: v["backbone"]["input"].update(voxel_size_m=-1.0), "voxel_size_m"),
        (lambda v: v["backbone"]["input"].update(features=["one"]), "instead of"),
        (lambda v: v["heads"]["semantic"].update(kind="mlp"), "mlp"),
        (lambda v: v["heads"]["semantic"].pop("supervision"), "incomplete"),
        (lambda v: v["heads"]["semantic"].update(in_channels=9), "9 input channels"),
        (lambda v: v.update(version=99), "version 99"),
        (lambda v: v.update(format="other"), "cannot be read"),
        (lambda v: v.pop("recipe"), "cannot be read"),
        (lambda v: v.update(heads=[1]), "cannot be read"),
        (lambda v: v.update(backbone=None), "cannot be read"),
    ],
)
def test_descriptions_that_do_not_fit(saved: Path, change: Any, message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(saved)
    assert caught.value.fix


def test_mutated_files_load_or_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model.safetensors", make())
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, header - 1), st.integers(0, 255)), max_size=3),
        st.none() | st.integers(0, len(good)),
    )
    def check(changes: list[tuple[int, int]], cut: int | None) -> None:
        data = bytearray(good)
        for place, value in changes:
            data[place] = value
        put(path, bytes(data[:cut]))
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path)

    check()


@pytest.mark.parametrize("number", ["1e999", "-1", "123456789012345678901234567890", '"x"', "[]"])
def test_absurd_numbers_in_the_description(saved: Path, number: str) -> None:
    good = saved.read_bytes()
    value = json.loads(number)
    for change in (
        lambda v: v["heads"]["semantic"].update(in_channels=value),
        lambda v: v["heads"]["semantic"]["ontology"].update(colours=[[value] * 3] * 2),
        lambda v: v["backbone"]["input"].update(max_range_m=value),
        lambda v: v["backbone"].update(stem_kernel=value),
    ):
        put(saved, good)
        rewrite(saved, change)
        with pytest.raises(CheckpointError):
            load_checkpoint(saved)


def test_foreign_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    put(path, safetensors.torch.save({"x": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match="no description"):
        load_checkpoint(path)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_crash_at_any_moment_leaves_a_checkpoint_that_loads(
    saved: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, replace = [], os.replace

    def crash(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) > step:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(StorageFull, match="no room"):
        save_checkpoint(saved, make(seed=1))
    identity = load_checkpoint(saved).identity()
    assert identity == make(seed=1 if step == 2 else 0).identity()
    assert sorted(p.name for p in saved.parent.iterdir()) == [saved.name, saved.name + ".sha256"]


def test_bad_checkpoints_are_not_written(saved: Path) -> None:
    before = saved.read_bytes()
    broken = make()
    broken.state["backbone.net.stem.0.weight"].fill_(float("nan"))
    with pytest.raises(CheckpointError, match="NaN"):
        save_checkpoint(saved, broken)
    with pytest.raises(CheckpointError, match="not JSON"):
        save_checkpoint(saved, make(metadata={"x": object()}))
    assert saved.read_bytes() == before
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(saved / "inside" / "file.safetensors", make())
