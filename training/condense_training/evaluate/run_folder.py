"""The networks of a pretraining run: heads and teacher too, which its checkpoint leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from condense_ros.config import build
from condense_ros.errors import CheckpointError, TrainingError
from condense_ros.models import Backbone, load_checkpoint
from condense_training.heads import PairHeads
from condense_training.losses.inputs import unit_rows
from condense_training.pretraining import CHECKPOINT_NAME
from condense_training.recipes import RECIPES
from condense_training.recipes.olivine import teacher_maps
from condense_training.recipes.olivine_config import OlivineConfig
from condense_training.state import load_state

#: shorter side of images where a recipe does not say
_SHORT_SIDE_PX = 224


@dataclass(frozen=True, eq=False)
class Embedding:
    """Points, and pixels where there is a teacher, in one space.

    Attributes:
        backbone: in eval mode.
        parts: the run's other networks; empty for a bare checkpoint.
        space: what its features are, in words.
        teacher: (B, 3, H, W) uint8 images -> (B, C, h, w), what the points learned from; None for a
            bare checkpoint.
        short_side_px: size of the images that the teacher has learned from.
    """

    backbone: Backbone
    parts: nn.ModuleDict
    space: str
    teacher: Callable[[Tensor], Tensor] | None = None
    short_side_px: int = _SHORT_SIDE_PX

    @property
    def sees_images(self) -> bool:
        return self.teacher is not None

    @torch.no_grad()
    def point_rows(self, features: Tensor) -> Tensor:
        """Unit rows (n, d) of backbone features (n, C)."""
        if "heads" in self.parts:
            return cast(PairHeads, self.parts["heads"]).point_rows("pair", features)
        if "head" in self.parts and self.sees_images:
            features = self.parts["head"](features)
        return unit_rows(features)

    @torch.no_grad()
    def pixel_maps(self, images: Tensor) -> Tensor:
        """Unit features (B, d, H, W) of every pixel of (B, 3, H, W) uint8 images.

        Raises:
            TrainingError: there is no teacher.
        """
        if self.teacher is None:
            raise TrainingError(
                "these weights hold no teacher", "give the folder of a `condense pretrain` run"
            )
        maps = self.teacher(images)
        if "heads" in self.parts:
            heads = cast(PairHeads, self.parts["heads"])
            return heads.pixel_maps("pair", maps, (images.shape[-2], images.shape[-1]))
        return nn.functional.normalize(maps.float(), dim=1)


def open_embedding(path: Path) -> Embedding:
    """The networks of a run folder, or of a checkpoint file (points alone).

    The backbone is the exported one, with its better batch norm statistics, where that is of the
    same step as the saved heads.

    Raises:
        CheckpointError: neither, or a state of a recipe or networks that are not known here.
        TrainingError: every state is damaged.
        ConfigError: settings that a newer recipe refuses.
    """
    if path.is_file():
        backbone = load_checkpoint(path).build_backbone().eval()
        return Embedding(backbone, nn.ModuleDict(), "features of the backbone")
    state = load_state(path) if path.is_dir() else None
    if state is None:
        raise CheckpointError(
            f"{path} is no checkpoint and no folder of a run with a saved state",
            "give the folder that `condense pretrain --out` wrote, or its backbone.safetensors",
        )
    fingerprint: Mapping[str, Any] = state["fingerprint"]
    config, parts = _parts(fingerprint, path)
    try:
        # where weights are averaged, the average is what is exported
        parts.load_state_dict(state.get("average") or state["parts"])
    except RuntimeError as error:
        raise CheckpointError(
            f"the networks saved in {path} are not those of its settings ({error})",
            "use the version of condense_ros that the run was made with",
        ) from None
    parts.eval().requires_grad_(False)
    exported = _exported(path / CHECKPOINT_NAME, int(state["position"]["total"]))
    backbone = cast(Backbone, parts["backbone"]) if exported is None else exported
    del parts["backbone"]
    name = str(fingerprint["recipe"])
    short = fingerprint.get("lift_size_px", fingerprint.get("view_height_px", _SHORT_SIDE_PX))
    space = f"common space of points and pixels ({name})"
    if "image" not in parts:
        return Embedding(backbone, parts, f"features of the backbone ({name})")
    teacher: Callable[[Tensor], Tensor] = parts["image"]
    if isinstance(config, OlivineConfig):
        teacher = partial(teacher_maps, config, parts)
    return Embedding(backbone, parts, space, teacher, int(short))


def _exported(path: Path, step: int) -> Backbone | None:
    """The checkpoint's backbone, or None where there is none of that step."""
    if not path.is_file():
        return None
    checkpoint = load_checkpoint(path)
    return checkpoint.build_backbone().eval() if checkpoint.metadata.get("steps") == step else None


def _parts(fingerprint: Mapping[str, Any], path: Path) -> tuple[Any, nn.ModuleDict]:
    """(parameters, untrained parts) of the recipe that a run was made with."""
    name = str(fingerprint.get("recipe"))
    if name not in RECIPES:
        raise CheckpointError(
            f"{path} holds a run of recipe {name!r}, which is not known here",
            f"use the version it was made with; known are {', '.join(RECIPES)}",
        )
    entry = RECIPES[name]
    known = {field.name for field in fields(entry.config)}
    values = {key: value for key, value in fingerprint.items() if key in known}
    if values.get("labels") == "folder":
        # label images shape the loss and not the networks; the folder may be gone
        values |= {"labels": "truth", "label_folder": ""}
    config: Any = build(entry.config, values)
    with torch.random.fork_rng():
        return config, entry.build(config).build()
