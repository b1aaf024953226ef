"""Weight files of other software: tensors are read, nothing is executed."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from condense_ros.errors import CheckpointError

#: where training scripts put the weights in what they save, the most specific first
CONTAINERS = (
    *("model_points", "state_dict", "model_state_dict", "model_state", "model", "net", "weights"),
)


@dataclass(frozen=True, eq=False)
class WeightFile:
    """Tensors of a file.

    Attributes:
        state: tensors by name.
        sha256: of the file.
        container: the entry of the file they lay in, "" for the file itself.
        beside: other entries of the file, which were not converted.
        config: the training's settings, where the file holds them as plain values.
    """

    state: dict[str, Tensor]
    sha256: str
    container: str = ""
    beside: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


def read_weights(path: Path | str) -> WeightFile:
    """The tensors of a .pth, .pt or .safetensors file, on the CPU.

    Pickles are read with `torch.load(weights_only=True)`, which makes tensors and plain
    containers alone.

    Raises:
        CheckpointError: no such file, one that needs more than tensors to be read, one of
            this software, or one without weights.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}", "give the path of a weight file"
        ) from error
    pickled = data[:2] == b"PK" or data[:1] == b"\x80"
    content = _pickle(data, path) if pickled else _safetensors(data, path)
    state, container = _weights(content, path)
    config = content.get("config") if container else None
    config = config if isinstance(config, Mapping) else {}
    beside = tuple(sorted(set(map(str, content)) - {container})) if container else ()
    return WeightFile(state, hashlib.sha256(data).hexdigest(), container, beside, config)


def _safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        state = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is neither a torch nor a safetensors file: {error}",
            "copy it again; give a .pth, .pt or .safetensors file",
        ) from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if "condense" in header.get("__metadata__", {}):
        raise CheckpointError(f"{path} is a checkpoint of this software already", "use it as it is")
    return state


def _pickle(data: bytes, path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        told = re.search(r"WeightsUnpickler error: (.+)", str(error))
        reason = f"it asks for {asked[1]}" if asked else told[1] if told else "no tensors alone"
        raise CheckpointError(
            f"{path} holds more than tensors, and reading that could run code: {reason}",
            'if you trust its makers, take the tensors out where they come from: python -c "import '
            "torch; c = torch.load('FILE', map_location='cpu', weights_only=False); "
            "torch.save(dict(c['state_dict']), 'weights.pt')\"",
        ) from error
    except (
        Exception
    ) as error:  # a parser of foreign bytes: IndexError, zip and decoding errors, ...
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} is no weight file that torch can read: {said}",
            "copy it again; give a .pth, .pt or .safetensors file",
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, no tensors by name",
            "save a state dict: torch.save(model.state_dict(), 'weights.pt')",
        )
    return content


def _weights(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors by name in a file's content, looked for in the usual entries."""
    places = [("", content)]
    places += [(k, content[k]) for k in CONTAINERS if isinstance(content.get(k), Mapping)]
    for name, place in places:
        tensors = {str(k): v for k, v in place.items() if isinstance(v, Tensor)}
        # entries such as an epoch may lie beside tensors, but no further tables
        if tensors and not any(isinstance(v, Mapping) for v in place.values()):
            return tensors, name
    raise CheckpointError(
        f"{path} holds no tensors by name, only {', '.join(sorted(map(str, content))[:6])}",
        f"save them as the file itself or under one of: {', '.join(CONTAINERS)}",
    )
