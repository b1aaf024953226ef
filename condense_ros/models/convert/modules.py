"""Weights of one module tree from a state dict of another library, given a table of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense_ros.errors import CheckpointError
from condense_ros.models.convert.kernels import Convolution, wrong_shape
from condense_ros.models.convert.libraries import Library
from condense_ros.sparse import StridedConv3d, SubmanifoldConv3d, TransposedConv3d
from condense_ros.sparse.maps import Triple, first_offset

CONVOLUTIONS = (SubmanifoldConv3d, StridedConv3d, TransposedConv3d)
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
#: counts training steps; no result depends on it where momentum is set, and old files lack it
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Loaded:
    """One tensor that was converted.

    Attributes:
        ours, theirs: names.
        shape: of ours.
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]


def convolutions(module: nn.Module) -> list[Convolution]:
    """Every convolution in a module, linear maps of voxels included, by its path."""
    found = []
    for path, part in module.named_modules():
        if isinstance(part, CONVOLUTIONS):
            first = None if isinstance(part, SubmanifoldConv3d) else _first(part)
            found.append(Convolution(path, part.kernel, part.in_channels, part.out_channels, first))
        elif isinstance(part, nn.Linear):
            found.append(Convolution(path, (1, 1, 1), part.in_features, part.out_features))
    return found


def _first(conv: StridedConv3d | TransposedConv3d) -> Triple:
    if conv.padding is not None:
        x, y, z = (-padding for padding in conv.padding)
    else:
        x, y, z = map(first_offset, conv.kernel, conv.stride, (1, 1, 1))
    return x, y, z


def convert_modules(
    state: Mapping[str, Tensor], module: nn.Module, names: Mapping[str, str], library: Library
) -> tuple[dict[str, Tensor], tuple[Loaded, ...]]:
    """A state dict for `module` from one of another library.

    In eval mode the module then computes what the source does; a normalisation with another
    epsilon has the difference added to its running variance, which is the same function.

    Args:
        state: the source's tensors, without a prefix.
        module: made of this software's sparse layers, on any device (also meta).
        names: module paths, ours -> theirs, at least for every module with tensors.
        library: how the source writes tensors down.

    Returns:
        Tensors by our names, in the dtypes of the source, and what became of which.

    Raises:
        CheckpointError: tensors that are missing or of the wrong shape, biases where our layers
            have none, or layers that have no name in the table.
    """
    own = module.state_dict()
    problems: dict[str, list[str]] = {"lacks": [], "wrong": [], "bias": []}
    out: dict[str, Tensor] = {}
    loaded: list[Loaded] = []

    def put(ours: str, theirs: str, tensor: Tensor) -> None:
        if tuple(tensor.shape) != tuple(own[ours].shape):
            problems["wrong"].append(wrong_shape(theirs, tensor, tuple(own[ours].shape)).problem)
            return
        out[ours] = tensor.contiguous()
        loaded.append(Loaded(ours, theirs, tuple(tensor.shape)))

    shapes = {conv.path: conv for conv in convolutions(module)}
    for path, part in module.named_modules():
        if not part.state_dict() or any(True for _ in part.children()):
            continue
        if path not in names:
            raise CheckpointError(
                f"the table has no name for {path or 'the module itself'}", "add it to the table"
            )
        theirs = names[path]
        if path in shapes:
            source = f"{theirs}.{library.weight}"
            if source not in state:
                problems["lacks"].append(source)
                continue
            try:
                weight = library.read(state[source], shapes[path])
            except CheckpointError as error:
                problems["wrong"].append(error.problem.replace(path, source, 1))
                continue
            if isinstance(part, nn.Linear):
                weight = weight[0].t()
            put(f"{path}.weight", source, weight)
            bias = f"{theirs}.bias"
            if f"{path}.bias" in own and bias in state:
                put(f"{path}.bias", bias, state[bias].reshape(-1))
            elif f"{path}.bias" in own:
                problems["lacks"].append(bias)
            elif bias in state:
                problems["bias"].append(bias)
        elif isinstance(part, nn.BatchNorm1d):
            for name in NORM_TENSORS:
                source = f"{theirs}.{library.norm}{name}"
                if source not in state:
                    problems["lacks"].append(source)
                    continue
                tensor = state[source]
                if name == "running_var":
                    tensor = shifted_variance(tensor, library.norm_eps - part.eps, source)
                put(f"{path}.{name}", source, tensor)
            source = f"{theirs}.{library.norm}{COUNTER}"
            if source in state:
                put(f"{path}.{COUNTER}", source, state[source])
            else:
                out[f"{path}.{COUNTER}"] = torch.tensor(0)
        else:
            raise CheckpointError(
                f"{path} is a {type(part).__name__}, of which no layout is known",
                "convert its tensors by hand",
            )
    _refuse(problems)
    return out, tuple(loaded)


def shifted_variance(variance: Tensor, shift: float, name: str) -> Tensor:
    """A running variance for a normalisation whose epsilon is smaller by `shift`.

    Raises:
        CheckpointError: a shift that would leave a negative variance.
    """
    moved = (variance.double() + shift).to(variance.dtype) if shift else variance
    if bool((moved < 0).any()):
        raise CheckpointError(
            f"{name} is smaller than the epsilon of this software's normalisation",
            "such a network cannot be converted",
        )
    return moved


def _refuse(problems: Mapping[str, list[str]]) -> None:
    words = {
        "lacks": "missing: {}",
        "wrong": "of another shape: {}",
        "bias": "biases before a normalisation, which this network lacks: {}",
    }
    said = [words[kind].format(listed(found)) for kind, found in problems.items() if found]
    if said:
        raise CheckpointError(
            f"the weights do not fit: {'; '.join(said)}",
            "convert to the architecture the weights were trained with, from a complete file",
        )


def listed(names: list[str], most: int = 4) -> str:
    """The first few names and the number of the rest."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
