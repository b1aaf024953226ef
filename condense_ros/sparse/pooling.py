"""Global pooling: one row per batch element."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense_ros.sparse.tensor import SparseTensor


def _sum(values: Tensor, x: SparseTensor) -> Tensor:
    rows = x.coords[:, 0].long()
    total = torch.zeros(x.batch_size, values.shape[1], dtype=values.dtype, device=values.device)
    return total.index_add(0, rows, values)


def _mean(values: Tensor, x: SparseTensor) -> Tensor:
    # not bincount, which waits for a GPU to learn the highest row
    rows = x.coords[:, 0].long()
    count = rows.new_zeros(x.batch_size).index_add(0, rows, torch.ones_like(rows)).clamp(min=1)
    return _sum(values, x) / count[:, None].to(values.dtype)


def global_sum(x: SparseTensor) -> Tensor:
    """(B, C) sum over the voxels of each batch element; half precision is summed in float32."""
    half = x.features.dtype in (torch.float16, torch.bfloat16)
    return _sum(x.features.float() if half else x.features, x).to(x.features.dtype)


def global_average(x: SparseTensor) -> Tensor:
    """(B, C) mean over the voxels of each batch element; zeros where it has none."""
    return _mean(x.features, x)


def global_max(x: SparseTensor) -> Tensor:
    """(B, C) maximum over the voxels of each batch element; zeros where it has none."""
    rows = x.coords[:, 0].long()
    out = torch.zeros(x.batch_size, x.channels, dtype=x.features.dtype, device=x.device)
    index = rows[:, None].expand(-1, x.channels)
    return out.scatter_reduce(0, index, x.features, reduce="amax", include_self=False)


class GeMPooling(nn.Module):
    """Generalised mean over the voxels of each batch element, (B, C) (Radenovic 2018, eq. 3).

    (mean_i max(x_i, eps)^p)^(1/p) with learned p: p = 1 is the average of rectified features,
    p -> infinity the maximum. Elements without voxels give zeros.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.eps = eps

    def forward(self, x: SparseTensor) -> Tensor:
        # powers of half-precision features overflow early
        features = x.features if x.features.dtype == torch.float64 else x.features.float()
        p = self.p.to(features.dtype)
        mean = _mean(features.clamp(min=self.eps).pow(p), x)
        # the clamp keeps the root's gradient finite where an element is empty
        root = mean.clamp(min=torch.finfo(mean.dtype).tiny).pow(1 / p)
        return torch.where(mean > 0, root, 0.0)
