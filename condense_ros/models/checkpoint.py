"""Checkpoints: weights as safetensors, their description as JSON inside, a SHA-256 beside them.

Loading reads tensors and JSON; it executes no code and never unpickles.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from condense_ros.errors import CheckpointError, ConfigError
from condense_ros.models.backbone import Backbone
from condense_ros.models.configs import AnyBackboneConfig, BackboneConfig
from condense_ros.models.files import read_hashed, write_hashed
from condense_ros.models.heads import HeadInfo, LinearHead

FORMAT = "condense-checkpoint"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A backbone with its heads, on the CPU.

    Attributes:
        backbone: architecture, widths, voxel size and input features.
        state: tensors by name: "backbone.*" and, per head, "heads.<name>.*".
        heads: description of each head, with the source of its supervision.
        recipe: how the backbone was pretrained ("janda", "random", ...).
        data_hash: hash of the manifest of the training data.
        metadata: anything else, JSON values only (steps, seed, losses, ...).
        software_version: version that wrote the file; filled in when saving.
    """

    backbone: AnyBackboneConfig
    state: dict[str, Tensor]
    heads: dict[str, HeadInfo] = field(default_factory=dict)
    recipe: str = "random"
    data_hash: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    software_version: str = ""

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        heads: Mapping[str, LinearHead] | None = None,
        *,
        recipe: str = "random",
        data_hash: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Checkpoint:
        """A copy of modules as they are now."""
        heads = dict(heads or {})
        modules: dict[str, nn.Module] = {"backbone": backbone}
        modules.update({f"heads.{name}": head for name, head in heads.items()})
        state = {
            f"{prefix}.{name}": value.detach().cpu().clone().contiguous()
            for prefix, module in modules.items()
            for name, value in module.state_dict().items()
        }
        infos = {name: head.info for name, head in heads.items()}
        return cls(backbone.config, state, infos, recipe, data_hash, dict(metadata or {}))

    def build_backbone(self) -> Backbone:
        """The backbone with its weights, in eval mode."""
        return _filled(lambda: Backbone(self.backbone), self.state, "backbone")

    def build_head(self, name: str) -> LinearHead:
        """A head with its weights, in eval mode.

        Raises:
            CheckpointError: no such head.
        """
        if name not in self.heads:
            raise CheckpointError(
                f"the checkpoint has no head {name!r}, only {sorted(self.heads)}",
                "name one of those, or fit a head first with `condense probe --head`",
            )
        return _filled(lambda: LinearHead(self.heads[name]), self.state, f"heads.{name}")

    def identity(self) -> str:
        """Twelve hex digits of the backbone alone: its config and weights.

        Descriptors of backbones with other identities cannot be compared. Heads do not change it.
        """
        digest = hashlib.sha256(json.dumps(self.backbone.to_dict(), sort_keys=True).encode())
        for name in sorted(self.state):
            if name.startswith("backbone."):
                digest.update(name.encode())
                digest.update(self.state[name].contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]


def _filled(build: Callable[[], Any], state: Mapping[str, Tensor], prefix: str) -> Any:
    with torch.device("meta"):  # no initialisation: nothing allocated, no random number drawn
        module = build()
    own = {
        name[len(prefix) + 1 :]: value.clone()
        for name, value in state.items()
        if name.startswith(prefix + ".")
    }
    module.load_state_dict(own, strict=True, assign=True)
    return module.eval()


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> Path:
    """Writes PATH and PATH.sha256; what was there before stays intact when writing fails.

    Raises:
        CheckpointError: tensors that do not fit the description, or metadata that is not JSON.
        StorageFull: no room on the device.
    """
    from condense_ros import __version__

    path = Path(path)
    _check_state(checkpoint, str(path))
    description = {
        "format": FORMAT,
        "version": VERSION,
        "software_version": __version__,
        "backbone": checkpoint.backbone.to_dict(),
        "heads": {name: head.to_dict() for name, head in checkpoint.heads.items()},
        "recipe": checkpoint.recipe,
        "data_hash": checkpoint.data_hash,
        "metadata": checkpoint.metadata,
    }
    try:
        text = json.dumps(description, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"metadata for {path} is not JSON: {error}", "store numbers, text, lists and dicts"
        ) from error
    state = {name: value.cpu().contiguous() for name, value in checkpoint.state.items()}
    data = safetensors.torch.save(state, {"condense": text})
    write_hashed(path, data)
    return path


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Reads and verifies a checkpoint.

    Raises:
        CheckpointError: missing, truncated, altered since it was written (hash), a pickle, no
            checkpoint of this software or of a newer version, another architecture, or tensors
            missing, superfluous or of the wrong shape.
    """
    path = Path(path)
    data = read_hashed(path)
    try:
        state = safetensors.torch.load(data)
        text = _header(data).get("__metadata__", {}).get("condense")
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is no safetensors file: {error}", "copy it again, or train a new one"
        ) from error
    if text is None:
        raise CheckpointError(
            f"{path} holds tensors but no description of their network",
            "use a checkpoint written by `condense pretrain`",
        )
    checkpoint = _described(text, state, path)
    _check_state(checkpoint, str(path))
    return checkpoint


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return header if isinstance(header, dict) else {}


def _described(text: str, state: dict[str, Tensor], path: Path) -> Checkpoint:
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}")
        if values["version"] > VERSION:
            raise CheckpointError(
                f"{path} is of checkpoint version {values['version']}, this software reads up to "
                f"{VERSION}",
                f"update the software (it was written by {values.get('software_version')})",
            )
        return Checkpoint(
            BackboneConfig.from_dict(values["backbone"]),
            state,
            {str(name): HeadInfo.from_dict(head) for name, head in values["heads"].items()},
            str(values["recipe"]),
            str(values["data_hash"]),
            dict(values["metadata"]),
            str(values["software_version"]),
        )
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error.problem}", error.fix) from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise CheckpointError(
            f"{path} has a description that cannot be read: {error!r}",
            "use a checkpoint written by `condense pretrain`",
        ) from error


def _check_state(checkpoint: Checkpoint, where: str) -> None:
    for name, info in checkpoint.heads.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise CheckpointError(
                f"{where} has a head named {name!r}", "use letters, digits, '-' and '_' only"
            )
        if info.in_channels != checkpoint.backbone.out_channels:
            raise CheckpointError(
                f"{where} has a head {name!r} of {info.in_channels} input channels on a backbone "
                f"with {checkpoint.backbone.out_channels} features",
                "fit the head on features of this backbone",
            )
    # on the meta device: a file that describes a huge network must not allocate it
    try:
        with torch.device("meta"):
            modules: dict[str, nn.Module] = {"backbone": Backbone(checkpoint.backbone)}
            for name, info in checkpoint.heads.items():
                modules[f"heads.{name}"] = LinearHead(info)
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error.problem}", error.fix) from error
    expected = {
        f"{prefix}.{name}": value
        for prefix, module in modules.items()
        for name, value in module.state_dict().items()
    }
    missing = sorted(set(expected) - set(checkpoint.state))
    extra = sorted(set(checkpoint.state) - set(expected))
    wrong = [
        f"{name} {tuple(value.shape)} {value.dtype} instead of {tuple(expected[name].shape)} "
        f"{expected[name].dtype}"
        for name, value in checkpoint.state.items()
        if name in expected
        and (value.shape != expected[name].shape or value.dtype != expected[name].dtype)
    ]
    for what, names in (
        ("lacks tensors of its architecture", missing),
        ("has tensors that its architecture lacks", extra),
        ("has tensors of another architecture", wrong),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(
                f"{where} {what}: {'; '.join(names[:3])}{more}",
                "use weights of exactly the described network; transfer parts of others with "
                "models.transfer_weights",
            )
    broken = sorted(
        name for name, value in checkpoint.state.items() if not bool(torch.isfinite(value).all())
    )
    if broken:
        raise CheckpointError(
            f"{where} has NaN or infinite values in {broken[0]} ({len(broken)} tensors)",
            "training diverged: go back to an earlier checkpoint or lower the learning rate",
        )
