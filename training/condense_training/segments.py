"""Superpixels of images, kept on disk by what they are made from."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from condense_ros.errors import CondenseError
from condense_ros.files import write_atomically
from condense_ros.frame import Frame
from condense_training.crops import Crop
from condense_training.labels.images import pixel_hash
from condense_training.labels.superpixels import SlicConfig, superpixels
from condense_training.pairs import RigPairs

log = logging.getLogger(__name__)

Segments = npt.NDArray[np.int64]
#: changes when `superpixels` gives other results
_VERSION = 1
#: files hold 16 bits
_MOST = 65535


class SuperpixelStore:
    """Superpixels of an image by its pixels, computed once.

    Files lie under $XDG_CACHE_HOME (or ~/.cache)/condense_ros/superpixels, where nothing is lost if
    they are removed. A damaged file is made again. Without a place to write, superpixels are
    computed every time, and the log says so once.

    Args:
        config: how images are cut.
        folder: another place for the files.
    """

    def __init__(self, config: SlicConfig, folder: Path | None = None) -> None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        how = "-".join(f"{value:g}" for value in asdict(config).values())
        folder = folder or base / "condense_ros" / "superpixels"
        self.config, self.folder = config, folder / f"slic{_VERSION}-{how}"
        self._writable = True

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """(H, W) int32 superpixel of every pixel, 0 .. n - 1.

        Args:
            pixels: (H, W, 3) uint8 RGB.
        """
        name = pixel_hash(pixels)
        path = self.folder / name[:2] / f"{name}.png"
        kept = self._read(path)
        if kept is not None and kept.shape == pixels.shape[:2]:
            return kept
        found = superpixels(pixels, self.config)
        if self._writable and found.max(initial=0) <= _MOST:
            self._write(path, found)
        return found

    @staticmethod
    def _read(path: Path) -> npt.NDArray[np.int32] | None:
        if not path.is_file():
            return None
        try:
            with Image.open(path) as picture:  # unlike OpenCV it notices what is missing
                values = np.asarray(picture)
        except (OSError, SyntaxError, ValueError) as error:
            log.warning("%s is damaged (%s); its superpixels are made again", path, error)
            return None
        return values.astype(np.int32)

    def _write(self, path: Path, found: npt.NDArray[np.int32]) -> None:
        encoded = cv2.imencode(".png", found.astype(np.uint16))[1].tobytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, encoded)
        except (CondenseError, OSError) as error:
            self._writable = False
            log.warning("superpixels are computed every time, for they cannot be kept: %s", error)


def pair_segments(
    frame: Frame, pairs: RigPairs, maps: Mapping[int, npt.NDArray[np.int32]]
) -> Segments:
    """(M,) superpixel of the pixel nearest to each pair's projection.

    Args:
        pairs: in pixels of whole images.
        maps: superpixels of every image that pairs name, by its number.
    """
    found = np.zeros(len(pairs), np.int64)
    for number in np.unique(pairs.image).tolist():
        mine = pairs.image == number
        column, row = np.rint(pairs.uv[mine]).astype(np.int64).T
        found[mine] = maps[number][row, column]
    return found


def crop_segments(crop: Crop, superpixel_map: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """(out_height, out_width) superpixel of every pixel of a crop: that of the original pixel
    nearest to it."""
    height, width = superpixel_map.shape
    place = np.rint(crop.coordinates()).astype(np.int64)
    column, row = place[..., 0].clip(0, width - 1), place[..., 1].clip(0, height - 1)
    return superpixel_map[row, column]
