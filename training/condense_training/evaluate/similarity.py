"""What is alike in the space that pretraining has made: points and pixels of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import ConfigError
from condense_ros.frame import IGNORE, Frame
from condense_training.crops import Crop, whole_image
from condense_training.evaluate.run_folder import Embedding
from condense_training.pairs import rig_pairs, sample_features
from condense_training.threads import cpu_threads

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """Unit features of everything in a frame.

    Attributes:
        points: (N, d) float32, NaN rows for points out of the backbone's range.
        maps: one (h, w, d) float32 per image; empty without a teacher.
        crops: where in its image each map lies.
    """

    points: Floats
    maps: tuple[Floats, ...]
    crops: tuple[Crop, ...]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(N,) bool: points that have a feature."""
        return np.asarray(np.isfinite(self.points).all(axis=1))

    def pixel(self, image: int, uv: npt.ArrayLike) -> Floats:
        """(n, d) unit features at pixels (n, 2) of a whole image."""
        crop = self.crops[image]
        inside = crop.from_original(np.atleast_2d(np.asarray(uv, np.float64)))
        maps = torch.from_numpy(self.maps[image]).permute(2, 0, 1)[None]
        where = torch.from_numpy(inside.astype(np.float32))
        rows = sample_features(maps, torch.zeros(len(inside), dtype=torch.int64), where)
        return np.asarray(torch.nn.functional.normalize(rows, dim=1).numpy())


@torch.no_grad()
def frame_features(embedding: Embedding, frame: Frame, *, short_side_px: int = 0) -> FrameFeatures:
    """Runs the backbone over the cloud and the teacher, where there is one, over every image.

    Args:
        short_side_px: images are resized to; 0: as in training.
    """
    short = short_side_px or embedding.short_side_px
    maps, crops = [], []
    with cpu_threads():
        voxels = embedding.backbone.input.voxelize(frame.cloud)
        rows = embedding.point_rows(embedding.backbone(voxels))
        known = voxels.inverse >= 0
        points = torch.full((len(frame.cloud), rows.shape[1]), torch.nan)
        points[known] = rows[voxels.inverse[known]].float()
        for image in frame.images if embedding.sees_images else ():
            crop = whole_image(image.camera.width, image.camera.height, short)
            pixels = torch.from_numpy(crop.cut(image.pixels).transpose(2, 0, 1).copy())[None]
            maps.append(np.asarray(embedding.pixel_maps(pixels)[0].permute(1, 2, 0).numpy()))
            crops.append(crop)
    return FrameFeatures(np.asarray(points.numpy()), tuple(maps), tuple(crops))


@dataclass(frozen=True, eq=False)
class Query:
    """Something whose like is looked for.

    Attributes:
        name: in words, for titles.
        feature: (d,) unit.
        xyz: (3,) where it is, or None for a pixel.
        pixels: image number -> (2,) where it is seen.
        label: its class, `IGNORE` where unknown.
        row: of the cloud, -1 for a pixel.
    """

    name: str
    feature: Floats
    xyz: npt.NDArray[np.floating] | None
    pixels: dict[int, npt.NDArray[np.floating]]
    label: int = IGNORE
    row: int = -1


def point_query(frame: Frame, features: FrameFeatures, row: int, name: str = "") -> Query:
    """A point of the cloud.

    Raises:
        ConfigError: no such point, or one without a feature.
    """
    if not 0 <= row < len(frame.cloud):
        raise ConfigError(f"there is no point {row}", f"give 0 to {len(frame.cloud) - 1}")
    if not features.known[row]:
        raise ConfigError(
            f"point {row} is out of the backbone's range and has no feature", "give another one"
        )
    pairs = rig_pairs(frame)
    seen = pairs.select(pairs.point == row)
    where = {int(image): uv for image, uv in zip(seen.image, seen.uv, strict=True)}
    label = IGNORE if frame.labels is None else int(frame.labels[row])
    xyz = frame.cloud.xyz[row]
    return Query(name or f"point {row}", features.points[row], xyz, where, label, row)


def pixel_query(frame: Frame, features: FrameFeatures, camera: str, u: float, v: float) -> Query:
    """A pixel of an image.

    Raises:
        ConfigError: no teacher, no such camera, or a place outside its image.
    """
    if not features.maps:
        raise ConfigError(
            "pixels have no features without a teacher", "give the folder of a pretraining run"
        )
    names = [image.name for image in frame.images]
    if camera not in names:
        raise ConfigError(f"there is no camera {camera!r}", f"use one of: {', '.join(names)}")
    number = names.index(camera)
    model = frame.images[number].camera
    if not (0 <= u < model.width and 0 <= v < model.height):
        raise ConfigError(
            f"pixel {u:g},{v:g} is outside the image",
            f"{camera} has {model.width}x{model.height} pixels",
        )
    where = np.array([u, v])
    feature = features.pixel(number, where)[0]
    return Query(f"pixel {u:g},{v:g} of {camera}", feature, None, {number: where})


def class_query(frame: Frame, features: FrameFeatures, label: int, name: str) -> Query:
    """The point of a class that is most like the rest of it; one that a camera sees, if any is.

    Raises:
        ConfigError: no point of the class in range.
    """
    rows = np.zeros(0, np.int64)
    if frame.labels is not None:
        rows = np.nonzero((frame.labels == label) & features.known)[0]
    if not len(rows):
        raise ConfigError(
            f"the frame has no point of class {name!r} in range", "give another class or frame"
        )
    seen = np.intersect1d(rows, rig_pairs(frame).point)
    candidates = seen if len(seen) else rows
    middle = features.points[rows].mean(axis=0)
    best = candidates[int((features.points[candidates] @ middle).argmax())]
    return point_query(frame, features, int(best), name)


def largest_classes(frame: Frame, features: FrameFeatures, count: int) -> list[int]:
    """Label values of the classes with most points in a camera's view, or else in range."""
    if frame.labels is None:
        return []
    counted = features.known.copy()
    seen = rig_pairs(frame).point
    if len(seen):
        counted &= np.isin(np.arange(len(counted)), seen)
    sizes = np.bincount(frame.labels[counted], minlength=256)[:IGNORE]
    return [int(k) for k in np.argsort(-sizes, kind="stable")[:count] if sizes[k]]


@dataclass(frozen=True, eq=False)
class SimilarityMaps:
    """Cosines between a query and everything: (N,) points, NaN where none, and (h, w) pixels."""

    points: Floats
    images: tuple[Floats, ...]


def similarity(features: FrameFeatures, query: Query) -> SimilarityMaps:
    """Cosine similarity of a query's feature to every point and pixel, -1..1."""
    return SimilarityMaps(
        features.points @ query.feature, tuple(each @ query.feature for each in features.maps)
    )


def separation(frame: Frame, maps: SimilarityMaps, query: Query) -> float | None:
    """How well a query finds its own class: the probability that a point of its class is more like
    it than a point of another one (area under the ROC curve; 0.5 is chance). None where the class
    is unknown or alone."""
    if frame.labels is None or query.label == IGNORE:
        return None
    judged = np.isfinite(maps.points) & (frame.labels != IGNORE)
    if query.row >= 0:
        judged[query.row] = False
    same = frame.labels[judged] == query.label
    if same.all() or not same.any():
        return None
    from scipy.stats import rankdata

    ranks = rankdata(maps.points[judged])
    wins = ranks[same].sum() - same.sum() * (same.sum() + 1) / 2
    return float(wins / (same.sum() * (~same).sum()))


def alignment(frame: Frame, features: FrameFeatures, seed: int = 0) -> dict[str, Any]:
    """How well points and pixels agree: mean cosine of points with their own pixel and with the
    pixels of other points, and how often the own one is the more similar of the two.

    Empty without a teacher, or where no camera sees a point.
    """
    if not features.maps:
        return {}
    pairs = rig_pairs(frame)
    pairs = pairs.select(features.known[pairs.point])
    if len(pairs) < 2:
        return {}
    pixels = np.empty((len(pairs), features.points.shape[1]), np.float32)
    for image in np.unique(pairs.image):
        mine = pairs.image == image
        pixels[mine] = features.pixel(int(image), pairs.uv[mine])
    points = features.points[pairs.point]
    own = (points * pixels).sum(axis=1)
    # a turned order pairs every point with another point's pixel, and none with its own
    order = np.random.default_rng(seed).permutation(len(pairs))
    other = np.empty_like(own)
    other[order] = (points[order] * pixels[np.roll(order, 1)]).sum(axis=1)
    return {
        "pairs": len(pairs),
        "cosine_own_pixel": float(own.mean()),
        "cosine_other_pixel": float(other.mean()),
        "own_pixel_wins": float((own > other).mean()),
    }


def pixel_rows(features: FrameFeatures) -> Tensor:
    """All pixels of all images, (n, d)."""
    return torch.cat([torch.from_numpy(each).flatten(0, 1) for each in features.maps])
