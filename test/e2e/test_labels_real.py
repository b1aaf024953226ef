"""Labels of real images by a real, small network, against annotated boxes.

ESPNetv2 knows street scenes in 19 classes; it stands for no foundation model. What is tested is the
way from image file to label file and back: sizes, colours, class maps, confidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from espnetv2 import EspNetLabeler

from condense_ros.datasets.base import Dataset
from condense_ros.datasets.kitti_object import KittiObject
from condense_ros.datasets.nuscenes import NuScenesSample
from condense_ros.frame import CameraImage
from condense_ros.geometry import transform
from condense_training.labels.folder import LabelFolder
from condense_training.labels.labelers import LABELERS, LabelerEntry
from condense_training.labels.run import LabelConfig, label

VEHICLES = ("car", "truck", "bus", "construction_vehicle", "trailer")
#: an object of fewer points or pixels is hidden or too small to see
_POINTS, _PIXELS = 20, 400


@pytest.fixture
def weights(data_dir: Path) -> Path:
    file = data_dir / "weights/espnetv2/espnetv2_s_2.0_city_1024x512.pth"
    if not file.is_file():
        pytest.skip(f"no weights of ESPNetv2 at {file}")
    return file


def outlines(dataset: Any, row: int, image: CameraImage) -> list[tuple[str, int, tuple[int, ...]]]:
    """(name, points, (top, left, bottom, right)) of boxes seen, cut at the image's border."""
    found = []
    frame = dataset[row]
    for box in dataset.boxes(row):
        xyz = transform(image.T_cam_cloud, box.corners())
        if xyz[:, 2].min() < 0.5:
            continue
        u, v = (image.camera.project(xyz)[0]).T
        sides = np.clip(
            [v.min(), u.min(), v.max(), u.max()],
            0,
            [image.camera.height, image.camera.width] * 2,
        )
        top, left, bottom, right = np.rint(sides).astype(int).tolist()
        if (bottom - top) * (right - left) >= _PIXELS:
            points = int(box.contains(frame.cloud.xyz).sum())
            found.append((box.name.lower(), points, (top, left, bottom, right)))
    return found


def measure(dataset: Any, folder: LabelFolder) -> tuple[float, list[float], float]:
    """Share of vehicle pixels inside vehicle boxes; of each car's box, the share that is vehicle;
    share of all pixels outside boxes that is vehicle."""
    ids = [folder.ontology.index(name) for name in VEHICLES]
    inside = total = outside = area = 0
    filled: list[float] = []
    for row in range(len(dataset)):
        for image in dataset[row].images:
            vehicle = np.isin(folder.read(image.pixels).labels, ids)
            boxes: npt.NDArray[np.bool_] = np.zeros(vehicle.shape, bool)
            for name, points, (top, left, bottom, right) in outlines(dataset, row, image):
                if name in VEHICLES or name == "van":
                    boxes[top:bottom, left:right] = True
                if name == "car" and points >= _POINTS:
                    filled.append(float(vehicle[top:bottom, left:right].mean()))
            inside, total = inside + int(vehicle[boxes].sum()), total + int(vehicle.sum())
            outside, area = outside + int(vehicle[~boxes].sum()), area + int((~boxes).sum())
    return inside / max(total, 1), filled, outside / area


@pytest.mark.parametrize("name", ["kitti_object3", "nuscenes_frame"])
def test_vehicles_are_where_they_were_annotated(
    data_dir: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = data_dir / name
    dataset: Dataset = NuScenesSample(path) if name == "nuscenes_frame" else KittiObject(path)
    results = {}
    for kind, file in (("real", weights), ("random", None)):
        labeler = EspNetLabeler(file)
        entry = LabelerEntry("none", "none", "model")
        object.__setattr__(entry, "config_class", lambda: LabelConfig)
        object.__setattr__(entry, "build", lambda config, context, made=labeler: made)
        monkeypatch.setitem(LABELERS, "espnetv2", entry)
        report = label(path, tmp_path / kind, LabelConfig(labeler="espnetv2"))
        assert report.failed == []
        assert report.images == sum(len(dataset[i].images) for i in range(len(dataset)))
        results[kind] = measure(dataset, LabelFolder(tmp_path / kind, labeler.ontology))
        share, filled, outside = results[kind]
        print(
            f"{name}, {kind} weights: {share:.3f} of vehicle pixels inside boxes, boxes of cars "
            f"filled {', '.join(f'{part:.2f}' for part in filled)} (median "
            f"{np.median(filled):.2f}), {outside:.4f} of all other pixels"
        )
    share, filled, outside = results["real"]
    assert share > 0.5
    assert np.median(filled) > 0.5
    assert outside < 0.02
    assert np.median(results["random"][1]) < 0.05
