"""Features of a sparse tensor at any points: trilinear or nearest, with gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import keys as _keys
from condense_ros.sparse import search
from condense_ros.sparse.tensor import SparseTensor

MODES = ("trilinear", "nearest")


@dataclass(frozen=True, eq=False)
class Sampler:
    """Which rows of a tensor's features make the value at each point, and with what weights.

    Made once for points and voxels by `Sampler.at`; it may be applied to any features on these
    voxels. Where points ask for a gradient, weights hold the graph that leads back to them, so a
    second backward pass through one sampler needs `retain_graph=True`.

    Attributes:
        rows: (Q,) int64 rows of active corners, all of one point together.
        weights: (Q,) weight of each.
        starts: (P,) int64 where the corners of a point begin.
        coverage: (P,) part of the interpolation weight that lies on active corners, 0 to 1, before
            any normalisation; 0 where a point has none and its value is zero.
        n_rows: rows of the features it applies to.
    """

    rows: Tensor
    weights: Tensor
    starts: Tensor
    coverage: Tensor
    n_rows: int

    @classmethod
    def at(
        cls, x: SparseTensor, points: Tensor, mode: str = "trilinear", normalise: bool = False
    ) -> Sampler:
        """The sampler of points among the voxels of a tensor.

        Args:
            x: its voxels count, not its features.
            points: (P, 4) floating point: batch element, then x, y, z in voxels of stride 1 (metres
                divided by the voxel size, `Grid.locate`). Voxel c of stride s has its centre at
                s * (c + 0.5).
            mode: "trilinear" between the eight centres around a point, of which those that are no
                active voxels count as zeros; "nearest": the voxel that holds the point, zero where
                it is not active.
            normalise: divide by the weight that lies on active corners: a weighted mean of what is
                there, instead of a value that fades out beside the surface.

        Raises:
            SparseError: points of another shape or device, non-finite ones, batch elements the
                tensor does not have, or an unknown mode.
        """
        if mode not in MODES:
            raise SparseError(f"mode is {mode!r}", f"use one of: {', '.join(MODES)}")
        _check(x, points)
        size = points.new_tensor(x.stride)
        place = points[:, 1:] / size
        if mode == "trilinear":
            place = place - 0.5
        corner = torch.floor(place).detach()
        rows = _corner_rows(x, points[:, 0], corner, 2 if mode == "trilinear" else 1)
        if mode == "trilinear":
            upper = place - corner
            wx, wy, wz = torch.stack([1 - upper, upper], dim=1).unbind(2)
            weights = wx[:, :, None, None] * wy[:, None, :, None] * wz[:, None, None, :]
            weights = weights.flatten(1)
        else:
            weights = points.new_ones(len(points), 1)
        active = rows >= 0
        coverage = torch.where(active, weights, 0.0).sum(1)
        if normalise:
            weights = weights / torch.where(coverage > 0, coverage, 1.0)[:, None]
        count = active.sum(1)
        return cls(rows[active], weights[active], count.cumsum(0) - count, coverage, len(x))

    def __call__(self, features: Tensor) -> Tensor:
        """(P, C) values at the points, of the features' dtype.

        Args:
            features: (N, C) on the voxels the sampler was made for.

        Raises:
            SparseError: another number of rows.
        """
        if features.ndim != 2 or len(features) != self.n_rows:
            raise SparseError(
                f"features {tuple(features.shape)} for a sampler of {self.n_rows} voxels",
                "sample features of the voxels the sampler was made for",
            )
        if not len(self.rows):
            # still part of the graph, so that a backward pass finds its way
            return features.new_zeros(len(self.starts), features.shape[1]) + features[:0].sum(0)
        # sums of half precision are kept in float32
        dtype = features.dtype if features.dtype == torch.float64 else torch.float32
        with torch.autocast(features.device.type, enabled=False):
            out = F.embedding_bag(
                self.rows,
                features.to(dtype),
                self.starts,
                mode="sum",
                per_sample_weights=self.weights.to(dtype),
            )
        return out.to(features.dtype)


def sample(
    x: SparseTensor, points: Tensor, mode: str = "trilinear", normalise: bool = False
) -> Tensor:
    """(P, C) features of a sparse tensor at points; see `Sampler.at`, which to keep for reuse."""
    return Sampler.at(x, points, mode, normalise)(x.features)


def _check(x: SparseTensor, points: Tensor) -> None:
    if points.ndim != 2 or points.shape[1] != 4 or not points.is_floating_point():
        raise SparseError(
            f"points are {points.dtype} {tuple(points.shape)}",
            "give (P, 4) floats: batch element, then x, y, z in voxels",
        )
    if points.device != x.device:
        raise SparseError(f"points on {points.device}, voxels on {x.device}", "move the one")
    if not bool(torch.isfinite(points).all()):
        raise SparseError("points are non-finite", "leave out non-finite points")
    batch = points[:, 0]
    if bool(((batch < 0) | (batch >= x.batch_size) | (batch != batch.floor())).any()):
        raise SparseError(
            f"points of batch elements outside 0..{x.batch_size - 1}, or between two",
            "number batch elements in the first column, as in the coordinates",
        )


def _corner_rows(x: SparseTensor, batch: Tensor, corner: Tensor, width: int) -> Tensor:
    """(P, width^3) int64 rows of the voxels from `corner` on, x slowest; -1 where inactive."""
    # coordinates beyond the packing range hold no voxel, and their keys would be those of others
    inside = (corner.abs() <= _keys.COORDINATE_LIMIT + 1).all(1)
    coords = torch.cat([batch[:, None], torch.where(inside[:, None], corner, 0)], dim=1).long()
    level = x.maps.level(x.stride)
    shifts = search.key_shifts((0, 0, 0), (width,) * 3, (1, 1, 1))
    place = search.lookup_table(level.keys, _keys.pack(coords.detach()), shifts).t().long()
    rows = place if level.order is None else level.rows(place.clamp(min=0)).long()
    return torch.where((place >= 0) & inside[:, None], rows, -1)
