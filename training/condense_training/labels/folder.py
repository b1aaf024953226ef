"""`LabelFolder`: the labels of images, for those who learn from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros.errors import LabelError
from condense_training.labels.images import pixel_hash
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.protocols import LabelImage
from condense_training.labels.store import (
    SUFFIXES,
    decode,
    object_path,
    read_header,
    read_record,
)


class LabelFolder:
    """Reads what `condense label` has written.

    Labels are found by the image's pixels, so those of a drive are also those of a thinned copy, a
    recorded bag or a conversion of it, and never those of another image.

    Args:
        path: folder of labels.
        ontology: what the reader takes ids to mean; None takes the folder's own.

    Raises:
        LabelError: no folder of labels, or labels of another ontology.
    """

    def __init__(self, path: Path | str, ontology: LabelOntology | None = None) -> None:
        self.path = Path(path)
        self.header = read_header(self.path)
        self.ontology = self.header.ontology
        if ontology is not None and ontology.hash() != self.ontology.hash():
            raise LabelError(
                f"{path} holds labels of ontology {self.ontology.name!r} "
                f"({self.ontology.hash()}), not of {ontology.name!r} ({ontology.hash()})",
                "label again with that ontology, or train with the folder's own",
            )

    def has(self, pixels: npt.NDArray[np.uint8]) -> bool:
        """Whether an (H, W, 3) uint8 RGB image has been labelled."""
        key = self.header.key(pixel_hash(pixels))
        return object_path(self.path, key, SUFFIXES[2]).is_file()

    def read(self, pixels: npt.NDArray[np.uint8]) -> LabelImage:
        """Class and confidence of every pixel of an image.

        Args:
            pixels: (H, W, 3) uint8 RGB, as read from its data set: not resized, not augmented.

        Returns:
            Labels and confidence of that size; details: the record of how they were made.

        Raises:
            LabelError: the image has not been labelled, its labels are damaged, or they are of
                another ontology.
        """
        key = self.header.key(pixel_hash(pixels))
        record = read_record(object_path(self.path, key, SUFFIXES[2]))
        # also checked in every record: files can be copied from one folder into another
        if record.get("ontology_hash") != self.ontology.hash():
            raise LabelError(
                f"labels {key} in {self.path} are of ontology {record.get('ontology_hash')}",
                "label again in an empty folder",
            )
        arrays = []
        for suffix in SUFFIXES[:2]:
            path = object_path(self.path, key, suffix)
            try:
                arrays.append(decode(path.read_bytes(), path))
            except OSError as error:
                raise LabelError(
                    f"{path} cannot be read ({error})", "run `condense label` again"
                ) from None
        labels, confidence = arrays
        if labels.shape != pixels.shape[:2] or confidence.shape != labels.shape:
            raise LabelError(
                f"labels {key} in {self.path} are {labels.shape}, the image {pixels.shape[:2]}",
                "run `condense label` again",
            )
        return LabelImage(labels, np.divide(confidence, 255, dtype=np.float32), record)
