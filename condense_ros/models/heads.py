"""Segmentation heads on frozen or trained backbone features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from condense_ros.errors import ConfigError
from condense_ros.ontology import Ontology


@dataclass(frozen=True)
class HeadInfo:
    """What a head predicts and where that knowledge came from.

    Attributes:
        ontology: classes and colours.
        supervision: in words, where its labels came from ("200 labelled simulated frames", ...).
        in_channels: features it takes.
    """

    ontology: Ontology
    supervision: str
    in_channels: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": "linear",
            "ontology": self.ontology.to_dict(),
            "supervision": self.supervision,
            "in_channels": self.in_channels,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadInfo:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a head of another kind, or missing values.
        """
        if values.get("kind") != "linear":
            raise ConfigError(f"head of kind {values.get('kind')!r}", "this software knows linear")
        try:
            ontology = Ontology.from_dict(values["ontology"])
            return cls(ontology, str(values["supervision"]), int(values["in_channels"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"head description is incomplete: {error!r}",
                "store ontology, supervision and in_channels",
            ) from error


class LinearHead(nn.Linear):
    """Logits (M, K) from features (M, C): one linear map, as in linear probing.

    Raises:
        ConfigError: no supervision is named: a head always says where its labels came from.
    """

    def __init__(self, info: HeadInfo) -> None:
        if not info.supervision.strip():
            raise ConfigError(
                "a head without a word on its supervision",
                "say where the labels came from, with their number",
            )
        super().__init__(info.in_channels, len(info.ontology))
        self.info = info

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features)
