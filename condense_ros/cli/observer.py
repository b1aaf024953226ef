"""How the map verbs turn frames into observations: with a checkpoint, or by geometry alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from condense_ros.errors import ConfigError
from condense_ros.places.descriptors import (
    BACKBONE_GEM,
    NO_BACKBONE,
    RING_HEIGHT,
    RING_HEIGHT_SIZE,
    check_kind,
    ring_height,
)
from condense_ros.places.observation import Observation, observe
from condense_ros.places.place import MapHeader

if TYPE_CHECKING:
    from condense_ros.frame import Frame


class Observer:
    """Frames to observations with one kind of descriptor.

    Args:
        descriptor: "ring_height" (geometry, no checkpoint) or "backbone_gem".
        checkpoint: the backbone of "backbone_gem".

    Raises:
        ConfigError: an unknown kind, or "backbone_gem" without a checkpoint.
        CheckpointError: the checkpoint cannot be loaded.
    """

    def __init__(self, descriptor: str, checkpoint: Path | None, device: str = "auto") -> None:
        self.kind = check_kind(descriptor)
        self._perceiver = None
        if self.kind == BACKBONE_GEM:
            if checkpoint is None:
                raise ConfigError(
                    f"descriptors of kind {BACKBONE_GEM} need a backbone",
                    f"give --checkpoint, or use --descriptor {RING_HEIGHT}",
                )
            from condense_ros.perception import Perceiver, PerceptionConfig

            settings = PerceptionConfig(device=device, descriptor=BACKBONE_GEM)
            self._perceiver = Perceiver(checkpoint, settings)

    @property
    def backbone(self) -> str:
        """Hash of the weights descriptors come from; "none" for geometric ones."""
        return self._perceiver.backbone_id if self._perceiver else NO_BACKBONE

    def header(self, map_frame: str, sensor_frame: str) -> MapHeader:
        """Header of a new map of these descriptors."""
        size = self._perceiver.descriptor_size if self._perceiver else RING_HEIGHT_SIZE
        return MapHeader(self.backbone, self.kind, size, map_frame, sensor_frame)

    def __call__(self, frame: Frame) -> Observation:
        """The observation of a frame's cloud."""
        if self._perceiver is not None:
            return self._perceiver.perceive(frame).observation
        return observe(frame.cloud.xyz, ring_height(frame.cloud.xyz))
