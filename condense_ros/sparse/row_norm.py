"""`RowBatchNorm`: the norm of sparse tensors for plain rows, such as the neighbours of voxels."""

from __future__ import annotations

from torch import Tensor, nn

from condense_ros.sparse.layers import BatchNorm


class RowBatchNorm(BatchNorm):
    """Batch normalisation of (N, C) rows, with `BatchNorm`'s rule for fewer than two of them."""

    def forward(self, rows: Tensor) -> Tensor:  # type: ignore[override]
        if self.training and len(rows) < 2:
            out = nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        else:
            out = nn.BatchNorm1d.forward(self, rows)
        return out.to(rows.dtype)
