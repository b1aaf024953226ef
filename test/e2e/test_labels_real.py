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

#: Misc are trailers and the like in KITTI
VEHICLES = ("car", "truck", "bus", "van", "construction_vehicle", "trailer", "misc")
#: a smaller box is too far away to judge, pixels
_PIXELS = 1000


@pytest.fixture
def weights(data_dir: Path) -> Path:
    file = data_dir / "weights/espnetv2/espnetv2_s_2.0_city_1024x512.pth"
    if not file.is_file():
        pytest.skip(f"no weights of ESPNetv2 at {file}")
    return file


def outlines(dataset: Any, row: int, image: CameraImage) -> list[tuple[str, tuple[int, ...]]]:
    """(name, (top, left, bottom, right)) of boxes ahead, cut at the image's border."""
    found = []
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
        if (bottom - top) * (right - left) > 0:
            found.append((box.name.lower(), (top, left, bottom, right)))
    return found


def measure(dataset: Any, folder: LabelFolder) -> tuple[float, float, list[float]]:
    """Over the images that show an annotated car large enough: share of car pixels inside boxes of
    vehicles, share of all pixels there (what chance would give), and of each car's box the share
    that is a vehicle."""
    car, *others = (folder.ontology.index(name) for name in ("car", "truck", "bus"))
    inside = cars = covered = area = 0
    filled: list[float] = []
    for row in range(len(dataset)):
        for image in dataset[row].images:
            labels = folder.read(image.pixels).labels
            boxes: npt.NDArray[np.bool_] = np.zeros(labels.shape, bool)
            seen = outlines(dataset, row, image)
            shares = []
            for name, (top, left, bottom, right) in seen:
                if name in VEHICLES:
                    boxes[top:bottom, left:right] = True
                if name == "car" and (bottom - top) * (right - left) >= _PIXELS:
                    part = labels[top:bottom, left:right]
                    shares.append(float(np.isin(part, [car, *others]).mean()))
            if shares:
                filled += shares
                inside, cars = (
                    inside + int((labels[boxes] == car).sum()),
                    cars + int((labels == car).sum()),
                )
                covered, area = covered + int(boxes.sum()), area + boxes.size
    return inside / max(cars, 1), covered / area, filled


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
        share, chance, filled = results[kind]
        print(
            f"{name}, {kind} weights: {share:.3f} of car pixels inside boxes of vehicles (which "
            f"cover {chance:.3f}); boxes of cars filled {', '.join(f'{x:.2f}' for x in filled)}, "
            f"median {np.median(filled):.2f}"
        )
    share, chance, filled = results["real"]
    assert share > max(0.6, 3 * chance)
    assert np.median(filled) > 0.5
    # the same network with random weights
    assert max(results["random"][2]) < 0.05
