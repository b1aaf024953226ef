"""Points to voxels and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import keys as _keys
from condense_ros.sparse.tensor import SparseTensor


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels of one cloud or, after `collate`, of several.

    Attributes:
        coords: (M, 4) int32 (batch, x, y, z), sorted; a voxel covers [c, c + 1) * voxel_size_m.
        features: (M, F) float32.
        inverse: (N,) int64, the row of each point's voxel; -1 for points left out. Points of all
            clouds in their order.
        point_counts: points of each cloud, so N = sum(point_counts).
        voxel_size_m: edge of a voxel in metres.
    """

    coords: Tensor
    features: Tensor
    inverse: Tensor
    point_counts: tuple[int, ...]
    voxel_size_m: float

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def batch_size(self) -> int:
        return len(self.point_counts)

    def to(self, device: torch.device | str) -> Voxels:
        """The same voxels on another device."""
        return replace(
            self,
            coords=self.coords.to(device),
            features=self.features.to(device),
            inverse=self.inverse.to(device),
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
        return (self.coords[:, 1:].float() + 0.5) * self.voxel_size_m

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


def voxelize(
    xyz: npt.NDArray[np.floating] | Tensor,
    features: npt.NDArray[np.floating] | Tensor,
    voxel_size_m: float,
    reduce: str = "mean",
) -> Voxels:
    """Merges the points of each voxel.

    Args:
        xyz: (N, 3) metres, NumPy or torch; results lie on its device.
        features: (N, F).
        voxel_size_m: edge length; voxel c holds the points with floor(xyz / voxel_size_m) = c.
        reduce: "mean" of the features of a voxel's points, or those of its "first" point.

    Raises:
        SparseError: shapes that do not fit, a voxel size that is not positive, an unknown
            reduction, non-finite coordinates, or coordinates beyond the packing range.
    """
    points = torch.from_numpy(np.ascontiguousarray(xyz)) if isinstance(xyz, np.ndarray) else xyz
    values = (
        torch.from_numpy(np.ascontiguousarray(features))
        if isinstance(features, np.ndarray)
        else features
    ).float()
    if points.ndim != 2 or points.shape[1] != 3 or not points.is_floating_point():
        raise SparseError(
            f"points are {points.dtype} {tuple(points.shape)}", "give (N, 3) metres as floats"
        )
    if values.ndim != 2 or len(values) != len(points) or values.device != points.device:
        raise SparseError(
            f"features are {tuple(values.shape)} on {values.device} for {len(points)} points on "
            f"{points.device}",
            "give one row of features per point, on the same device",
        )
    if not (np.isfinite(voxel_size_m) and voxel_size_m > 0):
        raise SparseError(f"voxel_size_m is {voxel_size_m}", "give a positive edge in metres")
    if reduce not in ("mean", "first"):
        raise SparseError(f"reduce is {reduce!r}", 'use "mean" or "first"')
    # in float64: a rounded float32 quotient puts points near a border into the next voxel
    cells = torch.floor(points.double() / voxel_size_m)
    if len(cells):
        extreme = float(cells.abs().max())
        if not extreme <= _keys.COORDINATE_LIMIT:
            raise SparseError(
                f"points are non-finite or up to {extreme * voxel_size_m:.4g} m away",
                f"leave out non-finite points and those beyond "
                f"{_keys.COORDINATE_LIMIT * voxel_size_m:.4g} m",
            )
    coords = torch.zeros(len(points), 4, dtype=torch.int64, device=points.device)
    coords[:, 1:] = cells.long()
    point_keys = _keys.pack(coords)
    order = _keys.argsort(point_keys)
    ordered = point_keys[order]
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    inverse = torch.empty_like(order)
    inverse[order] = new.cumsum(0) - 1
    starts = new.nonzero().squeeze(1)
    n_voxels = len(starts)
    if reduce == "mean":
        total = torch.zeros(n_voxels, values.shape[1], dtype=torch.float64, device=values.device)
        total.index_add_(0, inverse, values.double())
        counts = torch.diff(starts, append=starts.new_tensor([len(points)]))
        merged = (total / counts[:, None]).float()
    else:
        rows = torch.arange(len(points), device=points.device)
        first = rows.new_full((n_voxels,), len(points)).scatter_reduce(0, inverse, rows, "amin")
        merged = values[first]
    return Voxels(
        _keys.unpack(ordered[starts]), merged, inverse, (len(points),), float(voxel_size_m)
    )


def collate(clouds: Sequence[Voxels]) -> Voxels:
    """Joins the voxels of several clouds into one batch, in order; empty clouds keep their place.

    Raises:
        SparseError: no clouds, or clouds of different voxel size or feature width.
    """
    if not clouds:
        raise SparseError("no clouds to collate", "give at least one")
    if len({(c.voxel_size_m, c.features.shape[1]) for c in clouds}) != 1:
        raise SparseError(
            "clouds of different voxel size or features", "voxelize all with one InputSpec"
        )
    coords, inverses = [], []
    counts: list[int] = []
    rows = batch = 0
    for cloud in clouds:
        shifted = cloud.coords.clone()
        shifted[:, 0] += batch
        coords.append(shifted)
        inverses.append(torch.where(cloud.inverse >= 0, cloud.inverse + rows, cloud.inverse))
        counts.extend(cloud.point_counts)
        rows += len(cloud)
        batch += cloud.batch_size
    features = torch.cat([cloud.features for cloud in clouds])
    return Voxels(
        torch.cat(coords), features, torch.cat(inverses), tuple(counts), clouds[0].voxel_size_m
    )
