"""Supervised segmentation: its loss against hand-computed values, and a run from data to head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_scenes import small_drive

from condense_ros.datasets import open_dataset
from condense_ros.errors import TrainingError
from condense_ros.models import load_checkpoint, other_presets
from condense_training import PretrainConfig, pretrain
from condense_training.evaluate.segmentation import evaluate_segmentation
from condense_training.losses import lovasz_softmax
from condense_training.losses.lovasz import lovasz_gradient
from condense_training.recipes import build_recipe
from condense_training.trainer import TrainerConfig

TINY = {"backbone": "demo", "voxel_size_m": 0.4, "steps": 12, "batch": 2, "lr": 5e-3}


def test_lovasz_gradient_by_hand() -> None:
    # errors in falling order belong to truths 1, 0, 1: of P = 2 positives
    # Jaccard loss after 1: 1 - 1/2; after 2: 1 - 1/3; after 3: 1 - 0/3
    gradient = lovasz_gradient(torch.tensor([1.0, 0.0, 1.0]))
    assert gradient.tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 3])


def test_lovasz_softmax_is_one_minus_iou_at_the_corners() -> None:
    """With certain predictions the loss is the mean of 1 - IoU over the classes present."""
    truth = torch.tensor([0, 0, 0, 1, 1, 2, 255])
    predicted = torch.tensor([0, 0, 1, 1, 1, 0, 0])
    logits = torch.nn.functional.one_hot(predicted, 4).double() * 200
    # IoU: class 0: 2 / 4, class 1: 2 / 3, class 2: 0; class 3 is absent, 255 does not count
    expected = 1 - (2 / 4 + 2 / 3 + 0) / 3
    assert float(lovasz_softmax(logits, truth)) == pytest.approx(expected, abs=1e-6)


def test_nothing_labelled_has_no_loss() -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    loss = lovasz_softmax(logits, torch.full((5,), 255))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_lovasz_gradients_are_those_of_its_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (12,))
    loss = lovasz_softmax(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    with torch.no_grad():
        for row, column in ((0, 0), (5, 2), (11, 1)):
            shift = torch.zeros_like(logits)
            shift[row, column] = 1e-2
            rise = lovasz_softmax(logits + shift, labels) - lovasz_softmax(logits - shift, labels)
            # the loss is computed in float32
            assert float(gradient[row, column]) == pytest.approx(float(rise) / 2e-2, abs=2e-3)


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drives")
    small_drive(folder / "drive", seed=3, frames=6, images=False)
    return folder


def test_labels_train_backbone_and_head(drives: Path, tmp_path: Path) -> None:
    data = open_dataset(drives / "drive")
    assert data.classes is not None
    config = PretrainConfig(
        recipe="supervised",
        preset="demo",
        settings={**TINY, "classes": len(data.classes)},
        trainer=TrainerConfig(progress=False),
    )
    path = pretrain([drives / "drive"], tmp_path / "run", config)
    checkpoint = load_checkpoint(path)
    info = checkpoint.heads["segmentation"]
    assert info.supervision == "6 labelled frames"
    assert info.ontology == data.classes
    assert checkpoint.metadata["supervision"] == "labels of every point"
    frames = [data[i] for i in range(2)]
    confusion = evaluate_segmentation(checkpoint, frames)
    inside = sum(
        int((checkpoint.build_backbone().input.voxelize(f.cloud).inverse >= 0).sum())
        for f in frames
    )
    assert confusion.counts.sum() == inside
    # a dozen steps tell the commonest classes apart: always saying one would not
    commonest = confusion.counts.sum(1).max() / confusion.counts.sum()
    assert confusion.accuracy() > commonest


@pytest.mark.parametrize("backbone", ["waffleiron-demo", "voxelnet"])
def test_other_architectures_learn_from_labels(backbone: str, drives: Path, tmp_path: Path) -> None:
    data = open_dataset(drives / "drive")
    assert data.classes is not None
    settings = {**TINY, "backbone": backbone, "voxel_size_m": 0.3, "classes": len(data.classes)}
    config = PretrainConfig(
        recipe="supervised",
        preset="demo",
        settings=settings,
        trainer=TrainerConfig(progress=False),
    )
    checkpoint = load_checkpoint(pretrain([drives / "drive"], tmp_path / "run", config))
    assert checkpoint.backbone.architecture == backbone.removesuffix("-demo")
    # the recipe's input, in the box of the preset
    assert checkpoint.backbone.input.voxel_size_m == 0.3
    assert checkpoint.backbone.input.box_m == other_presets[backbone].input.box_m
    (stage,) = checkpoint.metadata["stages"].values()
    assert stage["loss_last"] < stage["loss_first"]
    assert evaluate_segmentation(checkpoint, [data[0]]).counts.sum() > 1000


def test_voxels_carry_the_label_of_most_points(drives: Path) -> None:
    frame = open_dataset(drives / "drive")[0]
    recipe = build_recipe("supervised", "demo", {**TINY, "tilt_deg": 0.0, "scale": 0.0})
    sample = recipe.stages[0].sample(frame, np.random.default_rng(0))
    assert sample is not None
    assert frame.labels is not None
    assert sample["labels"].shape == (len(sample["coords"]),)
    assert set(np.unique(sample["labels"])) <= set(np.unique(frame.labels)) | {255}


def test_a_wrong_number_of_classes_is_refused(drives: Path, tmp_path: Path) -> None:
    config = PretrainConfig(
        recipe="supervised",
        preset="demo",
        settings={**TINY, "classes": 200, "steps": 1},
        trainer=TrainerConfig(progress=False),
    )
    with pytest.raises(TrainingError, match="200 classes"):
        pretrain([drives / "drive"], tmp_path / "run", config)
    frame = open_dataset(drives / "drive")[0]
    recipe = build_recipe("supervised", "demo", {**TINY, "classes": 2})
    with pytest.raises(TrainingError, match="parameter classes"):
        recipe.stages[0].sample(frame, np.random.default_rng(0))
