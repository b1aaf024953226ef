"""Label images that others have made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense_ros.errors import ConfigError, LabelError
from condense_training.labels.folder import LabelFolder
from condense_training.labels.run import LabelConfig, label

CAMERAS = ("CAM_FRONT", "CAM_BACK")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Images as nuScenes keeps them: samples/CAMERA/FILE.jpg."""
    rng = np.random.default_rng(0)
    for camera in CAMERAS:
        folder = tmp_path / "samples" / camera
        folder.mkdir(parents=True)
        pixels = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "n015__1.png")
    return tmp_path / "samples"


def write(samples: Path, values: np.ndarray, name: str = "camseg", flat: bool = False) -> Path:
    """The same label image for every camera, in folders that mirror the images'."""
    out = samples.parent / name
    for camera in CAMERAS:
        path = out / "n015__1.png" if flat else out / camera / "n015__1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return out


def run(samples: Path, folder: Path, out: str = "out", **settings: str) -> LabelConfig:
    ontology = settings.pop("ontology", "")
    values = {"folder": str(folder), **settings}
    return LabelConfig("precomputed", ontology=ontology, settings=values)


def pixels_of(samples: Path, camera: str) -> np.ndarray:
    return np.asarray(Image.open(samples / camera / "n015__1.png"))


def test_labels_of_olivine(samples: Path, tmp_path: Path) -> None:
    ids = np.arange(96, dtype=np.uint8).reshape(8, 12) % 14
    folder = write(samples, ids)
    config = run(samples, folder, ids="olivine_grounded_sam", ontology="olivine_13")
    report = label(samples, tmp_path / "out", config)
    assert (report.images, report.failed) == (2, [])
    made = LabelFolder(tmp_path / "out").read(pixels_of(samples, "CAM_BACK"))
    np.testing.assert_array_equal(made.labels, np.where(ids == 0, 255, ids - 1))
    np.testing.assert_array_equal(made.confidence, ids > 0)
    # other label files are other labels
    write(samples, ids[::-1].copy())
    with pytest.raises(LabelError, match="another settings"):
        label(samples, tmp_path / "out", config)


def test_labels_of_seem_lose_their_zero(samples: Path, tmp_path: Path) -> None:
    ids = np.tile(np.arange(12, dtype=np.uint8), (8, 1))
    config = run(samples, write(samples, ids), ids="olivine_seem", ontology="nuscenes_16")
    label(samples, tmp_path / "out", config)
    folder = LabelFolder(tmp_path / "out")
    made = folder.read(pixels_of(samples, "CAM_FRONT")).labels
    names = ["" if i == 255 else folder.ontology.classes[i].name for i in made[0]]
    assert names == [
        *("", "bicycle", "bus", "car", "truck", "trailer", "motorcycle", "construction_vehicle"),
        *("pedestrian", "traffic_cone", "driveable_surface", "sidewalk"),
    ]


def test_segments_keep_their_ids_and_have_no_names(samples: Path, tmp_path: Path) -> None:
    ids = np.arange(96, dtype=np.uint8).reshape(8, 12)
    config = run(samples, write(samples, ids, flat=True), ids="segments")
    label(samples, tmp_path / "out", config)
    folder = LabelFolder(tmp_path / "out")
    np.testing.assert_array_equal(folder.read(pixels_of(samples, "CAM_BACK")).labels, ids)
    assert folder.ontology.classes[7].name == "group 7"


@pytest.mark.parametrize("mode", ["I;16", "P"])
def test_ids_of_16_bits_and_of_a_palette(samples: Path, tmp_path: Path, mode: str) -> None:
    ids = np.tile(np.arange(12, dtype=np.uint8), (8, 1))
    folder = write(samples, ids.astype(np.uint16) if mode == "I;16" else ids)
    if mode == "P":
        for path in folder.rglob("*.png"):
            image = Image.fromarray(ids, "L").convert("P")
            image.putdata(ids.ravel().tolist())
            image.putpalette([7 * i % 256 for i in range(768)])
            image.save(path)
    assert Image.open(next(folder.rglob("*.png"))).mode == mode
    label(
        samples, tmp_path / "out", run(samples, folder, ids="segments", path="{folder}/{stem}.png")
    )
    made = LabelFolder(tmp_path / "out").read(pixels_of(samples, "CAM_FRONT"))
    np.testing.assert_array_equal(made.labels, ids)


def test_one_bad_file_fails_one_image(samples: Path, tmp_path: Path) -> None:
    ids = np.ones((8, 12), np.uint8)
    folder = write(samples, ids)
    config = run(samples, folder, ids="olivine_grounded_sam", ontology="olivine_13")
    front = folder / "CAM_FRONT/n015__1.png"
    spoiled: list[tuple[np.ndarray | bytes | None, str]] = [
        (np.full((8, 12), 77, np.uint8), "does not list: 77"),
        (np.ones((4, 12), np.uint8), r"(4, 12)"),
        (np.zeros((8, 12, 3), np.uint8), "mode RGB"),
        (b"\x89PNG", "damaged"),
        (None, "no label image"),
    ]
    for number, (content, words) in enumerate(spoiled):
        front.unlink(missing_ok=True)
        if isinstance(content, bytes):
            front.write_bytes(content)
        elif content is not None:
            Image.fromarray(content).save(front)
        report = label(samples, tmp_path / f"out{number}", config)
        assert report.images == 1
        assert [entry["image"] for entry in report.failed] == ["CAM_FRONT/n015__1"]
        assert words in report.failed[0]["reason"]
    Image.fromarray(np.full((8, 12), 77, np.uint8)).save(front)
    lenient = run(
        samples, folder, ids="olivine_grounded_sam", ontology="olivine_13", unknown="ignore"
    )
    report = label(samples, tmp_path / "lenient", lenient)
    assert report.pixels == {"barrier": 96, "no class": 96}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ids": ""}, "no map"),
        ({"folder": "/none"}, "no folder"),
        ({"unknown": "guess"}, "guess"),
        ({"ontology": "nuscenes_16"}, "no class"),
        ({"path": "{token}.png"}, "token"),
    ],
)
def test_settings_that_are_refused(
    samples: Path, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    folder = write(samples, np.ones((8, 12), np.uint8))
    values = {"ids": "olivine_grounded_sam", "ontology": "olivine_13", "folder": str(folder)}
    values |= settings
    config = LabelConfig("precomputed", ontology=values.pop("ontology"), settings=values)
    with pytest.raises(ConfigError, match=words):
        label(samples, tmp_path / "out", config)
