"""Superpixels, their features and groups; the image network that trains itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from training_scenes import TINY, small_drive

from condense_ros.config import build
from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import CheckpointError, ConfigError, LabelError
from condense_training import PretrainConfig, pretrain
from condense_training.labels.features import HandmadeFeatures, NetworkFeatures, mean_of_pieces
from condense_training.labels.folder import LabelFolder
from condense_training.labels.images import SourceImage, open_images
from condense_training.labels.labelers.clusters import ClustersConfig, ClustersLabeler
from condense_training.labels.labelers.clusters import build as build_clusters
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.pixel_network import load_network
from condense_training.labels.run import LabelConfig, label
from condense_training.labels.superpixels import SlicConfig, superpixels
from condense_training.networks.pixel_unet import build_pixel_network
from condense_training.trainer import TrainerConfig

FEW = {"groups": 5, "segments": 40, "blur_px": 1.0, "fit_images": 6}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_drive(tmp_path_factory.mktemp("drive") / "town", truth=True)


def quarters() -> np.ndarray:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:] = (200, 30, 30), (30, 200, 30)
    image[20:, :30], image[20:, 30:] = (30, 30, 200), (200, 200, 30)
    return image


def connected(pieces: np.ndarray) -> bool:
    return all(ndimage.label(pieces == k)[1] == 1 for k in range(pieces.max() + 1))


def test_superpixels_keep_to_colour_edges() -> None:
    pieces = superpixels(quarters(), SlicConfig(segments=24, blur_px=0.0))
    assert 12 <= pieces.max() + 1 <= 36
    for rows in (slice(0, 20), slice(20, 40)):
        for columns in (slice(0, 30), slice(30, 60)):
            inside = np.unique(pieces[rows, columns])
            outside = pieces.copy()
            outside[rows, columns] = -1
            assert not set(inside) & set(np.unique(outside))
    assert connected(pieces)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**16))
def test_superpixels_of_any_image(height: int, width: int, segments: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pieces = superpixels(image, SlicConfig(segments=segments, blur_px=0.0, iterations=3))
    assert pieces.shape == (height, width)
    assert np.unique(pieces).tolist() == list(range(pieces.max() + 1))
    assert connected(pieces)
    np.testing.assert_array_equal(
        pieces, superpixels(image, SlicConfig(segments=segments, blur_px=0.0, iterations=3))
    )


def test_compact_superpixels_of_a_grey_image_are_a_grid() -> None:
    pieces = superpixels(np.full((40, 60, 3), 90, np.uint8), SlicConfig(segments=24))
    assert pieces.max() + 1 == 24
    assert np.bincount(pieces.ravel()).tolist() == [100] * 24


def test_no_pixels_are_refused() -> None:
    with pytest.raises(LabelError, match="0x4"):
        superpixels(np.zeros((4, 0, 3), np.uint8))


def test_handmade_features_by_hand() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    pieces = np.zeros((8, 8), np.int32)
    pieces[4:] = 1
    rows = HandmadeFeatures()(image, pieces)
    assert rows.shape == (2, 12)
    # L is 0 and 100 in equal shares, a and b are 0
    np.testing.assert_allclose(rows[:, :6], [[50, 50, 0, 0, 0, 0]] * 2, atol=1e-3)
    # all gradients point along x: (cos, sin) of twice the angle is (1, 0)
    np.testing.assert_allclose(rows[:, 7:9], [[1, 0]] * 2, atol=1e-3)
    np.testing.assert_allclose(rows[:, 10], [1.5 / 7, 5.5 / 7])
    np.testing.assert_allclose(rows[:, 11], np.log([0.5, 0.5]))
    values = np.arange(64.0).reshape(8, 8)
    assert mean_of_pieces(values, pieces).tolist() == [15.5, 47.5]


def test_network_features_are_unit_rows_of_the_network() -> None:
    import torch

    torch.manual_seed(0)
    network = build_pixel_network("small", 8)
    features = NetworkFeatures(network, {"sha256": "x"}, 32, "cpu")
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    pieces = np.zeros((32, 64), np.int32)
    pieces[:, 32:] = 1
    rows = features(image, pieces)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    with torch.inference_mode():
        maps = network.eval()(torch.from_numpy(image).permute(2, 0, 1)[None])[0].double().numpy()
    maps /= np.linalg.norm(maps, axis=0)
    expected = np.stack([maps[:, :, :32].mean((1, 2)), maps[:, :, 32:].mean((1, 2))])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-4)


class Height:
    """One number per piece: the mean row."""

    identity = {"kind": "height"}  # noqa: RUF012

    def __call__(self, pixels: np.ndarray, pieces: np.ndarray) -> np.ndarray:
        rows = np.broadcast_to(np.arange(len(pieces))[:, None], pieces.shape)
        return mean_of_pieces(rows, pieces)[:, None]


def test_nearest_group_and_its_confidence_by_hand() -> None:
    groups = {
        "mean": np.array([10.0]),
        "scale": np.array([2.0]),
        "centres": np.array([[-5.0], [5.0], [9.0]]),  # rows 0, 20 and 28
    }
    slic = SlicConfig(segments=24, blur_px=0.0)
    labeler = ClustersLabeler(Height(), groups, slic)
    image = np.full((40, 60, 3), 90, np.uint8)
    made = labeler.label(SourceImage("a", image))
    # pieces are 10x10, at the mean rows 4.5, 14.5, 24.5 and 34.5
    assert made.labels[::10, 0].tolist() == [0, 1, 2, 2]
    expected = [1 - 4.5 / 15.5, 1 - 5.5 / 13.5, 1 - 3.5 / 4.5, 1 - 6.5 / 14.5]
    np.testing.assert_allclose(made.confidence[::10, 0], expected, rtol=1e-5)
    assert made.details == {"pieces": 24}
    other = ClustersLabeler(Height(), {**groups, "mean": np.array([11.0])}, slic)
    assert other.ontology.hash() != labeler.ontology.hash()


def purity(groups: np.ndarray, classes: np.ndarray) -> float:
    """Share of pixels in their group's most frequent class."""
    table = np.zeros((256, 256))
    np.add.at(table, (groups, classes), 1)
    return float(table.max(axis=1).sum() / table.sum())


@pytest.mark.parametrize("features", ["network", "handmade"])
def test_groups_tell_something_about_classes(drive: Path, tmp_path: Path, features: str) -> None:
    """Far more than the same groups shuffled among superpixels."""
    chosen = {**FEW, "features": features, "groups": 12, "network_steps": 30}
    label(drive, tmp_path / "out", LabelConfig(settings=chosen))
    folder, truth = LabelFolder(tmp_path / "out"), SimulatedFolder(drive)
    rng = np.random.default_rng(0)
    groups, shuffled, classes = [], [], []
    slic = SlicConfig(segments=40, blur_px=1.0)
    for row in range(len(truth)):
        for image in truth[row].images:
            made = folder.read(image.pixels).labels
            pieces = superpixels(image.pixels, slic)
            _, first = np.unique(pieces, return_index=True)
            groups.append(made.ravel())
            shuffled.append(rng.permutation(made.ravel()[first])[pieces].ravel())
            classes.append(truth.semantic(row, image.name).ravel())
    true = np.concatenate(classes)
    found, chance = (purity(np.concatenate(each), true) for each in (groups, shuffled))
    print(f"{features}: purity {found:.3f}, shuffled {chance:.3f}")
    assert found > chance + 0.1
    identity = folder.header.identity["features"]
    assert identity["kind"] == features


def test_the_network_is_trained_once_and_may_be_given(drive: Path, tmp_path: Path) -> None:
    chosen = {**FEW, "network_steps": 3}
    first = label(drive, tmp_path / "a", LabelConfig(settings=chosen))
    network = tmp_path / "a/clusters/network.safetensors"
    stamp = network.stat().st_mtime_ns
    again = label(drive, tmp_path / "a", LabelConfig(settings=chosen))
    assert (again.made, again.images) == (0, first.images)
    assert network.stat().st_mtime_ns == stamp
    # the same seed trains the same network, and the same groups follow
    label(drive, tmp_path / "b", LabelConfig(settings=chosen))
    headers = [json.loads((tmp_path / name / "labels.json").read_text()) for name in "ab"]
    assert headers[0] == headers[1]
    assert headers[0]["identity"]["features"]["network"] == "small"
    # given, nothing is trained
    given = {**chosen, "network": str(network)}
    label(drive, tmp_path / "c", LabelConfig(settings=given))
    assert not (tmp_path / "c/clusters/network").exists()
    header = json.loads((tmp_path / "c/labels.json").read_text())
    assert header["identity"] == headers[0]["identity"]
    # its groups may be used for other data: same ids, same ontology
    fitted = {**FEW, "fitted": str(tmp_path / "a/clusters/groups.npz")}
    label(drive, tmp_path / "d", LabelConfig(settings=fitted, stride=2))
    assert LabelFolder(tmp_path / "d").ontology == LabelFolder(tmp_path / "a").ontology


def test_a_pretraining_run_gives_its_network(drive: Path, tmp_path: Path) -> None:
    run = PretrainConfig(settings=TINY, trainer=TrainerConfig(progress=False))
    pretrain([drive], tmp_path / "run", run)
    network, origin = load_network(tmp_path / "run")
    assert origin["network"] == "small"
    assert network.out_channels == 16
    report = label(
        drive, tmp_path / "out", LabelConfig(settings={**FEW, "network": str(tmp_path / "run")})
    )
    assert report.images > 0
    for path in (drive, tmp_path / "none", tmp_path / "out/clusters/groups.npz"):
        with pytest.raises(CheckpointError):
            load_network(path)


def context(tmp_path: Path, source: Any, **more: Any) -> LabelerContext:
    return LabelerContext(source, tmp_path / "state", **more)


def test_what_clusters_refuse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from condense_training.labels.ontology import LabelOntology

    Image.fromarray(quarters()).save(tmp_path / "a.png")
    source = open_images(tmp_path)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"features": "magic"}, ConfigError, "magic"),
        ({"features": "network"}, ConfigError, "folder of pictures"),
        ({"groups": 200}, LabelError, "cannot make 200 groups"),
        ({"fitted": str(tmp_path / "none.npz")}, LabelError, "no groups"),
        ({"network": str(tmp_path / "a.png")}, CheckpointError, "no image network"),
    ]
    for values, kind, words in wrong:
        with pytest.raises(kind, match=words):
            build_clusters(build(ClustersConfig, {**FEW, **values}), context(tmp_path, source))
    named = context(tmp_path, source, ontology=LabelOntology.load("olivine_13"))
    with pytest.raises(ConfigError, match="no names"):
        build_clusters(ClustersConfig(), named)
    # a folder of pictures has no frames to train on: said, not hidden
    labeler = build_clusters(build(ClustersConfig, FEW), context(tmp_path, source))
    assert labeler.identity["features"]["kind"] == "handmade"
    assert "hand-made features are used" in caplog.text
    with pytest.raises(LabelError, match="groups 5 -> 4"):
        build_clusters(build(ClustersConfig, {**FEW, "groups": 4}), context(tmp_path, source))
    (tmp_path / "state/clusters/groups.npz").write_bytes(b"PK")
    with pytest.raises(LabelError, match="holds no groups"):
        build_clusters(build(ClustersConfig, FEW), context(tmp_path, source))
