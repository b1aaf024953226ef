"""SAM and SAM-HQ as maskers: the pixels of what is in a box, through transformers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from condense_ros.errors import CheckpointError
from condense_training.labels.libraries import torch_type, transformers_class
from condense_training.labels.protocols import Masks, check_finite
from condense_training.labels.weights import ModelFolder, load, load_network

log = logging.getLogger(__name__)

NETWORKS = {"sam": "SamModel", "sam_hq": "SamHQModel"}


class Sam:
    """Box prompts, one mask per box (Kirillov et al., "Segment Anything", 2023; Ke et al., HQ).

    The image is encoded once; boxes are decoded in chunks, halved where memory runs out.

    Args:
        boxes_per_pass: boxes decoded at once.

    Raises:
        CheckpointError: a model of another kind.
    """

    def __init__(
        self,
        model: ModelFolder,
        *,
        device: str,
        dtype: str = "float32",
        boxes_per_pass: int = 16,
    ) -> None:
        kind = model.config.get("model_type")
        if kind not in NETWORKS:
            raise CheckpointError(
                f"{model.name} is a model of type {kind!r}", f"a masker is one of {tuple(NETWORKS)}"
            )
        self.identity: Mapping[str, Any] = {**model.identity, "dtype": dtype, "resize": "pillow"}
        self._device, self._dtype = device, torch_type(dtype)
        self._chunk = boxes_per_pass
        self._processor = load(transformers_class("SamImageProcessorPil", "the masker"), model)
        loader = transformers_class(NETWORKS[kind], "the masker")
        self._network = load_network(loader, model, device, self._dtype)
        self._hq = kind == "sam_hq"

    @torch.inference_mode()
    def segment(self, pixels: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32]) -> Masks:
        """One mask for each of (N, 4) boxes in pixels; no boxes cost no forward pass.

        Raises:
            LabelError: the network puts out NaN.
        """
        height, width = pixels.shape[:2]
        if not len(boxes):
            return Masks(np.zeros((0, height, width), bool), np.zeros(0, np.float32))
        inputs = self._processor(images=pixels, return_tensors="pt")
        image = inputs["pixel_values"].to(self._device, self._dtype)
        resized = [int(side) for side in inputs["reshaped_input_sizes"][0]]
        scale = np.array([resized[1] / width, resized[0] / height] * 2, np.float32)
        prompts = torch.from_numpy(boxes * scale).to(self._device, self._dtype)[None]
        embedding: dict[str, Any]
        if self._hq:
            features, middle = self._network.get_image_embeddings(image)
            embedding = {"image_embeddings": features, "intermediate_embeddings": middle}
        else:
            embedding = {"image_embeddings": self._network.get_image_embeddings(image)}
        masks, scores = [], []
        first = 0
        while first < len(boxes):
            part = prompts[:, first : first + self._chunk]
            try:
                found = self._network(input_boxes=part, multimask_output=False, **embedding)
            except torch.OutOfMemoryError:
                if self._chunk == 1:
                    raise
                self._chunk = max(1, self._chunk // 2)
                log.warning("out of memory: %d boxes at once from now on", self._chunk)
                continue
            full = self._processor.post_process_masks(
                [found.pred_masks[0].float()], [(height, width)], [resized]
            )[0]
            masks.append(full[:, 0].cpu().numpy())
            scores.append(found.iou_scores[0, :, 0].float().cpu().numpy())
            first += part.shape[1]
        quality = np.concatenate(scores)
        check_finite("mask scores", quality)
        return Masks(np.concatenate(masks).astype(bool), quality.clip(0, 1))
