"""`DataOptions`: which part of a data set is read, and what its labels mean."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from condense_ros.config import build, parameter
from condense_ros.errors import ConfigError

#: file in the folder of a data set that says the same as the end of a path
FILE_NAME = "condense.yaml"


@dataclass(frozen=True)
class DataOptions:
    """What is read of a folder that holds several drives.

    They stand in `condense.yaml` in the folder, or after the path: `FOLDER?split=train&images=no`.
    """

    label_map: str | None = parameter(
        None, "what the ids of label files mean: a map in config/point_labels by name, or a file"
    )
    split: str | None = parameter(
        None, "split of the map (train, val, ...), or a file with a drive or scan per line"
    )
    drives: tuple[str, ...] = parameter((), "names of the sequences or scenes to read, of all")
    fraction: float = parameter(
        1.0, "every k-th scan (nuScenes: scene), k = 1 / fraction", low=1e-6, high=1.0
    )
    images: bool = parameter(True, "read images too; without them scans are read faster")
    intensity_offset: float = parameter(
        0.0, "added to intensities; the released settings of OLIVINE add 1 to KITTI's"
    )
    version: str | None = parameter(None, "tables of a nuScenes folder, where it holds several")

    def given(self) -> dict[str, Any]:
        """Names and values that differ from the defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


def split_path(path: Path) -> tuple[Path, dict[str, Any]]:
    """A path and the options after its question mark; a path that exists as it is has none.

    Raises:
        ConfigError: an unknown option, or a value of another type.
    """
    text, mark, query = str(path).partition("?")
    if not mark or path.exists():
        return path, {}
    kinds = typing.get_type_hints(DataOptions)
    values = {}
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"option {part!r} of {path} is not name=value", "write ?name=value")
        values[name] = _parse(kinds.get(name), value)
    build(DataOptions, values)
    return Path(text), values


def _parse(kind: Any, text: str) -> Any:
    if kind is bool:
        return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)
    if kind is float:
        try:
            return float(text)
        except ValueError:
            return text
    if typing.get_origin(kind) is tuple:
        return tuple(part for part in text.split(",") if part)
    return text


def read_options(folder: Path) -> dict[str, Any]:
    """What `condense.yaml` in a folder says, nothing where there is none.

    Raises:
        ConfigError: no YAML mapping, an unknown option, or a value of another type.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no YAML: {error}", "correct the file") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping", "write one `name: value` per line")
    try:
        build(DataOptions, content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.problem}", error.fix) from None
    return content
