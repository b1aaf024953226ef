"""OLIVINE (Zhang and Hou, "Fine-grained Image-to-LiDAR Contrastive Distillation with Visual
Foundation Models", NeurIPS 2024): pixels teach points, pair by pair and class by class.

Stage 1 makes the teacher from the images themselves (`janda.pixel_stage`), unless published weights
are named (`networks.teachers`). Stage 2 freezes it and teaches the backbone three things: a point
is like its own pixel (InfoNCE), a point is like all pixels of its class (class contrast, in a space
of its own), and a class looks the same in every batch (a pull towards its von Mises-Fisher
distribution, once enough batches have been collected). SLidR, PPKT and ScaLR are presets.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from condense_ros.frame import IGNORE
from condense_ros.models import Backbone, build_backbone
from condense_training.batch_norm import set_momentum
from condense_training.clouds import voxels_of
from condense_training.distributed import any_of
from condense_training.heads import PairHeads, projection_head
from condense_training.labels.superpixels import SlicConfig
from condense_training.losses import (
    VmfStatistics,
    class_contrast,
    feature_regression,
    info_nce,
    prototype_distance,
    superpixel_contrast,
    vmf_nll,
)
from condense_training.networks.pixel_unet import PixelUNet
from condense_training.networks.teachers import FoundTeacher, find_teacher
from condense_training.optimisers import build_optimiser
from condense_training.pair_labels import (
    PixelLabels,
    open_pixel_labels,
    pixel_labels_of,
    point_labels_of,
)
from condense_training.pairs import sample_features
from condense_training.recipe import Batch, Parts, Recipe, Stage
from condense_training.recipes import janda
from condense_training.recipes.olivine_config import (
    SELF_TRAINED,
    OlivineConfig,
    check,
    input_spec,
)
from condense_training.recipes.olivine_data import PairLabels, collate, sample
from condense_training.recipes.olivine_presets import ABLATIONS, PRESETS
from condense_training.sampling import sample_pairs
from condense_training.schedules import build_schedule
from condense_training.segments import SuperpixelStore

__all__ = ["ABLATIONS", "PRESETS", "OlivineConfig", "build_recipe", "sample"]


# losses


def _classes(config: OlivineConfig) -> int:
    """Classes of the statistics: one more where pairs without a class are one."""
    return config.classes + (not config.ignore_background)


def loss(config: OlivineConfig, parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """`l1 L_pp + l2 L_sup + l3 L_kl` (section 3.3), plus regression and superpixels where they have
    a weight.

    The log gets each term, the pairs that count, and `kl_active`: 0 while distributions are
    collected, then 1.
    """
    backbone, heads = cast(Backbone, parts["backbone"]), cast(PairHeads, parts["heads"])
    labels, distance = batch["pair_label"], batch["pair_distance_m"]
    if config.uses_labels and not config.ignore_background:
        labels = torch.where(labels == IGNORE, config.classes, labels)
    with torch.no_grad():
        maps = teacher_maps(config, parts, batch["views"])
    height, width = batch["views"].shape[-2:]
    size = (height, width)
    clouds = int(batch["coords"][:, 0].max()) + 1
    voxels = backbone(voxels_of(batch, backbone.input, clouds))

    def draw(strategy: str, ignored: int | None) -> Tensor:
        return sample_pairs(
            strategy,
            config.pairs,
            distance,
            labels,
            resolution_m=config.sampling_resolution_m,
            ignored=ignored,
        )

    def points(rows: Tensor) -> Tensor:
        return voxels[batch["pair_voxel"][rows]]

    def pixels(rows: Tensor) -> Tensor:
        return sample_features(maps, batch["pair_view"][rows], batch["pair_uv"][rows], size)

    total = voxels.sum() * 0.0
    terms = {"pairs": len(labels) / clouds}
    if config.point_weight:
        rows = draw("uniform", None)
        q, k = heads.point_rows("pair", points(rows)), heads.pixel_rows("pair", pixels(rows))
        value = info_nce(q, k, temperature=config.temperature, negatives=config.negatives)
        terms["point_loss"] = float(value.detach())
        total = total + config.point_weight * value
    ignored = IGNORE if config.uses_labels else None
    rows = draw(config.sampling, ignored)
    some = any_of(len(rows) > 0)  # one process without any takes part in what the others share
    if config.class_weight and some:
        value = class_contrast(
            heads.point_rows("class", points(rows)),
            heads.pixel_rows("class", pixels(rows)),
            labels[rows],
            temperature=config.temperature,
            mean_of_positives=config.mean_of_positives,
            negatives=config.negatives,
        )
        terms["class_loss"] = float(value.detach())
        total = total + config.class_weight * value
    if config.regression_weight and some:
        value = feature_regression(
            parts["regression"](points(rows)), pixels(rows), kind=config.regression_kind
        )
        terms["regression_loss"] = float(value.detach())
        total = total + config.regression_weight * value
    if config.superpixel_weight:
        value = superpixel_contrast(
            heads.point_rows("pair", voxels)[batch["pair_voxel"]],
            batch["pair_segment"],
            heads.pixel_maps("pair", maps, size).permute(0, 2, 3, 1).flatten(0, 2),
            batch["view_segments"].flatten(),
            temperature=config.temperature,
            negatives=config.negatives,
        )
        terms["superpixel_loss"] = float(value.detach())
        total = total + config.superpixel_weight * value
    if config.consistency_weight:
        value, more = _consistency(config, parts, voxels, batch["pair_voxel"], labels)
        terms |= more
        total = total + config.consistency_weight * value
    return total, terms


def _consistency(
    config: OlivineConfig, parts: Parts, voxels: Tensor, pair_voxel: Tensor, labels: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The pull towards class distributions over all labelled pairs, zero while they are collected,
    and their update by this batch."""
    statistics = cast(VmfStatistics, parts["statistics"])
    heads = cast(PairHeads, parts["heads"])
    labelled = labels < statistics.classes
    # heads once per voxel: its pairs share the feature
    features = heads.point_rows("class", voxels)[pair_voxel[labelled]]
    labels = labels[labelled]
    active = not statistics.collecting
    if statistics.training:
        statistics.update(features, labels)
    terms = {"labelled": float(len(labels)), "kl_active": float(active)}
    if not active:
        return voxels.sum() * 0.0, terms
    classes = statistics.distributions()
    pull = vmf_nll if config.class_model == "vmf" else prototype_distance
    value = pull(features, labels, classes, reduction=config.class_reduction)
    terms["kl_loss"] = float(value.detach())
    terms["known_classes"] = float(classes.known.sum())
    if bool(classes.known.any()):
        terms["kappa_mean"] = float(classes.kappa[classes.known].mean())
    return value, terms


# the recipe


def teacher_maps(config: OlivineConfig, parts: Parts, views: Tensor) -> Tensor:
    """(B, C, h, w) features of the frozen teacher."""
    image = parts["image"]
    if config.teacher == SELF_TRAINED and config.teacher_features == "trunk":
        return cast(PixelUNet, image).trunk(views)
    return cast(Tensor, image(views))


def _teacher_channels(config: OlivineConfig, image: nn.Module) -> int:
    if config.teacher == SELF_TRAINED and config.teacher_features == "trunk":
        return cast(PixelUNet, image).trunk_channels
    return int(cast(Any, image).out_channels)


def _teacher_config(config: OlivineConfig) -> janda.JandaConfig:
    return janda.JandaConfig(
        feature_dim=config.teacher_dim,
        temperature=config.pixel_temperature,
        optimiser=config.pixel_optimiser,
        weight_decay=config.weight_decay,
        schedule=config.pixel_schedule,
        image_network=config.image_network,
        image_weights=config.image_weights,
        pixel_steps=config.pixel_steps,
        pixel_batch=config.pixel_batch,
        pixel_matches=config.pixel_matches,
        pixel_crop_px=config.pixel_crop_px,
        pixel_min_area=config.pixel_min_area,
        pixel_lr=config.pixel_lr,
        encoder_frozen_steps=config.encoder_frozen_steps,
    )


def _find_teacher(config: OlivineConfig) -> FoundTeacher | None:
    if config.teacher == SELF_TRAINED:
        return None
    return find_teacher(
        config.teacher,
        config.teacher_weights,
        sha256=config.teacher_sha256,
        revision=config.teacher_revision,
        dilated=config.teacher_dilated,
    )


def _supervision(config: OlivineConfig) -> str:
    if not config.uses_labels:
        return "none: self-supervised"
    if config.labels == "folder":
        return f"label images in {config.label_folder}"
    wrong = f", {100 * config.label_noise:g} % of patches wrong" if config.label_noise else ""
    return f"labels of every point{wrong}"


def build_recipe(config: OlivineConfig, pixel_labels: PixelLabels | None = None) -> Recipe:
    """The stages over the parts "image", "backbone", "heads", "statistics" and, where it has a
    weight, "regression". A teacher of published weights needs no stage of its own.

    Args:
        pixel_labels: label images of the data (labels=folder), read in this way instead of from
            files; `label_folder` then only says where they come from.

    Raises:
        ConfigError: values that do not fit together.
        DatasetError: the label folder holds none.
        CheckpointError, EnvironmentProblem: see `find_teacher`.
    """
    check(config)
    settings = asdict(config)
    labels_of: PairLabels | None = None
    if config.labels == "folder":
        source = pixel_labels or open_pixel_labels(Path(config.label_folder))
        settings["label_identity"] = source.identity()
        labels_of = partial(pixel_labels_of, source=source)
    elif config.labels == "truth":
        labels_of = partial(point_labels_of, classes=config.classes, noise=config.label_noise)
    superpixels = None
    if config.superpixel_weight:
        how = config.superpixel_segments, config.superpixel_compactness, config.superpixel_blur_px
        superpixels = SuperpixelStore(SlicConfig(*how))
    spec = input_spec(config)
    teacher = _teacher_config(config)
    found = _find_teacher(config)
    if found is not None:
        settings["teacher_sha256"] = found.sha256

    def build() -> Parts:
        image = found.build() if found is not None else janda.build_image_network(teacher)
        pixel_channels = _teacher_channels(config, image)
        backbone = build_backbone(config.backbone, spec)
        if config.bn_momentum:
            set_momentum(backbone, config.bn_momentum)
        parts: dict[str, nn.Module] = {
            "image": image,
            "backbone": backbone,
            "heads": PairHeads(
                backbone.out_channels,
                pixel_channels,
                config.feature_dim,
                shared=config.heads == "shared",
                kind=config.head,
            ),
            "statistics": VmfStatistics(
                _classes(config),
                config.feature_dim,
                decay=config.vmf_decay,
                collection_steps=config.vmf_collection_steps,
                update_after_collection=config.vmf_update_after_collection,
                bias_correction=config.vmf_bias_correction,
                kappa_max=config.vmf_kappa_max,
                newton_steps=config.vmf_newton_steps,
                min_updates=config.vmf_min_updates,
            ),
        }
        if config.regression_weight:
            parts["regression"] = projection_head(
                config.head, backbone.out_channels, pixel_channels
            )
        return nn.ModuleDict(parts)

    student = ("backbone", "heads", "statistics") + ("regression",) * bool(config.regression_weight)
    distil = Stage(
        name="distil into 3D",
        steps=config.steps,
        batch_size=config.batch,
        trainable=student,
        frozen=("image",),
        sample=partial(sample, config, spec, labels_of, superpixels=superpixels),
        collate=collate,
        loss=partial(loss, config),
        optimiser=partial(build_optimiser, config.optimiser, config.lr, config.weight_decay),
        schedule=build_schedule(config.schedule, config.steps),
    )
    return Recipe(
        "olivine",
        settings,
        build,
        (distil,) if found is not None else (janda.pixel_stage(teacher, frozen=student), distil),
        backbone="backbone",
        supervision=_supervision(config),
    )
