"""`grounded_sam`: Grounding DINO finds, SAM outlines; both from transformers."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.labelers.grounded import GroundedLabeler
from condense_training.labels.weights import find_model


@dataclass(frozen=True)
class GroundedSamConfig:
    """Which networks, and what counts as found. Defaults are those of OLIVINE's labels."""

    detector: str = parameter(
        "IDEA-Research/grounding-dino-tiny",
        "Grounding DINO or MM-Grounding-DINO: folder, or id of the Hugging Face hub",
    )
    detector_sha256: str = parameter("", "of its weights, checked where given")
    detector_revision: str = parameter("main", "branch, tag or commit of the hub")
    masker: str = parameter("facebook/sam-vit-huge", "SAM or SAM-HQ: folder, or id of the hub")
    masker_sha256: str = parameter("", "of its weights, checked where given")
    masker_revision: str = parameter("main", "branch, tag or commit of the hub")
    box_threshold: float = parameter(
        0.25, "a box's best token exceeds this probability", low=0.0, high=1.0
    )
    text_threshold: float = parameter(
        0.25, "a box's best class exceeds this probability", low=0.0, high=1.0
    )
    nms_iou: float = parameter(
        0.5, "of two boxes of a class that overlap more, the better stays", low=0.0, high=1.0
    )
    max_boxes: int = parameter(300, "at most so many boxes of an image", low=1)
    min_area_px: int = parameter(16, "smaller masks are left out, pixels", low=1)
    boxes_per_pass: int = parameter(16, "boxes outlined at once; halved when memory ends", low=1)
    dtype: str = parameter("float32", "float32, bfloat16 or float16")


def build(config: GroundedSamConfig, context: LabelerContext) -> GroundedLabeler:
    """The labeler, its networks loaded.

    Raises:
        CheckpointError: models that are missing, changed or of another kind.
        EnvironmentProblem: transformers is missing or broken.
        ConfigError: no ontology, or unusable prompts.
    """
    # imported here: the parameters of a labeler should not cost a second
    from condense_training.labels.labelers.grounding_dino import GroundingDino
    from condense_training.labels.labelers.sam import Sam

    ontology = context.need_prompts()
    detector = GroundingDino(
        find_model(
            config.detector, sha256=config.detector_sha256, revision=config.detector_revision
        ),
        box_threshold=config.box_threshold,
        text_threshold=config.text_threshold,
        device=context.device,
        dtype=config.dtype,
    )
    detector.texts(ontology.prompts)  # prompts that do not fit are told before the first image
    masker = Sam(
        find_model(config.masker, sha256=config.masker_sha256, revision=config.masker_revision),
        device=context.device,
        dtype=config.dtype,
        boxes_per_pass=config.boxes_per_pass,
    )
    return GroundedLabeler(
        detector,
        masker,
        ontology,
        nms_iou=config.nms_iou,
        max_boxes=config.max_boxes,
        min_area_px=config.min_area_px,
    )
