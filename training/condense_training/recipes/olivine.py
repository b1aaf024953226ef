"""OLIVINE (Zhang and Hou, "Fine-grained Image-to-LiDAR Contrastive Distillation with Visual
Foundation Models", NeurIPS 2024): pixels teach points, pair by pair and class by class.

Stage 1 makes the teacher from the images themselves (`janda.pixel_stage`). Stage 2 freezes it and
teaches the backbone three things: a point is like its own pixel (InfoNCE), a point is like all
pixels of its class (class contrast, in a space of its own), and a class looks the same in every
batch (a pull towards its von Mises-Fisher distribution, once enough batches have been collected).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_ros.models import Backbone, InputSpec, build_backbone, preset
from condense_training.augment import CloudAugmentation, augment_cloud
from condense_training.clouds import cloud_arrays, stack_clouds, voxels_of
from condense_training.distributed import any_of
from condense_training.heads import PairHeads, projection_head
from condense_training.losses import (
    VmfStatistics,
    class_contrast,
    feature_regression,
    info_nce,
    prototype_distance,
    vmf_nll,
)
from condense_training.optimisers import build_optimiser
from condense_training.pair_labels import (
    PixelLabels,
    open_pixel_labels,
    pixel_labels_of,
    point_labels_of,
)
from condense_training.pairs import RigPairs, rig_pairs, sample_features, within_view
from condense_training.recipe import Batch, Parts, Recipe, Sample, Stage
from condense_training.recipes import janda
from condense_training.recipes.olivine_config import ABLATIONS, PRESETS, OlivineConfig, check
from condense_training.sampling import sample_pairs
from condense_training.schedules import build_schedule
from condense_training.views import ViewAugmentation, random_views

__all__ = ["ABLATIONS", "PRESETS", "OlivineConfig", "build_recipe"]

#: fewest pairs worth a sample
_MIN_PAIRS = 16
PairLabels = Callable[[Frame, RigPairs], npt.NDArray[np.uint8]]


# samples: an augmented cloud, views of all its cameras, and labelled pairs between them


def _view_augmentation(config: OlivineConfig) -> ViewAugmentation:
    return ViewAugmentation(
        out_width_px=config.view_width_px,
        out_height_px=config.view_height_px,
        min_area=config.view_min_area,
        aspects=config.view_aspects,
        flip_probability=config.view_flip_probability,
        cuboid=config.cuboid,
        min_pairs=config.view_min_pairs,
        min_share=config.view_min_share,
    )


def sample(
    config: OlivineConfig,
    spec: InputSpec,
    labels_of: PairLabels | None,
    frame: Frame,
    rng: np.random.Generator,
) -> Sample | None:
    """One frame: views of its cameras, the voxels of its cloud, pairs with label and distance."""
    pairs = rig_pairs(frame, depth_test=config.depth_test, min_depth_m=config.min_depth_m)
    if len(pairs) < _MIN_PAIRS:
        return None
    labels = np.full(len(pairs), IGNORE, np.uint8)
    if labels_of is not None:
        labels = labels_of(frame, pairs)
        known = labels != IGNORE
        if known.any() and labels[known].max() >= config.classes:
            raise TrainingError(
                f"frame {frame.index} of {frame.sequence!r} has label {labels[known].max()} where "
                f"there are {config.classes} classes",
                "set the recipe's parameter classes to the number of classes of the labels",
            )
    views = random_views(frame, pairs, rng, _view_augmentation(config))
    kept = views.kept
    if config.view_margin_deg < 180:
        seen = [within_view(frame.cloud, image, config.view_margin_deg) for image in frame.images]
        kept = kept & np.any(seen, axis=0)
    # turned about the vertical and mirrored, at its own size
    how = CloudAugmentation(scale=(1.0, 1.0), tilt_rad=0.0)
    voxels = spec.voxelize(augment_cloud(frame.cloud.select(kept), rng, how))
    row_of_point = np.full(len(kept), -1)
    row_of_point[kept] = voxels.inverse.numpy()
    rows = row_of_point[views.pairs.point]
    chosen = rows >= 0
    if chosen.sum() < _MIN_PAIRS:
        return None
    xy = frame.cloud.xyz[views.pairs.point[chosen], :2].astype(np.float64)
    return {
        "views": views.pixels(frame).transpose(0, 3, 1, 2),
        **cloud_arrays(voxels),
        "pair_voxel": rows[chosen],
        "pair_view": views.pairs.image[chosen],
        "pair_uv": views.pairs.uv[chosen],
        "pair_label": labels[views.source[chosen]].astype(np.int64),
        "pair_distance_m": np.hypot(xy[:, 0], xy[:, 1]),
    }


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch; `pair_voxel` and `pair_view` count rows and views of the batch."""
    voxel, view = [], []
    rows = views = 0
    for one in samples:
        voxel.append(one["pair_voxel"] + rows)
        view.append(one["pair_view"] + views)
        rows += len(one["coords"])
        views += len(one["views"])

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([one[name] for one in samples]))

    return {
        "views": joined("views"),
        **stack_clouds(samples),
        "pair_voxel": torch.from_numpy(np.concatenate(voxel)),
        "pair_view": torch.from_numpy(np.concatenate(view)),
        "pair_uv": joined("pair_uv").float(),
        "pair_label": joined("pair_label"),
        "pair_distance_m": joined("pair_distance_m"),
    }


# losses


def _classes(config: OlivineConfig) -> int:
    """Classes of the statistics: one more where pairs without a class are one."""
    return config.classes + (not config.ignore_background)


def loss(config: OlivineConfig, parts: Parts, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """`l1 L_pp + l2 L_sup + l3 L_kl` (section 3.3), plus regression where it has a weight.

    The log gets each term, the pairs that count, and `kl_active`: 0 while distributions are
    collected, then 1.
    """
    backbone, heads = cast(Backbone, parts["backbone"]), cast(PairHeads, parts["heads"])
    labels, distance = batch["pair_label"], batch["pair_distance_m"]
    if config.uses_labels and not config.ignore_background:
        labels = torch.where(labels == IGNORE, config.classes, labels)
    with torch.no_grad():
        maps = parts["image"](batch["views"])
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
        return sample_features(maps, batch["pair_view"][rows], batch["pair_uv"][rows])

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


def _supervision(config: OlivineConfig) -> str:
    if not config.uses_labels:
        return "none: self-supervised"
    if config.labels == "folder":
        return f"label images in {config.label_folder}"
    wrong = f", {100 * config.label_noise:g} % of patches wrong" if config.label_noise else ""
    return f"labels of every point{wrong}"


def build_recipe(config: OlivineConfig, pixel_labels: PixelLabels | None = None) -> Recipe:
    """Both stages over the parts "image", "backbone", "heads", "statistics" and, where it has a
    weight, "regression".

    Args:
        pixel_labels: label images of the data (labels=folder), read in this way instead of from
            files; `label_folder` then only says where they come from.

    Raises:
        ConfigError: values that do not fit together.
        DatasetError: the label folder holds none.
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
    given = InputSpec(
        voxel_size_m=config.voxel_size_m,
        max_range_m=config.max_range_m,
        features=config.inputs,
        intensity_scale=config.intensity_scale,
    )
    # a network with a box of its own limits what it is shown
    spec = preset(config.backbone, given).input
    teacher = _teacher_config(config)

    def build() -> Parts:
        backbone = build_backbone(config.backbone, spec)
        parts: dict[str, nn.Module] = {
            "image": janda.build_image_network(teacher),
            "backbone": backbone,
            "heads": PairHeads(
                backbone.out_channels,
                config.teacher_dim,
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
                config.head, backbone.out_channels, config.teacher_dim
            )
        return nn.ModuleDict(parts)

    student = ("backbone", "heads", "statistics") + ("regression",) * bool(config.regression_weight)
    distil = Stage(
        name="distil into 3D",
        steps=config.steps,
        batch_size=config.batch,
        trainable=student,
        frozen=("image",),
        sample=partial(sample, config, spec, labels_of),
        collate=collate,
        loss=partial(loss, config),
        optimiser=partial(build_optimiser, config.optimiser, config.lr, config.weight_decay),
        schedule=build_schedule(config.schedule, config.steps),
    )
    return Recipe(
        "olivine",
        settings,
        build,
        (janda.pixel_stage(teacher, frozen=student), distil),
        backbone="backbone",
        supervision=_supervision(config),
    )
