"""Similarity of points and pixels, t-SNE, and the command that draws them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_scenes import TINY, small_drive
from typer.testing import CliRunner

from condense_ros.cli.app import app
from condense_ros.datasets import open_dataset
from condense_ros.errors import CheckpointError, ConfigError, TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_ros.models import load_checkpoint
from condense_training import PretrainConfig, pretrain
from condense_training.crops import Crop
from condense_training.evaluate.run_folder import open_embedding
from condense_training.evaluate.similarity import (
    FrameFeatures,
    Query,
    SimilarityMaps,
    alignment,
    class_query,
    frame_features,
    largest_classes,
    pixel_query,
    point_query,
    separation,
    similarity,
)
from condense_training.evaluate.tsne import affinities, divergence, gradient, tsne
from condense_training.pairs import rig_pairs
from condense_training.recipes import build_recipe
from condense_training.state import load_state, save_state
from condense_training.trainer import TrainerConfig

TINY_OLIVINE = {
    **{
        name: TINY[name] for name in ("pixel_steps", "pixel_batch", "pixel_matches", "voxel_size_m")
    },
    **{"pixel_crop_px": 32, "steps": 3, "batch": 2, "pairs": 64, "labels": "truth"},
    **{"view_width_px": 128, "view_height_px": 96, "vmf_collection_steps": 1},
    **{"vmf_min_updates": 1},
}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_drive(tmp_path_factory.mktemp("similar") / "town", frames=4)


def trained(drive: Path, out: Path, recipe: str, settings: dict[str, object]) -> Path:
    config = PretrainConfig(
        recipe=recipe, preset="quick", settings=settings, trainer=TrainerConfig(progress=False)
    )
    pretrain([drive], out, config)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drive: Path) -> Path:
    return trained(drive, tmp_path_factory.mktemp("run") / "janda", "janda", TINY)


@pytest.fixture(scope="module")
def frame(drive: Path) -> Frame:
    return open_dataset(drive)[1]


def test_a_run_folder_gives_the_space_it_was_trained_in(run: Path, frame: Frame) -> None:
    embedding = open_embedding(run)
    features = frame_features(embedding, frame)
    known = features.known
    assert 0.5 < known.mean() <= 1.0
    np.testing.assert_allclose(np.linalg.norm(features.points[known], axis=1), 1, rtol=1e-4)
    assert features.maps[0].shape == (64, 96, 16)  # 96 x 128 pixels, resized to a short side of 64
    np.testing.assert_allclose(np.linalg.norm(features.maps[0], axis=2), 1, rtol=1e-4)
    # by hand: the parts of the state, and the exported backbone
    parts = build_recipe("janda", "quick", TINY).build()
    parts.load_state_dict(load_state(run)["parts"])
    parts.eval()
    voxels = embedding.backbone.input.voxelize(frame.cloud)
    with torch.no_grad():
        rows = parts["head"](embedding.backbone(voxels))
        pixels = features.crops[0].cut(frame.images[0].pixels).transpose(2, 0, 1).copy()
        image = parts["image"](torch.from_numpy(pixels)[None])[0]
    row = int(np.nonzero(known)[0][7])
    expected = torch.nn.functional.normalize(rows[voxels.inverse[row]], dim=0)
    np.testing.assert_allclose(features.points[row], expected, atol=1e-5)
    expected = torch.nn.functional.normalize(image[:, 10, 20], dim=0)
    np.testing.assert_allclose(features.maps[0][10, 20], expected, atol=1e-5)


def test_olivine_and_a_bare_checkpoint(
    run: Path, drive: Path, frame: Frame, tmp_path: Path
) -> None:
    folder = trained(drive, tmp_path / "olivine", "olivine", TINY_OLIVINE)
    embedding = open_embedding(folder)
    features = frame_features(embedding, frame)
    assert features.maps[0].shape[2] == features.points.shape[1]
    assert features.maps[0].shape[:2] == (96, 128)
    bare = frame_features(open_embedding(run / "backbone.safetensors"), frame)
    assert bare.maps == ()
    assert alignment(frame, bare) == {}
    with pytest.raises(ConfigError, match="teacher"):
        pixel_query(frame, bare, frame.images[0].name, 1, 1)
    with pytest.raises(TrainingError, match="teacher"):
        open_embedding(run / "backbone.safetensors").pixel_maps(torch.zeros(1, 3, 32, 32))


def test_heads_and_backbone_are_of_one_step(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    state = load_state(copied)
    assert state is not None
    ended = open_embedding(copied).backbone.state_dict()
    torch.testing.assert_close(
        ended, load_checkpoint(run / "backbone.safetensors").build_backbone().state_dict()
    )
    # a run that has gone on since its checkpoint was written: the state's own backbone
    state["position"]["total"] += 1
    with torch.no_grad():
        for name, values in state["parts"].items():
            if name.startswith("backbone.") and name.endswith("weight"):
                values += 1.0
    save_state(copied, state["position"]["total"], state)
    later = open_embedding(copied).backbone.state_dict()
    for name, values in later.items():
        torch.testing.assert_close(values, state["parts"][f"backbone.{name}"])
    # with an average of the weights, that
    state["average"] = {name: values.clone() for name, values in state["parts"].items()}
    state["average"]["head.weight"] += 2.0
    state["position"]["total"] += 1
    save_state(copied, state["position"]["total"], state)
    head = open_embedding(copied).parts["head"]
    torch.testing.assert_close(head.weight, state["parts"]["head.weight"] + 2.0, check_stride=False)


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(CheckpointError, match="condense pretrain"):
            open_embedding(path)
    # a state whose networks are others than its settings say
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    state = load_state(copied)
    assert state is not None
    state["fingerprint"]["feature_dim"] = 8
    save_state(copied, 10**8, state)
    with pytest.raises(CheckpointError, match="version"):
        open_embedding(copied)
    state["fingerprint"]["recipe"] = "unheard_of"
    save_state(copied, 10**8 + 1, state)
    with pytest.raises(CheckpointError, match="unheard_of"):
        open_embedding(copied)


def made_features(frame: Frame, channels: int = 4) -> FrameFeatures:
    """Features that tell the classes apart, for points and for the pixels that see them."""
    assert frame.labels is not None
    rng = np.random.default_rng(0)
    table = np.linalg.qr(rng.normal(size=(32, 32)))[0][:, :32].astype(np.float32)
    points = table[frame.labels % 32]
    points[:3] = np.nan
    crops, maps = [], []
    pairs = rig_pairs(frame)
    for number, image in enumerate(frame.images):
        width, height = image.camera.width, image.camera.height
        crops.append(Crop(0, 0, width, height, width, height))
        pixels = np.tile(table[31], (height, width, 1))
        mine = pairs.image == number
        u, v = np.rint(pairs.uv[mine]).astype(int).T
        pixels[v, u] = table[frame.labels[pairs.point[mine]] % 32]
        maps.append(pixels)
    return FrameFeatures(points, tuple(maps), tuple(crops))


def test_similarity_finds_what_is_alike(frame: Frame) -> None:
    features = made_features(frame)
    label = largest_classes(frame, features, 1)[0]
    query = class_query(frame, features, label, "it")
    assert frame.labels[query.row] == label
    assert query.pixels  # a camera sees it
    maps = similarity(features, query)
    known = features.known
    np.testing.assert_allclose(
        maps.points[known], (frame.labels[known] == label).astype(float), atol=1e-5
    )
    assert np.isnan(maps.points[~known]).all()
    assert separation(frame, maps, query) == pytest.approx(1.0)
    same = point_query(frame, features, query.row)
    np.testing.assert_array_equal(same.feature, query.feature)
    image, uv = next(iter(query.pixels.items()))
    by_pixel = pixel_query(frame, features, frame.images[image].name, *np.rint(uv))
    assert by_pixel.feature @ query.feature == pytest.approx(1.0, abs=1e-4)
    assert by_pixel.xyz is None


def test_separation_is_the_share_of_won_comparisons(frame: Frame) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=len(frame.cloud)).round(1).astype(np.float32)  # with ties
    points[5] = np.nan
    label = int(np.bincount(frame.labels[frame.labels != IGNORE]).argmax())
    row = int(np.nonzero(frame.labels == label)[0][9])
    query = Query("q", np.zeros(1, np.float32), None, {}, label, row)
    judged = np.isfinite(points) & (frame.labels != IGNORE)
    judged[row] = False
    mine = points[judged & (frame.labels == label)]
    other = points[judged & (frame.labels != label)]
    wins = (mine[:, None] > other).mean() + 0.5 * (mine[:, None] == other).mean()
    maps = SimilarityMaps(points, ())
    assert separation(frame, maps, query) == pytest.approx(wins)
    assert separation(frame, maps, replace(query, label=IGNORE)) is None
    assert separation(replace(frame, labels=None), maps, query) is None


def test_alignment_compares_own_and_other_pixels(frame: Frame) -> None:
    features = made_features(frame)
    found = alignment(frame, features)
    assert found["cosine_own_pixel"] > 0.7
    assert found["cosine_own_pixel"] > found["cosine_other_pixel"] + 0.2
    # pixels turned away: no pair agrees
    away = FrameFeatures(features.points, tuple(-m for m in features.maps), features.crops)
    assert alignment(frame, away)["cosine_own_pixel"] == pytest.approx(-found["cosine_own_pixel"])
    assert alignment(frame, away)["own_pixel_wins"] < 0.5


def test_queries_that_cannot_be_are_refused(frame: Frame) -> None:
    features = made_features(frame)
    camera = frame.images[0].name
    for wrong in (
        lambda: point_query(frame, features, len(frame.cloud)),
        lambda: point_query(frame, features, 0),  # out of range: no feature
        lambda: pixel_query(frame, features, "nowhere", 1, 1),
        lambda: pixel_query(frame, features, camera, 1e4, 1),
        lambda: class_query(frame, features, 200, "no such"),
    ):
        with pytest.raises(ConfigError):
            wrong()


def test_affinities_have_the_perplexity_asked_for() -> None:
    rng = np.random.default_rng(2)
    # two densities, a hundredfold apart
    x = torch.from_numpy(np.r_[rng.normal(size=(60, 5)), 100 * rng.normal(size=(60, 5)) + 1e4])
    joint = affinities(x, 12.0)
    assert float(joint.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(joint, joint.T)
    assert float(joint.diagonal().abs().max()) == 0.0
    # where all neighbours are equally far, every one has the same share
    ring = torch.eye(10, dtype=torch.float64)
    expected = (1 - torch.eye(10, dtype=torch.float64)) / 90
    torch.testing.assert_close(affinities(ring, 9.0), expected)


def test_gradient_is_that_of_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    joint = affinities(x, 3.0)
    places = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    slope = gradient(joint, places)
    step = 1e-6
    for row, axis in ((0, 0), (5, 1), (11, 0)):
        moved = torch.zeros_like(places)
        moved[row, axis] = step
        numeric = (divergence(joint, places + moved) - divergence(joint, places - moved)) / 2 / step
        assert float(slope[row, axis]) == pytest.approx(numeric, rel=1e-5)


def test_tsne_keeps_groups_together() -> None:
    rng = np.random.default_rng(3)
    kind = np.arange(90) % 3
    features = 8 * np.eye(3, 10)[kind] + rng.normal(scale=0.5, size=(90, 10))
    places = tsne(features, perplexity=10, steps=300)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kind[apart.argmin(axis=1)] == kind).all()
    middles = np.array([places[kind == k].mean(axis=0) for k in range(3)])
    spread = max(places[kind == k].std(axis=0).max() for k in range(3))
    gaps = np.linalg.norm(middles[:, None] - middles[None], axis=2)[~np.eye(3, dtype=bool)]
    assert gaps.min() > 2 * spread
    np.testing.assert_array_equal(places, tsne(features, perplexity=10, steps=300))
    for wrong in (np.zeros((3, 4)), np.zeros(9), np.full((8, 2), np.nan)):
        with pytest.raises(TrainingError):
            tsne(wrong)


def test_the_command(run: Path, drive: Path, tmp_path: Path) -> None:
    command = ["eval", "similarity", str(run), "--data", str(drive), "--frame", "1"]
    command += ["--class", "road", "--pixel", "front:60,80", "--tsne-points", "30"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {
        *("similarity_road.png", "similarity_pixel_60_80_of_front.png"),
        *("pca_cloud.png", "pca_rig.png", "tsne.png"),
    }
    content = json.loads((tmp_path / "similarity.json").read_text())
    assert [query["query"] for query in content["queries"]] == ["pixel 60,80 of front", "road"]
    assert content["queries"][0]["roc_area"] is None
    assert 0 <= content["queries"][1]["roc_area"] <= 1
    assert content["alignment"]["pairs"] > 50
    with_maps = Image.open(tmp_path / "similarity_road.png").size
    # a bare checkpoint: no maps below the images, and said so
    command[2] = str(run / "backbone.safetensors")
    command = [word for word in command if word not in ("--pixel", "front:60,80")]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "bare")])
    assert done.exit_code == 0, done.output
    assert "no teacher" in done.output
    assert Image.open(tmp_path / "bare" / "similarity_road.png").size[1] < with_maps[1]
    for wrong in (["--pixel", "front"], ["--class", "dragon"], ["--frame", "99"]):
        assert isinstance(CliRunner().invoke(app, [*command, *wrong]).exception, ConfigError)
