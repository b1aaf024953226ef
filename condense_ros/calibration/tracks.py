"""Corners followed from one image through the next ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from condense_ros.calibration.config import CalibrationConfig
from condense_ros.geometry import Array

Grey = npt.NDArray[np.uint8]
#: a corner followed there and back must return to within this many pixels
RETURN_PX = 0.3
WINDOW = (15, 15)
LEVELS = 4


def grey(pixels: npt.NDArray[np.uint8]) -> Grey:
    """(H, W) uint8 brightness with local contrast evened out, so that exposure does not matter."""
    import cv2

    flat = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean = cv2.GaussianBlur(flat, (0, 0), 12)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(flat * flat, (0, 0), 12) - mean * mean, 0))
    # dark or even regions keep their noise small
    return np.clip(128 + 45 * (flat - mean) / (spread + 6), 0, 255).astype(np.uint8)


class Follower:
    """Follows the corners of one key image, image by image (Lucas-Kanade, there and back).

    Corners are spread over the picture by `spacing_px`. Lucas and Kanade, "An iterative image
    registration technique", IJCAI 1981; Shi and Tomasi, "Good features to track", CVPR 1994.
    """

    def __init__(self, picture: Grey, config: CalibrationConfig) -> None:
        import cv2

        found = cv2.goodFeaturesToTrack(
            picture, config.features, 0.005, config.spacing_px, blockSize=5
        )
        self._last = picture
        corners = np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)
        self._uv = [corners]
        self._alive = [np.ones(len(corners), bool)]

    @property
    def images(self) -> int:
        return len(self._uv)

    def follow(self, picture: Grey) -> None:
        """Finds the corners in the next image."""
        before, alive = self._uv[-1], self._alive[-1].copy()
        after = before.copy()
        rows = np.nonzero(alive)[0]
        if rows.size:
            there, arrived = _flow(self._last, picture, before[rows])
            back, returned = _flow(picture, self._last, there)
            good = arrived & returned
            good &= np.linalg.norm(back - before[rows], axis=1) < RETURN_PX
            height, width = picture.shape
            u, v = there.T
            good &= (u > 7) & (u < width - 8) & (v > 7) & (v < height - 8)
            after[rows] = there
            alive[rows] = good
        self._uv.append(after)
        self._alive.append(alive)
        self._last = picture

    def tracks(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Where the corners went.

        Returns:
            uv: (A, N, 2) pixels: the key image first, then those after it.
            alive: (A, N) still followed in that image.
        """
        return np.array(self._uv, np.float64), np.array(self._alive)


def _flow(
    a: Grey, b: Grey, uv: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    import cv2

    # OpenCV's stubs do not know that the array of first guesses may be None
    flow: Any = cv2.calcOpticalFlowPyrLK
    start = np.ascontiguousarray(uv, np.float32)[:, None]
    there, ok, _ = flow(a, b, start, None, winSize=WINDOW, maxLevel=LEVELS)
    return there[:, 0], ok[:, 0] > 0
