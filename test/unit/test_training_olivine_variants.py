"""Variants of recipe olivine: superpixels (SLidR), cylindrical voxels, other trunks, momentum."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from training_scenes import TINY_OLIVINE, TWO_CAMERAS, small_drive

from condense_ros.config import build
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import ConfigError
from condense_ros.frame import Frame, PointCloud
from condense_ros.geometry import rotation_rpy
from condense_ros.models import load_checkpoint
from condense_training.heads import PairHeads
from condense_training.labels.superpixels import SlicConfig, superpixels
from condense_training.losses.superpixel_contrast import segment_means
from condense_training.pairs import rig_pairs, sample_features
from condense_training.pretraining import PretrainConfig, pretrain
from condense_training.recipe import Batch, Recipe
from condense_training.recipes import build_recipe
from condense_training.recipes.olivine_config import OlivineConfig, input_spec
from condense_training.recipes.olivine_presets import ABLATIONS, PRESETS, TRUNKS
from condense_training.segments import SuperpixelStore, crop_segments, pair_segments
from condense_training.steps import set_modes, train_step
from condense_training.trainer import TrainerConfig
from condense_training.views import ViewAugmentation, random_views

TINY = TINY_OLIVINE


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Superpixels are not kept in the user's cache while testing."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "condense_ros" / "superpixels"


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive"), frames=3, rig=TWO_CAMERAS)


@pytest.fixture(scope="module")
def frames(drive) -> list[Frame]:
    folder = SimulatedFolder(drive)
    return [folder[i] for i in range(len(folder))]


def batch_of(recipe: Recipe, frames: list[Frame], seed: int = 0) -> Batch:
    stage = recipe.stages[-1]
    return stage.collate(
        [stage.sample(f, np.random.default_rng([seed, i])) for i, f in enumerate(frames)]
    )


# superpixels


def test_the_presets_are_slidr() -> None:
    paper, demo = PRESETS["slidr"], PRESETS["demo_slidr"]
    for config in (paper, demo):
        assert (config.superpixel_weight, config.point_weight, config.class_weight) == (1, 0, 0)
        assert config.labels == "none"
    slic = (paper.superpixel_segments, paper.superpixel_compactness, paper.superpixel_blur_px)
    assert slic == (150, 6.0, 3.0)
    assert SlicConfig() == SlicConfig(*slic)
    assert PRESETS["voxelnet"].superpixel_segments == 30


def test_superpixels_of_pairs_are_those_of_the_pixel_as_recorded(frames) -> None:
    frame = frames[0]
    pairs = rig_pairs(frame)
    maps = {n: superpixels(image.pixels, SlicConfig(40)) for n, image in enumerate(frame.images)}
    got = pair_segments(frame, pairs, maps)
    assert got.tolist() == [
        maps[n][round(v), round(u)] for n, (u, v) in zip(pairs.image, pairs.uv, strict=True)
    ]


def test_10_8_superpixels_follow_the_views(frames) -> None:
    """Superpixels of a view are those of the original pixels that it shows."""
    frame = frames[1]
    pairs = rig_pairs(frame)
    maps = [superpixels(image.pixels, SlicConfig(40)) for image in frame.images]
    views = random_views(
        frame, pairs, np.random.default_rng(5), ViewAugmentation(64, 32, min_pairs=16)
    )
    assert len(views.images) == 2
    for view, (number, crop) in enumerate(zip(views.images, views.crops, strict=True)):
        cut = crop_segments(crop, maps[number])
        assert cut.shape == (32, 64)
        # the pixel itself, mapped back by arithmetic of its own
        for row, column in ((0, 0), (5, 40), (31, 63)):
            x = 63 - column if crop.flip else column
            u = crop.left + (x + 0.5) * crop.width / 64 - 0.5
            v = crop.top + (row + 0.5) * crop.height / 32 - 0.5
            assert cut[row, column] == maps[number][round(v), round(u)]
        # pairs of the view lie in the superpixel they had before it was drawn, but for those at a
        # border, a resized pixel away, and in pieces thinner than that
        mine = views.pairs.image == view
        before = pair_segments(frame, pairs, dict(enumerate(maps)))[views.source[mine]]
        column, row = np.rint(views.pairs.uv[mine]).astype(int).T
        assert (cut[row, column] == before).mean() > 0.85
        near = np.stack(
            [
                cut[np.clip(row + i, 0, 31), np.clip(column + j, 0, 63)]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
        )
        assert (near == before).any(0).mean() > 0.98


def test_superpixels_are_kept_by_content(cache, frames, caplog, monkeypatch) -> None:
    pixels = frames[0].images[0].pixels
    config = SlicConfig(30, 6.0, 1.0)
    expected = superpixels(pixels, config)
    store = SuperpixelStore(config)
    np.testing.assert_array_equal(store(pixels), expected)
    (file,) = cache.rglob("*.png")
    calls = []
    monkeypatch.setattr(
        "condense_training.segments.superpixels",
        lambda *args: calls.append(args) or superpixels(*args),
    )
    again = SuperpixelStore(config)(pixels.copy())
    assert (again.dtype, len(calls)) == (np.int32, 0)
    np.testing.assert_array_equal(again, expected)
    # another image, and the same image cut otherwise, are others
    SuperpixelStore(config)(255 - pixels)
    SuperpixelStore(replace(config, segments=20))(pixels)
    assert len(calls) == 2
    assert len(list(cache.rglob("*.png"))) == 3
    # what is damaged is made again
    file.write_bytes(file.read_bytes()[:-40])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(SuperpixelStore(config)(pixels), expected)
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(SuperpixelStore(config)(pixels), expected)
    assert len(calls) == 3


def test_without_a_place_to_keep_them_superpixels_are_computed(tmp_path, frames, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    store = SuperpixelStore(SlicConfig(30), tmp_path / "file")
    pixels = frames[0].images[0].pixels
    for _ in range(2):
        np.testing.assert_array_equal(store(pixels), superpixels(pixels, SlicConfig(30)))
    assert caplog.text.count("cannot be kept") == 1


def test_10_8_a_sample_keeps_the_superpixel_of_each_pair(frames) -> None:
    """Whatever was cut, mirrored and shuffled, a pair's pixel shows the superpixel it had."""
    recipe = build_recipe("olivine", "demo_slidr", {**TINY, "superpixel_segments": 30})
    orders = set()
    for seed in range(6):
        one = recipe.stages[1].sample(frames[seed % 3], np.random.default_rng(seed))
        column, row = np.rint(one["pair_uv"]).astype(int).T
        shown = one["view_segments"][one["pair_view"], row, column]
        assert (shown == one["pair_segment"]).mean() > 0.85
        orders.add(tuple(one["view_segments"].max(axis=(1, 2))))
    assert len(orders) > 3


def test_batches_number_superpixels_through(frames) -> None:
    recipe = build_recipe("olivine", "demo_slidr", TINY)
    samples = [
        recipe.stages[1].sample(f, np.random.default_rng(i)) for i, f in enumerate(frames[:2])
    ]
    batch = recipe.stages[1].collate(samples)
    assert batch["view_segments"].shape == (4, 32, 64)
    ranges = [set(one.unique().tolist()) for one in batch["view_segments"]]
    assert not any(a & b for i, a in enumerate(ranges) for b in ranges[:i])
    local = np.concatenate([one["view_segments"] for one in samples])
    for view in range(4):  # the same pieces, under other numbers
        shift = batch["view_segments"][view].numpy() - local[view]
        assert (shift == shift.flat[0]).all()
        mine = batch["pair_view"] == view
        pairs = np.concatenate([one["pair_segment"] for one in samples])[mine.numpy()]
        np.testing.assert_array_equal(batch["pair_segment"][mine].numpy() - pairs, shift.flat[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cells", [(8, 16), (2, 4), (32, 64)])
def test_heads_on_maps_are_heads_on_every_pixel(cells, dtype) -> None:
    heads = PairHeads(8, 6, 4).to(dtype)
    maps = torch.randn(2, 6, *cells, dtype=dtype)
    v, u = torch.meshgrid(torch.arange(32), torch.arange(64), indexing="ij")
    uv = torch.stack([u.flatten(), v.flatten()], 1).to(dtype)
    got = heads.pixel_maps("class", maps, (32, 64))
    assert got.shape == (2, 4, 32, 64)
    for view in range(2):
        which = torch.full((len(uv),), view)
        rows = heads.pixel_rows("class", sample_features(maps, which, uv, (32, 64)))
        expected = got[view].flatten(1).T
        atol = 1e-4 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(rows, expected, atol=atol, rtol=0)


def test_the_loss_is_that_of_pooled_superpixels(frames) -> None:
    """Recomputed in float64: mean of unit features of points and of pixels, then InfoNCE."""
    recipe = build_recipe("olivine", "demo_slidr", TINY)
    batch = batch_of(recipe, frames[:2])
    torch.manual_seed(0)
    parts = recipe.build().eval()
    loss, terms = recipe.stages[1].loss(parts, batch)
    with torch.no_grad():
        from condense_training.clouds import voxels_of

        backbone, heads = parts["backbone"], parts["heads"].double()
        voxels = backbone(voxels_of(batch, backbone.input, 2)).double()
        points = functional.normalize(heads.points["pair"](voxels))[batch["pair_voxel"]]
        maps = parts["image"].trunk(batch["views"]).double()  # of stride 4
        maps = functional.interpolate(maps, (32, 64), mode="bilinear", align_corners=True)
        pixels = heads.pixels["pair"](maps.permute(0, 2, 3, 1).flatten(0, 2))
        pixels = functional.normalize(pixels)
        segments = batch["view_segments"].flatten()
        common = sorted(set(batch["pair_segment"].tolist()) & set(segments.tolist()))
        q = torch.stack([points[batch["pair_segment"] == s].mean(0) for s in common])
        k = torch.stack([pixels[segments == s].mean(0) for s in common])
        logits = functional.normalize(q) @ functional.normalize(k).T / 0.07
        expected = functional.cross_entropy(logits, torch.arange(len(common)))
    assert len(common) > 10
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)
    assert set(terms) == {"pairs", "superpixel_loss"}


def test_a_superpixel_without_points_is_no_positive() -> None:
    means, counts = segment_means(torch.ones(3, 2), torch.tensor([0, 2, -1]), 3)
    assert counts.tolist() == [1, 0, 1]
    assert means[1].tolist() == [0, 0]


def test_slidr_learns_without_labels(drive, tmp_path, cache) -> None:
    trainer = TrainerConfig(progress=False, prefetch=False, threads=1)
    settings = {**TINY, "steps": 12, "voxel_size_m": 0.4}
    config = PretrainConfig("olivine", "demo_slidr", settings, trainer=trainer)
    checkpoint = load_checkpoint(pretrain([drive], tmp_path, config))
    assert checkpoint.metadata["supervision"] == "none: self-supervised"
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()][2:]
    assert all(np.isfinite(row["terms"]["superpixel_loss"]) for row in rows)
    assert not any(row["skipped"] for row in rows)
    assert len(list(cache.rglob("*.png"))) == 6  # three frames of two cameras


# voxels


def test_coordinates_of_the_presets() -> None:
    """Cylindrical as the released configuration, one point per voxel; VoxelNet Cartesian."""
    for name in ("paper", *ABLATIONS):
        spec = input_spec(PRESETS[name])
        assert (spec.coordinates, spec.sizes, spec.reduce) == (
            "cylindrical",
            (0.1, 1.0, 0.1),
            "first",
        )
    for name in [n for n in PRESETS if n == "quick" or n.startswith("demo")]:
        assert input_spec(PRESETS[name]).coordinates == "cartesian"
    assert input_spec(PRESETS["demo"]).reduce == "mean"
    voxelnet = input_spec(PRESETS["voxelnet"])
    assert (voxelnet.sizes, voxelnet.coordinates) == ((0.1, 0.1, 0.2), "cartesian")
    assert voxelnet.box_m == (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
    assert (voxelnet.max_points_per_voxel, voxelnet.max_voxels) == (10, 60000)
    assert set(TRUNKS) <= set(PRESETS)


def turned(cloud: PointCloud, degrees: float) -> PointCloud:
    turn = rotation_rpy(0, 0, np.radians(degrees))
    return replace(cloud, xyz=(cloud.xyz.astype(np.float64) @ turn.T).astype(np.float32))


@pytest.mark.parametrize("name", ["demo", "paper"])
@pytest.mark.parametrize("turns", [1, -2])
def test_10_9_whole_turns_leave_voxels_as_they_are(name: str, turns: int, frames) -> None:
    spec = replace(input_spec(PRESETS[name]), intensity_scale=1.0)
    cloud = frames[0].cloud
    before, after = spec.voxelize(cloud), spec.voxelize(turned(cloud, 360.0 * turns))
    assert torch.equal(before.coords, after.coords)
    torch.testing.assert_close(before.features, after.features, atol=1e-6, rtol=0)


@pytest.mark.parametrize("degrees", [1, 90, -137])
def test_10_9_whole_degrees_shift_cylindrical_voxels_in_phi_only(degrees: int) -> None:
    spec = replace(input_spec(PRESETS["paper"]), features=("one", "height"))
    rng = np.random.default_rng(1)
    # away from borders of voxels, which rounding could cross
    rho = (rng.integers(10, 600, 400) + rng.uniform(0.2, 0.8, 400)) * 0.1
    phi = np.radians(rng.integers(-180, 180, 400) + rng.uniform(0.2, 0.8, 400))
    z = (rng.integers(-20, 20, 400) + rng.uniform(0.2, 0.8, 400)) * 0.1
    xyz = np.stack([rho * np.cos(phi), rho * np.sin(phi), z], 1).astype(np.float32)
    before = spec.voxelize(PointCloud(xyz))
    after = spec.voxelize(turned(PointCloud(xyz), degrees))
    first, second = before.coords[before.inverse], after.coords[after.inverse]
    assert torch.equal(first[:, [1, 3]], second[:, [1, 3]])
    shift = (second[:, 2] - first[:, 2] - degrees) % 360
    assert not shift.any()
    torch.testing.assert_close(before.features[before.inverse], after.features[after.inverse])


def test_a_box_needs_cartesian_voxels() -> None:
    for backbone in ("voxelnet", "waffleiron-48-384"):
        with pytest.raises(ConfigError, match="set coordinates=cartesian"):
            build_recipe("olivine", "ppkt", {"backbone": backbone})
    with pytest.raises(ConfigError, match="cylindrical"):
        build_recipe("olivine", "demo", {"coordinates": "spherical"})
    assert build(OlivineConfig, {"coordinates": "cylindrical"}).coordinates == "cylindrical"


# trunks


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("demo", {"voxel_size_m": 0.4}),
        ("demo", {"voxel_size_m": 0.4, "coordinates": "cylindrical", "voxel_feature": "first"}),
        ("demo_voxelnet", {}),
        ("demo_waffleiron", {}),
        ("demo_slidr", {"voxel_size_m": 0.4}),
        (
            "demo_slidr",
            {"backbone": "voxelnet", "voxel_sizes": (0.4, 0.4, 0.25), "superpixel_segments": 30},
        ),
    ],
)
def test_every_trunk_learns_from_a_step(preset: str, settings: dict, frames) -> None:
    recipe = build_recipe("olivine", preset, {**TINY, **settings})
    stage = recipe.stages[-1]
    torch.manual_seed(0)
    parts = recipe.build()
    optimiser = stage.optimiser(set_modes(parts, stage, 0))
    loss, norm, _, skipped = train_step(parts, stage, batch_of(recipe, frames[:2]), optimiser)
    assert not skipped
    assert np.isfinite([loss, norm]).all()
    trunk = dict(parts["backbone"].named_parameters())
    for name, parameter in trunk.items():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    moved = [name for name, parameter in trunk.items() if bool(parameter.grad.abs().sum() > 0)]
    # a bias before a batch norm gets none, whatever the loss
    assert len(moved) > 0.8 * len(trunk)


def test_voxelnet_and_waffleiron_pretrain_to_checkpoints(drive, tmp_path) -> None:
    trainer = TrainerConfig(progress=False, prefetch=False, threads=1)
    for preset, architecture in (
        ("demo_voxelnet", "voxelnet"),
        ("demo_waffleiron", "waffleiron"),
    ):
        config = PretrainConfig("olivine", preset, {**TINY, "steps": 3}, trainer=trainer)
        checkpoint = load_checkpoint(pretrain([drive], tmp_path / preset, config))
        assert checkpoint.backbone.architecture == architecture
        checkpoint.build_backbone()


# batch norms


@pytest.mark.parametrize(
    ("preset", "settings", "momenta"),
    [
        ("demo", {}, {0.1}),
        ("demo", {"bn_momentum": 0.05}, {0.05}),
        ("demo_voxelnet", {}, {0.01}),
        ("ppkt", {"backbone": "demo"}, {0.05}),
    ],
)
def test_momentum_of_batch_norms(preset: str, settings: dict, momenta: set[float]) -> None:
    parts = build_recipe("olivine", preset, settings).build()
    norms = [
        module
        for module in parts["backbone"].modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    assert len(norms) > 5
    assert {norm.momentum for norm in norms} == momenta
    others = [
        module.momentum
        for module in parts["image"].modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    assert set(others) == {0.1}
