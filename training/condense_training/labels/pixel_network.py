"""The image network of recipe janda's stage 1, trained here or taken from a pretraining run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from condense_ros.errors import CheckpointError
from condense_ros.files import write_atomically
from condense_training.frames import FrameSource
from condense_training.networks.pixel_unet import PixelUNet, build_pixel_network
from condense_training.recipes import build_recipe
from condense_training.state import load_state
from condense_training.trainer import TrainerConfig, train


def train_network(
    source: FrameSource,
    folder: Path,
    out: Path,
    *,
    preset: str,
    settings: Mapping[str, Any],
    seed: int,
    device: str,
    progress: bool,
) -> Path:
    """Runs stage 1 of recipe janda (pixel contrast) and writes the image network to `out`.

    Killed and started again, it goes on where it was.

    Args:
        folder: for the training state.
        preset, settings: of the recipe.

    Raises:
        ConfigError, TrainingError, StorageFull, KeyboardInterrupt: see `trainer.train`.
    """
    recipe = build_recipe("janda", preset, settings)
    stage = recipe.stages[0]
    alone = replace(recipe, name="janda, stage 1", stages=(stage,))
    config = TrainerConfig(seed=seed, device=device, progress=progress)
    with _one_process():
        result = train(alone, source, folder, config)
    network = result.parts["image"].cpu()
    metadata = {
        "network": str(recipe.settings["image_network"]),
        "feature_dim": str(recipe.settings["feature_dim"]),
        "trained": json.dumps({"steps": result.steps, "seed": seed, "frames": len(source)}),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomically(out, save(weights, metadata))
    return out


@contextmanager
def _one_process() -> Iterator[None]:
    """Hides that this is one of several processes: the others wait for what is trained here."""
    hidden = {name: os.environ.pop(name, None) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in hidden.items() if value is not None})


def load_network(path: Path) -> tuple[PixelUNet, dict[str, str]]:
    """The network of a file that `train_network` wrote, or of a folder that `condense pretrain`
    filled with recipe janda.

    Returns:
        The network, and where it comes from as JSON values.

    Raises:
        CheckpointError: neither, or weights that do not fit.
        TrainingError: every training state in the folder is damaged.
    """
    if path.is_dir():
        name, dim, weights = _from_run(path)
    else:
        name, dim, weights = _from_file(path)
    network = build_pixel_network(name, dim)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not hold the weights of a {name!r} image network ({error})",
            "use the file that `condense label` wrote, or another pretraining run",
        ) from None
    return network, {"network": name, "sha256": _hash(weights)}


def _hash(weights: Mapping[str, Tensor]) -> str:
    """sha256 of names and values; that of a file would depend on the order of its header."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)} {weights[name].dtype}\0".encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _from_file(path: Path) -> tuple[str, int, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return metadata["network"], int(metadata["feature_dim"]), weights
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no image network of recipe janda ({error})",
            "give OUT/clusters/network.safetensors of an earlier `condense label`, or the folder "
            "of `condense pretrain --recipe janda`",
        ) from None


def _from_run(folder: Path) -> tuple[str, int, dict[str, Tensor]]:
    state = load_state(folder)
    settings = state["fingerprint"] if state else {}
    if state is None or settings.get("recipe") not in ("janda", "janda, stage 1"):
        raise CheckpointError(
            f"{folder} holds no pretraining run of recipe janda",
            "give the folder of `condense pretrain --recipe janda`, with its state/",
        )
    if state["position"]["stage"] < 1:
        raise CheckpointError(
            f"the pixel contrast of {folder} has not been trained to its end",
            "run the same `condense pretrain` again first",
        )
    prefix = "image."
    weights = {k[len(prefix) :]: v for k, v in state["parts"].items() if k.startswith(prefix)}
    return str(settings["image_network"]), int(settings["feature_dim"]), weights
