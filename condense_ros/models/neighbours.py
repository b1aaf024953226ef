"""Nearest neighbours among the points of each cloud of a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: distances held at once on a GPU
_BLOCK = 1 << 26


def nearest_neighbours(positions: Tensor, batch: Tensor, k: int) -> Tensor:
    """(N, k) int64 rows of the k nearest other points of the same cloud, nearest first.

    Clouds of fewer points repeat the farthest they have; a single point is its own neighbour.

    Args:
        positions: (N, 3) finite coordinates.
        batch: (N,) cloud of each point, ascending.
    """
    out = torch.empty(len(positions), k, dtype=torch.int64, device=positions.device)
    _, counts = torch.unique_consecutive(batch, return_counts=True)
    start = 0
    for count in counts.tolist():
        cloud = positions[start : start + count].detach()
        found = min(k, count - 1)
        if not found:
            rows = torch.zeros(count, 1, dtype=torch.int64, device=out.device)
        elif cloud.device.type == "cpu":
            rows = _by_tree(cloud, found)
        else:
            rows = _by_distance(cloud, found)
        missing = rows[:, -1:].expand(-1, k - rows.shape[1])
        out[start : start + count] = torch.cat([rows, missing], 1) + start
        start += count
    return out


def _by_tree(cloud: Tensor, k: int) -> Tensor:
    from scipy.spatial import cKDTree

    points = cloud.double().numpy()
    rows = np.asarray(cKDTree(points).query(points, k + 1)[1])
    # the point itself comes first, unless others lie at the same place
    own = rows == np.arange(len(points))[:, None]
    own[~own.any(1), -1] = True
    return torch.from_numpy(rows[~own].reshape(len(points), k).astype(np.int64))


def _by_distance(cloud: Tensor, k: int) -> Tensor:
    parts = []
    step = max(1, _BLOCK // len(cloud))
    for start in range(0, len(cloud), step):
        block = cloud[start : start + step]
        # without matrix products, whose cancellation would mix up near points
        distance = torch.cdist(block, cloud, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(start, start + len(block), device=cloud.device)
        distance.scatter_(1, own[:, None], float("inf"))
        parts.append(distance.topk(k, dim=1, largest=False).indices)
    return torch.cat(parts)
