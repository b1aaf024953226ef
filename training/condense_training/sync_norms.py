"""Batch norms whose statistics are those of all processes: those of sparse tensors and of images.

Sparse ones are `condense_ros.sparse.SyncBatchNorm`. torch's for dense tensors runs on GPUs only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from condense_ros.sparse import BatchNorm, SyncBatchNorm, convert_sync_batchnorm
from condense_training.distributed import world_size


class DenseSyncBatchNorm(SyncBatchNorm):
    """Batch norm of (N, C) or (N, C, ...) tensors; in training over all processes.

    Equals torch's on the joint batch, but that a single value leaves running statistics alone
    instead of being refused.
    """

    def forward(self, x: Any) -> Tensor:  # type: ignore[override]
        """Same shape and dtype as `x`."""
        if not self.training:
            out: Tensor = nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
            return out
        last = x.movedim(1, -1)
        rows: Tensor = super().forward(last.reshape(-1, x.shape[1]))
        return rows.view(last.shape).movedim(-1, 1).contiguous()


def synchronise_norms(module: nn.Module) -> nn.Module:
    """Replaces every batch norm inside by one over all processes; in one process it does nothing.

    Parameters and running statistics are taken over, not copied, under the same names.
    """
    if world_size() == 1:
        return module
    return _dense(convert_sync_batchnorm(module))


def _dense(module: nn.Module) -> nn.Module:
    result = module
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, BatchNorm):
        result = DenseSyncBatchNorm(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
        )
        result._parameters.update(module._parameters)
        result._buffers.update(module._buffers)
        result.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _dense(child))
    return result
