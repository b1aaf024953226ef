"""Partial weight transfer: tensors of equal name and shape, the rest reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did.

    Attributes:
        loaded: names copied into the target.
        missing: names of the target that the source lacks; they keep their values.
        unused: names of the source that the target lacks.
        mismatched: (name, source shape, target shape) of equal names that differ in shape.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the source and of the target found its partner."""
        return not (self.missing or self.unused or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded"]
        lines += [f"not in the source, left as is: {name}" for name in self.missing]
        lines += [f"not in the target, unused: {name}" for name in self.unused]
        lines += [
            f"shape differs, left as is: {name} {source} -> {target}"
            for name, source, target in self.mismatched
        ]
        return "\n".join(lines)


def transfer_weights(target: nn.Module, state: Mapping[str, Tensor]) -> TransferReport:
    """Copies the tensors of `state` that the target has under the same name and shape.

    Nothing is dropped silently: networks of other widths "load" without their decoder otherwise.
    """
    own = target.state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    mismatched = [
        (name, tuple(value.shape), shapes[name])
        for name, value in state.items()
        if name in own and tuple(value.shape) != shapes[name]
    ]
    loaded = [
        name for name, value in state.items() if name in own and tuple(value.shape) == shapes[name]
    ]
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(state[name])
    return TransferReport(
        tuple(loaded),
        tuple(name for name in own if name not in state),
        tuple(name for name in state if name not in own),
        tuple(mismatched),
    )
