"""`SparseTensor`: features at the active voxels of a batch of grids."""

from __future__ import annotations

import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse.maps import MapCache, triple
from condense_ros.sparse.search import Triple


def _same(known: Tensor, coords: Tensor) -> bool:
    if known is coords:
        return True
    return known.device == coords.device and torch.equal(known, coords)


class SparseTensor:
    """Features of active voxels.

    Attributes:
        features: (N, C) floating point.
        coords: (N, 4) int32 (batch, x, y, z) in voxels of this stride, any row order. A voxel of
            stride s covers s voxels of stride 1 per axis.
        stride: size of a voxel in voxels of stride 1, per axis (x, y, z).
        maps: geometry shared by every tensor made from this one.
        batch_size: number of batch elements, empty ones included.

    Args:
        maps: the cache of this geometry; made from `coords` when None.
        batch_size: see `MapCache`; ignored when `maps` is given.
        check_finite: also look for NaN and infinity in the features (one pass over them, and on a
            GPU a synchronisation).

    Raises:
        SparseError: shapes, dtypes or devices that do not fit, duplicate coordinates, coordinates
            beyond the packing range, non-finite features where checked.
    """

    def __init__(
        self,
        features: Tensor,
        coords: Tensor,
        stride: int | tuple[int, ...] = 1,
        maps: MapCache | None = None,
        batch_size: int | None = None,
        check_finite: bool = False,
    ) -> None:
        if features.ndim != 2 or not features.is_floating_point():
            raise SparseError(
                f"features are {features.dtype} {tuple(features.shape)}",
                "give an (N, C) floating-point tensor",
            )
        if len(features) != len(coords):
            raise SparseError(
                f"{len(features)} feature rows for {len(coords)} coordinates",
                "give one row of features per voxel",
            )
        if features.device != coords.device:
            raise SparseError(
                f"features on {features.device}, coordinates on {coords.device}",
                "move both to one device",
            )
        if check_finite and not bool(torch.isfinite(features).all()):
            bad = (~torch.isfinite(features)).any(1)
            raise SparseError(
                f"{int(bad.sum())} of {len(features)} voxels have non-finite features, first row "
                f"{int(bad.nonzero()[0])}",
                "leave out non-finite points, or fill missing channels before voxelising",
            )
        size = triple(stride, "stride")
        if maps is None:
            maps = MapCache(coords, batch_size, size)
        elif not _same(maps.level(size).coords, coords):
            raise SparseError(
                f"{len(coords)} voxels on {coords.device} do not belong to the given maps",
                "pass the maps of the tensor these voxels come from, or none",
            )
        self.features = features
        self.stride: Triple = size
        self.maps = maps

    @classmethod
    def on(cls, features: Tensor, maps: MapCache, stride: int | tuple[int, ...]) -> SparseTensor:
        """Features on the voxels that a geometry has at a stride."""
        return cls(features, maps.level(triple(stride, "stride")).coords, stride, maps)

    @property
    def coords(self) -> Tensor:
        return self.maps.level(self.stride).coords

    @property
    def batch_size(self) -> int:
        return self.maps.batch_size

    @property
    def channels(self) -> int:
        return self.features.shape[1]

    @property
    def device(self) -> torch.device:
        return self.features.device

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return (
            f"SparseTensor({len(self)} voxels, {self.channels} channels, stride {self._strides()}, "
            f"batch {self.batch_size}, {self.features.dtype}, {self.device})"
        )

    def _strides(self) -> str:
        return str(self.stride[0] if len(set(self.stride)) == 1 else self.stride)

    def replace(
        self, features: Tensor, stride: int | tuple[int, ...] | None = None
    ) -> SparseTensor:
        """Other features on the same voxels, or on those of another stride of this geometry."""
        return SparseTensor.on(features, self.maps, self.stride if stride is None else stride)


def cat(*tensors: SparseTensor) -> SparseTensor:
    """Joins channels of tensors on the same voxels.

    Raises:
        SparseError: tensors of different geometry or stride.
    """
    first = tensors[0]
    if any(t.maps is not first.maps or t.stride != first.stride for t in tensors):
        raise SparseError(
            "tensors to join lie on different voxels", "join tensors of one geometry and stride"
        )
    return first.replace(torch.cat([t.features for t in tensors], dim=1))
