"""Grounding DINO and MM-Grounding-DINO as detectors, through transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from condense_ros.errors import CheckpointError
from condense_training.labels.libraries import torch_type, transformers_class
from condense_training.labels.ontology import Prompt
from condense_training.labels.protocols import Detections, check_finite
from condense_training.labels.tokens import PromptText, choose, prompt_texts
from condense_training.labels.weights import ModelFolder, load, load_network

KINDS = ("grounding-dino", "mm-grounding-dino")


class GroundingDino:
    """Boxes by text (Liu et al., "Grounding DINO", 2023).

    All prompts go into one text, as many as fit; class scores are read at each prompt's tokens
    (`labels.tokens`). The image processor and the tokenizer are those of the checkpoint; images are
    resized by Pillow, so that results do not change with the presence of torchvision.

    Args:
        box_threshold, text_threshold: see `tokens.choose`.
        dtype: of weights and arithmetic.

    Raises:
        CheckpointError: a model of another kind.
    """

    def __init__(
        self,
        model: ModelFolder,
        *,
        box_threshold: float,
        text_threshold: float,
        device: str,
        dtype: str = "float32",
    ) -> None:
        kind = model.config.get("model_type")
        if kind not in KINDS:
            raise CheckpointError(
                f"{model.name} is a model of type {kind!r}", f"a detector is one of {KINDS}"
            )
        self.identity: Mapping[str, Any] = {
            **model.identity,
            "box_threshold": box_threshold,
            "text_threshold": text_threshold,
            "dtype": dtype,
            "resize": "pillow",
        }
        self._thresholds = box_threshold, text_threshold
        self._device, self._dtype = device, torch_type(dtype)
        purpose = "the detector"
        self._tokenizer = load(transformers_class("AutoTokenizer", purpose), model)
        processor = transformers_class("GroundingDinoImageProcessorPil", purpose)
        self._processor = load(processor, model)
        loader = transformers_class("AutoModelForZeroShotObjectDetection", purpose)
        self._network = load_network(loader, model, device, self._dtype)
        self._texts: dict[tuple[Prompt, ...], list[PromptText]] = {}

    def texts(self, prompts: Sequence[Prompt]) -> list[PromptText]:
        """The texts that the prompts make, most often one."""
        key = tuple(prompts)
        if key not in self._texts:
            tokenizer = self._tokenizer
            self._texts[key] = prompt_texts(
                key,
                lambda phrase: tokenizer(phrase, add_special_tokens=False)["input_ids"],
                begin=tokenizer.cls_token_id,
                stop=tokenizer.convert_tokens_to_ids("."),
                end=tokenizer.sep_token_id,
                most_tokens=self._network.config.max_text_len,
            )
        return self._texts[key]

    def detect(self, pixels: npt.NDArray[np.uint8], prompts: Sequence[Prompt]) -> Detections:
        """Boxes in (H, W, 3) uint8 RGB, in pixels, unsuppressed.

        Raises:
            LabelError: the network puts out NaN.
        """
        height, width = pixels.shape[:2]
        inputs = self._processor(images=pixels, return_tensors="pt")
        image = inputs["pixel_values"].to(self._device, self._dtype)
        mask = inputs["pixel_mask"].to(self._device)
        boxes, scores, classes = [], [], []
        for text in self.texts(prompts):
            logits, centred = self._forward(image, mask, text)
            probabilities = 1 / (1 + np.exp(-logits))
            rows, class_ids, best = choose(
                probabilities,
                text,
                box_threshold=self._thresholds[0],
                text_threshold=self._thresholds[1],
            )
            centre, half = centred[rows, :2], centred[rows, 2:] / 2
            corners = np.concatenate([centre - half, centre + half], axis=1)
            boxes.append(corners * np.array([width, height] * 2, np.float32))
            scores.append(best)
            classes.append(class_ids)
        return Detections(
            np.concatenate(boxes).astype(np.float32),
            np.concatenate(scores).astype(np.float32),
            np.concatenate(classes),
        )

    @torch.inference_mode()
    def _forward(
        self, image: torch.Tensor, mask: torch.Tensor, text: PromptText
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(Q, T) logits of the text's tokens and (Q, 4) boxes (cx, cy, w, h) in 0..1."""
        ids = torch.tensor([text.input_ids], device=self._device)
        found = self._network(
            pixel_values=image,
            pixel_mask=mask,
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
        )
        # behind the text, logits are minus infinity
        logits = found.logits[0, :, : len(text.input_ids)].float().cpu().numpy()
        check_finite("token logits", logits)
        return logits, found.pred_boxes[0].float().cpu().numpy()
