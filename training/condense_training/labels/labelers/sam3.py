"""`sam3`: SAM 3 finds and outlines everything that a noun phrase names, in one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from condense_ros.config import parameter
from condense_ros.errors import CheckpointError, ConfigError
from condense_training.labels.fusion import fuse
from condense_training.labels.images import SourceImage
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.libraries import torch_type, transformers_class
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import LabelImage, check_finite
from condense_training.labels.weights import ModelFolder, find_model, load, load_network

#: tokens of a phrase that the network reads
_TEXT_LENGTH = 32


@dataclass(frozen=True)
class Sam3Config:
    """Which weights, and what counts as found."""

    model: str = parameter("facebook/sam3", "folder, or id of the Hugging Face hub (licence!)")
    sha256: str = parameter("", "of its weights, checked where given")
    revision: str = parameter("main", "branch, tag or commit of the hub")
    threshold: float = parameter(
        0.5, "an instance's score times the phrase's presence exceeds this", low=0.0, high=1.0
    )
    min_area_px: int = parameter(16, "smaller masks are left out, pixels", low=1)
    dtype: str = parameter("float32", "float32, bfloat16 or float16")


class Sam3Labeler:
    """Carion et al., "SAM 3: Segment Anything with Concepts", 2025, through transformers.

    The image is encoded once and asked for every prompt in turn; phrases are encoded when first
    asked for. The published image processor needs torchvision, so the image is resized here: to the
    network's square by Pillow, then to -1..1.

    Raises:
        CheckpointError: a model of another kind.
        EnvironmentProblem: the installed transformers has no SAM 3.
        ConfigError: a prompt that is too long.
    """

    def __init__(
        self, model: ModelFolder, ontology: LabelOntology, config: Sam3Config, device: str
    ) -> None:
        purpose = "labeler sam3"
        loader = transformers_class("Sam3Model", purpose)
        kind = model.config.get("model_type")
        if kind not in ("sam3", "sam3_video"):
            raise CheckpointError(
                f"{model.name} is a model of type {kind!r}", "use facebook/sam3 or a copy of it"
            )
        self.ontology = ontology
        self.identity: Mapping[str, Any] = {
            **model.identity,
            "threshold": config.threshold,
            "min_area_px": config.min_area_px,
            "dtype": config.dtype,
            "resize": "pillow",
        }
        self._config = config
        self._device, self._dtype = device, torch_type(config.dtype)
        self._tokenizer = load(transformers_class("AutoTokenizer", purpose), model)
        self._network = load_network(loader, model, device, self._dtype)
        side = self._network.config.vision_config.image_size
        self._side = int(side if isinstance(side, int) else side[0])
        self._phrases = [self._tokens(prompt.text) for prompt in ontology.prompts]
        self._embeddings: list[Any] = []

    def _tokens(self, phrase: str) -> dict[str, torch.Tensor]:
        ids = self._tokenizer(phrase)["input_ids"]
        if len(ids) > _TEXT_LENGTH:
            raise ConfigError(
                f"prompt {phrase!r} has {len(ids)} tokens", f"use at most {_TEXT_LENGTH}"
            )
        made = self._tokenizer(
            phrase, padding="max_length", max_length=_TEXT_LENGTH, return_tensors="pt"
        )
        names = ("input_ids", "attention_mask")
        return {name: made[name].to(self._device) for name in names}

    def label(self, image: SourceImage) -> LabelImage:
        """Labels of one image.

        Raises:
            LabelError: the network puts out NaN.
        """
        masks, scores, classes = self._instances(image.pixels)
        fused = fuse(
            masks, scores, classes, self.ontology.things, min_area_px=self._config.min_area_px
        )
        instances = [
            {"class": self.ontology.classes[class_id].name, "score": round(float(score), 4)}
            for class_id, score in zip(classes.tolist(), scores, strict=True)
        ]
        details = {**fused.details, "instances": instances}
        return LabelImage(fused.labels, fused.confidence, details)

    @torch.inference_mode()
    def _instances(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """(N, H, W) masks, (N,) scores, (N,) class ids of all prompts."""
        size = pixels.shape[:2]
        square = Image.fromarray(pixels).resize((self._side, self._side), Image.Resampling.BILINEAR)
        values = torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)[None]
        values = (values.to(self._device).float() / 127.5 - 1).to(self._dtype)
        seen = self._network.get_vision_features(pixel_values=values)
        if not self._embeddings:
            self._embeddings = [self._network.get_text_features(**ids) for ids in self._phrases]
        masks, scores, classes = [np.zeros((0, *size), bool)], [], []
        for prompt, phrase, embedding in zip(
            self.ontology.prompts, self._phrases, self._embeddings, strict=True
        ):
            found = self._network(
                vision_embeds=seen,
                text_embeds=embedding,
                attention_mask=phrase["attention_mask"],
            )
            # the presence token says whether the phrase is in the image at all
            score = (found.pred_logits.sigmoid() * found.presence_logits.sigmoid())[0].float()
            check_finite("instance scores", score.cpu().numpy())
            kept = score > self._config.threshold
            if not bool(kept.any()):
                continue
            inside = found.pred_masks[:, kept].float().sigmoid()
            full = functional.interpolate(inside, size=size, mode="bilinear", align_corners=False)
            masks.append((full[0] > 0.5).cpu().numpy())
            scores.append(score[kept].cpu().numpy())
            classes.append(np.full(int(kept.sum()), prompt.class_id))
        if not scores:
            return masks[0], np.zeros(0, np.float32), np.zeros(0, np.int64)
        return np.concatenate(masks), np.concatenate(scores), np.concatenate(classes)


def build(config: Sam3Config, context: LabelerContext) -> Sam3Labeler:
    """The labeler, its network loaded.

    Raises:
        CheckpointError, EnvironmentProblem, ConfigError: as the class and `find_model` say.
    """
    ontology = context.need_prompts()
    # asked first: without it, a download of gigabytes would be for nothing
    transformers_class("Sam3Model", "labeler sam3")
    model = find_model(config.model, sha256=config.sha256, revision=config.revision)
    return Sam3Labeler(model, ontology, config, context.device)
