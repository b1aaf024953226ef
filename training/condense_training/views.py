"""Random views of a frame: cloud, images and the pairs between them change together.

The cloud loses a box of points, every image is cropped, resized and perhaps mirrored, cameras
change places. Pairs follow: a pair's point and the place its pixel shows stay the same, so whatever
is known of a pair (its class, its distance) stays true. Rotating and mirroring the cloud
(`augment_cloud`) keeps rows, and needs nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from condense_ros.frame import Frame
from condense_training.crops import Crop, random_resized_crop
from condense_training.pairs import RigPairs

Mask = npt.NDArray[np.bool_]
#: crops drawn for an image before it is taken whole
_ATTEMPTS = 10


@dataclass(frozen=True)
class ViewAugmentation:
    """How views are drawn; the defaults are those of SLidR and OLIVINE.

    Attributes:
        out_width_px, out_height_px: size of all views.
        min_area: smallest crop, share of the image.
        aspects: smallest and largest width / height of a crop.
        flip_probability: of mirroring an image left to right.
        cuboid: largest side of the box of points that is lost, share of the cloud's extent.
        min_pairs, min_share: a crop or a lost box is taken if an image keeps more than so many
            pairs, or more than this share of them.
        shuffle: cameras in random order.
    """

    out_width_px: int = 416
    out_height_px: int = 224
    min_area: float = 0.3
    aspects: tuple[float, float] = (14 / 9, 17 / 9)
    flip_probability: float = 0.5
    cuboid: float = 0.2
    min_pairs: int = 1024
    min_share: float = 0.75
    shuffle: bool = True


@dataclass(frozen=True, eq=False)
class Views:
    """What a network gets to see of a frame.

    Attributes:
        kept: (N,) bool: points of the cloud that are left.
        images: (V,) numbers of the frame's images, in the order of the views.
        crops: of these images.
        pairs: `image` counts views, `uv` are pixels of the view, `point` rows of the whole cloud.
        source: (M,) int64 rows of the pairs as given.
    """

    kept: Mask
    images: tuple[int, ...]
    crops: tuple[Crop, ...]
    pairs: RigPairs
    source: npt.NDArray[np.int64]

    def pixels(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """(V, out_height, out_width, 3) uint8 RGB."""
        views = zip(self.images, self.crops, strict=True)
        return np.stack([crop.cut(frame.images[number].pixels) for number, crop in views])


def random_views(
    frame: Frame, pairs: RigPairs, rng: np.random.Generator, how: ViewAugmentation | None = None
) -> Views:
    """Draws views of a frame; images without a pair are left out.

    Args:
        pairs: in pixels of whole images, as `rig_pairs` finds them.
    """
    how = how or ViewAugmentation()
    kept = _without_cuboid(frame, pairs, rng, how)
    rows = np.nonzero(kept[pairs.point])[0]
    numbers = np.unique(pairs.image[rows])
    order = rng.permutation(numbers) if how.shuffle else numbers
    crops = []
    for number in order.tolist():
        camera = frame.images[number].camera
        uv = pairs.uv[rows[pairs.image[rows] == number]]
        crops.append(_fitting_crop(camera.width, camera.height, uv, rng, how))
    return _views(kept, pairs, rows, order, crops)


def whole_views(frame: Frame, pairs: RigPairs, how: ViewAugmentation | None = None) -> Views:
    """The views of validation: whole cloud, whole images resized, cameras in order."""
    how = how or ViewAugmentation()
    order = np.unique(pairs.image)
    crops = [
        _whole(frame.images[n].camera.width, frame.images[n].camera.height, how) for n in order
    ]
    everything = np.ones(len(frame.cloud), bool)
    return _views(everything, pairs, np.arange(len(pairs)), order, crops)


def _views(
    kept: Mask,
    pairs: RigPairs,
    rows: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    crops: list[Crop],
) -> Views:
    points, views, uvs, source = [], [], [], []
    for view, (number, crop) in enumerate(zip(order.tolist(), crops, strict=True)):
        mine = rows[pairs.image[rows] == number]
        uv = crop.from_original(pairs.uv[mine])
        inside = _inside(uv, crop)
        points.append(pairs.point[mine[inside]])
        views.append(np.full(int(inside.sum()), view))
        uvs.append(uv[inside])
        source.append(mine[inside])
    empty = np.zeros(0, np.int64)
    moved = RigPairs(
        np.concatenate([empty, *points]),
        np.concatenate([empty, *views]),
        np.concatenate([np.zeros((0, 2)), *uvs]),
    )
    numbers = tuple(int(number) for number in order)
    return Views(kept, numbers, tuple(crops), moved, np.concatenate([empty, *source]))


def _inside(uv: npt.NDArray[np.float64], crop: Crop) -> Mask:
    size = np.array([crop.out_width, crop.out_height])
    return np.asarray(((uv >= 0) & (uv <= size - 1)).all(axis=1))


def _enough(left: int, before: int, how: ViewAugmentation) -> bool:
    return left > how.min_pairs or left > how.min_share * before


def _without_cuboid(
    frame: Frame, pairs: RigPairs, rng: np.random.Generator, how: ViewAugmentation
) -> Mask:
    """(N,) bool: points outside a random box, unless an image would lose too many pairs."""
    kept = np.ones(len(frame.cloud), bool)
    finite = np.nonzero(frame.cloud.finite())[0]
    if how.cuboid == 0 or not len(finite):
        return kept
    xyz = frame.cloud.xyz
    centre = xyz[finite[int(rng.integers(len(finite)))]]
    side = rng.uniform(0, how.cuboid) * np.ptp(xyz[finite], axis=0)
    with np.errstate(invalid="ignore"):  # NaN rows compare false and stay
        kept = ~(np.abs(xyz - centre) <= side / 2).all(axis=1)
    before = pairs.counts(len(frame.images))
    left = pairs.select(kept[pairs.point]).counts(len(frame.images))
    accepted = all(_enough(*n, how) for n in zip(left, before, strict=True) if n[1])
    return kept if accepted else np.ones(len(frame.cloud), bool)


def _whole(width: int, height: int, how: ViewAugmentation) -> Crop:
    return Crop(0, 0, width, height, how.out_width_px, how.out_height_px)


def _fitting_crop(
    width: int,
    height: int,
    uv: npt.NDArray[np.float64],
    rng: np.random.Generator,
    how: ViewAugmentation,
) -> Crop:
    """A random crop that keeps enough of the pairs at `uv`, or the whole image."""
    for _ in range(_ATTEMPTS):
        crop = random_resized_crop(
            rng,
            width,
            height,
            how.out_width_px,
            how.out_height_px,
            min_area=how.min_area,
            aspects=how.aspects,
            flip_probability=how.flip_probability,
        )
        if _enough(int(_inside(crop.from_original(uv), crop).sum()), len(uv), how):
            return crop
    flip = bool(rng.random() < how.flip_probability)
    return replace(_whole(width, height, how), flip=flip)
