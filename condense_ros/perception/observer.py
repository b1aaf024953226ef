"""Frames as observations for place maps: with a backbone's descriptor, or by geometry alone."""

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
    from condense_ros.perception.perceiver import Perceiver


class Observer:
    """Turns frames into observations with one kind of descriptor.

    Args:
        perceiver: names the kind, and makes it where it comes from the backbone; None stands for
            "ring_height", which needs no checkpoint (and does not import torch).
    """

    def __init__(self, perceiver: Perceiver | None = None) -> None:
        self.kind = perceiver.config.descriptor if perceiver else RING_HEIGHT
        #: hash of the weights descriptors come from; "none" for geometric ones
        self.backbone = perceiver.backbone_id if perceiver else NO_BACKBONE
        self._size = perceiver.descriptor_size if perceiver else RING_HEIGHT_SIZE
        # a geometric descriptor needs no pass of the network
        self._perceiver = perceiver if self.kind == BACKBONE_GEM else None

    @classmethod
    def of_kind(
        cls, descriptor: str, checkpoint: Path | str | None = None, device: str = "auto"
    ) -> Observer:
        """An observer of the named kind; only "backbone_gem" loads the checkpoint.

        Raises:
            ConfigError: an unknown kind, or "backbone_gem" without a checkpoint.
            CheckpointError: the checkpoint cannot be loaded.
        """
        if check_kind(descriptor) != BACKBONE_GEM:
            return cls()
        if checkpoint is None:
            raise ConfigError(
                f"descriptors of kind {BACKBONE_GEM} need a backbone",
                f"give --checkpoint, or use --descriptor {RING_HEIGHT}",
            )
        from condense_ros.perception.perceiver import Perceiver, PerceptionConfig

        return cls(Perceiver(checkpoint, PerceptionConfig(device=device, descriptor=BACKBONE_GEM)))

    def header(self, map_frame: str = "map", sensor_frame: str = "") -> MapHeader:
        """Header of a new map of these descriptors."""
        return MapHeader(self.backbone, self.kind, self._size, map_frame, sensor_frame or "lidar")

    def __call__(self, frame: Frame) -> Observation:
        """The observation of a frame's cloud.

        Raises:
            FrameError, PerceptionError: as `Perceiver.perceive`, for "backbone_gem".
        """
        if self._perceiver is not None:
            return self._perceiver.perceive(frame).observation
        return observe(frame.cloud.xyz, ring_height(frame.cloud.xyz))
