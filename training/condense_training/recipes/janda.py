"""Janda et al., "Contrastive Learning for Self-Supervised Pre-Training of Point Cloud Segmentation
Networks With Image Data": pixel contrast in 2D, then the frozen pixel features into 3D.

Single frames suffice: no poses, no overlap between scans, no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from condense_ros.config import parameter
from condense_ros.errors import ConfigError
from condense_ros.frame import CameraImage, Frame
from condense_ros.models import Backbone, InputSpec, build_backbone, preset
from condense_training.augment import CloudAugmentation, augment_cloud, augment_colours
from condense_training.clouds import cloud_arrays, stack_clouds, voxels_of
from condense_training.crops import Crop, centre_crop, match_crops, random_crop, whole_image
from condense_training.heads import projection_head
from condense_training.losses import info_nce
from condense_training.losses.inputs import NEGATIVES
from condense_training.networks.pixel_unet import PixelUNet, build_pixel_network, load_encoder
from condense_training.optimisers import build_optimiser
from condense_training.pairs import point_pixel_pairs, sample_features, within_view
from condense_training.recipe import Batch, Parts, Recipe, Sample, Stage
from condense_training.schedules import build_schedule

#: fewest matches or pairs worth a sample
_MIN_PAIRS = 16


@dataclass(frozen=True)
class JandaConfig:
    """Parameters of both stages; the defaults are the paper's (`paper` preset)."""

    feature_dim: int = parameter(16, "length of pixel and point features", low=2)
    temperature: float = parameter(0.4, "InfoNCE temperature", low=0.01)
    negatives: str = parameter(
        "per_rank", "several processes: negatives of each (per_rank) or of all (gathered)"
    )
    optimiser: str = parameter("sgd", "sgd or adamw")
    weight_decay: float = parameter(0.004, "paper 0.004, released code 1e-4", low=0.0)
    schedule: str = parameter("exponential", "exponential (0.99 every 1000 steps) or cosine")

    image_network: str = parameter("resnet34", "resnet34, resnet18 or small")
    image_weights: str = parameter("", "file of encoder weights (ImageNet in the paper)")
    pixel_steps: int = parameter(20000, "steps of stage 1", low=1)
    pixel_batch: int = parameter(64, "image pairs per step", low=1)
    pixel_matches: int = parameter(4092, "pixels per image pair", low=1)
    pixel_crop_px: int = parameter(224, "edge of the crops, a multiple of 32", low=32)
    pixel_min_area: float = parameter(0.2, "smallest crop, share of the image", low=0.01, high=1)
    pixel_lr: float = parameter(0.01, "learning rate of stage 1", low=0.0)
    pixel_cross_image: bool = parameter(False, "also use other images' pixels as negatives")
    encoder_frozen_steps: int = parameter(50, "steps before the image encoder learns", low=0)

    backbone: str = parameter("unet34c", "name of the backbone preset")
    voxel_size_m: float = parameter(0.05, "voxel edge, metres", low=0.005)
    max_range_m: float = parameter(80.0, "points farther away are left out, metres", low=1.0)
    inputs: tuple[str, ...] = parameter(("one", "intensity"), "input features of the backbone")
    intensity_scale: float = parameter(1.0, "intensity of the brightest return", low=1e-6)
    head: str = parameter("linear", "projection thrown away afterwards: linear or mlp")
    lift_steps: int = parameter(20000, "steps of stage 2", low=1)
    lift_batch: int = parameter(8, "scan-image pairs per step", low=1)
    lift_pairs: int = parameter(2000, "point-pixel pairs per scan", low=1)
    lift_view: str = parameter("centre", "part of the image looked at: centre (square) or whole")
    lift_size_px: int = parameter(224, "short side of that view, a multiple of 32", low=32)
    lift_lr: float = parameter(0.1, "learning rate of stage 2", low=0.0)
    depth_test: bool = parameter(True, "leave out points hidden from the camera")
    view_margin_deg: float = parameter(
        180.0,
        "bearings outside the image by more than this are cut off the cloud; 180 keeps all",
        low=0.0,
        high=180.0,
    )
    centre_clouds: bool = parameter(True, "move each cloud's mean to the origin")


#: a town's worth of frames in a minute or two on two CPU cores
_DEMO = JandaConfig(
    optimiser="adamw",
    weight_decay=1e-4,
    schedule="cosine",
    image_network="small",
    pixel_steps=150,
    pixel_batch=4,
    pixel_matches=512,
    pixel_crop_px=96,
    pixel_lr=2e-3,
    backbone="demo",
    voxel_size_m=0.2,
    max_range_m=40.0,
    inputs=("one", "height"),
    lift_steps=200,
    lift_batch=2,
    lift_pairs=512,
    lift_view="whole",
    lift_size_px=96,
    lift_lr=4e-3,
    view_margin_deg=15.0,
    centre_clouds=False,
)

PRESETS: dict[str, JandaConfig] = {
    "paper": JandaConfig(),
    "demo": _DEMO,
    "quick": replace(_DEMO, pixel_steps=60, lift_steps=60),
}


# stage 1: two crops of one image, the same pixel in both is a positive pair


def pixel_sample(config: JandaConfig, frame: Frame, rng: np.random.Generator) -> Sample | None:
    """Two augmented crops of a random image of the frame and their matching pixels."""
    if not frame.images:
        return None
    pixels = frame.images[int(rng.integers(len(frame.images)))].pixels
    height, width = pixels.shape[:2]
    first, second = (
        random_crop(rng, width, height, config.pixel_crop_px, min_area=config.pixel_min_area)
        for _ in range(2)
    )
    matches = match_crops(first, second, rng, max_matches=config.pixel_matches)
    if len(matches) < _MIN_PAIRS:
        return None
    crops = [augment_colours(crop.cut(pixels), rng).transpose(2, 0, 1) for crop in (first, second)]
    return {"crops": np.stack(crops), "matches": matches}


def pixel_collate(samples: Sequence[Sample]) -> Batch:
    """crops (2B, 3, S, S) uint8, pairs next to each other; matches (M, 3): pair, pixel, pixel."""
    matches = [
        np.column_stack([np.full(len(sample["matches"]), i), sample["matches"]])
        for i, sample in enumerate(samples)
    ]
    return {
        "crops": torch.from_numpy(np.concatenate([sample["crops"] for sample in samples])),
        "matches": torch.from_numpy(np.concatenate(matches)),
    }


def pixel_loss(config: JandaConfig, parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """InfoNCE over matching pixels, within each image pair unless `pixel_cross_image`."""
    maps = parts["image"](batch["crops"])
    flat = maps.flatten(2).transpose(1, 2)  # (2B, pixels, C)
    pair, first, second = batch["matches"].unbind(1)
    queries, keys = flat[2 * pair, first], flat[2 * pair + 1, second]
    groups = [slice(None)] if config.pixel_cross_image else [pair == i for i in pair.unique()]
    contrast = partial(
        info_nce,
        temperature=config.temperature,
        negatives=config.negatives if config.pixel_cross_image else "per_rank",
    )
    losses = [contrast(queries[g], keys[g]) for g in groups]
    return torch.stack(losses).mean(), {"matches": len(pair) / (len(maps) / 2)}


# stage 2: the frozen pixel feature at a point's projection is the target of the point's feature


def _view(config: JandaConfig, image: CameraImage) -> Crop:
    width, height = image.camera.width, image.camera.height
    if config.lift_view == "centre":
        return centre_crop(width, height, config.lift_size_px)
    return whole_image(width, height, config.lift_size_px)


def lift_sample(
    config: JandaConfig, spec: InputSpec, frame: Frame, rng: np.random.Generator
) -> Sample | None:
    """An augmented, voxelised cloud, one of its images, and point-pixel pairs between them."""
    if not frame.images:
        return None
    image = frame.images[int(rng.integers(len(frame.images)))]
    view = _view(config, image)
    index, uv = point_pixel_pairs(frame.cloud, image, view, depth_test=config.depth_test)
    kept = np.ones(len(frame.cloud), bool)
    if config.view_margin_deg < 180:
        kept = within_view(frame.cloud, image, config.view_margin_deg)
    how = CloudAugmentation(centre=config.centre_clouds)
    voxels = spec.voxelize(augment_cloud(frame.cloud.select(kept), rng, how))
    row_of_point = np.full(len(kept), -1)
    row_of_point[kept] = voxels.inverse.numpy()
    rows = row_of_point[index]
    chosen = rng.permutation(np.nonzero(rows >= 0)[0])[: config.lift_pairs]
    if len(chosen) < _MIN_PAIRS:
        return None
    return {
        "image": view.cut(image.pixels).transpose(2, 0, 1),
        **cloud_arrays(voxels),
        "pair_voxel": rows[chosen],
        "pair_uv": uv[chosen],
    }


def lift_collate(samples: Sequence[Sample]) -> Batch:
    """Stacks images (smaller ones padded), clouds and pairs; pair_voxel counts batch rows."""
    height, width = np.max([sample["image"].shape[1:] for sample in samples], axis=0)
    images = torch.zeros(len(samples), 3, int(height), int(width), dtype=torch.uint8)
    pair_voxel, pair_image = [], []
    rows = 0
    for i, sample in enumerate(samples):
        _, h, w = sample["image"].shape
        images[i, :, :h, :w] = torch.from_numpy(np.ascontiguousarray(sample["image"]))
        pair_voxel.append(sample["pair_voxel"] + rows)
        pair_image.append(np.full(len(sample["pair_voxel"]), i))
        rows += len(sample["coords"])
    uv = np.concatenate([sample["pair_uv"] for sample in samples])
    return {
        "images": images,
        **stack_clouds(samples),
        "pair_voxel": torch.from_numpy(np.concatenate(pair_voxel)),
        "pair_image": torch.from_numpy(np.concatenate(pair_image)),
        "pair_uv": torch.from_numpy(uv.astype(np.float32)),
    }


def lift_features(parts: Parts, batch: Batch) -> tuple[Tensor, Tensor]:
    """(n, C) point features and (n, C) frozen pixel features of the batch's pairs."""
    with torch.no_grad():
        maps = parts["image"](batch["images"])
        targets = sample_features(maps, batch["pair_image"], batch["pair_uv"])
    backbone = cast(Backbone, parts["backbone"])
    cloud = voxels_of(batch, backbone.input, len(batch["images"]))
    points = parts["head"](backbone(cloud)[batch["pair_voxel"]])
    return points, targets


def lift_loss(config: JandaConfig, parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """InfoNCE from point to pixel, negatives from the whole batch, each scan weighing the same."""
    points, targets = lift_features(parts, batch)
    counts = torch.bincount(batch["pair_image"], minlength=len(batch["images"]))
    weights = 1 / (counts[batch["pair_image"]] * len(counts))
    loss = info_nce(
        points,
        targets,
        temperature=config.temperature,
        weights=weights,
        negatives=config.negatives,
    )
    with torch.no_grad():
        unit_points, unit_targets = functional.normalize(points), functional.normalize(targets)
        cosine = float((unit_points * unit_targets).sum(1).mean())
    return loss, {"pairs": len(points) / len(counts), "cosine": cosine}


# the recipe


def _check(config: JandaConfig) -> None:
    choices = {"head": ("linear", "mlp"), "lift_view": ("centre", "whole"), "negatives": NEGATIVES}
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise ConfigError(
                f"JandaConfig.{name} is {getattr(config, name)!r}", f"use {' or '.join(allowed)}"
            )
    for name in ("pixel_crop_px", "lift_size_px"):
        if getattr(config, name) % 32:
            raise ConfigError(
                f"JandaConfig.{name} is {getattr(config, name)}", "give a multiple of 32"
            )


def build_image_network(config: JandaConfig) -> PixelUNet:
    """The image network that `pixel_stage` trains, its encoder from `image_weights` if given.

    Raises:
        CheckpointError: these weights do not fit.
    """
    image = build_pixel_network(config.image_network, config.feature_dim)
    if config.image_weights:
        load_encoder(image, Path(config.image_weights))
    return image


def pixel_stage(config: JandaConfig, *, frozen: tuple[str, ...]) -> Stage:
    """Stage 1, which trains the part "image"; other recipes make their teacher with it.

    Args:
        frozen: the recipe's other parts.
    """
    return Stage(
        name="pixel contrast",
        steps=config.pixel_steps,
        batch_size=config.pixel_batch,
        trainable=("image",),
        frozen=frozen,
        sample=partial(pixel_sample, config),
        collate=pixel_collate,
        loss=partial(pixel_loss, config),
        optimiser=partial(build_optimiser, config.optimiser, config.pixel_lr, config.weight_decay),
        schedule=build_schedule(config.schedule, config.pixel_steps),
        frozen_until=(
            {"image.encoder": config.encoder_frozen_steps} if config.image_weights else {}
        ),
    )


def build_recipe(config: JandaConfig) -> Recipe:
    """Both stages over the parts "image", "backbone" and "head".

    Raises:
        ConfigError: values that do not fit together.
    """
    _check(config)
    given = InputSpec(
        voxel_size_m=config.voxel_size_m,
        max_range_m=config.max_range_m,
        features=config.inputs,
        intensity_scale=config.intensity_scale,
    )
    # a network with a box of its own limits what it is shown
    spec = preset(config.backbone, given).input

    def build() -> Parts:
        image = build_image_network(config)
        backbone = build_backbone(config.backbone, spec)
        head = projection_head(config.head, backbone.out_channels, config.feature_dim)
        return nn.ModuleDict({"image": image, "backbone": backbone, "head": head})

    pixel = pixel_stage(config, frozen=("backbone", "head"))
    optimiser = partial(build_optimiser, config.optimiser)
    lift = Stage(
        name="lift to 3D",
        steps=config.lift_steps,
        batch_size=config.lift_batch,
        trainable=("backbone", "head"),
        frozen=("image",),
        sample=partial(lift_sample, config, spec),
        collate=lift_collate,
        loss=partial(lift_loss, config),
        optimiser=partial(optimiser, config.lift_lr, config.weight_decay),
        schedule=build_schedule(config.schedule, config.lift_steps),
    )
    stages = (pixel, lift)
    return Recipe("janda", asdict(config), build, stages, backbone="backbone")
