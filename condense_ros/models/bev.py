"""Bird's-eye views: sparse features as a dense plane, and the plane read at any place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from condense_ros.sparse import SparseTensor


def flatten_height(x: SparseTensor, shape: tuple[int, int, int]) -> Tensor:
    """(B, C * Z, X, Y) dense view from above, zero where nothing is active.

    Channel c at height z is plane c * Z + z, as in the released VoxelNet.

    Args:
        shape: voxels per axis (X, Y, Z) of the grid; coordinates start at zero.
    """
    nx, ny, nz = shape
    b, i, j, k = x.coords.long().unbind(1)
    rows = ((b * nx + i) * ny + j) * nz + k
    flat = x.features.new_zeros(x.batch_size * nx * ny * nz, x.channels)
    flat = flat.index_copy(0, rows, x.features)
    grid = flat.view(x.batch_size, nx, ny, nz, x.channels)
    return grid.permute(0, 4, 3, 1, 2).flatten(1, 2)


def sample_bev(bev: Tensor, batch: Tensor, place: Tensor) -> Tensor:
    """(P, C) bilinear values of a bird's-eye view.

    Cell i lies at coordinate i, not i + 0.5, as in the released VoxelNet. Places beyond the last
    cell read the border (the released code reads zeros behind the last cell).

    Args:
        bev: (B, C, X, Y).
        batch: (P,) int64 batch element of each place.
        place: (P, 2) floating point (x, y) in cells.
    """
    _, channels, nx, ny = bev.shape
    if not len(place) or not bev.numel():
        return bev.new_zeros(len(place), channels) + bev.sum() * 0
    size = place.new_tensor([nx, ny])
    place = torch.minimum(place.clamp(min=0), size - 1)
    low = torch.minimum(torch.floor(place).detach(), (size - 2).clamp(min=0))
    upper = place - low
    x, y = low.long().unbind(1)
    dx, dy = min(1, nx - 1), min(1, ny - 1)
    corner = (batch * nx + x) * ny + y
    index = torch.stack([corner, corner + dy, corner + dx * ny, corner + dx * ny + dy], 1)
    fx, fy = upper.unbind(1)
    weights = torch.stack([(1 - fx) * (1 - fy), (1 - fx) * fy, fx * (1 - fy), fx * fy], 1)
    table = bev.permute(0, 2, 3, 1).reshape(-1, channels)
    with torch.autocast(bev.device.type, enabled=False):
        dtype = table.dtype if table.dtype == torch.float64 else torch.float32
        out = F.embedding_bag(
            index, table.to(dtype), mode="sum", per_sample_weights=weights.to(dtype)
        )
    return out.to(bev.dtype)
