"""`Perceiver`: a checkpoint at work on clouds."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from condense_ros.config import parameter
from condense_ros.errors import CheckpointError, PerceptionError
from condense_ros.frame import IGNORE, Frame, PointCloud
from condense_ros.models import Checkpoint, HeadInfo, load_checkpoint
from condense_ros.perception.device import Device, choose_device, fall_back, uses_bfloat16
from condense_ros.places.descriptors import (
    BACKBONE_GEM,
    NO_BACKBONE,
    RING_HEIGHT,
    RING_HEIGHT_SIZE,
    check_kind,
    generalised_mean,
    ring_height,
)
from condense_ros.places.keypoints import KeypointConfig, Keypoints
from condense_ros.places.observation import Observation, observe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PerceptionConfig:
    """How a checkpoint is run."""

    device: str = parameter("auto", "auto, cpu, cuda or cuda:N")
    precision: str = parameter(
        "float32",
        "of the network: float32, bfloat16, or auto (bfloat16 where the processor multiplies it)",
    )
    threads: int = parameter(0, "CPU threads of the network; 0 leaves torch's choice", low=0)
    max_points: int = parameter(
        250_000, "of larger clouds the farthest points are left out, and counted", low=1
    )
    head: str = parameter("", "segmentation head to use; empty takes the only one")
    descriptor: str = parameter(
        RING_HEIGHT, "global descriptor of places: ring_height or backbone_gem"
    )
    warm_up_points: int = parameter(
        20_000, "points of the made-up cloud that is run once while loading; 0 for none", low=0
    )


@dataclass(frozen=True, eq=False)
class Perception:
    """What one forward pass says about a cloud.

    Attributes:
        cloud: the input, in its order.
        label: (N,) uint8 class per point, `IGNORE` for points left out or without a head.
        confidence: (N,) float32 softmax probability of the label, 0 where there is none.
        features: (M, C) float32 backbone features per voxel.
        inverse: (N,) int64 voxel of each point, -1 for points left out.
        left_out: points left out, by reason.
        timings_ms: wall time by stage.
        descriptor_kind: how `descriptor` is made.
    """

    cloud: PointCloud
    label: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    inverse: npt.NDArray[np.int64]
    left_out: dict[str, int]
    timings_ms: dict[str, float]
    descriptor_kind: str = RING_HEIGHT
    keypoint_config: KeypointConfig = field(default_factory=KeypointConfig)

    @cached_property
    def descriptor(self) -> npt.NDArray[np.float32]:
        """(D,) float32 global descriptor, unit norm; made on first use."""
        if self.descriptor_kind == BACKBONE_GEM:
            return generalised_mean(self.features)
        return ring_height(self.cloud.xyz)

    @cached_property
    def observation(self) -> Observation:
        """What relocalisation needs; made on first use (about 0.1 s)."""
        return observe(self.cloud.xyz, self.descriptor, self.keypoint_config)

    @property
    def keypoints(self) -> Keypoints:
        """Keypoints with descriptors."""
        return self.observation.keypoints


class Perceiver:
    """A backbone with its head, loaded and warmed up.

    Attributes:
        checkpoint: what was loaded.
        head: the head in use, None when the checkpoint has none (labels are then `IGNORE`).
        device: where it runs, and why it fell back.
        warnings: what a user should know about checkpoint and sensor, in words.
        warm_up_ms: duration of the warm-up pass.

    Raises:
        CheckpointError: missing or unfit checkpoint, no head of that name, or several and none
            named.
        ConfigError: an unknown device, precision or descriptor.
    """

    def __init__(
        self, checkpoint: Path | str | Checkpoint, config: PerceptionConfig | None = None
    ) -> None:
        self.config = config or PerceptionConfig()
        check_kind(self.config.descriptor)
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_checkpoint(checkpoint)
        self.checkpoint = checkpoint
        self.warnings: list[str] = []
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self._backbone = checkpoint.build_backbone()
        name = _head_name(checkpoint, self.config.head)
        self._head = checkpoint.build_head(name) if name else None
        self.head: HeadInfo | None = self._head.info if self._head is not None else None
        if self._head is None:
            self._warn("the checkpoint has no segmentation head: no point gets a label")
        self.device = choose_device(self.config.device)
        if self.device.fallback:
            self.warnings.append(self.device.fallback)
        self._to_device()
        self._low = uses_bfloat16(self.config.precision, self.device.torch_device)
        self._sensor_checked = False
        self.warm_up_ms = self._warm_up()

    @property
    def backbone_id(self) -> str:
        """Hash of the weights descriptors come from; "none" for geometric descriptors."""
        if self.config.descriptor == BACKBONE_GEM:
            return self.checkpoint.identity()
        return NO_BACKBONE

    @property
    def descriptor_size(self) -> int:
        """Length of the global descriptor."""
        if self.config.descriptor == BACKBONE_GEM:
            return self._backbone.out_channels
        return RING_HEIGHT_SIZE

    def perceive(
        self, source: Frame | PointCloud, colours: npt.NDArray[np.uint8] | None = None
    ) -> Perception:
        """Labels and features of a cloud in one forward pass.

        Args:
            source: a frame or its cloud; may be empty.
            colours: (N, 3) uint8, for backbones that take colour.

        Raises:
            FrameError: the cloud lacks a field the backbone takes as input.
            PerceptionError: the network's output is not finite.
        """
        cloud = source.cloud if isinstance(source, Frame) else source
        try:
            perception = self._run(cloud, colours)
        except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
            if self.device.torch_device.type == "cpu":
                raise
            self.device = fall_back(f"the GPU failed ({str(error).splitlines()[0]})")
            self.warnings.append(self.device.fallback)
            self._to_device()
            perception = self._run(cloud, colours)
        if not self._sensor_checked and cloud.finite().any():
            self._check_sensor(cloud)
        return perception

    @torch.inference_mode()
    def _run(self, cloud: PointCloud, colours: npt.NDArray[np.uint8] | None) -> Perception:
        clock = [time.perf_counter()]
        kept = self._within_capacity(cloud)
        part = cloud if kept is None else cloud.select(kept)
        if kept is not None and colours is not None:
            colours = colours[kept]
        voxels = self._backbone.input.voxelize(part, colours)
        inverse = voxels.inverse.numpy()
        clock.append(time.perf_counter())
        channels = self._backbone.out_channels
        label = np.full(len(part), IGNORE, np.uint8)
        confidence = np.zeros(len(part), np.float32)
        features = np.zeros((0, channels), np.float32)
        if len(voxels):
            kind = self.device.torch_device.type
            with torch.autocast(kind, torch.bfloat16, enabled=self._low):
                output = self._backbone(voxels.to(self.device.torch_device)).float()
            features = output.cpu().numpy()
            clock.append(time.perf_counter())
            if not np.isfinite(features).all():
                raise PerceptionError(
                    "the network's output is not finite", "check the checkpoint and the input"
                )
            if self._head is not None:
                best, winner = torch.softmax(self._head(output), dim=1).max(dim=1)
                inside = inverse >= 0
                label[inside] = winner.cpu().numpy().astype(np.uint8)[inverse[inside]]
                confidence[inside] = best.cpu().numpy()[inverse[inside]]
        else:
            clock.append(time.perf_counter())
        clock.append(time.perf_counter())
        finite = int(part.finite().sum())
        left_out = {
            "non_finite": len(part) - finite,
            "out_of_range": finite - int((inverse >= 0).sum()) - voxels.overflow.voxel_points,
            "over_max_voxels": voxels.overflow.voxel_points,
            "over_capacity": len(cloud) - len(part),
        }
        if kept is not None:
            label, confidence, inverse = (
                _spread(values, kept, len(cloud), fill)
                for values, fill in ((label, IGNORE), (confidence, 0), (inverse, -1))
            )
        stages = ("voxelize", "backbone", "head")
        timings = {
            name: 1e3 * (end - start)
            for name, start, end in zip(stages, clock[:-1], clock[1:], strict=True)
        }
        return Perception(
            cloud,
            label,
            confidence,
            features,
            inverse,
            {reason: count for reason, count in left_out.items() if count},
            timings,
            self.config.descriptor,
        )

    def _within_capacity(self, cloud: PointCloud) -> npt.NDArray[np.int64] | None:
        """Rows of the nearest `max_points` points in their order, None when all fit."""
        if len(cloud) <= self.config.max_points:
            return None
        squared = np.einsum("ij,ij->i", cloud.xyz, cloud.xyz, dtype=np.float64)
        # missing returns go first, then the farthest
        squared[~np.isfinite(squared)] = np.inf
        nearest = np.argpartition(squared, self.config.max_points)[: self.config.max_points]
        return np.sort(nearest).astype(np.int64)

    def _check_sensor(self, cloud: PointCloud) -> None:
        """Warns once when the first cloud is unlike what the input features were declared for."""
        self._sensor_checked = True
        spec = self._backbone.input
        if "intensity" in spec.features and cloud.intensity is not None and len(cloud):
            high = float(np.nanpercentile(cloud.intensity, 95)) / spec.intensity_scale
            if high > 2.0 or high < 0.02:
                self._warn(
                    f"intensities reach {high * spec.intensity_scale:.3g}, the checkpoint was made "
                    f"for a scale of {spec.intensity_scale:.3g}: labels may be poor"
                )
        if "height" in spec.features:
            low = float(np.nanpercentile(cloud.xyz[:, 2], 5))
            if not -4.0 < low < 0.5:
                self._warn(
                    f"the ground seems to lie {low:.1f} m from the sensor: the checkpoint knows "
                    "sensors 0.5 to 4 m above ground, labels may be poor"
                )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        log.warning("%s", text)

    def _to_device(self) -> None:
        self._backbone.to(self.device.torch_device)
        if self._head is not None:
            self._head.to(self.device.torch_device)

    def _warm_up(self) -> float:
        started = time.perf_counter()
        count = self.config.warm_up_points
        if count:
            rng = np.random.default_rng(0)
            spread = min(self._backbone.input.max_range_m, 40.0) / 2
            xyz = rng.normal(0, (spread, spread, 1.0), (count, 3)).astype(np.float32)
            cloud = PointCloud(xyz, intensity=np.zeros(count, np.float32))
            colours = np.zeros((count, 3), np.uint8)
            try:
                self._run(cloud, colours)
            except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
                if self.device.torch_device.type == "cpu":
                    raise
                self.device = fall_back(f"the GPU failed ({str(error).splitlines()[0]})")
                self.warnings.append(self.device.fallback)
                self._to_device()
                self._run(cloud, colours)
        return 1e3 * (time.perf_counter() - started)


def _head_name(checkpoint: Checkpoint, wanted: str) -> str:
    names = sorted(checkpoint.heads)
    if wanted:
        if wanted not in names:
            raise CheckpointError(
                f"the checkpoint has no head {wanted!r}, only {names}", "name one of those"
            )
        return wanted
    if len(names) > 1:
        raise CheckpointError(
            f"the checkpoint has several heads: {names}", "choose one with the parameter `head`"
        )
    return names[0] if names else ""


def _spread(
    values: npt.NDArray, kept: npt.NDArray[np.int64], length: int, fill: int
) -> npt.NDArray:
    out = np.full(length, fill, values.dtype)
    out[kept] = values
    return out


__all__ = ["Device", "Perceiver", "Perception", "PerceptionConfig"]
