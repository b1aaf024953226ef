"""`IdMap`: what the ids or names of somebody else's labels are in an ontology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from condense_ros.errors import ConfigError
from condense_ros.frame import IGNORE
from condense_ros.resources import config_file
from condense_training.labels.ontology import LabelOntology

#: id maps that come along, in config/label_maps
SHIPPED = (
    *("cityscapes", "olivine_grounded_sam", "olivine_seem", "segments"),
    *("nuscenes_lidarseg", "semantickitti"),
)
#: what a source class is mapped to that has no counterpart
NOTHING = "ignore"


@dataclass(frozen=True)
class IdMap:
    """Names of the source's classes, and what they are called here.

    Attributes:
        name: for people.
        path: template of a label file beside its image, for folders of label images.
        ids: source id -> target class name, or "ignore". Empty: ids are kept as they are.
        names: source class name -> target class name, or "ignore".
    """

    name: str
    path: str = "{folder}/{stem}.png"
    ids: Mapping[int, str] | None = None
    names: Mapping[str, str] | None = None

    @classmethod
    def load(cls, source: str | Path) -> IdMap:
        """One that comes along (see `SHIPPED`), or a YAML file.

        Raises:
            ConfigError: no such file, no YAML, unknown keys or values of another type.
        """
        path = Path(source)
        if str(source) in SHIPPED:
            path = config_file(f"label_maps/{source}.yaml")
        try:
            content = yaml.safe_load(path.read_text())
        except OSError as error:
            raise ConfigError(
                f"no id map {str(source)!r}: {error.strerror}",
                f"give a YAML file, or one of {', '.join(SHIPPED)}",
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is no YAML: {error}", "correct the file") from None
        known = {"name", "path", "ids", "names"}
        if not isinstance(content, dict) or not {"name"} <= set(content) <= known:
            raise ConfigError(
                f"{path} is no id map", f"give `name` and some of {', '.join(sorted(known))}"
            )
        for key, kind in (("ids", int), ("names", str)):
            entries = content.get(key)
            if entries is not None and not (
                isinstance(entries, dict)
                and all(isinstance(k, kind) and isinstance(v, str) for k, v in entries.items())
            ):
                raise ConfigError(
                    f"`{key}` of {path} is malformed", f"write `{kind.__name__}: class name` lines"
                )
        return cls(
            str(content["name"]),
            str(content.get("path", cls.path)),
            content.get("ids"),
            content.get("names"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the identity of a labeler."""
        return {
            "name": self.name,
            "path": self.path,
            "ids": None if self.ids is None else {str(k): v for k, v in self.ids.items()},
            "names": None if self.names is None else dict(self.names),
        }

    def id_table(self, ontology: LabelOntology) -> npt.NDArray[np.int64]:
        """(65536,) class of every source id; -1 where the map does not know it.

        Raises:
            ConfigError: a target that the ontology does not have.
        """
        table = np.full(65536, -1, np.int64)
        table[IGNORE] = IGNORE
        if self.ids is None:
            table[: len(ontology)] = np.arange(len(ontology))
            return table
        for number, name in self.ids.items():
            if not 0 <= number < len(table):
                raise ConfigError(
                    f"id {number} of the map {self.name!r} is no 16-bit value", "correct the map"
                )
            table[number] = self._target(name, ontology)
        return table

    def name_table(
        self, source: Mapping[int, str], ontology: LabelOntology
    ) -> npt.NDArray[np.int64]:
        """(N,) class of source classes 0 .. N-1 by their names, 255 = none.

        A source name that the map does not list counts where the ontology has a class or a prompt
        of that name, and otherwise is ignored.

        Raises:
            ConfigError: a target that the ontology does not have, or nothing in common.
        """
        own = {one.name.lower(): number for number, one in enumerate(ontology.classes)}
        own |= {text: number for text, number in ontology.prompts if text not in own}
        listed = {key.lower(): value for key, value in (self.names or {}).items()}
        table = np.full(max(source) + 1, IGNORE, np.int64)
        for number, name in source.items():
            key = name.strip().lower()
            if key in listed:
                table[number] = self._target(listed[key], ontology)
            else:
                table[number] = own.get(key, IGNORE)
        if (table == IGNORE).all():
            raise ConfigError(
                f"none of the source's classes ({', '.join(source.values())}) is in ontology "
                f"{ontology.name!r}",
                "give a map with `names`: source name: class name",
            )
        return table

    def _target(self, name: str, ontology: LabelOntology) -> int:
        return IGNORE if name == NOTHING else ontology.index(name)
