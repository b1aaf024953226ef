"""What a conversion gives: weights, the backbone they belong to, and what became of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from condense_ros.models.backbone import BackboneConfig
from condense_ros.models.checkpoint import Checkpoint
from condense_ros.models.convert.modules import Loaded


@dataclass(frozen=True)
class ConversionReport:
    """What became of the tensors of a file.

    Attributes:
        network: published class.
        source: library.
        layout: which of the library's layouts.
        prefix: of the tensors that were taken.
        loaded: tensors converted.
        unused: (name, shape) of tensors left aside: heads, other networks in the file.
        notes: what a user should know, in words.
    """

    network: str
    source: str
    layout: str
    prefix: str
    loaded: tuple[Loaded, ...]
    unused: tuple[tuple[str, tuple[int, ...]], ...]
    notes: tuple[str, ...] = ()

    def unused_parts(self) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
        """What was left aside, by the module it belongs to."""
        parts: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        for name, shape in self.unused:
            start = self.prefix if name.startswith(self.prefix) else ""
            parts.setdefault(start + name[len(start) :].split(".")[0], []).append((name, shape))
        return parts

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's metadata."""
        return {
            "network": self.network,
            "source": self.source,
            "layout": self.layout,
            "prefix": self.prefix,
            "loaded": len(self.loaded),
            "unused": [name for name, _ in self.unused],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted backbone.

    Attributes:
        state: tensors by the names of `Backbone`, in the dtypes of the source.
        config: the backbone they belong to.
        report: what was loaded and what was not.
    """

    state: dict[str, Tensor]
    config: BackboneConfig
    report: ConversionReport

    def checkpoint(self, recipe: str, metadata: Mapping[str, Any] | None = None) -> Checkpoint:
        """A checkpoint of float32 weights, with the report in its metadata.

        Args:
            recipe: how the source was pretrained, as the user says.
        """
        state = {
            f"backbone.{name}": value.float() if value.is_floating_point() else value.long()
            for name, value in self.state.items()
        }
        converted = {**self.report.to_dict(), **(metadata or {})}
        return Checkpoint(self.config, state, recipe=recipe, metadata={"converted": converted})
