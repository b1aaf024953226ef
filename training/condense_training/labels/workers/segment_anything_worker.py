"""Runs the packages groundingdino-py and segment-anything for labeler `segment_anything`.

This file is started by a Python that has those two packages (docs/labels.md tells how to build its
environment), and imports nothing of this project. It reads one JSON object per line on stdin and
answers each with one line on stdout; arrays travel as .npy files in a folder both know. Whatever
the packages print goes to stderr.

    {"op": "setup", "config": FILE or "", "detector": FILE.pth, "text_encoder": NAME or FOLDER,
     "masker": FILE.pth, "masker_kind": "vit_h", "device": "cpu"}
        -> {"ok": true, "protocol": 1, "versions": {...}, "most_tokens": 256,
            "begin": 101, "stop": 1012, "end": 102}
    {"op": "tokenize", "phrases": ["car", ...]}         -> {"ok": true, "ids": [[2482], ...]}
    {"op": "detect", "image": A.npy, "text": "car. bus.", "input_ids": [...], "scores": B.npy,
     "boxes": C.npy}    writes (Q, T) float32 token probabilities, (Q, 4) boxes cx cy w h in 0..1
    {"op": "segment", "image": A.npy, "boxes": D.npy (N, 4) pixels, "masks": E.npy, "scores": F.npy}
                        writes (N, H, W) bool and (N,) float32
    {"op": "end"}

A request that fails is answered with {"ok": false, "error": "..."}; the worker goes on.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PROTOCOL = 1


class Worker:
    """Both networks, once `setup` has built them."""

    def __init__(self) -> None:
        self.detector: Any = None
        self.predictor: Any = None
        self.device = "cpu"

    def setup(self, request: dict[str, Any]) -> dict[str, Any]:
        """Builds both networks and loads their weights, strictly and without pickled code."""
        import torch

        # through importlib, so that type checkers do not look for them elsewhere
        groundingdino: Any = importlib.import_module("groundingdino")
        models: Any = importlib.import_module("groundingdino.models")
        configs: Any = importlib.import_module("groundingdino.util.slconfig")
        utils: Any = importlib.import_module("groundingdino.util.utils")
        segment_anything: Any = importlib.import_module("segment_anything")

        self.device = request["device"]
        file = request["config"] or str(
            Path(groundingdino.__file__).parent / "config" / "GroundingDINO_SwinT_OGC.py"
        )
        options = configs.SLConfig.fromfile(file)
        options.device = self.device
        if request["text_encoder"]:
            options.text_encoder_type = request["text_encoder"]
        detector = models.build_model(options)
        saved = torch.load(request["detector"], map_location="cpu", weights_only=True)
        state = utils.clean_state_dict(saved.get("model", saved))
        missing, _ = detector.load_state_dict(state, strict=False)
        # buffers that newer versions of transformers no longer store
        missing = [name for name in missing if not name.endswith("position_ids")]
        if missing:
            raise ValueError(f"{request['detector']} lacks {len(missing)} weights: {missing[0]}")
        self.detector = detector.to(self.device).eval()

        sam = segment_anything.sam_model_registry[request["masker_kind"]](checkpoint=None)
        sam.load_state_dict(torch.load(request["masker"], map_location="cpu", weights_only=True))
        self.predictor = segment_anything.SamPredictor(sam.to(self.device).eval())
        tokenizer = self.detector.tokenizer
        names = ("torch", "torchvision", "transformers", "groundingdino-py", "segment-anything")
        return {
            "protocol": PROTOCOL,
            "versions": {name: metadata.version(name) for name in names},
            "most_tokens": int(self.detector.max_text_len),
            "begin": tokenizer.cls_token_id,
            "stop": tokenizer.convert_tokens_to_ids("."),
            "end": tokenizer.sep_token_id,
        }

    def tokenize(self, request: dict[str, Any]) -> dict[str, Any]:
        """Token ids of phrases, without special ones."""
        tokenizer = self.detector.tokenizer
        return {
            "ids": [
                list(tokenizer(phrase, add_special_tokens=False)["input_ids"])
                for phrase in request["phrases"]
            ]
        }

    def detect(self, request: dict[str, Any]) -> dict[str, Any]:
        """One forward pass of Grounding DINO, images resized as its authors do."""
        import torch
        from PIL import Image

        transforms: Any = importlib.import_module("groundingdino.datasets.transforms")
        text = request["text"]
        ids = list(self.detector.tokenizer(text)["input_ids"])
        if ids != request["input_ids"]:
            raise ValueError(f"{text!r} has the tokens {ids}, expected {request['input_ids']}")
        prepare = transforms.Compose(
            [
                transforms.RandomResize([800], max_size=1333),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )
        image, _ = prepare(Image.fromarray(np.load(request["image"])), None)
        with torch.inference_mode():
            found = self.detector(image[None].to(self.device), captions=[text])
        scores = found["pred_logits"][0].sigmoid()[:, : len(ids)].float().cpu().numpy()
        np.save(request["scores"], scores)
        np.save(request["boxes"], found["pred_boxes"][0].float().cpu().numpy())
        return {"queries": len(scores)}

    def segment(self, request: dict[str, Any]) -> dict[str, Any]:
        """One mask per box, boxes one by one; the image is encoded once."""
        pixels, boxes = np.load(request["image"]), np.load(request["boxes"])
        masks = np.zeros((len(boxes), *pixels.shape[:2]), bool)
        scores = np.zeros(len(boxes), np.float32)
        if len(boxes):
            self.predictor.set_image(pixels)
        for row, box in enumerate(boxes):
            made, quality, _ = self.predictor.predict(box=box, multimask_output=False)
            masks[row], scores[row] = made[0], quality[0]
        np.save(request["masks"], masks)
        np.save(request["scores"], scores)
        return {"masks": len(masks)}


def main() -> None:
    """Answers requests until told to end, or until stdin closes."""
    # the packages print; only answers may reach the pipe
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    operations = {
        "setup": worker.setup,
        "tokenize": worker.tokenize,
        "detect": worker.detect,
        "segment": worker.segment,
    }
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "end":
            return
        try:
            answer = {"ok": True, **operations[request["op"]](request)}
        except Exception as error:  # whatever the packages raise is an answer
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
