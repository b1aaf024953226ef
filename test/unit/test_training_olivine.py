"""The recipe of OLIVINE: labels of pairs, heads, switches, and the whole of it in small."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional
from training_scenes import small_drive

from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import ConfigError, DatasetError, TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_ros.models import load_checkpoint
from condense_ros.sparse import SparseTensor
from condense_training.heads import PairHeads, projection_head
from condense_training.labels import LabelConfig, label
from condense_training.losses import info_nce
from condense_training.networks.pixel_unet import PixelUNet
from condense_training.pair_labels import (
    MadeLabels,
    PngLabels,
    open_pixel_labels,
    pixel_labels_of,
    point_labels_of,
)
from condense_training.pairs import rig_pairs, sample_features
from condense_training.pretraining import PretrainConfig, pretrain
from condense_training.recipe import Batch, Recipe
from condense_training.recipes import build_recipe, olivine
from condense_training.recipes.olivine import ABLATIONS, PRESETS
from condense_training.steps import set_modes
from condense_training.steps import train_step as _train_step
from condense_training.trainer import TrainerConfig

#: the demo, but with few cheap steps
TINY = {
    "pixel_steps": 2,
    "pixel_batch": 2,
    "pixel_matches": 64,
    "pixel_crop_px": 32,
    "steps": 6,
    "pairs": 96,
    "vmf_collection_steps": 3,
    "view_width_px": 64,
    "view_height_px": 32,
    "view_min_pairs": 32,
    "voxel_size_m": 0.4,
}


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive"), frames=4)


@pytest.fixture(scope="module")
def frames(drive) -> list[Frame]:
    folder = SimulatedFolder(drive)
    return [folder[i] for i in range(len(folder))]


def recipe_of(**settings) -> Recipe:
    return build_recipe("olivine", "demo", {**TINY, **settings})


def batch_of(recipe: Recipe, frames: list[Frame], seed: int = 0) -> Batch:
    stage = recipe.stages[1]
    return stage.collate(
        [stage.sample(f, np.random.default_rng([seed, i])) for i, f in enumerate(frames)]
    )


def run(recipe: Recipe, frames: list[Frame], steps: int):
    """Parts and log terms after some steps of stage 2."""
    torch.manual_seed(0)
    parts = recipe.build()
    stage = recipe.stages[1]
    optimiser = stage.optimiser(set_modes(parts, stage, 0))
    terms = []
    for step in range(steps):
        torch.manual_seed(step)
        loss, norm, more, skipped = _train_step(
            parts, stage, batch_of(recipe, frames, step), optimiser
        )
        assert not skipped
        assert np.isfinite([loss, norm]).all()
        terms.append({**more, "loss": loss})
    return parts, terms


# labels of pairs


def test_pixel_labels_are_those_of_the_nearest_pixel(frames, tmp_path, rng) -> None:
    frame = frames[1]
    pairs = rig_pairs(frame)
    image = frame.images[0]
    picture = rng.integers(0, 5, image.pixels.shape[:2]).astype(np.uint8)
    path = tmp_path / image.name / f"{frame.index:06d}.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), picture)
    source = PngLabels(tmp_path)
    labels = pixel_labels_of(frame, pairs, source)
    expected = [picture[round(v), round(u)] for u, v in pairs.uv]
    np.testing.assert_array_equal(labels, expected)
    # a folder of the sequence comes first
    other = tmp_path / frame.sequence / image.name / path.name
    other.parent.mkdir(parents=True)
    cv2.imwrite(str(other), picture + 1)
    assert PngLabels(tmp_path).identity() != source.identity()
    np.testing.assert_array_equal(pixel_labels_of(frame, pairs, PngLabels(tmp_path)), labels + 1)


def test_folders_of_condense_label_are_found_by_pixels(drive, frames, tmp_path) -> None:
    settings = {"features": "handmade", "groups": 4, "segments": 20}
    label(drive, tmp_path / "made", LabelConfig(settings=settings, limit=2))
    source = open_pixel_labels(tmp_path / "made")
    assert isinstance(source, MadeLabels)
    name = frames[1].images[0].name
    picture = cv2.imread(
        str(tmp_path / "made" / "labels" / name / "000001.png"), cv2.IMREAD_UNCHANGED
    )
    # an index of another data set plays no part
    frame = replace(frames[1], index=77, sequence="another")
    pairs = rig_pairs(frame)
    labels = pixel_labels_of(frame, pairs, source)
    np.testing.assert_array_equal(labels, [picture[round(v), round(u)] for u, v in pairs.uv])
    assert len(np.unique(labels)) > 1
    with pytest.raises(DatasetError, match="no labels of frame 3"):
        pixel_labels_of(frames[3], rig_pairs(frames[3]), source)

    recipe = recipe_of(labels="folder", label_folder=str(tmp_path / "made"))
    known = batch_of(recipe, [frames[1]])["pair_label"]
    assert set(known.tolist()) <= {*range(4), IGNORE}
    assert len(set(known.tolist())) > 1
    # more labels are other labels; a header that has been edited is refused
    assert recipe.settings["label_identity"] == source.identity()
    label(drive, tmp_path / "made", LabelConfig(settings=settings, limit=3))
    assert open_pixel_labels(tmp_path / "made").identity() != recipe.settings["label_identity"]
    (tmp_path / "made" / "labels.json").write_text("{}")
    with pytest.raises(DatasetError, match="format"):
        open_pixel_labels(tmp_path / "made")


def test_label_images_that_do_not_fit_are_refused(frames, tmp_path) -> None:
    with pytest.raises(DatasetError, match="no label images"):
        PngLabels(tmp_path)
    frame = frames[0]
    path = tmp_path / frame.images[0].name / "000000.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.zeros((5, 6), np.uint8))
    with pytest.raises(DatasetError, match="own resolution"):
        pixel_labels_of(frame, rig_pairs(frame), PngLabels(tmp_path))
    with pytest.raises(DatasetError, match="label all images"):
        pixel_labels_of(frames[1], rig_pairs(frames[1]), PngLabels(tmp_path))
    cv2.imwrite(str(path), np.zeros((*frame.images[0].pixels.shape[:2], 3), np.uint8))
    with pytest.raises(DatasetError, match="8-bit"):
        pixel_labels_of(frame, rig_pairs(frame), PngLabels(tmp_path))


def test_noise_changes_whole_patches_and_stays(frames) -> None:
    frame = frames[0]
    pairs = rig_pairs(frame, depth_test=False)
    true = point_labels_of(frame, pairs, classes=16)
    np.testing.assert_array_equal(true, frame.labels[pairs.point])
    noisy = point_labels_of(frame, pairs, classes=16, noise=0.3)
    np.testing.assert_array_equal(noisy, point_labels_of(frame, pairs, classes=16, noise=0.3))
    wrong = noisy != true
    assert 0.1 < wrong.mean() < 0.55
    assert noisy.max() < 16
    assert not wrong[true == IGNORE].any()
    cell = np.floor(frame.cloud.xyz[pairs.point, :2] / 2)
    for patch in np.unique(np.column_stack([cell, true]), axis=0):
        mine = (np.column_stack([cell, true]) == patch).all(axis=1)
        assert len(set(noisy[mine])) == 1
    everything = point_labels_of(frame, pairs, classes=16, noise=1.0)
    assert (everything != true)[true < 16].all()
    other = point_labels_of(frames[1], rig_pairs(frames[1]), classes=16, noise=0.3)
    assert len(other)
    with pytest.raises(TrainingError, match="labels=folder"):
        point_labels_of(replace(frame, labels=None), pairs, classes=16)


# heads


def test_projecting_sampled_rows_is_projecting_the_map(rng) -> None:
    """Head on pixels: 1x1 convolution then bilinear sampling, or the other way round."""
    heads = PairHeads(8, 6, 4)
    linear = heads.pixels["class"]
    maps = torch.randn(2, 6, 10, 12)
    which = torch.from_numpy(rng.integers(0, 2, 30))
    uv = torch.from_numpy(rng.uniform((0, 0), (11, 9), (30, 2))).float()
    convolved = functional.conv2d(maps, linear.weight[:, :, None, None], linear.bias)
    expected = functional.normalize(sample_features(convolved, which, uv), dim=1)
    got = heads.pixel_rows("class", sample_features(maps, which, uv))
    torch.testing.assert_close(got, expected)


def test_shared_heads_have_one_space() -> None:
    shared, decoupled = PairHeads(8, 6, 4, shared=True), PairHeads(8, 6, 4)
    rows = torch.randn(5, 8)
    assert torch.equal(shared.point_rows("pair", rows), shared.point_rows("class", rows))
    assert not torch.equal(decoupled.point_rows("pair", rows), decoupled.point_rows("class", rows))
    assert sum(p.numel() for p in decoupled.parameters()) == 2 * sum(
        p.numel() for p in shared.parameters()
    )
    torch.testing.assert_close(shared.point_rows("pair", rows).norm(dim=1), torch.ones(5))
    with pytest.raises(ConfigError, match="linear or mlp"):
        projection_head("tree", 3, 3)


# settings


def test_paper_preset_holds_the_published_values() -> None:
    paper = PRESETS["paper"]
    assert (paper.point_weight, paper.class_weight, paper.consistency_weight) == (0.5, 0.5, 1.0)
    assert (paper.temperature, paper.pairs, paper.feature_dim) == (0.07, 4096, 64)
    assert (paper.vmf_decay, paper.vmf_collection_steps) == (0.9999, 10000)
    assert (paper.lr, paper.weight_decay, paper.batch, paper.voxel_size_m) == (0.5, 1e-4, 16, 0.1)
    assert (paper.view_height_px, paper.view_width_px, paper.view_min_pairs) == (224, 416, 1024)
    assert (paper.view_min_area, paper.view_aspects) == (0.3, (14 / 9, 17 / 9))
    assert paper.steps == round(50 * 28130 / 16, -2)


def test_every_row_of_tables_5_and_6_is_a_preset() -> None:
    def switches(name: str) -> tuple:
        c = PRESETS[name]
        return (c.class_weight > 0, c.consistency_weight > 0, c.sampling)

    both, uniform = "density_category", "uniform"
    assert switches("table5_1") == (False, False, uniform)
    assert switches("table5_2") == (True, False, uniform)
    assert switches("table5_3") == (False, True, uniform)
    assert switches("table5_4") == (True, True, uniform)
    assert switches("table5_5") == (True, False, both)
    assert switches("table5_6") == (True, True, both)
    full = asdict(PRESETS["paper"])
    changed = {
        name: {k for k, v in asdict(PRESETS[name]).items() if v != full[k]}
        for name in ABLATIONS
        if name.startswith("table6")
    }
    assert changed["table6_heads_shared"] == {"heads"}
    assert changed["table6_class_deterministic"] == {"class_model"}
    for row in ("random", "density", "category"):
        assert changed[f"table6_sampling_{row}"] == {"sampling"}
    assert changed["table6_labels_truth"] == {"labels"}
    assert PRESETS["table6_labels_none"] == PRESETS["table5_1"]
    for row in ("labels_weak", "heads_decoupled", "class_vmf", "sampling_both"):
        assert changed[f"table6_{row}"] == set()


@pytest.mark.parametrize("name", [n for n in PRESETS if n.startswith("demo")])
def test_every_demo_preset_builds(name: str, tmp_path) -> None:
    recipe = build_recipe("olivine", name)
    assert [stage.name for stage in recipe.stages] == ["pixel contrast", "distil into 3D"]
    assert ("regression" in recipe.stages[1].trainable) == (name == "demo_scalr")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "folder"}, "label_folder"),
        ({"labels": "none"}, "table6_labels_none"),
        ({"label_folder": "somewhere"}, "labels=folder"),
        ({"labels": "some"}, "none, folder, truth"),
        ({"heads": "one"}, "decoupled, shared"),
        ({"sampling": "all"}, "uniform, density"),
        ({"class_model": "gauss"}, "vmf, deterministic"),
        ({"teacher": "clip"}, "self_trained"),
        ({"view_width_px": 100}, "multiple of 32"),
        ({"view_aspects": (2.0, 1.0)}, "smaller one first"),
        ({"point_weight": 0, "class_weight": 0, "consistency_weight": 0}, "weight 0"),
        ({"temperature": 0.0}, "out of range"),
        ({"vmf_collection_steps": 1}, "vmf_min_updates"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(**settings)


def test_a_run_too_short_for_the_pull_says_so(caplog) -> None:
    recipe_of(steps=7)
    assert not caplog.records
    recipe_of(steps=3)
    assert "never begins" in caplog.text


# samples and losses


def test_samples_hold_true_pairs(frames) -> None:
    recipe = recipe_of(label_noise=0.0)
    for seed in range(4):
        frame = frames[seed % len(frames)]
        one = recipe.stages[1].sample(frame, np.random.default_rng(seed))
        assert one["views"].shape == (1, 3, 32, 64)
        assert len(one["pair_voxel"]) >= 16
        assert one["pair_voxel"].max() < len(one["coords"])
        # distance from the sensor survives turning and mirroring, up to a voxel's diagonal
        centre = (one["coords"][one["pair_voxel"], 1:3] + 0.5) * 0.4
        gap = np.abs(np.hypot(*centre.T) - one["pair_distance_m"])
        assert gap.max() < 0.4
        assert set(np.unique(one["pair_label"])) <= {*range(16), IGNORE}
    again = recipe.stages[1].sample(frame, np.random.default_rng(seed))
    assert all(np.array_equal(one[key], again[key]) for key in one)


def test_10_8_a_sample_keeps_the_label_of_each_pair(frames) -> None:
    """Labels that tell a pair's distance still do when views are drawn and voxels made."""

    def by_distance(frame: Frame, pairs) -> np.ndarray:
        return (np.hypot(*frame.cloud.xyz[pairs.point, :2].T.astype(float)) // 2).astype(np.uint8)

    recipe = recipe_of(classes=100, max_range_m=30.0)
    config = replace(PRESETS["demo"], **{**TINY, "classes": 100, "max_range_m": 30.0})
    spec = recipe.build()["backbone"].input
    seen = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        one = olivine.sample(config, spec, by_distance, frames[seed % 4], rng)
        np.testing.assert_array_equal(one["pair_label"], one["pair_distance_m"] // 2)
        seen |= set(one["pair_label"])
    assert len(seen) > 3


def test_batches_number_views_and_voxels_through(frames) -> None:
    recipe = recipe_of()
    batch = batch_of(recipe, frames[:3])
    assert batch["views"].shape[0] == 3
    cloud_of_pair = batch["coords"][batch["pair_voxel"], 0]
    assert torch.equal(cloud_of_pair.long(), batch["pair_view"])
    with pytest.raises(TrainingError, match="parameter classes"):
        batch_of(recipe_of(classes=2, label_noise=0.0), frames)


def test_frames_without_pairs_give_no_sample(frames) -> None:
    recipe, rng = recipe_of(), np.random.default_rng(0)
    assert recipe.stages[1].sample(replace(frames[0], images=()), rng) is None


def test_the_pull_begins_after_the_collection_phase(frames) -> None:
    parts, terms = run(recipe_of(), frames[:2], 5)
    assert [t["kl_active"] for t in terms] == [0, 0, 0, 1, 1]
    assert ["kl_loss" in t for t in terms] == [False, False, False, True, True]
    assert int(parts["statistics"].steps) == 3
    assert terms[-1]["known_classes"] > 2
    assert 0 < terms[-1]["kappa_mean"] <= 100
    for t in terms:
        total = 0.5 * t["point_loss"] + 0.5 * t["class_loss"] + t.get("kl_loss", 0.0)
        assert t["loss"] == pytest.approx(total, rel=1e-5)


def test_terms_follow_the_switches(frames) -> None:
    def terms(**settings) -> set[str]:
        return set(run(recipe_of(vmf_collection_steps=2, **settings), frames[:2], 3)[1][-1])

    none = {**ABLATIONS["table5_1"]}
    assert terms(**none) == {"pairs", "point_loss", "loss"}
    assert terms(**ABLATIONS["scalr"]) == {"pairs", "regression_loss", "loss"}
    assert "class_loss" not in terms(**ABLATIONS["table5_3"])
    assert "kl_active" not in terms(**ABLATIONS["table5_2"])
    assert "kl_loss" in terms(class_model="deterministic")


def test_pairs_alone_are_info_nce(frames) -> None:
    """The baseline (PPKT), recomputed from the parts."""
    recipe = recipe_of(**ABLATIONS["table5_1"], **{"pairs": 10**6})
    batch = batch_of(recipe, frames[:2])
    torch.manual_seed(0)
    parts = recipe.build().eval()
    loss, terms = recipe.stages[1].loss(parts, batch)
    cloud = SparseTensor(batch["features"], batch["coords"], batch_size=2)
    voxels = parts["backbone"].net(cloud).features[batch["pair_voxel"]]
    maps = cast(PixelUNet, parts["image"]).trunk(batch["views"])
    targets = sample_features(
        maps, batch["pair_view"], batch["pair_uv"], tuple(batch["views"].shape[-2:])
    )
    heads = parts["heads"]
    q, k = heads.points["pair"](voxels), heads.pixels["pair"](targets)
    expected = info_nce(q, k, temperature=0.07)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert terms["pairs"] == len(batch["pair_voxel"]) / 2


def test_unlabelled_pairs_take_no_part_in_classes(frames) -> None:
    recipe = recipe_of(vmf_collection_steps=2, class_weight=0.0, point_weight=0.0)
    batch = batch_of(recipe, frames[:2])
    blind = {**batch, "pair_label": torch.full_like(batch["pair_label"], IGNORE)}
    torch.manual_seed(0)
    parts = recipe.build().train()
    loss, terms = recipe.stages[1].loss(parts, blind)
    assert float(loss.detach()) == 0
    assert terms["labelled"] == 0
    assert not parts["statistics"].updates.any()
    as_class = recipe_of(vmf_collection_steps=2, class_weight=0.0, ignore_background=False)
    torch.manual_seed(0)
    parts = as_class.build().train()
    _, terms = as_class.stages[1].loss(parts, blind)
    assert parts["statistics"].updates.tolist() == [0] * 16 + [1]
    assert terms["labelled"] == len(batch["pair_label"])


def test_10_10_the_teacher_is_bit_identical_after_ten_steps(frames) -> None:
    recipe = recipe_of()
    torch.manual_seed(0)
    before = copy.deepcopy(recipe.build().state_dict())
    parts, _ = run(recipe, frames[:2], 10)
    after = parts.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {name.split(".")[0] for name in changed} == {"backbone", "heads", "statistics"}
    assert any(name.startswith("image.") and "running_mean" in name for name in after)
    for name, _ in parts.named_parameters():
        if name.split(".")[0] in ("backbone", "heads"):
            assert name in changed, name


# the whole of it


def pretrain_config(**settings) -> PretrainConfig:
    trainer = TrainerConfig(progress=False, prefetch=False, save_every_steps=2, threads=1)
    return PretrainConfig("olivine", "demo", {**TINY, **settings}, trainer=trainer)


def test_pretrains_end_to_end(drive, tmp_path) -> None:
    path = pretrain([drive], tmp_path, pretrain_config())
    checkpoint = load_checkpoint(path)
    assert checkpoint.recipe == "olivine"
    assert checkpoint.metadata["supervision"] == "labels of every point, 10 % of patches wrong"
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == ["pixel contrast"] * 2 + ["distil into 3D"] * 6
    assert [row["terms"]["kl_active"] for row in rows[2:]] == [0, 0, 0, 1, 1, 1]
    assert not any(row["skipped"] for row in rows)
    assert not any("head" in name for name in checkpoint.state)


def test_learns_from_a_label_folder(drive, frames, tmp_path) -> None:
    for frame in frames:
        for image in frame.images:
            path = tmp_path / "labels" / image.name / f"{frame.index:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            bands = np.arange(image.camera.height)[:, None] // 24
            picture = np.broadcast_to(bands, image.pixels.shape[:2]).astype(np.uint8)
            cv2.imwrite(str(path), picture)
    folder = str(tmp_path / "labels")
    config = pretrain_config(labels="folder", label_folder=folder, classes=4)
    checkpoint = load_checkpoint(pretrain([drive], tmp_path / "out", config))
    assert checkpoint.metadata["supervision"] == f"label images in {folder}"
    assert len(checkpoint.metadata["settings"]["label_identity"]) == 16


def test_a_stopped_run_goes_on_bit_equally(drive, tmp_path) -> None:
    """Also across the end of the collection phase: statistics are part of the state."""
    whole = load_checkpoint(pretrain([drive], tmp_path / "whole", pretrain_config()))

    def stop(record) -> None:
        if record.stage == "distil into 3D" and record.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain([drive], tmp_path / "stopped", pretrain_config(), on_step=stop)
    resumed = load_checkpoint(pretrain([drive], tmp_path / "stopped", pretrain_config()))
    for name, value in whole.state.items():
        assert torch.equal(value, resumed.state[name]), name
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "samples_per_s"}
            for line in (tmp_path / name / "log.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "stopped")
    ]
    assert logs[0] == logs[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_10_12_overfits_two_frames(frames) -> None:
    """500 steps on one batch of two frames: InfoNCE falls below half of ln(pairs), and the nearest
    pixel in the space of classes is of the point's class. The teacher is a random image network."""
    settings = {**TINY, "view_width_px": 160, "view_height_px": 96, "voxel_size_m": 0.2}
    settings |= {"label_noise": 0.0, "steps": 500, "pairs": 256, "vmf_collection_steps": 100}
    recipe = build_recipe("olivine", "demo", settings)
    batch = batch_of(recipe, frames[:2])
    torch.manual_seed(0)
    parts, stage = recipe.build(), recipe.stages[1]
    optimiser = stage.optimiser(set_modes(parts, stage, 0))
    base = optimiser.param_groups[0]["lr"]
    for step in range(stage.steps):
        torch.manual_seed(step)
        optimiser.param_groups[0]["lr"] = base * stage.schedule(step)
        _, _, terms, _ = _train_step(parts, stage, batch, optimiser)
    with torch.no_grad():  # in train mode: two frames are their own statistics
        cloud = SparseTensor(batch["features"], batch["coords"], batch_size=2)
        rows = parts["backbone"].net(cloud).features[batch["pair_voxel"]]
        maps = cast(PixelUNet, parts["image"]).trunk(batch["views"])
        targets = sample_features(
            maps, batch["pair_view"], batch["pair_uv"], tuple(batch["views"].shape[-2:])
        )
        labels = batch["pair_label"]
        known = labels != IGNORE
        q = parts["heads"].point_rows("class", rows[known])
        k = parts["heads"].pixel_rows("class", targets[known])
        nearest = labels[known][(q @ k.T).argmax(1)]
    right = float((nearest == labels[known]).float().mean())
    print(f"InfoNCE {terms['point_loss']:.3f} of ln = {np.log(256):.3f}; class found {right:.3f}")
    assert terms["kl_active"] == 1
    assert terms["point_loss"] < 0.5 * np.log(256)
    assert right > 0.95
