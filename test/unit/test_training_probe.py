"""Metrics, linear probe and segmentation head."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from training_scenes import small_drive

from condense_ros.datasets.simulated import SimulatedFolder
from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE
from condense_ros.models import (
    Checkpoint,
    InputSpec,
    build_backbone,
    load_checkpoint,
    preset,
    save_checkpoint,
)
from condense_ros.sim import ontology
from condense_training import HeadConfig, ProbeConfig, compare, fit_head, probe
from condense_training.batch_norm import calibrate_batch_norm
from condense_training.evaluate.features import (
    LabelledVoxels,
    labelled_voxels,
    sample_points,
)
from condense_training.evaluate.linear import fit_linear
from condense_training.evaluate.metrics import Confusion
from condense_training.evaluate.probe import evaluate_classifier

SPEC = InputSpec(voxel_size_m=0.4, max_range_m=40.0)
QUICK = ProbeConfig(seeds=(0, 1), points_per_frame=200, steps=20)


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    return [small_drive(root / str(s), seed=s, frames=3, images=False) for s in (1, 2)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "backbone.safetensors"
    return save_checkpoint(path, Checkpoint.of(build_backbone("demo", SPEC)))


def test_iou_by_hand() -> None:
    confusion = Confusion(4)
    #                 truth          prediction
    confusion.add(np.array([0, 0, 0, 1, 1, 255]), np.array([0, 0, 1, 1, 3, 2]))
    iou = confusion.iou()
    assert iou[0] == pytest.approx(2 / 3)
    assert iou[1] == pytest.approx(1 / 3)
    # class 2 never occurs; class 3 is predicted but has no truth: both are no part of the mean
    assert np.isnan(iou[2:]).all()
    assert confusion.miou() == pytest.approx(0.5)
    assert confusion.accuracy() == pytest.approx(3 / 5)
    assert np.isnan(Confusion(3).miou())


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(TrainingError, match="there are 3 classes"):
        Confusion(3).add(np.array([3]), np.array([0]))
    with pytest.raises(TrainingError, match="predict every point"):
        Confusion(3).add(np.array([1, 2]), np.array([0]))


def test_linear_regression_separates_and_ignores_scale(rng) -> None:
    labels = torch.from_numpy(rng.integers(0, 3, 600))
    centres = torch.tensor([[0.0, 0], [4, 0], [0, 4]])
    x = centres[labels] + torch.from_numpy(rng.normal(size=(600, 2)) * 0.5).float()
    scaled = x * torch.tensor([1e3, 1e-2]) + torch.tensor([5.0, -70.0])
    plain, moved = (fit_linear(f, labels, 3) for f in (x, scaled))
    assert (plain(x).argmax(1) == labels).float().mean() > 0.99
    torch.testing.assert_close(plain(x), moved(scaled), atol=0.05, rtol=0.01)


def test_73_absent_class_is_never_predicted(rng) -> None:
    x = torch.from_numpy(rng.normal(size=(100, 4))).float()
    labels = torch.where(x[:, 0] > 0, 0, 2)
    fitted = fit_linear(x, labels, 4)
    far = torch.from_numpy(rng.normal(size=(1000, 4)) * 50).float()
    assert set(fitted(far).argmax(1).tolist()) == {0, 2}
    assert torch.isfinite(fitted.weight).all()
    assert torch.isfinite(fitted(far)[:, [0, 2]]).all()


def test_points_are_drawn_by_their_number() -> None:
    cloud = LabelledVoxels(
        torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[5, 0], [0, 0], [2, 3]])
    )
    features, labels = sample_points([cloud], 100, torch.Generator().manual_seed(0))
    drawn = sorted(zip(features[:, 0].tolist(), labels.tolist(), strict=True))
    assert drawn == [(0.0, 0)] * 5 + [(2.0, 0)] * 2 + [(2.0, 1)] * 3
    few, _ = sample_points([cloud], 4, torch.Generator().manual_seed(0))
    assert len(few) == 4


def test_votes_give_the_confusion_of_every_point(drives, rng) -> None:
    frame = SimulatedFolder(drives[0])[0]
    backbone = build_backbone("demo", SPEC)
    cloud = labelled_voxels(backbone, frame, len(ontology))
    x, y = sample_points([cloud], 500, torch.Generator().manual_seed(0))
    classifier = fit_linear(x, y, len(ontology), steps=10)
    voxels = SPEC.voxelize(frame.cloud)
    with torch.no_grad():
        predicted = classifier(backbone.point_features(voxels)).argmax(1).numpy()
    expected = Confusion(len(ontology))
    seen = voxels.inverse.numpy() >= 0
    expected.add(frame.labels[seen], predicted[seen])
    got = evaluate_classifier(classifier, [cloud], len(ontology))
    np.testing.assert_array_equal(got.counts, expected.counts)
    assert got.counts.sum() == (seen & (frame.labels != IGNORE)).sum()


def test_batch_statistics_are_those_of_the_clouds(drives) -> None:
    clouds = [SimulatedFolder(drives[0])[i].cloud for i in range(2)]
    backbone = build_backbone("demo", SPEC)
    momenta = [m.momentum for m in backbone.modules() if hasattr(m, "momentum")]
    calibrate_batch_norm(backbone, clouds)
    norm = backbone.net.stem[1]
    inputs = [backbone.net.stem[0](SPEC.voxelize(c).sparse_tensor()).features for c in clouds]
    expected = torch.stack([x.mean(0) for x in inputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected, atol=1e-5, rtol=1e-4)
    variance = torch.stack([x.var(0) for x in inputs]).mean(0)
    torch.testing.assert_close(norm.running_var, variance, atol=1e-5, rtol=1e-4)
    assert [m.momentum for m in backbone.modules() if hasattr(m, "momentum")] == momenta
    assert not backbone.training


def test_probe_is_reproducible_and_saved(drives, checkpoint, tmp_path) -> None:
    comparison = compare(checkpoint, [drives[0]], [drives[1]], QUICK)
    again = probe(checkpoint, [drives[0]], [drives[1]], QUICK)
    assert again.miou == comparison.pretrained.miou
    assert comparison.random.miou[0] != comparison.random.miou[1]  # another network per seed
    values = comparison.to_dict()
    assert values["differences"] == pytest.approx(
        np.subtract(comparison.pretrained.miou, comparison.random.miou)
    )
    assert set(again.iou) == set(again.classes) <= set(ontology.names)
    means = [np.mean([again.iou[name][s] for name in again.classes]) for s in range(2)]
    assert again.miou == pytest.approx(means)
    comparison.save(tmp_path / "probe.json")
    loaded = json.loads((tmp_path / "probe.json").read_text())
    assert loaded["differences"] == pytest.approx(values["differences"])
    assert again.to_dict()["protocol"]["points_per_frame"] == 200


def test_an_untrained_checkpoint_gains_nothing(drives, checkpoint) -> None:
    """The comparison is fair: the random network of seed 0, saved and loaded, scores the same."""
    one = ProbeConfig(seeds=(0,), points_per_frame=200, steps=20)
    assert compare(checkpoint, [drives[0]], [drives[1]], one).differences == [0.0]


def test_a_probe_needs_labels(data_dir, checkpoint, drives) -> None:
    with pytest.raises(TrainingError, match="without labels"):
        probe(checkpoint, [data_dir / "kitti_jam_camlidar"], [drives[0]], QUICK)
    with pytest.raises(TrainingError, match="no checkpoint and no architecture"):
        probe(None, [drives[0]], [drives[1]], QUICK)
    assert len(probe(None, [drives[0]], [drives[1]], QUICK, architecture=preset("demo", SPEC)).miou)


def test_head_says_where_its_labels_came_from(drives, checkpoint, tmp_path) -> None:
    folder = SimulatedFolder(drives[0])
    out = tmp_path / "with_head.safetensors"
    fit_head(
        checkpoint,
        [folder[i] for i in range(3)],
        ontology,
        out,
        HeadConfig(label_source="simulated", steps=30),
    )
    before, after = load_checkpoint(checkpoint), load_checkpoint(out)
    head = after.heads["segmentation"]
    assert head.supervision == "3 labelled simulated frames"
    assert head.ontology == ontology
    assert after.identity() == before.identity()  # the backbone is the same, bit by bit
    backbone, layer = after.build_backbone(), after.build_head("segmentation")
    cloud = labelled_voxels(backbone, folder[0], len(ontology))
    with torch.no_grad():
        right = layer(cloud.features).argmax(1)
    accuracy = cloud.votes.gather(1, right[:, None]).sum() / cloud.votes.sum()
    assert accuracy > 0.5


def test_72_head_needs_labelled_frames(drives, checkpoint) -> None:
    from dataclasses import replace

    frame = SimulatedFolder(drives[0])[0]
    with pytest.raises(TrainingError, match="has no labels"):
        fit_head(checkpoint, [replace(frame, labels=None)], ontology)
    with pytest.raises(TrainingError, match="no labelled point"):
        fit_head(checkpoint, [], ontology)
    nothing = np.full(len(frame.cloud), IGNORE, np.uint8)
    with pytest.raises(TrainingError, match="no labelled point"):
        fit_head(checkpoint, [replace(frame, labels=nothing)], ontology)
    beyond = np.full(len(frame.cloud), 99, np.uint8)
    with pytest.raises(TrainingError, match="label 99 where there are 16"):
        fit_head(checkpoint, [replace(frame, labels=beyond)], ontology)
