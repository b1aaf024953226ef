"""`segment_anything`: the packages groundingdino-py and segment-anything with their own .pth files.

groundingdino-py does not run with transformers 5, so both live in an environment of their own and
are asked through a pipe (`workers/segment_anything_worker.py` documents the messages).
"""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.config import parameter
from condense_ros.errors import CheckpointError, ConfigError, EnvironmentProblem, LabelError
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.labelers.grounded import GroundedLabeler
from condense_training.labels.ontology import Prompt
from condense_training.labels.protocols import Detections, Masks, check_finite
from condense_training.labels.tokens import PromptText, choose, prompt_texts
from condense_training.labels.weights import file_hash

WORKER = Path(__file__).parents[1] / "workers" / "segment_anything_worker.py"
_PROTOCOL = 1


@dataclass(frozen=True)
class SegmentAnythingConfig:
    """The other environment, the weights, and what counts as found."""

    python: str = parameter("", "Python of the environment with both packages")
    detector: str = parameter("", "groundingdino_swint_ogc.pth, or another of its weights")
    detector_sha256: str = parameter("", "of that file, checked where given")
    detector_config: str = parameter("", "its configuration file; empty: that of Swin-T OGC")
    text_encoder: str = parameter(
        "", "folder of bert-base-uncased; empty: as the configuration says (from the hub)"
    )
    masker: str = parameter("", "sam_vit_h_4b8939.pth, or another of its weights")
    masker_sha256: str = parameter("", "of that file, checked where given")
    masker_kind: str = parameter("vit_h", "vit_h, vit_l or vit_b")
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
    timeout_s: float = parameter(600.0, "longest wait for one answer, seconds", low=1.0)


class WorkerProcess:
    """The other environment's process. Its stderr is kept and quoted where it dies.

    Raises:
        EnvironmentProblem: it does not start, dies, or does not answer in time.
        LabelError: it answers that a request failed.
    """

    def __init__(self, python: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="condense_worker_")
        self.folder = Path(self._folder.name)
        self._errors = open(self.folder / "stderr.txt", "w+")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [python, "-u", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
        except OSError as error:
            raise EnvironmentProblem(
                f"{python!r} cannot be started ({error.strerror})",
                "build the environment that docs/labels.md describes and give -p python=PYTHON",
            ) from None

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        try:
            pipe_in.write(json.dumps({"op": op, **request}) + "\n")
            pipe_in.flush()
            ready, _, _ = select.select([pipe_out], [], [], self._timeout_s)
            line = pipe_out.readline() if ready else None
        except BrokenPipeError:
            line = ""
        if line is None:
            self._process.kill()
            raise EnvironmentProblem(
                f"the worker did not answer {op!r} within {self._timeout_s:g} s",
                "raise -p timeout_s, or use a faster device",
            )
        if not line:
            raise EnvironmentProblem(
                f"the worker died at {op!r}: {self._last_words()}",
                "check its environment as docs/labels.md tells",
            )
        answer = dict(json.loads(line))
        if not answer["ok"]:
            reason = " ".join(str(answer["error"]).split())[:300].rstrip(".")
            raise LabelError(f"the worker failed at {op!r}: {reason}", "see docs/labels.md")
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self._process.returncode}"

    def close(self) -> None:
        """Ends the process and removes what was exchanged; a second call does nothing."""
        if self._errors.closed:
            return
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write('{"op": "end"}\n')
                self._process.stdin.close()
            except (BrokenPipeError, OSError):
                pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


class _RemoteModels:
    """Detector and masker of one worker; the image goes over once for both."""

    def __init__(
        self, worker: WorkerProcess, started: Mapping[str, Any], config: SegmentAnythingConfig,
        hashes: tuple[str, str],
    ) -> None:  # fmt: skip
        self._worker, self._started, self._config = worker, started, config
        self._texts: dict[tuple[Prompt, ...], list[PromptText]] = {}
        self.identity: Mapping[str, Any] = {
            "packages": "groundingdino-py, segment-anything",
            "detector_sha256": hashes[0],
            "masker_sha256": hashes[1],
            "masker_kind": config.masker_kind,
            "box_threshold": config.box_threshold,
            "text_threshold": config.text_threshold,
        }

    def _file(self, name: str) -> str:
        return str(self._worker.folder / f"{name}.npy")

    def texts(self, prompts: Sequence[Prompt]) -> list[PromptText]:
        """The texts that the prompts make."""
        key = tuple(prompts)
        if key not in self._texts:
            phrases = [prompt.text for prompt in key]
            ids = dict(
                zip(phrases, self._worker.ask("tokenize", phrases=phrases)["ids"], strict=True)
            )
            names = ("begin", "stop", "end", "most_tokens")
            special = {name: int(self._started[name]) for name in names}
            self._texts[key] = prompt_texts(key, ids.__getitem__, **special)
        return self._texts[key]

    def close(self) -> None:
        """Ends the worker; a second call does nothing."""
        self._worker.close()

    def detect(self, pixels: npt.NDArray[np.uint8], prompts: Sequence[Prompt]) -> Detections:
        """Boxes in pixels, unsuppressed."""
        height, width = pixels.shape[:2]
        np.save(self._file("image"), pixels)
        parts = []
        for text in self.texts(prompts):
            self._worker.ask(
                "detect",
                image=self._file("image"),
                text=text.text,
                input_ids=list(text.input_ids),
                scores=self._file("scores"),
                boxes=self._file("boxes"),
            )
            scores, centred = np.load(self._file("scores")), np.load(self._file("boxes"))
            check_finite("token scores", scores)
            rows, class_ids, best = choose(
                scores,
                text,
                box_threshold=self._config.box_threshold,
                text_threshold=self._config.text_threshold,
            )
            centre, half = centred[rows, :2], centred[rows, 2:] / 2
            corners = np.concatenate([centre - half, centre + half], axis=1)
            parts.append((corners * np.array([width, height] * 2), best, class_ids))
        boxes, best, classes = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Detections(boxes.astype(np.float32), best.astype(np.float32), classes)

    def segment(self, pixels: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32]) -> Masks:
        """One mask per box."""
        if not len(boxes):
            return Masks(np.zeros((0, *pixels.shape[:2]), bool), np.zeros(0, np.float32))
        np.save(self._file("image"), pixels)
        np.save(self._file("prompts"), boxes)
        self._worker.ask(
            "segment",
            image=self._file("image"),
            boxes=self._file("prompts"),
            masks=self._file("masks"),
            scores=self._file("mask_scores"),
        )
        scores = np.load(self._file("mask_scores"))
        check_finite("mask scores", scores)
        return Masks(np.load(self._file("masks")), scores.clip(0, 1))


def build(config: SegmentAnythingConfig, context: LabelerContext) -> GroundedLabeler:
    """The labeler, its worker started and its weights loaded.

    Raises:
        ConfigError: no environment, no weights, or prompts that do not fit.
        CheckpointError: weights that are missing, changed, or of another architecture.
        EnvironmentProblem: the environment does not work.
    """
    ontology = context.need_prompts()
    if not config.python:
        raise ConfigError(
            "no environment with groundingdino-py and segment-anything",
            "build it as docs/labels.md tells and give -p python=ENVIRONMENT/bin/python",
        )
    hashes = (
        _checked(config.detector, config.detector_sha256, "detector"),
        _checked(config.masker, config.masker_sha256, "masker"),
    )
    worker = WorkerProcess(config.python, config.timeout_s)
    try:
        started = worker.ask(
            "setup",
            config=config.detector_config,
            detector=config.detector,
            text_encoder=config.text_encoder,
            masker=config.masker,
            masker_kind=config.masker_kind,
            device=context.device,
        )
        if started["protocol"] != _PROTOCOL:
            raise EnvironmentProblem(
                f"the worker speaks protocol {started['protocol']}, not {_PROTOCOL}",
                "install this package again",
            )
        models = _RemoteModels(worker, started, config, hashes)
        models.texts(ontology.prompts)
    except LabelError as error:
        worker.close()
        raise CheckpointError(
            error.problem, "check weights, configuration and environment"
        ) from None
    except BaseException:
        worker.close()
        raise
    return GroundedLabeler(
        models,
        models,
        ontology,
        nms_iou=config.nms_iou,
        max_boxes=config.max_boxes,
        min_area_px=config.min_area_px,
    )


def _checked(path: str, sha256: str, which: str) -> str:
    """sha256 of a weights file."""
    if not path or not Path(path).is_file():
        raise CheckpointError(f"no weights of the {which}: {path!r}", f"give -p {which}=FILE.pth")
    found = file_hash(Path(path))
    if sha256 and found != sha256.lower():
        raise CheckpointError(
            f"{path} has the sha256 {found}, not {sha256}", "fetch it again, or correct the hash"
        )
    return found
