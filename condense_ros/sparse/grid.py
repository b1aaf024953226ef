"""`Grid`: how points in metres become voxel coordinates, Cartesian or cylindrical."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condense_ros.errors import SparseError

COORDINATES = ("cartesian", "cylindrical")


@dataclass(frozen=True)
class Grid:
    """Voxels of one size, one corner of voxel (0, 0, 0) at the origin.

    Attributes:
        sizes: edges along the three axes: metres for Cartesian voxels (x, y, z); metres, degrees
            and metres for cylindrical ones (rho, phi, z).
        coordinates: "cartesian", or "cylindrical" about the z axis: rho = sqrt(x^2 + y^2) and
            phi = atan2(y, x) in [-180, 180) degrees. The seam at 180 degrees stays open: voxels
            on its two sides are no neighbours, as in the published cylindrical MinkUNet (SLidR,
            OLIVINE). Where phi's size does not divide 360, the voxels below the seam are narrower.

    Raises:
        SparseError: sizes that are not positive, or another kind of coordinates.
    """

    sizes: tuple[float, float, float]
    coordinates: str = "cartesian"

    def __post_init__(self) -> None:
        if len(self.sizes) != 3 or not all(math.isfinite(s) and s > 0 for s in self.sizes):
            raise SparseError(
                f"voxel_size_m is {self.sizes}", "give a positive edge in metres, or one per axis"
            )
        if self.coordinates not in COORDINATES:
            raise SparseError(
                f"coordinates are {self.coordinates!r}", f"use one of: {', '.join(COORDINATES)}"
            )

    @classmethod
    def of(cls, size: float | Sequence[float], coordinates: str = "cartesian") -> Grid:
        """A grid of one edge length for all axes, or of three."""
        sizes = (size,) * 3 if isinstance(size, (int, float)) else tuple(size)
        if len(sizes) != 3:
            raise SparseError(f"voxel_size_m is {size!r}", "give one edge, or three")
        return cls((float(sizes[0]), float(sizes[1]), float(sizes[2])), coordinates)

    def locate(self, xyz: Tensor) -> Tensor:
        """(N, 3) float64 coordinates of points in voxels, before rounding down.

        Args:
            xyz: (N, 3) metres.
        """
        # in float64: a rounded float32 quotient puts points near a border into the next voxel
        p = xyz.double()
        if self.coordinates == "cylindrical":
            rho = torch.linalg.vector_norm(p[:, :2], dim=1)
            phi = torch.rad2deg(torch.atan2(p[:, 1], p[:, 0]))
            # atan2 gives +180 where y = +0 and -180 where y = -0
            phi = torch.where(phi >= 180.0, phi - 360.0, phi)
            p = torch.stack([rho, phi, p[:, 2]], dim=1)
        return p / p.new_tensor(self.sizes)

    def centres(self, cells: Tensor) -> Tensor:
        """(M, 3) float32 centres of voxels in metres, frame of the points.

        Args:
            cells: (M, 3) whole voxel coordinates.
        """
        c = (cells.double() + 0.5) * torch.tensor(
            self.sizes, dtype=torch.float64, device=cells.device
        )
        if self.coordinates == "cylindrical":
            phi = torch.deg2rad(c[:, 1])
            c = torch.stack([c[:, 0] * torch.cos(phi), c[:, 0] * torch.sin(phi), c[:, 2]], dim=1)
        return c.float()
