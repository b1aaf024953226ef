"""`LabelOntology`: classes of label images, what to ask a model for, what paints over what."""

from __future__ import annotations

import colorsys
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from condense_ros.errors import ConfigError
from condense_ros.frame import IGNORE
from condense_ros.ontology import Ontology
from condense_ros.resources import config_file

#: ontologies that come along, in config/ontologies
SHIPPED = (
    *("nuscenes_16", "semantickitti_19", "olivine_13"),
    *("rellis_19", "semanticposs_13", "synlidar_32", "daps3d_4"),
)
#: more segments than that share ids; 255 is no class
MAX_CLASSES = IGNORE


class Prompt(NamedTuple):
    """A phrase to look for, and the class of what is found by it."""

    text: str
    class_id: int


@dataclass(frozen=True)
class LabelClass:
    """One class.

    Attributes:
        name: unique.
        prompts: phrases that describe it, lower case, without dots; empty for classes that no
            text model is asked for.
        thing: countable objects, which paint over stuff (surfaces and materials).
        colour: "#rrggbb".
    """

    name: str
    prompts: tuple[str, ...] = ()
    thing: bool = True
    colour: str = "#808080"


@dataclass(frozen=True)
class LabelOntology:
    """Classes 0 .. K-1 of label images; 255 is no class.

    Its `hash` is written into every label file, and labels of another hash are refused: two
    numberings of the same classes, or the same names asked for in other words, are not the same
    labels.

    Attributes:
        name: for people; part of the hash.
        classes: in the order of their ids.

    Raises:
        ConfigError: no or too many classes, repeated names, unusable prompts or colours.
    """

    name: str
    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a label ontology has no name", "give it one: `name: my_classes`")
        # names, number and colours are checked there
        _ = self.drawing
        for one in self.classes:
            for prompt in one.prompts:
                if not prompt or prompt != prompt.strip().lower() or "." in prompt:
                    raise ConfigError(
                        f"prompt {prompt!r} of class {one.name!r} is unusable",
                        "write prompts in lower case, without dots and outer spaces",
                    )
        texts = [prompt.text for prompt in self.prompts]
        for text in texts:
            if texts.count(text) > 1:
                raise ConfigError(
                    f"prompt {text!r} stands twice in ontology {self.name!r}",
                    "a phrase can mean one class only",
                )

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def drawing(self) -> Ontology:
        """Names and colours as pictures, checkpoints and points use them; the same ids."""
        return Ontology.from_dict(
            {
                "names": [one.name for one in self.classes],
                "colours": [one.colour for one in self.classes],
            }
        )

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Every phrase with the id of its class."""
        return tuple(
            Prompt(text, number) for number, one in enumerate(self.classes) for text in one.prompts
        )

    @cached_property
    def things(self) -> npt.NDArray[np.bool_]:
        """(K,) bool: which classes are things."""
        return np.array([one.thing for one in self.classes])

    def index(self, name: str) -> int:
        """The id of a class name.

        Raises:
            ConfigError: no such class.
        """
        return self.drawing.index(name)

    def hash(self) -> str:
        """Twelve hex digits that change with any name, prompt, kind, colour or their order."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the layout of the YAML files."""
        return {
            "name": self.name,
            "classes": [
                {
                    "id": number,
                    "name": one.name,
                    "kind": "thing" if one.thing else "stuff",
                    "colour": one.colour,
                    "prompts": list(one.prompts),
                }
                for number, one in enumerate(self.classes)
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelOntology:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: keys missing or unknown, ids that are not 0 .. K-1, or as the class says.
        """
        if set(values) != {"name", "classes"} or not isinstance(values["classes"], list):
            raise ConfigError(
                f"an ontology with the keys {sorted(map(str, values))}", "give `name` and `classes`"
            )
        classes = [_parse(entry, str(values["name"])) for entry in values["classes"]]
        ids = [number for number, _ in classes]
        if sorted(ids) != list(range(len(ids))):
            raise ConfigError(
                f"ontology {values['name']!r} has the ids {sorted(ids)}",
                f"number its classes 0 to {len(ids) - 1}; 255 is for pixels without a class",
            )
        ordered = tuple(one for _, one in sorted(classes, key=lambda pair: pair[0]))
        return cls(str(values["name"]), ordered)

    @classmethod
    def load(cls, source: str | Path) -> LabelOntology:
        """One that comes along (see `SHIPPED`), or a YAML file.

        Raises:
            ConfigError: no such file, no YAML, or as `from_dict`.
        """
        path = Path(source)
        if str(source) in SHIPPED:
            path = config_file(f"ontologies/{source}.yaml")
        try:
            content = yaml.safe_load(path.read_text())
        except OSError as error:
            raise ConfigError(
                f"no ontology {str(source)!r}: {error.strerror}",
                f"give a YAML file, or one of {', '.join(SHIPPED)}",
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is no YAML: {error}", "correct the file") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path} holds no mapping", "give `name` and `classes`")
        return cls.from_dict(content)

    @classmethod
    def groups(cls, name: str, count: int) -> LabelOntology:
        """`count` groups without a meaning, in colours that differ.

        Args:
            name: must change whenever the groups do, because the hash only knows the name.
        """
        classes = []
        for number in range(count):
            # hues a golden angle apart never come close to each other's neighbours
            hue, value = (number * 0.618034) % 1.0, (0.95, 0.75, 0.55)[number % 3]
            rgb = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, value))
            colour = "#{:02x}{:02x}{:02x}".format(*rgb)
            classes.append(LabelClass(f"group {number}", (), False, colour))
        return cls(name, tuple(classes))


def _parse(entry: Any, ontology: str) -> tuple[int, LabelClass]:
    known = {"id", "name", "kind", "colour", "prompts"}
    if not isinstance(entry, Mapping) or not {"id", "name", "kind"} <= set(entry) <= known:
        raise ConfigError(
            f"class {entry!r} of ontology {ontology!r} is malformed",
            f"give the keys {', '.join(sorted(known))}; colour and prompts may be left out",
        )
    if entry["kind"] not in ("thing", "stuff"):
        raise ConfigError(
            f"class {entry['name']!r} is of kind {entry['kind']!r}", "write thing or stuff"
        )
    number, prompts = entry["id"], entry.get("prompts", [])
    if isinstance(number, bool) or not isinstance(number, int):
        raise ConfigError(f"class {entry['name']!r} has the id {number!r}", "give a whole number")
    if not isinstance(prompts, list) or not all(isinstance(text, str) for text in prompts):
        raise ConfigError(f"prompts of {entry['name']!r} are {prompts!r}", "give a list of phrases")
    colour = entry.get("colour", "#808080")
    return number, LabelClass(str(entry["name"]), tuple(prompts), entry["kind"] == "thing", colour)
