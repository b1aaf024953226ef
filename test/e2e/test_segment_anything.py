"""The official packages in an environment of their own, with random weights.

Builds the environment as docs/labels.md tells (gigabytes, minutes); CONDENSE_SEGMENT_ANYTHING names
the Python of one that is there already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from condense_ros.errors import CheckpointError, ConfigError, EnvironmentProblem, LabelError
from condense_training.labels.images import FolderImages, SourceImage
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.labelers.segment_anything import (
    SegmentAnythingConfig,
    WorkerProcess,
    build,
)
from condense_training.labels.ontology import LabelOntology

PACKAGES = ("torch", "torchvision", "transformers==4.48.3", "segment-anything", "groundingdino-py")

#: makes files in the layout of the official weights, with one layer where six are published
MAKE_WEIGHTS = """
import sys, torch
from pathlib import Path
import groundingdino
from groundingdino.models import build_model
from groundingdino.util.slconfig import SLConfig
from segment_anything import sam_model_registry
from transformers import BertConfig, BertModel
out = Path(sys.argv[1])
torch.manual_seed(0)
config = BertConfig(vocab_size=1100, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
                    intermediate_size=64)
BertModel(config).save_pretrained(out / "bert")
official = Path(groundingdino.__file__).parent / "config/GroundingDINO_SwinT_OGC.py"
text = official.read_text().replace("enc_layers = 6", "enc_layers = 1")
text = text.replace("dec_layers = 6", "dec_layers = 2")
text = text.replace("num_queries = 900", "num_queries = 50")
(out / "config.py").write_text(text)
options = SLConfig.fromfile(str(out / "config.py"))
options.device, options.text_encoder_type = "cpu", str(out / "bert")
model = build_model(options)
torch.save({"model": {f"module.{k}": v for k, v in model.state_dict().items()}}, out / "dino.pth")
torch.save(sam_model_registry["vit_b"](checkpoint=None).state_dict(), out / "sam.pth")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    named = os.environ.get("CONDENSE_SEGMENT_ANYTHING")
    if named:
        return named
    folder = tmp_path_factory.mktemp("environment")
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", folder], check=True)
    done = subprocess.run(
        [folder / "bin/pip", "install", "-q", "--progress-bar", "off", *PACKAGES],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"the packages cannot be installed here: {done.stderr.strip()[-300:]}")
    return str(folder / "bin/python")


@pytest.fixture(scope="module")
def weights(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny_models.word_tokenizer(folder / "bert")
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [python, "-c", MAKE_WEIGHTS, folder], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    return folder


def settings(python: str, weights: Path, **more: object) -> SegmentAnythingConfig:
    values: dict[str, object] = {
        "python": python,
        "detector": str(weights / "dino.pth"),
        "detector_config": str(weights / "config.py"),
        "text_encoder": str(weights / "bert"),
        "masker": str(weights / "sam.pth"),
        "masker_kind": "vit_b",
        "box_threshold": 0.0,
        "text_threshold": 0.0,
        "max_boxes": 3,
    }
    return SegmentAnythingConfig(**{**values, **more})  # type: ignore[arg-type]


def context(tmp_path: Path) -> LabelerContext:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return LabelerContext(
        FolderImages(tmp_path), tmp_path, ontology=LabelOntology.load("olivine_13")
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_forward_pass_in_the_other_environment(
    python: str, weights: Path, tmp_path: Path
) -> None:
    surroundings = context(tmp_path)
    labeler = build(settings(python, weights), surroundings)
    (image,) = surroundings.source.images(0)
    made = labeler.label(image)
    print(json.dumps(made.details["detections"]))
    assert made.labels.shape == (60, 100)
    assert 1 <= len(made.details["detections"]) <= 3
    names = {one.name for one in labeler.ontology.classes}
    assert {found["class"] for found in made.details["detections"]} <= names
    again = labeler.label(SourceImage("again", image.pixels))
    np.testing.assert_array_equal(made.labels, again.labels)

    with pytest.raises(CheckpointError, match="GroundingDINO"):
        build(settings(python, weights, detector_config=""), surroundings)
    with pytest.raises(CheckpointError, match="sha256"):
        build(settings(python, weights, masker_sha256="00"), surroundings)
    worker = WorkerProcess(python, 60)
    with pytest.raises(LabelError, match="setup"):
        worker.ask("setup", device="cpu")
    worker.close()


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    surroundings = context(tmp_path)
    for name in ("dino.pth", "sam.pth"):
        (tmp_path / name).write_bytes(b"none")
    with pytest.raises(ConfigError, match="environment"):
        build(settings("", tmp_path), surroundings)
    with pytest.raises(CheckpointError, match="no weights of the masker"):
        build(settings(sys.executable, tmp_path, masker=""), surroundings)
    with pytest.raises(EnvironmentProblem, match="cannot be started"):
        build(settings(str(tmp_path / "python"), tmp_path), surroundings)
    # this environment has neither package
    with pytest.raises(CheckpointError, match="groundingdino"):
        build(settings(sys.executable, tmp_path), surroundings)


def test_a_worker_that_dies_or_hangs_is_told(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho out of everything >&2\nexit 3\n")
    program.chmod(0o755)
    worker = WorkerProcess(str(program), 60)
    with pytest.raises(EnvironmentProblem, match="out of everything"):
        worker.ask("setup")
    worker.close()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    worker = WorkerProcess(str(program), 0.3)
    with pytest.raises(EnvironmentProblem, match=r"within 0\.3 s"):
        worker.ask("setup")
    worker.close()
