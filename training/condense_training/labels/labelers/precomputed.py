"""`precomputed`: folders of label images that others have made, their ids mapped to an ontology."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, LabelError
from condense_ros.frame import IGNORE
from condense_training.labels.id_maps import IdMap
from condense_training.labels.images import SourceImage
from condense_training.labels.labelers.context import LabelerContext
from condense_training.labels.ontology import MAX_CLASSES, LabelOntology
from condense_training.labels.protocols import LabelImage


@dataclass(frozen=True)
class PrecomputedConfig:
    """Where the label images are, and what their ids mean."""

    folder: str = parameter("", "folder of the label images")
    ids: str = parameter(
        "", "map of their ids: olivine_grounded_sam, olivine_seem, segments, ... or a YAML file"
    )
    path: str = parameter(
        "",
        "file of an image under the folder, with {folder} {stem} {camera} {index} {stamp_ns}; "
        "empty: as the map says",
    )
    unknown: str = parameter("refuse", "ids that the map does not list: refuse or ignore")


class PrecomputedLabeler:
    """Reads the label image that belongs to an image; confidence is 1 wherever there is a class.

    Raises:
        ConfigError: no such folder, or a map that does not fit the ontology.
    """

    def __init__(self, config: PrecomputedConfig, ontology: LabelOntology, id_map: IdMap) -> None:
        self.ontology = ontology
        self._folder = Path(config.folder)
        if not config.folder or not self._folder.is_dir():
            raise ConfigError(
                f"no folder of label images {config.folder!r}", "give -p folder=FOLDER"
            )
        if config.unknown not in ("refuse", "ignore"):
            raise ConfigError(f"unknown={config.unknown!r}", "use refuse or ignore")
        self._strict = config.unknown == "refuse"
        self._path = config.path or id_map.path
        self._table = id_map.id_table(ontology)
        self.identity: Mapping[str, Any] = {
            "map": id_map.to_dict(),
            "path": self._path,
            "unknown": config.unknown,
            "files": folder_hash(self._folder),
        }

    def label(self, image: SourceImage) -> LabelImage:
        """Labels of one image.

        Raises:
            LabelError: no label image, one of another size, or ids that the map does not list.
        """
        try:
            relative = self._path.format(**image.fields)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"path template {self._path!r} does not fit {image.name} ({error!r})",
                f"use only {', '.join('{' + name + '}' for name in image.fields)}",
            ) from None
        path = self._folder / relative
        ids = read_ids(path)
        if ids.shape != image.pixels.shape[:2]:
            raise LabelError(
                f"{path} is {ids.shape}, its image {image.pixels.shape[:2]}",
                "labels and images must have one size",
            )
        labels = self._table[ids]
        unknown = labels < 0
        if unknown.any():
            if self._strict:
                found = ", ".join(map(str, np.unique(ids[unknown])[:8]))
                raise LabelError(
                    f"{path} holds ids that the map does not list: {found}",
                    "add them to the map, or use -p unknown=ignore",
                )
            labels[unknown] = IGNORE
        known = labels != IGNORE
        return LabelImage(labels.astype(np.uint8), known.astype(np.float32))


def read_ids(path: Path) -> npt.NDArray[np.int64]:
    """(H, W) ids of a PNG: grey of 1 to 16 bits, or indexed (the indices, not the colours).

    Raises:
        LabelError: missing, damaged, or a picture in colours.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabelError(
            f"no label image {path}: {error.strerror}", "check folder and path template"
        ) from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise LabelError(f"{path} is damaged ({error})", "restore the file") from None
    if mode not in ("1", "L", "P", "I", "I;16", "I;16B") or values.ndim != 2:
        raise LabelError(
            f"{path} is a picture of mode {mode}, not of ids", "give grey or indexed PNG files"
        )
    ids = values.astype(np.int64)
    if ids.min() < 0 or ids.max() > 65535:
        raise LabelError(f"{path} holds ids up to {ids.max()}", "ids are 16-bit values")
    return ids


def folder_hash(folder: Path) -> str:
    """Sixteen hex digits over names, sizes and first 64 KiB of every file: other files, other
    labels."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(
                f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode()
            )
            with open(file, "rb") as content:
                digest.update(content.read(65536))
    return digest.hexdigest()[:16]


def build(config: PrecomputedConfig, context: LabelerContext) -> PrecomputedLabeler:
    """The labeler. With a map that keeps ids and no ontology, ids are groups without a meaning.

    Raises:
        ConfigError: as the class says.
    """
    if not config.ids:
        raise ConfigError("no map of the ids", "give -p ids=olivine_grounded_sam or a YAML file")
    id_map = IdMap.load(config.ids)
    ontology = context.ontology
    if ontology is None and id_map.ids is None:
        ontology = LabelOntology.groups("segments of one image", MAX_CLASSES)
    return PrecomputedLabeler(config, ontology or context.need_ontology(), id_map)
