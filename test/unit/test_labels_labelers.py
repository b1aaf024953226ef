"""Labelers over transformers with tiny random models: what is done with what networks say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from condense_ros.config import build
from condense_ros.errors import CheckpointError, ConfigError, EnvironmentProblem, LabelError
from condense_training.labels import libraries
from condense_training.labels.fusion import fuse
from condense_training.labels.images import FolderImages, SourceImage
from condense_training.labels.labelers import LABELERS, LabelerContext, find_labeler
from condense_training.labels.labelers.grounded import GroundedLabeler
from condense_training.labels.ontology import LabelClass, LabelOntology
from condense_training.labels.protocols import (
    DenseLabeler,
    Detections,
    Detector,
    Masker,
    Masks,
)
from condense_training.labels.weights import file_hash, find_model

pytest.importorskip("transformers", reason="pip install 'condense_ros[labels]'")

ROOT = Path(__file__).parents[2]
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
IMAGE = SourceImage("image", PIXELS)
OLIVINE = LabelOntology.load("olivine_13")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "dino": tiny_models.grounding_dino(folder / "dino"),
        "mm_dino": tiny_models.grounding_dino(folder / "mm", kind="MMGroundingDino"),
        "sam": tiny_models.sam(folder / "sam"),
        "sam_hq": tiny_models.sam(folder / "hq", kind="SamHQ"),
        "segformer": tiny_models.segformer(folder / "segformer"),
        "maskformer": tiny_models.maskformer(folder / "maskformer"),
        "sam3": tiny_models.sam3(folder / "sam3"),
    }


def make(name: str, ontology: LabelOntology = OLIVINE, **settings: Any) -> Any:
    entry = find_labeler(name)
    context = LabelerContext(None, Path(), ontology=ontology)  # type: ignore[arg-type]
    return entry.build(build(entry.config_class(), settings), context)


@pytest.mark.parametrize(("dino", "sam"), [("dino", "sam"), ("mm_dino", "sam_hq")])
def test_grounded_sam(models: dict[str, Path], dino: str, sam: str) -> None:
    settings = {
        "detector": str(models[dino]),
        "detector_sha256": file_hash(models[dino] / "model.safetensors").upper(),
        "masker": str(models[sam]),
        "box_threshold": 0.0,
        "text_threshold": 0.0,
    }
    labeler = make("grounded_sam", **settings)
    assert isinstance(labeler, DenseLabeler)
    assert isinstance(labeler._detector, Detector)
    assert isinstance(labeler._masker, Masker)
    made = labeler.label(IMAGE)
    assert made.labels.shape == (60, 100)
    found = made.details["detections"]
    assert found
    assert {one["class"] for one in found} <= {one.name for one in OLIVINE.classes}
    assert [one["score"] for one in found] == sorted((o["score"] for o in found), reverse=True)
    # boxes decoded one by one give the same, and so does a second labeler
    slow = make("grounded_sam", **settings, boxes_per_pass=1)
    assert slow.identity == labeler.identity
    np.testing.assert_array_equal(slow.label(IMAGE).labels, made.labels)
    strict = make("grounded_sam", **{**settings, "box_threshold": 1.0})
    assert strict.identity != labeler.identity
    assert (strict.label(IMAGE).labels == 255).all()


def test_boxes_are_those_of_the_library(models: dict[str, Path]) -> None:
    """Same boxes as transformers' own post-processing, and classes that its phrases hold too."""
    import transformers

    from condense_training.labels.labelers.grounding_dino import GroundingDino

    folder, threshold = models["dino"], 0.6
    mine = GroundingDino(
        find_model(str(folder)), box_threshold=threshold, text_threshold=threshold, device="cpu"
    )
    found = mine.detect(PIXELS, OLIVINE.prompts)
    (text,) = mine.texts(OLIVINE.prompts)
    network = transformers.GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    images = transformers.GroundingDinoImageProcessorPil.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.GroundingDinoProcessor(images, tokenizer)
    names = [prompt.text for prompt in OLIVINE.prompts]
    inputs = processor(images=PIXELS, text=[names], return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == list(text.input_ids)
    with torch.inference_mode():
        outputs = network(**inputs)
    (theirs,) = processor.post_process_grounded_object_detection(
        outputs, threshold=threshold, text_threshold=threshold, target_sizes=[(60, 100)]
    )
    boxes, scores = theirs["boxes"].numpy(), theirs["scores"].numpy()
    assert 0 < len(found) <= len(boxes) < 20
    for box, score, class_id in zip(found.boxes, found.scores, found.class_ids, strict=True):
        row = int(np.abs(boxes - box).sum(axis=1).argmin())
        np.testing.assert_allclose(boxes[row], box, atol=1e-3)
        assert score <= scores[row] + 1e-6  # theirs is of any token
        # random weights like many words at once: their phrase is a list, mine the best of it
        words = {word.strip(".") for word in theirs["text_labels"][row].split()}
        assert set(names[class_id].split()) & words


def test_masks_are_those_of_the_library(models: dict[str, Path]) -> None:
    import transformers

    from condense_training.labels.labelers.sam import Sam

    boxes = np.array([[10, 10, 60, 50], [0, 0, 100, 60], [80, 30, 99, 59]], np.float32)
    mine = Sam(find_model(str(models["sam"])), device="cpu", boxes_per_pass=2)
    made = mine.segment(PIXELS, boxes)
    processor = transformers.SamProcessor(
        transformers.SamImageProcessorPil.from_pretrained(models["sam"])
    )
    network = transformers.SamModel.from_pretrained(models["sam"]).eval()
    inputs = processor(images=PIXELS, input_boxes=[boxes.tolist()], return_tensors="pt")
    with torch.inference_mode():
        outputs = network(
            pixel_values=inputs["pixel_values"],
            input_boxes=inputs["input_boxes"].float(),
            multimask_output=False,
        )
    (masks,) = processor.image_processor.post_process_masks(
        outputs.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    assert (masks[:, 0].numpy() == made.masks).mean() > 0.999
    np.testing.assert_allclose(
        made.scores, outputs.iou_scores[0, :, 0].numpy().clip(0, 1), atol=1e-4
    )
    assert mine.segment(PIXELS, boxes[:0]).masks.shape == (0, 60, 100)


def test_boxes_are_halved_where_memory_ends(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from condense_training.labels.labelers.sam import Sam

    boxes = np.array([[10 * i, 0, 10 * i + 20, 50] for i in range(7)], np.float32)
    whole = Sam(find_model(str(models["sam"])), device="cpu").segment(PIXELS, boxes)
    small = Sam(find_model(str(models["sam"])), device="cpu", boxes_per_pass=7)
    forward, sizes = small._network.forward, []

    def two_at_most(*args: Any, **options: Any) -> Any:
        sizes.append(options["input_boxes"].shape[1])
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("no room")
        return forward(*args, **options)

    monkeypatch.setattr(small._network, "forward", two_at_most)
    made = small.segment(PIXELS, boxes)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(made.masks, whole.masks)
    monkeypatch.setattr(
        small._network,
        "forward",
        lambda **_: (_ for _ in ()).throw(torch.OutOfMemoryError("no room")),
    )
    with pytest.raises(torch.OutOfMemoryError):
        small.segment(PIXELS, boxes)


class Script:
    """A detector and masker that say what they are told."""

    def __init__(self, found: Detections, quality: list[float]) -> None:
        self.identity = {"script": 1}
        self.found, self.quality, self.asked = found, quality, 0

    def detect(self, pixels: np.ndarray, prompts: Any) -> Detections:
        assert prompts == OLIVINE.prompts
        return self.found

    def segment(self, pixels: np.ndarray, boxes: np.ndarray) -> Masks:
        self.asked = len(boxes)
        masks = np.zeros((len(boxes), *pixels.shape[:2]), bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
            mask[top:bottom, left:right] = True
        return Masks(masks, np.array(self.quality[: len(boxes)], np.float32))


def test_detections_become_labels() -> None:
    boxes = [
        [0, 0, 40, 60],
        [1, 0, 41, 60],
        [30, 20, 70, 40],
        [-10, -10, 200, 30],
        [99.5, 0, 300, 9],
    ]
    found = Detections(
        np.array(boxes, np.float32),
        np.array([0.9, 0.8, 0.5, 0.95, 0.99], np.float32),
        np.array([3, 3, 5, 8, 3]),  # car, car again, pedestrian, road, a car outside
    )
    script = Script(found, [1.0, 0.5, 0.6])
    made = GroundedLabeler(script, script, OLIVINE).label(IMAGE)
    assert script.asked == 3
    expected = np.full((60, 100), 255)
    expected[:30] = 8  # road is stuff: below, though surest
    expected[20:40, 30:70] = 5
    expected[:, :40] = 3  # 0.9 * 0.5 beats 0.5 * 0.6
    np.testing.assert_array_equal(made.labels, expected)
    np.testing.assert_allclose(made.confidence[[0, 25, 0], [0, 60, 99]], [0.45, 0.3, 0.95])
    assert [one["class"] for one in made.details["detections"]] == ["road", "car", "pedestrian"]
    few = GroundedLabeler(script, script, OLIVINE, max_boxes=1).label(IMAGE)
    assert set(np.unique(few.labels)) == {8, 255}


def test_a_masker_that_loses_a_box_is_told() -> None:
    found = Detections(np.array([[0, 0, 9, 9.0]], np.float32), np.ones(1, np.float32), np.zeros(1))
    script = Script(found, [1.0])
    script.segment = lambda pixels, boxes: Masks(np.zeros((0, 60, 100), bool), np.zeros(0))  # type: ignore
    with pytest.raises(LabelError, match="one mask"):
        GroundedLabeler(script, script, OLIVINE).label(IMAGE)


def test_networks_that_put_out_nan_are_told(models: dict[str, Path]) -> None:
    from condense_training.labels.labelers.grounding_dino import GroundingDino

    detector = GroundingDino(
        find_model(str(models["dino"])), box_threshold=0.1, text_threshold=0.1, device="cpu"
    )
    with torch.no_grad():
        detector._network.model.input_proj_vision[0][0].weight.fill_(torch.nan)
    with pytest.raises(LabelError, match="finite"):
        detector.detect(PIXELS, OLIVINE.prompts)


@pytest.mark.parametrize("name", ["segformer", "maskformer"])
def test_semseg_sums_what_is_one_class(models: dict[str, Path], name: str) -> None:
    labeler = make("semseg", LabelOntology.load("nuscenes_16"), model=str(models[name]))
    made = labeler.label(IMAGE)
    probabilities = labeler._probabilities(IMAGE).numpy()
    assert probabilities.shape == (8, 60, 100)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-4)
    # road, building, sky, car, person, vegetation, pole, truck
    merged = np.zeros((16, 60, 100), np.float32)
    for source, target in ((0, 10), (1, 14), (3, 3), (4, 6), (5, 15), (6, 14), (7, 9)):
        merged[target] += probabilities[source]
    sky = probabilities[2] > merged.max(axis=0)
    np.testing.assert_array_equal(made.labels, np.where(sky, 255, merged.argmax(axis=0)))
    np.testing.assert_allclose(made.confidence, np.where(sky, 0, merged.max(axis=0)), atol=1e-6)


def test_semseg_pixels_of_other_classes_have_none(tmp_path: Path) -> None:
    folder = tiny_models.segformer(tmp_path, names=("sky", "car"))
    ontology = LabelOntology.load("nuscenes_16")
    sure = make("semseg", ontology, model=str(folder))
    for bias, label in ((-9.0, 255), (9.0, 3)):
        with torch.no_grad():
            sure._network.decode_head.classifier.weight.zero_()
            sure._network.decode_head.classifier.bias.copy_(torch.tensor([0.0, bias]))
        assert (sure.label(IMAGE).labels == label).all()
    unsure = make("semseg", ontology, model=str(folder), min_confidence=1.0)
    assert (unsure.label(IMAGE).labels == 255).all()
    assert unsure.identity != sure.identity


def test_sam3(models: dict[str, Path]) -> None:
    ontology = LabelOntology(
        "two", (LabelClass("car", ("car", "van")), LabelClass("road", ("road",), thing=False))
    )
    labeler = make("sam3", ontology, model=str(models["sam3"]), threshold=0.0)
    made = labeler.label(IMAGE)
    assert len(made.details["instances"]) == 21  # 7 queries for each of three phrases
    # each phrase asked in one pass of its own, from pixels and words
    tokens = labeler._tokenizer(
        ["car", "van", "road"], padding="max_length", max_length=32, return_tensors="pt"
    )
    from PIL import Image

    square = np.asarray(Image.fromarray(PIXELS).resize((56, 56), Image.Resampling.BILINEAR))
    values = torch.from_numpy(square / 127.5 - 1).float().permute(2, 0, 1)[None]
    masks, scores = [], []
    with torch.inference_mode():
        for row in range(3):
            out = labeler._network(
                pixel_values=values,
                input_ids=tokens["input_ids"][row : row + 1],
                attention_mask=tokens["attention_mask"][row : row + 1],
            )
            scores.append((out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0])
            full = torch.nn.functional.interpolate(
                out.pred_masks.sigmoid(), size=(60, 100), mode="bilinear", align_corners=False
            )
            masks.append(full[0] > 0.5)
    classes = np.repeat([0, 0, 1], 7)
    expected = fuse(
        torch.cat(masks).numpy(),
        torch.cat(scores).numpy(),
        classes,
        ontology.things,
        min_area_px=16,
    )
    assert (expected.labels == made.labels).mean() > 0.99
    nothing = make("sam3", ontology, model=str(models["sam3"]), threshold=1.0).label(IMAGE)
    assert (nothing.labels == 255).all()


def test_models_of_another_kind_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    wrong = [
        ("grounded_sam", {"detector": str(models["sam"]), "masker": str(models["sam"])}),
        ("grounded_sam", {"detector": str(models["dino"]), "masker": str(models["dino"])}),
        ("sam3", {"model": str(models["dino"])}),
        ("semseg", {"model": str(models["sam"])}),
    ]
    for name, settings in wrong:
        with pytest.raises(CheckpointError, match="model"):
            make(name, LabelOntology.load("nuscenes_16"), **settings)
    with pytest.raises(CheckpointError, match="neither a folder nor an id"):
        make("semseg", model=str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match="sha256"):
        make("semseg", model=str(models["segformer"]), sha256="0" * 64)
    with pytest.raises(ConfigError, match="float7"):
        make("sam3", model=str(models["sam3"]), dtype="float7")
    no_prompts = LabelOntology("mute", (LabelClass("a"),))
    with pytest.raises(ConfigError, match="no prompts"):
        make("grounded_sam", no_prompts)
    with pytest.raises(ConfigError, match="unknown labeler"):
        find_labeler("magic")
    long = LabelOntology("long", (LabelClass("a", (" ".join(["car"] * 300),)),))
    with pytest.raises(ConfigError, match="tokens"):
        make("sam3", long, model=str(models["sam3"]))


def test_weights_that_are_missing_or_pickled_are_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models["segformer"], tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.startswith("decode_head.classifier"))
    kept = {name: value for name, value in weights.items() if name != lost}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=lost):
        make("semseg", LabelOntology.load("nuscenes_16"), model=str(folder))
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled"):
        find_model(str(folder))
    (folder / "a.safetensors").write_bytes(b"1")
    one = find_model(str(folder)).sha256
    (folder / "b.safetensors").write_bytes(b"2")
    two = find_model(str(folder)).sha256
    assert one == file_hash(folder / "a.safetensors") != two
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        _ = find_model(str(folder)).config


def test_models_of_the_hub(monkeypatch: pytest.MonkeyPatch, models: dict[str, Path]) -> None:
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(models["segformer"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    found = find_model("owner/model", revision="v1")
    assert found.sha256 == find_model(str(models["segformer"])).sha256
    assert found.revision == models["segformer"].name
    assert asked[0]["revision"] == "v1"
    assert not any(pattern.endswith((".bin", ".pth")) for pattern in asked[0]["allow_patterns"])

    def offline(name: str, **options: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match="no route to host"):
        find_model("owner/model")


def test_without_transformers_or_with_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentProblem, match=r"has no usable Sam9Model, which labeler sam9"):
        libraries.transformers_class("Sam9Model", "labeler sam9")
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="needs the package transformers"):
        make("sam3", model="facebook/sam3")


def test_a_torchvision_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    code = (
        "from condense_training.labels.libraries import transformers\n"
        "from condense_ros.errors import EnvironmentProblem\n"
        "try: transformers()\n"
        "except EnvironmentProblem as error: print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "training")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert "nms does not exist" in done.stdout, done.stderr
    assert "pip uninstall torchvision" in done.stdout


def test_importing_labels_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, condense_training.labels\n"
        "from condense_training.labels import LABELERS\n"
        "print([name for name in ('torch', 'transformers', 'ray') if name in sys.modules])"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "training")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_every_labeler_has_json_identity(models: dict[str, Path], tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((60, 100), np.uint8)).save(tmp_path / "b.png")
    settings: dict[str, dict[str, Any]] = {
        "clusters": {"features": "handmade", "groups": 2, "segments": 20},
        "grounded_sam": {"detector": str(models["dino"]), "masker": str(models["sam"])},
        "sam3": {"model": str(models["sam3"])},
        "semseg": {"model": str(models["segformer"])},
        "precomputed": {"folder": str(tmp_path), "ids": "segments"},
    }
    assert {*settings, "segment_anything"} == set(LABELERS)
    for name, values in settings.items():
        entry = LABELERS[name]
        context = LabelerContext(
            FolderImages(tmp_path),
            tmp_path / "state" / name,
            ontology=None,
        )
        labeler = entry.build(build(entry.config_class(), values), context)
        assert isinstance(labeler, DenseLabeler)
        assert json.loads(json.dumps(dict(labeler.identity))) == dict(labeler.identity)
