"""What a labeler is built from beside its own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from condense_ros.errors import ConfigError
from condense_training.labels.images import ImageSource
from condense_training.labels.ontology import LabelOntology

#: of labelers that need names
DEFAULT = "nuscenes_16"


@dataclass(frozen=True)
class LabelerContext:
    """Surroundings of a labeler.

    Attributes:
        source: all images to be labelled, of every shard.
        folder: where a labeler may keep what it learns; shared by all shards.
        device: torch device.
        ontology: the classes asked for, or None where none were named.
        progress: whether long preparations may draw on the terminal.
    """

    source: ImageSource
    folder: Path
    device: str = "cpu"
    ontology: LabelOntology | None = None
    progress: bool = False

    def need_ontology(self) -> LabelOntology:
        """The ontology, nuscenes_16 where none was named."""
        return self.ontology or LabelOntology.load(DEFAULT)

    def need_prompts(self) -> LabelOntology:
        """The same, with at least one prompt.

        Raises:
            ConfigError: none of its classes has a prompt.
        """
        ontology = self.need_ontology()
        if not ontology.prompts:
            raise ConfigError(
                f"ontology {ontology.name!r} has no prompts", "give its classes prompts"
            )
        return ontology
