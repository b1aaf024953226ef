"""`PointLabels`: what the ids in a data set's label files are in an ontology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from condense_ros.errors import ConfigError, DatasetError
from condense_ros.frame import IGNORE
from condense_ros.ontology import Ontology
from condense_ros.resources import config_file

#: maps that come along, in config/point_labels
SHIPPED = (
    *("semantickitti", "scribblekitti", "rellis3d", "semanticposs", "semanticstf"),
    *("synlidar", "synlidar_as_semantickitti", "daps3d", "nuscenes"),
)
#: what an id is mapped to that is no class
NOTHING = "ignore"
#: key -> type, of a map's file
_KEYS: dict[str, type] = {
    **{"name": str, "ontology": str, "scans": str, "labels": str, "columns": int, "odometry": bool},
    **{"splits": dict, "scenes": dict, "names": dict, "ids": dict},
}


def read_ontology(source: str) -> Ontology:
    """Names and colours of an ontology in config/ontologies, by its name, or of a YAML file.

    Raises:
        ConfigError: no such file, or not `classes` numbered from 0 with a name and a colour each.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        folder = config_file("ontologies/nuscenes_16.yaml").parent
        path = folder / f"{source}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"no ontology {source!r}",
                f"use {', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}, or a YAML file",
            )
    content = _read_yaml(path)
    try:
        classes = sorted(content["classes"], key=lambda entry: int(entry["id"]))
        if [entry["id"] for entry in classes] != list(range(len(classes))):
            raise ValueError("ids are not 0, 1, 2, ...")
        return Ontology.from_dict(
            {
                "names": [entry["name"] for entry in classes],
                "colours": [entry.get("colour", "#808080") for entry in classes],
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no ontology ({error!r})", "give classes with ids") from None


@dataclass(frozen=True, eq=False)
class PointLabels:
    """The labels of a data set in the layout of SemanticKITTI.

    Attributes:
        name: of the data set, for people.
        ontology: the classes that ids are mapped to.
        ids: raw id (16 bits) -> class name or "ignore".
        names: raw class name -> class name or "ignore", where the data set numbers them itself.
        scans, labels: folders of `*.bin` and `*.label` in each sequence.
        columns: float32 numbers per point; the first four are x, y, z, intensity.
        odometry: whether image_2/, calib.txt, poses.txt and times.txt are those of KITTI odometry;
            otherwise they are not read.
        splits: name -> names of sequences, or the name of a file that lists scans.
        scenes: name -> numbers of scenes (nuScenes).
    """

    name: str
    ontology: Ontology
    ids: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    scans: str = "velodyne"
    labels: str = "labels"
    columns: int = 4
    odometry: bool = False
    splits: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)
    scenes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, source: str | Path) -> PointLabels:
        """One that comes along (see `SHIPPED`), or a YAML file.

        Raises:
            ConfigError: no such map, unknown keys, values of another type, or a class that the
                ontology does not have.
        """
        path = Path(source)
        if str(source) in SHIPPED:
            path = config_file(f"point_labels/{source}.yaml")
        elif not path.is_file():
            raise ConfigError(
                f"no label map {str(source)!r}", f"use {', '.join(SHIPPED)}, or a YAML file"
            )
        content = _read_yaml(path)
        _check_keys(content, path)
        content["ontology"] = read_ontology(content["ontology"])
        content["splits"] = {
            str(name): value if isinstance(value, str) else tuple(map(str, value))
            for name, value in content.get("splits", {}).items()
        }
        content["scenes"] = {
            str(name): tuple(map(int, value)) for name, value in content.get("scenes", {}).items()
        }
        labels = cls(**content)
        try:
            _ = labels.table
            for target in labels.names.values():
                labels._target(target)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.problem}", error.fix) from None
        return labels

    def numbered(self, index: Mapping[int, str]) -> PointLabels:
        """This map with the ids that a data set gives its class names itself.

        Args:
            index: raw id -> raw class name.

        Raises:
            DatasetError: a name that the map does not have.
        """
        unknown = sorted(set(index.values()) - set(self.names))
        if unknown:
            raise DatasetError(
                f"the label map of {self.name} does not know the classes {', '.join(unknown)}",
                "add them to a copy of the map and give it as label_map",
            )
        return replace(self, ids={number: self.names[name] for number, name in index.items()})

    def _target(self, name: str) -> int:
        return IGNORE if name == NOTHING else self.ontology.index(name)

    @cached_property
    def table(self) -> npt.NDArray[np.int16]:
        """(65536,) class of every raw id, 255 = none, -1 = the map does not know it."""
        table = np.full(65536, -1, np.int16)
        for number, name in self.ids.items():
            if not 0 <= number < len(table):
                raise ConfigError(f"id {number} is no 16-bit value", "correct the map")
            table[number] = self._target(name)
        return table

    def map(self, raw: npt.NDArray[np.integer], what: str) -> npt.NDArray[np.uint8]:
        """Classes of raw ids, of which the lower 16 bits count.

        Args:
            raw: (N,) unsigned integers.
            what: names their file for the error.

        Raises:
            DatasetError: an id that the map does not know.
        """
        values = raw & 0xFFFF
        mapped = self.table[values]
        if (mapped < 0).any():
            found, counts = np.unique(values[mapped < 0], return_counts=True)
            shown = ", ".join(
                f"{number} ({count} points)"
                for number, count in zip(found[:5].tolist(), counts[:5].tolist(), strict=True)
            )
            raise DatasetError(
                f"{what} has ids that the label map of {self.name} does not know: {shown}"
                + (f" and {len(found) - 5} more" if len(found) > 5 else ""),
                f"choose the data set's map with label_map=NAME ({', '.join(SHIPPED)}), or add the "
                "ids to a copy of the map and give its path",
            )
        return mapped.astype(np.uint8)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no YAML file ({error})", "give a YAML file") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping", "write one `name: value` per line")
    return content


def _check_keys(content: dict[str, Any], path: Path) -> None:
    if not {"name", "ontology"} <= set(content) <= set(_KEYS):
        raise ConfigError(
            f"{path} is no label map of points (its keys: {', '.join(map(str, content))})",
            f"give name, ontology, ids or names, and of the rest only {', '.join(_KEYS)}",
        )
    for key, value in content.items():
        if not isinstance(value, _KEYS[key]) or (_KEYS[key] is int and isinstance(value, bool)):
            raise ConfigError(f"{key} of {path} is {value!r}", f"give a {_KEYS[key].__name__}")
    for key, kind in (("ids", int), ("names", str)):
        for name, target in content.get(key, {}).items():
            if not isinstance(name, kind) or isinstance(name, bool) or not isinstance(target, str):
                raise ConfigError(
                    f"{key} of {path} holds {name!r}: {target!r}",
                    f"write `{kind.__name__}: class name` lines",
                )
    for key in ("splits", "scenes"):
        for name, value in content.get(key, {}).items():
            if not isinstance(value, (list, str)) or (key == "scenes" and isinstance(value, str)):
                raise ConfigError(f"{key} of {path} holds {name!r}: {value!r}", "give a list")
    if content.get("columns", 4) < 4:
        raise ConfigError(f"columns of {path} is below 4", "points have x, y, z and intensity")
