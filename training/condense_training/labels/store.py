"""`LabelStore`: label images on disk, found by the content of the image they belong to.

    OUT/labels.json                  what the folder holds: labeler, its identity, the ontology
    OUT/objects/ab/KEY.png           8-bit class ids, 255 = none
    OUT/objects/ab/KEY.confidence.png    8-bit confidence, 255 = sure
    OUT/objects/ab/KEY.json          how they were made; written last, so it vouches for the others
    OUT/labels/NAME.png, OUT/confidence/NAME.png, OUT/records/NAME.json
                                     the same files under the names of the images, for others

KEY is a hash of the image's pixels, the labeler's identity and the ontology. A file is written
whole or not at all, so a killed run leaves nothing that looks finished and is not.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from condense_ros.errors import LabelError
from condense_ros.files import write_atomically, write_json
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import LabelImage

FORMAT = "condense-labels-1"
HEADER = "labels.json"
#: of label image, confidence and record, in the order they are written
SUFFIXES = (".png", ".confidence.png", ".json")
#: folders and suffixes of the same under the images' names
_NAMED = (("labels", ".png"), ("confidence", ".png"), ("records", ".json"))


@dataclass(frozen=True)
class LabelHeader:
    """What all labels of a folder have in common.

    Attributes:
        labeler: name.
        identity: all that labels depend on beside image and ontology.
        ontology: what ids mean.
    """

    labeler: str
    identity: Mapping[str, Any]
    ontology: LabelOntology

    @property
    def labeler_hash(self) -> str:
        """Sixteen hex digits of name and identity."""
        text = json.dumps([self.labeler, dict(self.identity)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def key(self, image_sha256: str) -> str:
        """32 hex digits that name the labels of an image."""
        text = f"{FORMAT} {image_sha256} {self.labeler_hash} {self.ontology.hash()}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_dict(self) -> dict[str, Any]:
        """labels.json."""
        return {
            "format": FORMAT,
            "labeler": self.labeler,
            "labeler_hash": self.labeler_hash,
            "identity": dict(self.identity),
            "ontology_hash": self.ontology.hash(),
            "ontology": self.ontology.to_dict(),
        }


def read_header(folder: Path) -> LabelHeader:
    """labels.json of a folder.

    Raises:
        LabelError: missing, damaged, of another format, or hashes that do not fit the content.
    """
    path = folder / HEADER
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LabelError(
            f"{folder} is no folder of labels: {HEADER} cannot be read ({error})",
            "make one with `condense label DATA --out FOLDER`",
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise LabelError(
            f"{path} has the format {found!r}, not {FORMAT!r}", "label again in another folder"
        )
    try:
        header = LabelHeader(
            content["labeler"], content["identity"], LabelOntology.from_dict(content["ontology"])
        )
        hashes = content["labeler_hash"], content["ontology_hash"]
    except (KeyError, TypeError) as error:
        raise LabelError(f"{path} lacks {error}", "restore the file or label again") from None
    if hashes != (header.labeler_hash, header.ontology.hash()):
        raise LabelError(
            f"{path} has been edited: its hashes {hashes} do not fit its content",
            "restore the file; to change classes, label again with another ontology",
        )
    return header


class LabelStore:
    """A folder of labels being written.

    Several processes may write to one folder at once.

    Raises:
        LabelError: the folder holds labels of another labeler, other settings or classes.
        StorageFull, OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, header: LabelHeader) -> None:
        self.folder, self.header = folder, header
        if (folder / HEADER).exists():
            there = read_header(folder)
            for what, now, then in (
                ("labeler", header.labeler, there.labeler),
                ("settings", header.labeler_hash, there.labeler_hash),
                ("ontology", header.ontology.hash(), there.ontology.hash()),
            ):
                if now != then:
                    raise LabelError(
                        f"{folder} holds labels of another {what} ({then}, not {now})",
                        "give another --out; one folder holds one kind of labels",
                    )
        else:
            write_json(folder / HEADER, header.to_dict())

    def path(self, key: str, suffix: str) -> Path:
        """A file of the labels named `key`."""
        return object_path(self.folder, key, suffix)

    def has(self, key: str) -> bool:
        """Whether these labels are there and intact; damaged ones are to be made again."""
        return intact(self.folder, key)

    def put(self, key: str, made: LabelImage, record: Mapping[str, Any]) -> None:
        """Stores labels and confidence, then the record with their hashes.

        Raises:
            LabelError: ids that the ontology does not have.
            StorageFull: no room; no record is written.
        """
        count = len(self.header.ontology)
        ids = np.unique(made.labels)
        if ((ids >= count) & (ids != 255)).any():
            raise LabelError(
                f"labels reach up to {ids[ids != 255].max()}", f"the ontology has {count} classes"
            )
        label, confidence = encode(made.labels), encode(to_bytes(made.confidence))
        self.path(key, ".json").parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path(key, SUFFIXES[0]), label)
        write_atomically(self.path(key, SUFFIXES[1]), confidence)
        hashes = {"label_sha256": _sha256(label), "confidence_sha256": _sha256(confidence)}
        write_json(self.path(key, SUFFIXES[2]), {**record, **hashes})

    def name(self, name: str, key: str) -> None:
        """Puts labels under the name of an image: links, or copies where links cannot be."""
        for suffix, (folder, ending) in zip(SUFFIXES, _NAMED, strict=True):
            target = self.folder / folder / f"{name}{ending}"
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(self.path(key, suffix), target)

    def adopt(self, key: str, other: Path) -> bool:
        """Takes labels over from another folder, if it has them intact."""
        if not intact(other, key):
            return False
        self.path(key, ".json").parent.mkdir(parents=True, exist_ok=True)
        for suffix in SUFFIXES:
            write_atomically(self.path(key, suffix), object_path(other, key, suffix).read_bytes())
        return True


def intact(folder: Path, key: str) -> bool:
    """Whether a folder holds the labels named `key`, every byte as it was written."""
    try:
        record = read_record(object_path(folder, key, ".json"))
        return all(
            _sha256(object_path(folder, key, suffix).read_bytes()) == record[f"{what}_sha256"]
            for what, suffix in (("label", SUFFIXES[0]), ("confidence", SUFFIXES[1]))
        )
    except (OSError, LabelError, KeyError):
        return False


def object_path(folder: Path, key: str, suffix: str) -> Path:
    """Where the labels named `key` lie in a folder of labels."""
    return folder / "objects" / key[:2] / f"{key}{suffix}"


def read_record(path: Path) -> dict[str, Any]:
    """A record of labels.

    Raises:
        LabelError: missing or damaged.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LabelError(
            f"no labels at {path} ({error})", "run the same `condense label` again"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LabelError(f"{path} is no record of labels", "run the same `condense label` again")
    return content


def to_bytes(confidence: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Confidence in 0..1 to 8 bits, rounded."""
    return np.rint(confidence * 255).astype(np.uint8)


def encode(values: npt.NDArray[np.uint8]) -> bytes:
    """(H, W) uint8 as a grey PNG; the same values give the same bytes."""
    content = io.BytesIO()
    Image.fromarray(values).save(content, "PNG", compress_level=4)
    return content.getvalue()


def decode(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """The inverse of `encode`.

    Raises:
        LabelError: damaged.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise LabelError(f"{path} is damaged ({error})", "run `condense label` again") from None
    if mode != "L":
        raise LabelError(f"{path} is of mode {mode}, not 8-bit grey", "run `condense label` again")
    return values


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _link(source: Path, target: Path) -> None:
    """A hard link that appears at once, or a copy on file systems without links."""
    try:
        if target.samefile(source):
            return
    except OSError:
        pass
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
