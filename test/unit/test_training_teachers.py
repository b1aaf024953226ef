"""Teachers of published weights: architecture, loading, hashes, sampling, and that they stay."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from torch.nn import functional
from training_scenes import TINY_OLIVINE, small_drive

from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import CheckpointError, ConfigError, TrainingError
from condense_ros.frame import Frame
from condense_ros.models import load_checkpoint
from condense_training.clouds import voxels_of
from condense_training.labels.weights import file_hash
from condense_training.losses import info_nce
from condense_training.networks.resnet import normalize_images
from condense_training.networks.resnet50 import ResNet50, load_resnet50
from condense_training.networks.teachers import (
    TEACHERS,
    FrozenTeacher,
    PatchTeacher,
    find_teacher,
)
from condense_training.pairs import sample_features
from condense_training.pretraining import PretrainConfig, pretrain
from condense_training.recipe import Recipe
from condense_training.recipes import build_recipe
from condense_training.recipes.olivine import ABLATIONS
from condense_training.steps import set_modes, train_step
from condense_training.trainer import TrainerConfig

TINY = {**TINY_OLIVINE, "voxel_size_m": 0.4}


def random_norms(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Batch norms that do something, as trained ones do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for name, low, high in (
                    ("weight", 0.5, 1.5),
                    ("bias", -0.2, 0.2),
                    ("running_mean", -0.2, 0.2),
                    ("running_var", 0.5, 1.5),
                ):
                    getattr(module, name).uniform_(low, high, generator=generator)
    return network.eval()


def random_images(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def moco_file(tmp_path_factory) -> Path:
    """A file as MoCo v2 writes it, with random weights."""
    torch.manual_seed(3)
    network = random_norms(ResNet50())
    query = {f"module.encoder_q.{k}": v for k, v in network.state_dict().items()}
    key = {f"module.encoder_k.{k}": v + 1 for k, v in network.state_dict().items()}
    head = {"module.encoder_q.fc.0.weight": torch.zeros(4, 4), "module.queue": torch.zeros(2, 2)}
    path = tmp_path_factory.mktemp("moco") / "moco_v2_800ep_pretrain.pth.tar"
    content = {"epoch": 800, "arch": "resnet50", "optimizer": {"state": {}}}
    torch.save({**content, "state_dict": {**key, **query, **head}}, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory, moco_file) -> dict[str, str]:
    """Weights of every teacher."""
    folder = tmp_path_factory.mktemp("vits")
    return {
        "resnet50": str(moco_file),
        "dinov2": str(tiny_models.dinov2(folder / "dinov2")),
        "dinov3": str(tiny_models.dinov3(folder / "dinov3")),
    }


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive"), frames=3)


@pytest.fixture(scope="module")
def frames(drive) -> list[Frame]:
    folder = SimulatedFolder(drive)
    return [folder[i] for i in range(len(folder))]


# ResNet-50


def test_resnet50_has_the_published_size_and_names() -> None:
    network = ResNet50()
    # torchvision's resnet50 has 25,557,032 parameters, 2,049,000 of them in the classifier
    assert sum(p.numel() for p in network.parameters()) == 25_557_032 - 2_049_000
    assert len(network.state_dict()) == 320 - 2  # without fc.weight and fc.bias
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["layer4.2.bn3.running_var"] == (2048,)
    assert (network.out_channels, network.stride) == (2048, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dilation_is_the_undilated_network_at_every_eighth_place(dtype) -> None:
    small = {"width": 8, "blocks": (2, 2, 3, 2)}
    torch.manual_seed(0)
    dilated = random_norms(ResNet50(dilated=True, **small)).to(dtype)
    plain = ResNet50(dilated=False, **small).eval().to(dtype)
    plain.load_state_dict(dilated.state_dict())
    assert (plain.stride, dilated.stride) == (32, 4)
    images = torch.randn(2, 3, 96, 160, dtype=dtype)
    with torch.no_grad():
        fine, coarse = dilated(images), plain(images)
    assert fine.shape == (2, 256, 24, 40)
    assert coarse.shape == (2, 256, 3, 5)
    # the same products in another order: in float64 nothing is left of the difference
    close = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {}
    torch.testing.assert_close(fine[..., ::8, ::8], coarse, **close)
    assert not torch.equal(fine[..., 1::8, 1::8], coarse)


def test_the_published_view_gives_the_published_map() -> None:
    network = ResNet50(width=2, blocks=(1, 1, 1, 1)).eval()
    assert network(torch.zeros(1, 3, 224, 416)).shape[-2:] == (56, 104)


def test_resnet50_computes_what_another_implementation_does() -> None:
    """The one of transformers, in float64, its names translated to torchvision's."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[3, 2, 2, 1],
        layer_type="bottleneck",
    )  # fmt: skip
    torch.manual_seed(1)
    theirs = random_norms(transformers.ResNetModel(config)).double()
    ours = ResNet50(dilated=False, width=8, blocks=(3, 2, 2, 1)).double().eval()
    renamed = {}
    for name, value in theirs.state_dict().items():
        name = name.replace("embedder.embedder.convolution", "conv1")
        name = name.replace("embedder.embedder.normalization", "bn1")
        for stage in range(4):
            name = name.replace(f"encoder.stages.{stage}.layers.", f"layer{stage + 1}.")
        for i in range(3):
            name = name.replace(f".layer.{i}.convolution", f".conv{i + 1}")
            name = name.replace(f".layer.{i}.normalization", f".bn{i + 1}")
        name = name.replace("shortcut.convolution", "downsample.0")
        renamed[name.replace("shortcut.normalization", "downsample.1")] = value
    ours.load_state_dict(renamed)
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(images).last_hidden_state
        torch.testing.assert_close(ours(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("prefix", ["module.encoder_q.", "module.base_encoder.", "", "backbone."])
def test_weights_load_under_every_usual_prefix(prefix: str) -> None:
    small = {"width": 4, "blocks": (1, 1, 1, 1)}
    source = random_norms(ResNet50(**small))
    state = {f"{prefix}{k}": v for k, v in source.state_dict().items()}
    state |= {f"{prefix}fc.weight": torch.zeros(3, 3)}
    if prefix.startswith("module."):
        other = "module.encoder_k." if "encoder_q" in prefix else "module.momentum_encoder."
        state |= {f"{other}{k}": v + 1 for k, v in source.state_dict().items()}
    network = ResNet50(**small)
    load_resnet50(network, state, "weights")
    for name, value in network.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_weights_of_other_networks_are_refused() -> None:
    small = {"width": 4, "blocks": (1, 1, 2, 1)}
    network = ResNet50(**small)
    state = network.state_dict()
    with pytest.raises(CheckpointError, match=r"has layer3\.2\.conv1"):
        load_resnet50(network, ResNet50(width=4, blocks=(1, 1, 3, 1)).state_dict(), "deeper")
    with pytest.raises(CheckpointError, match=r"lacks layer3\.1"):
        load_resnet50(network, ResNet50(width=4, blocks=(1, 1, 1, 1)).state_dict(), "shallower")
    with pytest.raises(CheckpointError, match=r"another shape of conv1"):
        load_resnet50(network, {**state, "conv1.weight": torch.zeros(8, 3, 7, 7)}, "wider")
    with pytest.raises(CheckpointError, match="no network with a conv1"):
        load_resnet50(network, {"a": torch.zeros(1)}, "other")
    twice = {f"{which}.{k}": v for which in "ab" for k, v in state.items()}
    with pytest.raises(CheckpointError, match=r"several networks \(a\., b\.\)"):
        load_resnet50(network, twice, "two")


def test_moco_v2_files_load_and_give_features(moco_file) -> None:
    found = find_teacher("resnet50", str(moco_file))
    assert found.sha256 == file_hash(moco_file)
    teacher = found.build()
    images = random_images(1, 32, 64)
    features = teacher(images)
    assert features.shape == (1, 2048, 8, 16)
    assert (teacher.out_channels, teacher.stride) == (2048, 4)
    torch.manual_seed(3)
    reference = random_norms(ResNet50())
    with torch.no_grad():
        torch.testing.assert_close(features, reference(normalize_images(images)))
    undilated = find_teacher("resnet50", str(moco_file), dilated=False).build()
    assert undilated(images).shape == (1, 2048, 1, 2)
    assert undilated.stride == 32


def test_resnet50_loads_from_a_folder_of_safetensors(moco_file, tmp_path) -> None:
    from safetensors.torch import save_file

    state = {k: v.contiguous() for k, v in ResNet50().state_dict().items()}
    save_file({**state, "fc.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    found = find_teacher("resnet50", str(tmp_path))
    assert found.sha256 == file_hash(tmp_path / "model.safetensors")
    assert torch.equal(found.build().network.conv1.weight, state["conv1.weight"])


# vision transformers


@pytest.mark.parametrize(
    ("kind", "make", "patch", "registers"),
    [
        ("dinov2", tiny_models.dinov2, 14, 0),
        ("dinov2", lambda folder: tiny_models.dinov2(folder, registers=3), 14, 3),
        ("dinov3", tiny_models.dinov3, 16, 4),
    ],
)
def test_patches_become_a_map(kind, make, patch, registers, tmp_path) -> None:
    teacher = find_teacher(kind, str(make(tmp_path / kind))).build()
    assert isinstance(teacher, PatchTeacher)
    assert (teacher.stride, teacher.prefix) == (patch, 1 + registers)
    images = random_images(2, 3 * patch, 5 * patch)
    features = teacher(images)
    assert features.shape == (2, teacher.out_channels, 3, 5)
    # token 1 + registers + 5 * row + column is the patch of that row and column
    with torch.no_grad():
        tokens = teacher.network(pixel_values=normalize_images(images)).last_hidden_state
    assert tokens.shape[1] == 1 + registers + 15
    for row, column in ((0, 0), (1, 3), (2, 4)):
        expected = tokens[:, 1 + registers + 5 * row + column]
        torch.testing.assert_close(features[:, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_any_size_is_resized_to_whole_patches(weights) -> None:
    teacher = find_teacher("dinov2", weights["dinov2"]).build()
    assert teacher(random_images(1, 96, 160)).shape[-2:] == (7, 11)  # 98 x 154 pixels
    assert teacher(random_images(1, 5, 9)).shape[-2:] == (1, 1)
    images = random_images(1, 96, 160)
    pixels = functional.interpolate(
        images.float() / 255, (98, 154), mode="bilinear", align_corners=False, antialias=True
    )
    whole = teacher((pixels * 255).round().to(torch.uint8))
    assert float(functional.cosine_similarity(whole, teacher(images)).min()) > 0.999


def test_the_models_own_image_statistics_are_used(tmp_path, weights) -> None:
    folder = tiny_models.dinov3(tmp_path / "satellite")
    plain = find_teacher("dinov3", weights["dinov3"]).build()
    said = {"image_mean": [0.43, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    teacher = find_teacher("dinov3", str(folder)).build()
    assert teacher.mean == (0.43, 0.411, 0.296)
    images = random_images(1, 32, 32)
    assert not torch.allclose(teacher(images), plain(images))
    (folder / "preprocessor_config.json").write_text('{"image_std": [0, 1, 1]}')
    with pytest.raises(CheckpointError, match="nothing of use about images"):
        find_teacher("dinov3", str(folder)).build()


# finding weights


def test_hashes_are_checked(weights, moco_file) -> None:
    for kind, source in weights.items():
        digest = find_teacher(kind, source).sha256
        assert find_teacher(kind, source, sha256=digest.upper()).sha256 == digest
        with pytest.raises(CheckpointError, match=f"have the sha256 {digest}, not {'0' * 64}"):
            find_teacher(kind, source, sha256="0" * 64)


def test_weights_that_do_not_fit_are_refused(weights, moco_file, tmp_path) -> None:
    with pytest.raises(ConfigError, match="resnet50, dinov2, dinov3"):
        find_teacher("clip", str(moco_file))
    with pytest.raises(CheckpointError, match="dinov2 needs a model's folder"):
        find_teacher("dinov2", str(moco_file))
    with pytest.raises(CheckpointError, match="is a dinov2, no dinov3"):
        find_teacher("dinov3", weights["dinov2"]).build()
    with pytest.raises(CheckpointError, match="neither a folder nor an id"):
        find_teacher("dinov2", str(tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match="holds no network with a conv1"):
        find_teacher("resnet50", weights["dinov2"]).build()
    folder = tiny_models.dinov2(tmp_path / "short")
    content = bytearray((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded as Dinov2Model"):
        find_teacher("dinov2", str(folder)).build()
    (tmp_path / "code.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CheckpointError, match="could run code"):
        find_teacher("resnet50", str(tmp_path / "code.pth")).build()


def test_an_unreachable_hub_names_the_way_out(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="cannot be fetched from the hub") as raised:
        build_recipe(
            "olivine", "demo", {"teacher": "dinov2", "teacher_weights": "facebook/dinov2-small"}
        )
    assert "copy the model's folder here and give its path" in str(raised.value)


# reading maps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size", "cells"),
    [((224, 416), (56, 104)), ((224, 416), (16, 30)), ((96, 160), (7, 11)), ((32, 64), (1, 2))],
)
def test_coarse_maps_are_read_as_if_upsampled(size, cells, dtype, rng) -> None:
    """Spec 3.1: bilinear upsampling with aligned corners, then the pixel."""
    maps = torch.randn(2, 3, *cells, dtype=dtype)
    upsampled = functional.interpolate(maps, size, mode="bilinear", align_corners=True)
    u, v = rng.integers(0, size[1], 60), rng.integers(0, size[0], 60)
    which = torch.from_numpy(rng.integers(0, 2, 60))
    uv = torch.from_numpy(np.stack([u, v], 1)).to(dtype)
    got = sample_features(maps, which, uv, size)
    # float32: rounding of places in the map times the difference of neighbours
    close = {"atol": 2e-4, "rtol": 0} if dtype == torch.float32 else {"atol": 1e-11, "rtol": 0}
    torch.testing.assert_close(got, upsampled[which, :, v, u], **close)


def test_coarse_maps_are_read_where_a_hand_says() -> None:
    # stride 4, 8 x 16 pixels: 2 x 4 cells whose value is 10 row + column
    cells = torch.tensor([[0.0, 1, 2, 3], [10, 11, 12, 13]])[None, None]
    uv = torch.tensor([[0.0, 0], [15, 0], [15, 7], [5, 0], [0, 3.5], [7.5, 7]])
    which = torch.zeros(6, dtype=torch.int64)
    # column u * 3 / 15, row v * 1 / 7
    expected = torch.tensor([0.0, 3, 13, 1, 5, 11.5])
    got = sample_features(cells, which, uv, (8, 16))[:, 0]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    # patches of 14 in 28 x 42 pixels: 2 x 3 cells, column u * 2 / 41, row v / 27
    patches = torch.tensor([[0.0, 1, 2], [10, 11, 12]])[None, None]
    uv = torch.tensor([[20.5, 0], [41, 27], [10.25, 13.5], [-3, 40]])
    got = sample_features(patches, which[:4], uv, (28, 42))[:, 0]
    torch.testing.assert_close(got, torch.tensor([1.0, 12, 5.5, 10]), atol=1e-5, rtol=0)
    # without a size, pixels are those of the map
    assert float(sample_features(cells, which[:1], torch.tensor([[2.0, 1]]))[0, 0]) == 12


# in the recipe


def recipe_of(kind: str, weights: dict[str, str], **settings) -> Recipe:
    named = {} if kind == "self_trained" else {"teacher_weights": weights[kind]}
    return build_recipe("olivine", "demo", {**TINY, "teacher": kind, **named, **settings})


def tensors_of(image: torch.nn.Module) -> dict[str, torch.Tensor]:
    network = image.network if isinstance(image, FrozenTeacher) else image
    return network.state_dict()


@pytest.mark.parametrize("kind", ["self_trained", *TEACHERS])
def test_10_10_every_teacher_is_bit_identical_after_ten_steps(kind, weights, frames) -> None:
    recipe = recipe_of(kind, weights)
    stage = recipe.stages[-1]
    assert len(recipe.stages) == (2 if kind == "self_trained" else 1)
    torch.manual_seed(0)
    parts = recipe.build()
    before = copy.deepcopy(tensors_of(parts["image"]))
    assert any("running_mean" in name for name in before) == (not kind.startswith("dino"))
    learned = copy.deepcopy({k: v for k, v in parts.named_parameters() if k[:5] != "image"})
    optimiser = stage.optimiser(set_modes(parts, stage, 0))
    for step in range(10):
        torch.manual_seed(step)
        samples = [stage.sample(f, np.random.default_rng([step, i])) for i, f in enumerate(frames)]
        loss, norm, _, skipped = train_step(parts, stage, stage.collate(samples[:2]), optimiser)
        assert not skipped
        assert np.isfinite([loss, norm]).all()
    after = tensors_of(parts["image"])
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    for name, parameter in parts.named_parameters():
        if name in learned:
            assert not torch.equal(parameter, learned[name]), name
    held = set(map(id, tensors_of(parts["image"]).values()))
    assert not held & {id(p) for group in optimiser.param_groups for p in group["params"]}


@pytest.mark.parametrize("kind", list(TEACHERS))
def test_points_learn_from_the_map_where_their_pixel_lies(kind, weights, frames) -> None:
    """PPKT with a coarse map, recomputed from the parts."""
    recipe = recipe_of(kind, weights, **ABLATIONS["ppkt"], **{"pairs": 10**6})
    stage = recipe.stages[0]
    batch = stage.collate(
        [stage.sample(f, np.random.default_rng(i)) for i, f in enumerate(frames[:2])]
    )
    torch.manual_seed(0)
    parts = recipe.build().eval()
    loss, _ = stage.loss(parts, batch)
    backbone, heads = parts["backbone"], parts["heads"]
    voxels = backbone(voxels_of(batch, backbone.input, 2))[batch["pair_voxel"]]
    maps = parts["image"](batch["views"])
    assert maps.shape[-1] < 32
    targets = sample_features(maps, batch["pair_view"], batch["pair_uv"], (32, 64))
    q, k = heads.points["pair"](voxels), heads.pixels["pair"](targets)
    expected = float(info_nce(q, k, temperature=0.07).detach())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_frozen_teacher_follows_the_device_and_stays_in_eval(weights) -> None:
    teacher = find_teacher("resnet50", weights["resnet50"]).build()
    parts = torch.nn.ModuleDict({"image": teacher})
    assert not parts.state_dict()
    assert not list(parts.parameters())
    parts.train().requires_grad_(True)
    assert not teacher.network.training
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert not teacher(random_images(1, 32, 32)).requires_grad
    parts.to("meta")
    assert all(p.is_meta for p in teacher.network.parameters())
    assert all(b.is_meta for b in teacher.network.buffers())


@pytest.mark.parametrize("kind", list(TEACHERS))
def test_pretrains_with_every_teacher(kind, weights, drive, tmp_path) -> None:
    trainer = TrainerConfig(progress=False, prefetch=False, save_every_steps=2, threads=1)
    settings = {**TINY, "teacher": kind, "teacher_weights": weights[kind]}
    config = PretrainConfig("olivine", "demo", settings, trainer=trainer)
    checkpoint = load_checkpoint(pretrain([drive], tmp_path, config))
    said = checkpoint.metadata["settings"]
    assert said["teacher_sha256"] == find_teacher(kind, weights[kind]).sha256
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == ["distil into 3D"] * 4
    # a state does not hold what a file holds already
    sizes = [path.stat().st_size for path in (tmp_path / "state").iterdir()]
    assert max(sizes) < 20e6


def test_a_run_is_not_resumed_with_other_weights(weights, drive, tmp_path) -> None:
    folder = tiny_models.dinov2(tmp_path / "teacher")
    trainer = TrainerConfig(progress=False, prefetch=False, save_every_steps=1, threads=1)
    settings = {**TINY, "teacher": "dinov2", "teacher_weights": str(folder)}
    config = PretrainConfig("olivine", "demo", settings, trainer=trainer)

    def stop(record) -> None:
        if record.step == 2:
            raise KeyboardInterrupt

    whole = load_checkpoint(pretrain([drive], tmp_path / "whole", config))
    with pytest.raises(KeyboardInterrupt):
        pretrain([drive], tmp_path / "out", config, on_step=stop)
    tiny_models.dinov2(folder, seed=1)
    with pytest.raises(TrainingError, match="teacher_sha256"):
        pretrain([drive], tmp_path / "out", config)
    expecting = replace(config, settings={**settings, "teacher_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="sha256"):
        pretrain([drive], tmp_path / "out", expecting)
    # with the same weights again it goes on, bit by bit
    tiny_models.dinov2(folder)
    resumed = load_checkpoint(pretrain([drive], tmp_path / "out", config))
    for name, value in whole.state.items():
        assert torch.equal(value, resumed.state[name]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "dinov2"}, "facebook/dinov2-small"),
        ({"teacher": "resnet50"}, "moco_v2_800ep"),
        ({"teacher_weights": "somewhere"}, "image_weights"),
        ({"teacher": "clip"}, "self_trained, resnet50, dinov2, dinov3"),
    ],
)
def test_teachers_and_weights_have_to_fit(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build_recipe("olivine", "demo", settings)
