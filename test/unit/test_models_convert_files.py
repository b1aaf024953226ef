"""Weight files: what is found in them, what is refused and why, and the command on top."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from published_networks import (
    BLOCKS,
    WIDTHS,
    Res16UNet,
    SpUNet,
    SpvnasMinkUNet,
    random_cloud,
)
from typer.testing import CliRunner

from condense_ros.cli.app import app
from condense_ros.errors import CheckpointError, ConfigError
from condense_ros.frame import PointCloud
from condense_ros.models import InputSpec, load_checkpoint, preset
from condense_ros.models.convert import (
    FeatureMap,
    convert_file,
    convert_state,
    read_weights,
    source_architecture,
)
from condense_ros.models.convert.kernels import Convolution
from condense_ros.models.convert.versions import choose_version

INPUT = InputSpec(0.1, features=("intensity",), intensity_scale=255.0)
State = dict[str, torch.Tensor]


def weights_of(network: Any) -> State:
    network(random_cloud(3, 1))
    state: State = network.state
    return state


@pytest.fixture(scope="module")
def published() -> State:
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights_of(Res16UNet(1)).items()
    }


def convert(state: State, **options: Any) -> Any:
    config = source_architecture(state, prefix=options.get("prefix")).config(INPUT)
    return convert_state(state, config, **options)


def test_the_architecture_is_read_off_the_shapes() -> None:
    for network, stem, layers, widening in (
        (Res16UNet(1, stem=5), 5, 1, "block"),
        (SpUNet(1, stem=3), 3, 1, "down"),
        (SpUNet(1, layout=lambda volume: "RSCK"), 5, 1, "down"),
        (SpvnasMinkUNet(1), 3, 2, "block"),
    ):
        found = source_architecture(weights_of(network))
        assert found.widths == WIDTHS
        assert found.blocks == (BLOCKS if layers == 1 else (2,) * 8)
        assert (found.stem_kernel, found.stem_layers, found.widening) == (stem, layers, widening)
        assert found.in_channels == 1


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "model_points.module."])
def test_prefixes_are_found_and_everything_else_is_told(published: State, prefix: str) -> None:
    state = {prefix + name: value for name, value in published.items()}
    state |= {"model_images.conv1.weight": torch.zeros(2), "model_images.fc.weight": torch.zeros(3)}
    report = convert(state).report
    assert report.prefix == prefix
    assert dict(report.unused) == {
        f"{prefix}final.kernel": (3, 5),
        f"{prefix}final.bias": (1, 5),
        "model_images.conv1.weight": (2,),
        "model_images.fc.weight": (3,),
    }
    assert set(report.unused_parts()) == {f"{prefix}final", "model_images"}
    assert len(report.unused_parts()["model_images"]) == 2


def test_two_networks_in_one_file(published: State) -> None:
    both = {f"student.{k}": v for k, v in published.items()}
    both |= {f"teacher.{k}": v + 1 if v.is_floating_point() else v for k, v in published.items()}
    with pytest.raises(CheckpointError, match=r"under 'student\.', .*under 'teacher\.'"):
        source_architecture(both)
    taken = convert(both, prefix="teacher")
    assert torch.equal(taken.state["net.up.0.1.bias"], published["bntr4.bn.bias"] + 1)
    assert {"student.final.bias", "teacher.final.bias"} < {name for name, _ in taken.report.unused}
    with pytest.raises(CheckpointError, match=r"under the prefix 'ema\.'"):
        convert(both, prefix="ema.")


REFUSALS: dict[str, tuple[Callable[[State], State], str]] = {
    "a tensor missing": (
        lambda s: {k: v for k, v in s.items() if k != "block2.1.norm2.bn.running_var"},
        r"missing: block2\.1\.norm2\.bn\.running_var",
    ),
    "a stage missing": (
        lambda s: {k: v for k, v in s.items() if not k.startswith("block6.")},
        r"lack block6\.0\.conv1\.kernel",
    ),
    "the decoder missing": (
        lambda s: {k: v for k, v in s.items() if "tr" not in k},
        r"a Res16UNet would have convtr4p16s2\.kernel",
    ),
    "another shape": (
        lambda s: s | {"block3.0.conv2.kernel": torch.zeros(27, 6, 5)},
        r"another shape: block3\.0\.conv2\.kernel is \(27, 6, 5\) instead of \(27, 6, 6\)",
    ),
    "a norm of another shape": (
        lambda s: s | {"bn0.bn.bias": torch.zeros(7)},
        r"bn0\.bn\.bias is \(7,\) instead of \(4,\)",
    ),
    "a tensor too many": (
        lambda s: s | {"block1.0.se.fc.weight": torch.zeros(2)},
        r"a Res16UNet lacks: block1\.0\.se\.fc\.weight",
    ),
    "a bias": (
        lambda s: s | {"block1.0.conv1.bias": torch.zeros(1, 4)},
        r"biases .*block1\.0\.conv1\.bias",
    ),
    "bottlenecks": (
        lambda s: s | {"block1.0.conv3.kernel": torch.zeros(4, 4)},
        "bottlenecks",
    ),
    "a flat stem": (lambda s: s | {"conv0p1s1.kernel": torch.zeros(9, 1, 4)}, "no cube"),
    "another network": (lambda s: {"encoder.weight": torch.zeros(2)}, "none of the known networks"),
    "nothing": (lambda s: {}, "among 0 tensors"),
    "a voxel backbone": (
        lambda s: dict.fromkeys(
            ("conv_input.0.weight", "conv2.0.0.weight", "conv_out.0.weight"), torch.zeros(2)
        ),
        "VoxelBackBone8x, which is no U-Net",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_with_a_reason(case: str, published: State) -> None:
    spoil, reason = REFUSALS[case]
    with pytest.raises(CheckpointError, match=reason) as refusal:
        convert(spoil(dict(published)))
    assert refusal.value.fix


def test_options_that_do_not_exist(published: State) -> None:
    for options, reason in (
        ({"source": "caffe"}, "caffe"),
        ({"source": "spconv"}, "a SpUNet would have conv_input"),
        ({"minkowski_order": "spiral"}, "spiral"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            convert_state(published, source_architecture(published).config(INPUT), **options)  # type: ignore[arg-type]
    spun = weights_of(SpUNet(2))
    with pytest.raises(CheckpointError, match="spconv '3'"):
        convert(spun, spconv_version="3")
    with pytest.raises(CheckpointError, match=r"down\.0\.0\.weight is .* instead of \(2, 2, 2"):
        convert(spun, spconv_version="1")


def test_another_target_is_refused(published: State) -> None:
    with pytest.raises(CheckpointError, match=r"widths .*; blocks \(1, 2.*instead of \(2, 3"):
        convert_state(published, preset("unet34c", INPUT))
    config = source_architecture(published).config(InputSpec(features=("one", "height")))
    with pytest.raises(ConfigError, match="take 1 input features, 2 are named: one, height"):
        convert_state(published, config)
    config = source_architecture(published).config(INPUT)
    with pytest.raises(ConfigError, match="need a feature that is 1 everywhere"):
        convert_state(published, config, feature_maps={"intensity": FeatureMap(offset=1.0)})
    with pytest.raises(ConfigError, match="height, which the input does not name"):
        convert_state(published, config, feature_maps={"height": FeatureMap(2.0)})


def test_versions_of_spconv_that_shapes_cannot_tell() -> None:
    """Where C_in = C_out in every convolution, versions 1 and 2.0 have the same shapes."""
    conv = Convolution("conv", (3, 3, 3), 3, 3)
    state = {"theirs.weight": torch.zeros(3, 3, 3, 3, 3)}
    with pytest.raises(CheckpointError, match="fit several versions") as refusal:
        choose_version(state, [conv], {"conv": "theirs"}, "auto")
    assert "--spconv-version" in refusal.value.fix
    assert choose_version(state, [conv], {"conv": "theirs"}, "1") == "1"
    state = {"theirs.weight": torch.zeros(3, 3, 3, 5, 4)}
    wider = dataclasses.replace(conv, c_in=4, c_out=5)
    assert choose_version(state, [wider], {"conv": "theirs"}, "auto") == "2.0"


def test_the_centre_of_trained_kernels_tells_the_order() -> None:
    """Random kernels tell nothing; where the centre stands out, a wrong order is refused."""
    network = Res16UNet(6, hybrid=True)
    state = weights_of(network)
    assert any("do not tell" in note for note in convert(state).report.notes)
    trained = {
        name: value.clone() if value.ndim == 3 and len(value) == 27 else value
        for name, value in state.items()
    }
    for name, value in trained.items():
        if value.ndim == 3 and len(value) == 27 and name.startswith("block"):
            value[0] *= 3.0
    with pytest.raises(CheckpointError, match=r"begin with their centre.*HYBRID"):
        convert(trained)
    assert not convert(trained, minkowski_order="hybrid").report.notes
    assert any(
        "look hybrid" in n for n in convert(trained, minkowski_order="hypercube").report.notes
    )


def test_an_spvcnn_is_not_taken_for_a_minkunet() -> None:
    state = weights_of(SpvnasMinkUNet(3))
    idle = {
        "point_transforms.0.0.weight": torch.randn(4, 4),
        "point_transforms.0.1.running_mean": torch.zeros(4),
        "point_transforms.0.1.num_batches_tracked": torch.tensor(0),
        "classifier.0.weight": torch.randn(19, 3),
    }
    report = convert(state | idle).report
    assert {"point_transforms", "classifier"} == set(report.unused_parts())
    trained = state | idle | {"point_transforms.0.1.num_batches_tracked": torch.tensor(900)}
    with pytest.raises(CheckpointError, match="SPVCNN"):
        convert(trained)


# files


class Harmful:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_needs_more_than_tensors_is_refused(tmp_path: Path, published: State) -> None:
    victim = tmp_path / "harm"
    torch.save({"state_dict": published, "config": Harmful(victim)}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*mkdir") as refusal:
        read_weights(tmp_path / "bad.pth")
    assert "weights_only=False" in refusal.value.fix
    assert not victim.exists()


def test_where_weights_lie_in_a_file(tmp_path: Path, published: State) -> None:
    path = tmp_path / "w.pt"
    other = {"layer.weight": torch.zeros(3)}
    for content, container, beside in (
        (published, "", ()),
        ({"state_dict": published, "epoch": 3, "lr": [0.1]}, "state_dict", ("epoch", "lr")),
        (
            {"model_points": published, "model_images": other, "config": {"voxel_size": 0.1}},
            "model_points",
            ("config", "model_images"),
        ),
        ({"model": published, "optimizer": {"state": {}}}, "model", ("optimizer",)),
    ):
        torch.save(content, path)
        found = read_weights(path)
        assert set(found.state) == set(published)
        assert (found.container, found.beside) == (container, beside)
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    torch.save(published, path, _use_new_zipfile_serialization=False)
    assert set(read_weights(path).state) == set(published)
    safetensors.torch.save_file(published, tmp_path / "w.safetensors")
    assert set(read_weights(tmp_path / "w.safetensors").state) == set(published)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_none(tmp_path: Path, published: State) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        read_weights(tmp_path / "none.pth")
    torch.save(published, tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    for data in (b"", b"hello", b"PK", whole[: len(whole) // 2], b"\x80\x04."):
        (tmp_path / "cut.pth").write_bytes(data)
        with pytest.raises(CheckpointError) as refusal:
            read_weights(tmp_path / "cut.pth")
        assert refusal.value.fix
    for content, reason in (([1, 2], "list"), ({"epoch": 3}, "no tensors by name, only epoch")):
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(CheckpointError, match=reason):
            read_weights(tmp_path / "odd.pth")


def test_a_converted_checkpoint_says_where_it_came_from(tmp_path: Path, published: State) -> None:
    path, out = tmp_path / "model.pt", tmp_path / "out" / "slidr.safetensors"
    config = {"voxel_size": 0.2, "cylindrical_coordinates": True, "lr": 0.5}
    torch.save({"model_points": published, "epoch": 50, "config": config}, path)
    conversion = convert_file(
        path, out, INPUT, "slidr", feature_maps={"intensity": FeatureMap(255.0)}
    )
    for said in ("were 0.2, not 0.1 m", "were cylindrical", "not converted: config, epoch"):
        assert any(said in note for note in conversion.report.notes), said
    checkpoint = load_checkpoint(out)
    assert checkpoint.recipe == "slidr"
    assert checkpoint.backbone.input == INPUT
    origin = checkpoint.metadata["converted"]
    assert origin["file"] == "model.pt"
    assert origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin["source"] == "minkowski"
    assert origin["layout"] == "hypercube"
    assert origin["unused"] == ["final.bias", "final.kernel"]
    assert origin["feature_maps"] == {"intensity": {"scale": 255.0, "offset": 0.0}}
    assert torch.equal(checkpoint.state["backbone.net.stem.1.weight"], published["bn0.bn.weight"])
    cloud = PointCloud(
        np.random.default_rng(0).normal(size=(300, 3)) * 3, np.full(300, 128.0, np.float32)
    )
    backbone = checkpoint.build_backbone()
    assert backbone(backbone.input.voxelize(cloud)).isfinite().all()
    with pytest.raises(CheckpointError, match="already"):
        convert_file(out, tmp_path / "again.safetensors", INPUT, "slidr")
    half = {k: v.half() if v.is_floating_point() else v for k, v in published.items()}
    torch.save(half, path)
    convert_file(path, out, INPUT, "slidr")
    assert load_checkpoint(out).state["backbone.net.stem.0.weight"].dtype == torch.float32
    with pytest.raises(CheckpointError, match=r"is no unet34c: widths"):
        convert_file(path, out, INPUT, "slidr", preset="unet34c")
    with pytest.raises(CheckpointError, match="how it was pretrained"):
        convert_file(path, out, INPUT, " ")


def test_every_architecture_survives_saving(tmp_path: Path) -> None:
    for network in (SpUNet(4), SpvnasMinkUNet(4)):
        path = tmp_path / "w.pt"
        torch.save(weights_of(network), path)
        conversion = convert_file(path, tmp_path / "o.safetensors", INPUT, "test")
        again = load_checkpoint(tmp_path / "o.safetensors")
        assert again.backbone == conversion.config
        again.build_backbone()


def test_the_command(tmp_path: Path, published: State) -> None:
    path, out = tmp_path / "model.pt", tmp_path / "slidr.safetensors"
    state = {f"module.{name}": value for name, value in published.items()}
    state |= {f"image.layer{i}.weight": torch.zeros(2) for i in range(3)}
    torch.save({"state_dict": state}, path)
    arguments = ["convert", str(path), "--out", str(out), "--voxel-size-m", "0.1"]
    arguments += ["--features", "intensity", "--recipe", "slidr", "-p", "intensity_scale=255"]
    result = CliRunner().invoke(app, [*arguments, "--scale", "intensity=255"])
    assert result.exit_code == 0, result.output
    for text in (
        "Res16UNet, minkowski (hypercube)",
        "encoder.1",
        "decoder.3",
        "not used: image, 3",
    ):
        assert text in result.output
    stem = load_checkpoint(out).state["backbone.net.stem.0.weight"]
    assert torch.allclose(stem.sum(), 255 * published["conv0p1s1.kernel"].sum(), rtol=1e-4)
    result = CliRunner().invoke(app, [*arguments, "--tensors"])
    assert "module.conv1p1s2.kernel" in result.output
    for extra, reason in (
        (["--scale", "intensity=much"], "intensity=much"),
        (["--preset", "unet18"], "is no unet18"),
        (["--source", "spconv"], "none of the known networks"),
    ):
        result = CliRunner().invoke(app, [*arguments, *extra])
        assert reason in str(result.exception)
    result = CliRunner().invoke(app, ["convert", str(path)])
    assert isinstance(result.exception, ConfigError)
    assert "voxel" in CliRunner().invoke(app, ["convert", "--parameters"]).output
