"""`Box3D`: an annotated object as an oriented box in some sensor frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from condense_ros.geometry import Array, check_se3, inverse, transform


@dataclass(frozen=True, eq=False)
class Box3D:
    """An oriented box. Its own frame sits at its centre: x along the length, y left, z up.

    Attributes:
        name: class name as the data set spells it.
        T_frame_box: (4, 4) box frame to the frame it is given in.
        size: (3,) length, width, height in metres.
        points: how many LiDAR points the annotators counted inside, or None.
    """

    name: str
    T_frame_box: Array
    size: Array
    points: int | None = None

    def moved(self, T_target_frame: Array) -> Box3D:
        """The same box in another frame."""
        T = check_se3(T_target_frame, f"frame of box {self.name!r}")
        return replace(self, T_frame_box=T @ self.T_frame_box)

    def contains(self, xyz: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """(N,) bool: which points (N, 3), metres, of the box's frame lie inside or on it."""
        local = transform(inverse(self.T_frame_box), xyz)
        return np.asarray((np.abs(local) <= self.size / 2).all(axis=1))

    def corners(self) -> Array:
        """(8, 3) corners in metres: the lower four counter-clockwise, then the upper four."""
        signs = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
        local = np.array([(x, y, z) for z in (-1, 1) for x, y in signs]) * self.size / 2
        return transform(self.T_frame_box, local)
