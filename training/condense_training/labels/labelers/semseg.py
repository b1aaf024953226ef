"""`semseg`: any semantic or universal segmentation model of transformers, its classes mapped.

One pass per image, and good at roads and vegetation, where boxes are a poor prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from condense_ros.config import parameter
from condense_ros.errors import CheckpointError, ConfigError
from condense_ros.frame import IGNORE
from condense_training.labels.id_maps import IdMap
from condense_training.labels.images import SourceImage
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.libraries import torch_type, transformers_class
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import LabelImage, check_finite
from condense_training.labels.weights import ModelFolder, find_model, load, load_network


@dataclass(frozen=True)
class SemsegConfig:
    """Which model, and what its classes are here."""

    model: str = parameter(
        "nvidia/segformer-b5-finetuned-cityscapes-1024-1024",
        "segmentation model (SegFormer, UPerNet, Mask2Former, MaskFormer, EoMT, ...): folder, or "
        "id of the Hugging Face hub",
    )
    sha256: str = parameter("", "of its weights, checked where given")
    revision: str = parameter("main", "branch, tag or commit of the hub")
    classes: str = parameter(
        "cityscapes", "map of the model's class names to the ontology: name or YAML file"
    )
    min_confidence: float = parameter(
        0.0, "pixels less sure than this get no class", low=0.0, high=1.0
    )
    dtype: str = parameter("float32", "float32, bfloat16 or float16")


class SemsegLabeler:
    """Probabilities of the model's classes, summed over those that are one class here.

    A pixel whose best class is not in the ontology (sky) gets none. Universal models give
    probabilities by their masks' classes (MaskFormer, Cheng et al. 2021, section 3.4), divided by
    their sum so that they compare.

    Raises:
        CheckpointError: the model is none of these kinds, or names no classes.
        ConfigError: a class map that does not fit.
    """

    def __init__(
        self, model: ModelFolder, ontology: LabelOntology, id_map: IdMap, config: SemsegConfig,
        device: str,
    ) -> None:  # fmt: skip
        names = {int(k): str(v) for k, v in model.config.get("id2label", {}).items()}
        if not names:
            raise CheckpointError(
                f"config.json of {model.name} names no classes (id2label)",
                "use a model trained for segmentation",
            )
        self.ontology = ontology
        self._table = id_map.name_table(names, ontology)
        self.identity: Mapping[str, Any] = {
            **model.identity,
            "classes": [int(target) for target in self._table],
            "min_confidence": config.min_confidence,
            "dtype": config.dtype,
            "resize": "pillow",
        }
        self._min = config.min_confidence
        self._device, self._dtype = device, torch_type(config.dtype)
        self._universal = _is_universal(model)
        processor = transformers_class("AutoImageProcessor", "this model")
        self._processor = load(processor, model, backend="pil")
        kind = "Universal" if self._universal else "Semantic"
        loader = transformers_class(f"AutoModelFor{kind}Segmentation", "this model")
        self._network = load_network(loader, model, device, self._dtype)

    def label(self, image: SourceImage) -> LabelImage:
        """Labels of one image.

        Raises:
            LabelError: the network puts out NaN.
        """
        probabilities = self._probabilities(image).cpu().numpy()
        check_finite("probabilities", probabilities)
        if len(probabilities) < len(self._table):
            raise CheckpointError(
                f"the model has {len(probabilities)} classes and names {len(self._table)}",
                "correct id2label in its config.json",
            )
        merged = np.zeros((len(self.ontology), *probabilities.shape[1:]), np.float32)
        # what has no class here competes one by one, as it would have in the model
        nothing = np.zeros(probabilities.shape[1:], np.float32)
        for target, probability in zip(self._table.tolist(), probabilities, strict=False):
            if target == IGNORE:
                np.maximum(nothing, probability, out=nothing)
            else:
                merged[target] += probability
        best = merged.argmax(axis=0)
        confidence = np.take_along_axis(merged, best[None], axis=0)[0].clip(0, 1)
        none = (nothing > confidence) | (confidence < self._min)
        labels = np.where(none, IGNORE, best).astype(np.uint8)
        return LabelImage(labels, np.where(none, 0, confidence).astype(np.float32))

    @torch.inference_mode()
    def _probabilities(self, image: SourceImage) -> torch.Tensor:
        """(C, H, W) float32 probabilities of the model's own classes at the image's size."""
        size = image.pixels.shape[:2]
        inputs = self._processor(images=image.pixels, return_tensors="pt")
        tensors = {"pixel_values": inputs["pixel_values"].to(self._device, self._dtype)}
        covered = None
        if "pixel_mask" in inputs:
            tensors["pixel_mask"] = inputs["pixel_mask"].to(self._device)
            rows, columns = (
                inputs["pixel_mask"][0].any(1).sum(),
                inputs["pixel_mask"][0].any(0).sum(),
            )
            covered = int(rows), int(columns)
        found = self._network(**tensors)
        if not self._universal:
            logits = functional.interpolate(
                found.logits.float(), size=size, mode="bilinear", align_corners=False
            )
            return logits[0].softmax(0)
        # the last class of a query means "nothing"
        classes = found.class_queries_logits[0].float().softmax(-1)[:, :-1]
        masks = found.masks_queries_logits.float()
        padded = tuple(inputs["pixel_values"].shape[-2:])
        masks = functional.interpolate(masks, size=padded, mode="bilinear", align_corners=False)
        if covered is not None:  # what was padded is not part of the image
            masks = masks[..., : covered[0], : covered[1]]
        masks = functional.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        scores = torch.einsum("qc,qhw->chw", classes, masks[0].sigmoid())
        return scores / scores.sum(0).clamp(min=1e-6)


def _is_universal(model: ModelFolder) -> bool:
    kinds = " ".join(model.config.get("architectures") or [])
    if "OneFormer" in kinds:
        raise CheckpointError(
            f"{model.name} is a OneFormer, which also wants a task as text",
            "use Mask2Former or EoMT",
        )
    if "UniversalSegmentation" in kinds or "MaskFormerForInstance" in kinds:
        return True
    if "SemanticSegmentation" in kinds or kinds.endswith("ForSegmentation"):
        return False
    raise CheckpointError(
        f"{model.name} is a {kinds or 'model without architectures'}",
        "use a model for semantic or universal segmentation",
    )


def build(config: SemsegConfig, context: LabelerContext) -> SemsegLabeler:
    """The labeler, its network loaded.

    Raises:
        CheckpointError, EnvironmentProblem, ConfigError: as the class and `find_model` say.
    """
    if not config.classes:
        raise ConfigError("no map of the model's classes", "give -p classes=FILE.yaml")
    model = find_model(config.model, sha256=config.sha256, revision=config.revision)
    id_map = IdMap.load(config.classes)
    return SemsegLabeler(model, context.need_ontology(), id_map, config, context.device)
