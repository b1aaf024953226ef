"""Pretraining on real pairs, as evidence that the pipeline learns from recorded sensors.

Fifteen pairs of KITTI's camera and LiDAR teach a small backbone; five later ones are held out. What
it then knows is asked twice: does a point find its own pixel in images never seen, and is a vehicle
easier to tell from everything else, in data of two other robots with other sensors? Run it with -s
to see the figures.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from condense_ros.datasets import open_dataset
from condense_ros.datasets.argoverse import CLASSES
from condense_ros.datasets.nuscenes import NuScenesSample
from condense_ros.frame import Frame
from condense_ros.models import Backbone, build_backbone, load_checkpoint
from condense_training import PretrainConfig, pretrain
from condense_training.batch_norm import calibrate_batch_norm
from condense_training.evaluate.linear import fit_linear
from condense_training.evaluate.metrics import Confusion
from condense_training.evaluate.run_folder import open_embedding
from condense_training.evaluate.similarity import frame_features
from condense_training.labels.run import LabelConfig, label
from condense_training.pairs import rig_pairs
from condense_training.trainer import TrainerConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
HELD_OUT = 5
CANDIDATES = 512
SETTINGS = {
    "labels": "folder",
    "classes": 32,
    "steps": 300,
    "pairs": 2048,
    "vmf_collection_steps": 120,
    "consistency_weight": 0.005,
    "pixel_steps": 300,
    "teacher_dim": 32,
}
AV2_VEHICLES = ("articulated_bus", "box_truck", "bus", "large_vehicle", "regular_vehicle")
AV2_VEHICLES += ("school_bus", "truck", "truck_cab", "vehicular_trailer")
NUSCENES_VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle")


@pytest.fixture(scope="module")
def run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("real_pairs")
    data = data_dir / "kitti_jam_camlidar"
    seen = len(open_dataset(data)) - HELD_OUT
    label(data, root / "labels", LabelConfig(labeler="clusters", limit=seen))
    config = PretrainConfig(
        recipe="olivine",
        settings={**SETTINGS, "label_folder": str(root / "labels")},
        frame_limit=seen,
        trainer=TrainerConfig(progress=False),
    )
    pretrain([data], root / "run", config)
    return root / "run"


def test_loss_falls_and_points_find_their_pixels(data_dir: Path, run: Path) -> None:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [row["terms"]["point_loss"] for row in rows if "point_loss" in row.get("terms", {})]
    first, last = np.mean(losses[:30]), np.mean(losses[-30:])
    print(f"point loss {first:.3f} -> {last:.3f} of ln 2048 = {np.log(2048):.3f}")
    assert last < first - 0.3

    dataset = open_dataset(data_dir / "kitti_jam_camlidar")
    embedding = open_embedding(run)
    percentiles, top1, top10 = [], [], []
    for row in range(len(dataset) - HELD_OUT, len(dataset)):
        frame = dataset[row]
        features = frame_features(embedding, frame)
        pairs = rig_pairs(frame)
        pairs = pairs.select(features.known[pairs.point])
        chosen = np.random.default_rng(row).permutation(len(pairs))[:CANDIDATES]
        uv = pairs.uv[chosen]
        pixels = np.concatenate([features.pixel(0, uv)])
        scores = features.points[pairs.point[chosen]] @ pixels.T
        own = np.diag(scores)[:, None]
        rank = (scores > own).sum(1) + 0.5 * ((scores == own).sum(1) - 1)
        percentiles += (rank / (len(chosen) - 1)).tolist()
        top1 += (rank < 1).tolist()
        top10 += (rank < 10).tolist()
    print(
        f"held out, own pixel among {CANDIDATES}: mean percentile {np.mean(percentiles):.3f} "
        f"(chance 0.5), first {np.mean(top1):.4f} (chance {1 / CANDIDATES:.4f}), "
        f"among ten {np.mean(top10):.4f} (chance {10 / CANDIDATES:.4f})"
    )
    assert np.mean(percentiles) < 0.35
    assert np.mean(top10) > 2 * 10 / CANDIDATES


# vehicle or not


def argoverse(data_dir: Path) -> tuple[Frame, npt.NDArray[np.bool_]]:
    frame = open_dataset(data_dir / "av2_val_log")[0]
    assert frame.labels is not None
    numbers = [CLASSES.index(name) for name in AV2_VEHICLES]
    return frame, np.isin(frame.labels, numbers)


def nuscenes(data_dir: Path) -> tuple[Frame, npt.NDArray[np.bool_]]:
    dataset = NuScenesSample(data_dir / "nuscenes_frame")
    frame = dataset[0]
    inside = np.zeros(len(frame.cloud), bool)
    for box in dataset.boxes(0):
        if box.name in NUSCENES_VEHICLES:
            inside |= box.contains(frame.cloud.xyz)
    return frame, inside


@torch.no_grad()
def vehicle_iou(backbone: Backbone, frame: Frame, vehicle: npt.NDArray[np.bool_]) -> float:
    """IoU of vehicles by a linear classifier, fitted on every second of sixteen sectors around the
    sensor and judged on the others, and the other way round."""
    lean = replace(frame, images=())
    calibrate_batch_norm(backbone, [lean.cloud])
    voxels = backbone.input.voxelize(lean.cloud)
    inside = (voxels.inverse >= 0).numpy()
    rows = backbone(voxels)[voxels.inverse[inside]]
    xyz, truth = frame.cloud.xyz[inside], vehicle[inside].astype(np.int64)
    sector = np.floor(np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) * 16).astype(int) % 2
    confusion = Confusion(2)
    for held_out in (0, 1):
        fit, judge = sector != held_out, sector == held_out
        with torch.enable_grad():
            classifier = fit_linear(rows[fit], torch.from_numpy(truth[fit]), 2, steps=100, l2=1e-3)
        confusion.add(truth[judge], classifier(rows[judge]).argmax(1).numpy())
    return float(confusion.iou()[1])


@pytest.mark.parametrize("name", ["av2_val_log", "nuscenes_frame"])
def test_vehicles_are_easier_to_tell(data_dir: Path, run: Path, name: str) -> None:
    frame, vehicle = (argoverse if name == "av2_val_log" else nuscenes)(data_dir)
    trained = load_checkpoint(run / "backbone.safetensors").build_backbone()
    found = vehicle_iou(trained, frame, vehicle)
    random = []
    for seed in range(5):
        torch.manual_seed(seed)
        random.append(vehicle_iou(build_backbone(trained.config), frame, vehicle))
    print(
        f"{name}: IoU of vehicles {found:.3f} pretrained, {np.mean(random):.3f} random "
        f"({', '.join(f'{value:.3f}' for value in random)}); {vehicle.mean():.3f} of the points"
    )
    assert found > cast(float, np.mean(random))
