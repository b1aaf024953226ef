"""Voxel coordinates as sortable 63-bit keys: batch 12 bits, then x, y, z of 17 bits each.

A key is linear in its coordinates, so the key of a neighbour is the key plus a constant, and sorted
keys plus a constant stay sorted. The margin keeps every neighbour a kernel can reach inside its own
bit field, so a negative offset never borrows from the next one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from condense_ros.errors import SparseError

#: bits of a coordinate, and what is added to make it positive
BITS = 17
BIAS = 1 << (BITS - 1)
#: farthest voxel, in voxels per axis, that a kernel may reach
MARGIN = 64
#: coordinates lie in [-COORDINATE_LIMIT, COORDINATE_LIMIT]
COORDINATE_LIMIT = BIAS - MARGIN - 1
#: batch elements lie in [0, BATCH_LIMIT)
BATCH_LIMIT = 1 << 12


def pack(coords: Tensor) -> Tensor:
    """(N, 4) integer (batch, x, y, z) to (N,) int64 keys; batch is the slowest, z the fastest."""
    c = coords.long()
    key = c[:, 0]
    for axis in (1, 2, 3):
        key = (key << BITS) + (c[:, axis] + BIAS)
    return key


def unpack(keys: Tensor) -> Tensor:
    """The inverse of `pack`: (N, 4) int32."""
    coords = torch.empty(len(keys), 4, dtype=torch.int32, device=keys.device)
    coords[:, 0] = keys >> (3 * BITS)
    for axis, shift in ((1, 2 * BITS), (2, BITS), (3, 0)):
        coords[:, axis] = ((keys >> shift) & ((1 << BITS) - 1)) - BIAS
    return coords


def offset_key(dx: int, dy: int, dz: int) -> int:
    """What to add to a key to reach the voxel (dx, dy, dz) away."""
    return (((dx << BITS) + dy) << BITS) + dz


def check_range(coords: Tensor) -> int:
    """Refuses coordinates that do not fit a key.

    Returns:
        The highest batch index plus one.

    Raises:
        SparseError: naming the range found.
    """
    if not coords.numel():
        return 0
    # one transfer from a GPU, not two
    low, high = torch.stack(torch.aminmax(coords, dim=0)).tolist()
    if low[0] < 0 or high[0] >= BATCH_LIMIT:
        raise SparseError(
            f"batch indices span {low[0]}..{high[0]}",
            f"number batch elements 0..{BATCH_LIMIT - 1} in the first column",
        )
    if min(low[1:]) < -COORDINATE_LIMIT or max(high[1:]) > COORDINATE_LIMIT:
        raise SparseError(
            f"voxel coordinates span {low[1:]}..{high[1:]}, beyond +-{COORDINATE_LIMIT}",
            "use larger voxels, or leave far points out (InputSpec.max_range_m)",
        )
    return int(high[0]) + 1


def argsort(keys: Tensor) -> Tensor:
    """Sorting permutation of (N,) int64 keys (order among equal keys unspecified)."""
    if keys.device.type != "cpu":
        return torch.argsort(keys)
    # NumPy's vectorised argsort is about five times faster than torch's on a CPU
    return torch.from_numpy(np.argsort(keys.numpy()))


def searchsorted(keys: Tensor, queries: Tensor) -> Tensor:
    """Leftmost insertion places of `queries` in sorted `keys`; fastest when queries are sorted."""
    if keys.device.type != "cpu":
        return torch.searchsorted(keys, queries)
    # NumPy uses the previous answer as a bound when queries ascend: three times faster
    return torch.from_numpy(np.searchsorted(keys.numpy(), queries.numpy()))
