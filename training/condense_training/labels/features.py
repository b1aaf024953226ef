"""Features of superpixels: what a self-trained image network sees in them, or hand-made ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from condense_training.crops import whole_image
from condense_training.networks.pixel_unet import PixelUNet

Pixels = npt.NDArray[np.uint8]
Pieces = npt.NDArray[np.int32]
Rows = npt.NDArray[np.float64]


class PieceFeatures(Protocol):
    """(H, W, 3) image and (H, W) pieces 0 .. n-1 -> (n, F) float64 rows.

    `identity` holds what the rows depend on, as JSON values.
    """

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def __call__(self, pixels: Pixels, pieces: Pieces) -> Rows: ...


def mean_of_pieces(values: npt.NDArray[Any], pieces: Pieces) -> Rows:
    """(n,) mean of (H, W) values over each piece."""
    flat = pieces.ravel()
    sums = np.bincount(flat, weights=values.ravel().astype(np.float64))
    return np.asarray(sums / np.maximum(np.bincount(flat), 1))


class HandmadeFeatures:
    """Colour, texture and place; no learning.

    Twelve numbers per piece: mean and standard deviation of L, a and b; the logarithm of the mean
    gradient of L at two scales (blur of 1 and 4 pixels); direction of the gradients as
    (cos, sin) of twice the angle, weighted by strength; height of the centre in the image (0 top,
    1 bottom); logarithm of the area's share.
    """

    identity: Mapping[str, Any] = {"kind": "handmade", "version": 1}

    def __call__(self, pixels: Pixels, pieces: Pieces) -> Rows:
        lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        columns = []
        for channel in range(3):
            mean = mean_of_pieces(lab[..., channel], pieces)
            square = mean_of_pieces(lab[..., channel].astype(np.float64) ** 2, pieces)
            columns += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
        for blur in (1.0, 4.0):
            smooth = cv2.GaussianBlur(lab[..., 0], (0, 0), blur)
            dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
            dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
            strength = np.hypot(dx, dy)
            columns.append(np.log1p(mean_of_pieces(strength, pieces)))
            if blur == 1.0:
                # the double angle of (dx, dy): opposite gradients are one direction
                total = mean_of_pieces(strength**2, pieces) + 1e-6
                columns.append(mean_of_pieces(dx**2 - dy**2, pieces) / total)
                columns.append(mean_of_pieces(2 * dx * dy, pieces) / total)
        height = pieces.shape[0]
        rows = np.broadcast_to(np.arange(height)[:, None] / max(height - 1, 1), pieces.shape)
        columns.append(mean_of_pieces(rows, pieces))
        columns.append(np.log(np.bincount(pieces.ravel()) / pieces.size))
        return np.stack(columns, axis=1)


class NetworkFeatures:
    """Mean direction of a pixel network's features over each piece.

    Args:
        network: stage 1 of recipe janda, trained.
        source: where its weights come from, JSON values.
        size_px: short side to which images are resized for the network.
    """

    def __init__(
        self, network: PixelUNet, source: Mapping[str, Any], size_px: int, device: str
    ) -> None:
        self.identity: Mapping[str, Any] = {"kind": "network", "size_px": size_px, **source}
        self._network = network.to(device).eval()
        self._size_px, self._device = size_px, device

    @torch.inference_mode()
    def __call__(self, pixels: Pixels, pieces: Pieces) -> Rows:
        height, width = pixels.shape[:2]
        small = whole_image(width, height, self._size_px).cut(pixels)
        image = torch.from_numpy(small).permute(2, 0, 1)[None].to(self._device)
        maps = functional.normalize(self._network(image), dim=1)[0].cpu().numpy()
        columns = [
            mean_of_pieces(cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR), pieces)
            for one in maps
        ]
        rows = np.stack(columns, axis=1)
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
