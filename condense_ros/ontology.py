"""`Ontology`: the classes of a label array, their names and their colours."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.errors import ConfigError
from condense_ros.frame import IGNORE


@dataclass(frozen=True, eq=False)
class Ontology:
    """Classes 0 .. K-1 of a uint8 label array; `IGNORE` (255) is no class.

    Attributes:
        names: K distinct, non-empty names.
        colours: (K, 3) uint8 RGB.

    Raises:
        ConfigError: no names, repeated names, more than 255 classes, colours of another shape.
    """

    names: tuple[str, ...]
    colours: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        names = tuple(self.names)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ConfigError(f"ontology names are {names!r}", "give at least one non-empty name")
        if len(set(names)) != len(names):
            raise ConfigError(f"ontology names repeat: {names!r}", "name each class once")
        if len(names) > IGNORE:
            raise ConfigError(
                f"ontology has {len(names)} classes", f"labels are uint8: use at most {IGNORE}"
            )
        raw = np.asarray(self.colours)
        if raw.shape != (len(names), 3) or raw.dtype.kind not in "iu":
            raise ConfigError(
                f"ontology colours are {raw.dtype} {raw.shape} for {len(names)} classes",
                "give one RGB triple of integers per class",
            )
        if raw.size and (raw.min() < 0 or raw.max() > 255):
            raise ConfigError("ontology colours leave 0..255", "give colours as 8-bit RGB")
        colours = raw.astype(np.uint8)
        colours.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colours", colours)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ontology) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return int(self.hash(), 16)

    def index(self, name: str) -> int:
        """The label value of a class name.

        Raises:
            ConfigError: no such class.
        """
        if name not in self.names:
            raise ConfigError(f"no class {name!r}", f"use one of: {', '.join(self.names)}")
        return self.names.index(name)

    def colourise(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Labels (...) to RGB (..., 3) uint8; `IGNORE` and unknown values are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colours
        values = np.asarray(labels)
        known = (values >= 0) & (values < len(self))
        return table[np.where(known, values, IGNORE)]

    def hash(self) -> str:
        """Twelve hex digits that change with any name, colour or their order."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or YAML: names, and colours as "#rrggbb"."""
        return {
            "names": list(self.names),
            "colours": ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in self.colours.tolist()],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ontology:
        """The inverse of `to_dict`; colours may also be RGB triples.

        Raises:
            ConfigError: a key is missing or a colour is malformed.
        """
        try:
            names, colours = values["names"], values["colours"]
            rgb = np.array([_parse_colour(colour) for colour in colours], np.int64)
        except (KeyError, TypeError, OverflowError) as error:
            raise ConfigError(
                f"ontology without usable names or colours: {error!r}",
                'give {"names": [...], "colours": ["#rrggbb", ...]}',
            ) from error
        return cls(tuple(names), rgb.reshape(-1, 3))  # type: ignore[arg-type]


def _parse_colour(colour: Any) -> list[int]:
    if isinstance(colour, str):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            raise ConfigError(f"colour {colour!r} is malformed", 'write colours as "#rrggbb"')
        return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    if len(colour) != 3 or not all(isinstance(value, int) for value in colour):
        raise ConfigError(f"colour {colour!r} is malformed", "give three integers 0..255")
    return list(colour)
