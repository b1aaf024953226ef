"""Image crops that remember where each of their pixels comes from."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Crop:
    """A box of the original image, resized to `out_width` x `out_height`, perhaps mirrored.

    Pixel centres are at integers: pixel x of the crop covers [x - 0.5, x + 0.5).

    Attributes:
        left, top, width, height: the box, whole pixels of the original image.
        out_width, out_height: size of the crop, pixels.
        flip: mirrored left to right.
    """

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int
    flip: bool = False

    def cut(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) original image -> (out_height, out_width, 3) crop."""
        box = pixels[self.top : self.top + self.height, self.left : self.left + self.width]
        if (self.width, self.height) != (self.out_width, self.out_height):
            shrinks = self.out_width < self.width or self.out_height < self.height
            # both share pixel centres with `to_original`; area averaging avoids aliasing
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            box = np.asarray(
                cv2.resize(box, (self.out_width, self.out_height), interpolation=how), np.uint8
            )
        return np.ascontiguousarray(box[:, ::-1] if self.flip else box)

    def to_original(self, uv: Floats) -> Floats:
        """Crop pixels (N, 2) -> original pixels (N, 2)."""
        x = self.out_width - 1 - uv[:, 0] if self.flip else uv[:, 0]
        return np.stack(
            [
                self.left + (x + 0.5) * (self.width / self.out_width) - 0.5,
                self.top + (uv[:, 1] + 0.5) * (self.height / self.out_height) - 0.5,
            ],
            axis=1,
        )

    def from_original(self, uv: Floats) -> Floats:
        """Original pixels (N, 2) -> crop pixels (N, 2), perhaps outside the crop."""
        x = (uv[:, 0] - self.left + 0.5) * (self.out_width / self.width) - 0.5
        y = (uv[:, 1] - self.top + 0.5) * (self.out_height / self.height) - 0.5
        return np.stack([self.out_width - 1 - x if self.flip else x, y], axis=1)

    def coordinates(self) -> Floats:
        """Coordinate image (out_height, out_width, 2): original pixel of each crop pixel."""
        y, x = np.mgrid[0 : self.out_height, 0 : self.out_width]
        flat = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
        return self.to_original(flat).reshape(self.out_height, self.out_width, 2)


def random_resized_crop(
    rng: np.random.Generator,
    width: int,
    height: int,
    out_width: int,
    out_height: int,
    *,
    min_area: float,
    aspects: tuple[float, float],
    flip_probability: float = 0.5,
) -> Crop:
    """Random box of `min_area`..1 of the image's area and width / height within `aspects`, resized
    to the output size and mirrored with `flip_probability`."""
    for _ in range(10):
        area = width * height * rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(np.log(aspects[0]), np.log(aspects[1])))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            break
    else:  # an image of another shape has no such box: its largest one of a fitting aspect
        w = max(1, min(width, round(height * aspects[1])))
        h = max(1, min(height, round(width / aspects[0])))
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    flip = bool(rng.random() < flip_probability)
    return Crop(left, top, w, h, out_width, out_height, flip)


def random_crop(
    rng: np.random.Generator,
    width: int,
    height: int,
    size_px: int,
    *,
    min_area: float = 0.2,
    flip_probability: float = 0.5,
) -> Crop:
    """Random resized crop: `min_area`..1 of the image's area, aspect 3/4..4/3, made square."""
    return random_resized_crop(
        rng,
        width,
        height,
        size_px,
        size_px,
        min_area=min_area,
        aspects=(3 / 4, 4 / 3),
        flip_probability=flip_probability,
    )


def centre_crop(width: int, height: int, size_px: int) -> Crop:
    """Short side resized to 8/7 of `size_px` (256 for 224), central square of `size_px` cut."""
    side = max(1, round(min(width, height) * 7 / 8))
    return Crop((width - side) // 2, (height - side) // 2, side, side, size_px, size_px)


def whole_image(width: int, height: int, short_side_px: int, multiple: int = 32) -> Crop:
    """The whole image resized to about `short_side_px`, both sides multiples of `multiple`."""
    scale = short_side_px / min(width, height)
    out_width, out_height = (
        max(multiple, round(side * scale / multiple) * multiple) for side in (width, height)
    )
    return Crop(0, 0, width, height, out_width, out_height)


def match_crops(
    first: Crop,
    second: Crop,
    rng: np.random.Generator,
    *,
    max_matches: int,
    max_distance_px: float = 1.5,
) -> npt.NDArray[np.int64]:
    """Pixels of two crops that show the same pixel of the original image.

    Crops are affine, so the nearest pixel of `second` follows from arithmetic; a search tree over
    the coordinate image finds the same one.

    Returns:
        (n, 2) flat (row-major) pixel indices, n <= max_matches, in random order; n = 0 where the
        crops do not overlap.
    """
    coordinates = first.coordinates().reshape(-1, 2)
    there = second.from_original(coordinates)
    size = np.array([second.out_width, second.out_height])
    nearest = np.clip(np.rint(there), 0, size - 1)
    distance = np.linalg.norm(second.to_original(nearest) - coordinates, axis=1)
    rows = np.nonzero(distance <= max_distance_px)[0]
    rows = rng.permutation(rows)[:max_matches]
    x, y = nearest[rows].astype(np.int64).T
    return np.stack([rows, y * second.out_width + x], axis=1)
