"""`Voxels`: what points become, with the way back to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse.grid import Grid
from condense_ros.sparse.tensor import SparseTensor


@dataclass(frozen=True)
class Overflow:
    """What did not fit into the limits given to `voxelize`.

    Attributes:
        points: points of kept voxels beyond `max_points`; no part of the features, but their
            `inverse` names their voxel.
        voxels: voxels left out, beyond `max_voxels`.
        voxel_points: points of those voxels; their `inverse` is -1.
    """

    points: int = 0
    voxels: int = 0
    voxel_points: int = 0

    def __add__(self, other: Overflow) -> Overflow:
        return Overflow(
            self.points + other.points,
            self.voxels + other.voxels,
            self.voxel_points + other.voxel_points,
        )


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels of one cloud or, after `collate`, of several.

    Attributes:
        coords: (M, 4) int32 (batch, then x, y, z or rho, phi, z), sorted; a voxel covers
            [c, c + 1) * grid.sizes.
        features: (M, F) float32.
        inverse: (N,) int64, the row of each point's voxel; -1 for points left out. Points of all
            clouds in their order.
        point_counts: points of each cloud, so N = sum(point_counts).
        grid: size and kind of the voxels.
        positions: (M, 3) float32 metres, where a voxel's points lie: their mean, or the first of
            them, as for the features.
        overflow: what the limits left out, all clouds together.
    """

    coords: Tensor
    features: Tensor
    inverse: Tensor
    point_counts: tuple[int, ...]
    grid: Grid
    positions: Tensor
    overflow: Overflow = field(default_factory=Overflow)

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def batch_size(self) -> int:
        return len(self.point_counts)

    @property
    def voxel_size_m(self) -> float:
        """Edge of a voxel along the first axis (x or rho), metres."""
        return self.grid.sizes[0]

    def to(self, device: torch.device | str) -> Voxels:
        """The same voxels on another device."""
        return replace(
            self,
            coords=self.coords.to(device),
            features=self.features.to(device),
            inverse=self.inverse.to(device),
            positions=self.positions.to(device),
        )

    def sparse_tensor(self) -> SparseTensor:
        """A sparse tensor of these voxels, with a new geometry cache."""
        return SparseTensor(self.features, self.coords, batch_size=self.batch_size)

    def scatter_points(self, kept: npt.NDArray[np.bool_]) -> Voxels:
        """These voxels of the points where `kept`, seen from all points: inverse -1 elsewhere."""
        inverse = self.inverse.new_full((len(kept),), -1)
        inverse[torch.from_numpy(kept).to(inverse.device)] = self.inverse
        return replace(self, inverse=inverse, point_counts=(len(kept),))

    def centres(self) -> Tensor:
        """(M, 3) float32 voxel centres in metres, frame of the points."""
        return self.grid.centres(self.coords[:, 1:])

    def to_points(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Spreads values (M, ...) of voxels over the points: (N, ...), `fill` where left out.

        Gradients flow through.

        Raises:
            SparseError: another number of rows than voxels.
        """
        if len(values) != len(self):
            raise SparseError(
                f"{len(values)} rows for {len(self)} voxels", "give one row per voxel"
            )
        kept = self.inverse >= 0
        if len(self) and bool(kept.all()):
            return values[self.inverse]
        out = values.new_full((len(self.inverse), *values.shape[1:]), fill)
        if len(self):
            out[kept] = values[self.inverse[kept]]
        return out


def collate(clouds: Sequence[Voxels]) -> Voxels:
    """Joins the voxels of several clouds into one batch, in order; empty clouds keep their place.

    Raises:
        SparseError: no clouds, or clouds of different voxel size or feature width.
    """
    if not clouds:
        raise SparseError("no clouds to collate", "give at least one")
    if len({(c.grid, c.features.shape[1]) for c in clouds}) != 1:
        raise SparseError(
            "clouds of different voxel size or features", "voxelize all with one InputSpec"
        )
    coords, inverses = [], []
    counts: list[int] = []
    overflow = Overflow()
    rows = batch = 0
    for cloud in clouds:
        shifted = cloud.coords.clone()
        shifted[:, 0] += batch
        coords.append(shifted)
        inverses.append(torch.where(cloud.inverse >= 0, cloud.inverse + rows, cloud.inverse))
        counts.extend(cloud.point_counts)
        overflow += cloud.overflow
        rows += len(cloud)
        batch += cloud.batch_size
    return Voxels(
        torch.cat(coords),
        torch.cat([cloud.features for cloud in clouds]),
        torch.cat(inverses),
        tuple(counts),
        clouds[0].grid,
        torch.cat([cloud.positions for cloud in clouds]),
        overflow,
    )
