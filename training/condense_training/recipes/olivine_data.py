"""What stage 2 of OLIVINE looks at: an augmented cloud, views of all its cameras, and labelled
pairs between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import TrainingError
from condense_ros.frame import IGNORE, Frame
from condense_ros.models import InputSpec
from condense_training.augment import CloudAugmentation, augment_cloud
from condense_training.clouds import cloud_arrays, stack_clouds
from condense_training.pairs import RigPairs, rig_pairs, within_view
from condense_training.recipe import Batch, Sample
from condense_training.recipes.olivine_config import OlivineConfig
from condense_training.segments import SuperpixelStore, crop_segments, pair_segments
from condense_training.views import ViewAugmentation, Views, random_views

#: fewest pairs worth a sample
_MIN_PAIRS = 16
PairLabels = Callable[[Frame, RigPairs], npt.NDArray[np.uint8]]


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
    *,
    superpixels: SuperpixelStore | None = None,
) -> Sample | None:
    """One frame: views of its cameras, the voxels of its cloud, pairs with label and distance.

    Args:
        superpixels: adds the superpixel of each pair and of each pixel of the views.
    """
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
    segments: Sample = {}
    if superpixels is not None:
        segments = _segments(superpixels, frame, pairs.select(views.source[chosen]), views)
    return {
        "views": views.pixels(frame).transpose(0, 3, 1, 2),
        **cloud_arrays(voxels),
        "pair_voxel": rows[chosen],
        "pair_view": views.pairs.image[chosen],
        "pair_uv": views.pairs.uv[chosen],
        "pair_label": labels[views.source[chosen]].astype(np.int64),
        "pair_distance_m": np.hypot(xy[:, 0], xy[:, 1]),
        **segments,
    }


def _segments(store: SuperpixelStore, frame: Frame, pairs: RigPairs, views: Views) -> Sample:
    """Superpixels of pairs, looked up in the image as recorded, and of the pixels of views; both
    counted within their image."""
    maps = {number: store(frame.images[number].pixels) for number in views.images}
    cut = [crop_segments(crop, maps[n]) for n, crop in zip(views.images, views.crops, strict=True)]
    return {"pair_segment": pair_segments(frame, pairs, maps), "view_segments": np.stack(cut)}


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch; `pair_voxel`, `pair_view` and superpixels count through the batch."""
    voxel, view = [], []
    rows = views = 0
    for one in samples:
        voxel.append(one["pair_voxel"] + rows)
        view.append(one["pair_view"] + views)
        rows += len(one["coords"])
        views += len(one["views"])
    numbers = torch.from_numpy(np.concatenate(view))

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([one[name] for one in samples]))

    segments: Batch = {}
    if "view_segments" in samples[0]:
        pixels, pairs = joined("view_segments").long(), joined("pair_segment")
        # numbered through the batch: every view has room for the most that one of them has
        room = max(int(pixels.max()), int(pairs.max())) + 1
        first = torch.arange(len(pixels))[:, None, None] * room
        segments = {"view_segments": pixels + first, "pair_segment": pairs + numbers * room}
    return {
        "views": joined("views"),
        **stack_clouds(samples),
        "pair_voxel": torch.from_numpy(np.concatenate(voxel)),
        "pair_view": numbers,
        "pair_uv": joined("pair_uv").float(),
        "pair_label": joined("pair_label"),
        "pair_distance_m": joined("pair_distance_m"),
        **segments,
    }
