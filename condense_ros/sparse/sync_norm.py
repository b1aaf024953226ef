"""Batch normalisation with the statistics of all processes, on any backend of torch.distributed.

torch's own SyncBatchNorm runs on GPUs only; this one also under gloo on CPUs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from condense_ros.sparse.layers import BatchNorm
from condense_ros.sparse.row_norm import RowBatchNorm


class SyncBatchNorm(BatchNorm):
    """Batch normalisation over the active voxels, or plain rows (N, C), of all processes.

    In training it equals `BatchNorm` on the joint batch, with any number of voxels in each process,
    none included; all processes must then run its forward and its backward pass. As in torch, the
    gradients of weight and bias are those of the process's own voxels, which
    DistributedDataParallel averages. In eval mode, and in one process, it is `BatchNorm`.

    Args:
        process_group: processes that share statistics; None for all.
    """

    def __init__(
        self, num_features: int, *args: Any, process_group: Any = None, **options: Any
    ) -> None:
        super().__init__(num_features, *args, **options)
        self.process_group = process_group

    def forward(self, x: Any) -> Any:  # type: ignore[override]
        """The kind of thing that came in: a sparse tensor or rows."""
        together = self.training and _many(self.process_group)
        if isinstance(x, Tensor):
            return self._normalise(x) if together else RowBatchNorm.forward(self, x)  # type: ignore[arg-type]
        return x.replace(self._normalise(x.features)) if together else super().forward(x)

    def _normalise(self, features: Tensor) -> Tensor:
        rows = features if features.dtype == torch.float64 else features.float()
        count, mean, square = _statistics(rows.detach(), self.process_group)
        if count < 2:
            # no variance, in none of the processes: as BatchNorm does
            out = nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
            return out.to(features.dtype)
        self._track(count, mean, square)
        scale = torch.rsqrt(square / count + self.eps)
        normal: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            rows, mean.to(rows.dtype), scale.to(rows.dtype), count, self.process_group
        )
        if self.weight is not None:
            normal = normal * self.weight + self.bias
        return normal.to(features.dtype)

    @torch.no_grad()
    def _track(self, count: int, mean: Tensor, square: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        step = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if step is None:
                step = 1.0 / float(self.num_batches_tracked)
        assert step is not None
        unbiased = square / (count - 1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), step)


def convert_sync_batchnorm(module: nn.Module, process_group: Any = None) -> nn.Module:
    """Replaces every `BatchNorm` inside (or the module itself, or of rows) by a `SyncBatchNorm`.

    Parameters and running statistics are taken over, not copied: optimisers made before keep them,
    and state dicts have the same names.
    """
    return _converted(module, process_group, {})


def _converted(module: nn.Module, group: Any, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in done:
        return done[module]
    done[module] = result = module
    if isinstance(module, BatchNorm) and not isinstance(module, SyncBatchNorm):
        done[module] = result = SyncBatchNorm(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
            process_group=group,
        )
        result._parameters.update(module._parameters)
        result._buffers.update(module._buffers)
        result.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _converted(child, group, done))
    return result


def _many(group: Any) -> bool:
    if not (dist.is_available() and dist.is_initialized()):
        return False
    return dist.get_world_size(group) > 1


def _statistics(rows: Tensor, group: Any) -> tuple[int, Tensor, Tensor]:
    """Rows of all processes, their mean, and the sum of their squared distances from it."""
    # each process sends its own mean and spread: sums of squares about zero would cancel
    wide = rows.double()
    mean = wide.mean(0) if len(rows) else wide.new_zeros(wide.shape[1])
    own = torch.cat([wide.new_tensor([len(rows)]), mean, (wide - mean).square().sum(0)])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    table = torch.stack(parts)
    counts, means, squares = table.split([1, rows.shape[1], rows.shape[1]], dim=1)
    total = counts.sum().clamp(min=1)
    joint = (counts * means).sum(0) / total
    square = (squares + counts * (means - joint).square()).sum(0)
    return int(counts.sum()), joint, square


class _Normalise(torch.autograd.Function):
    """(x - mean) * scale, where mean and scale depend on the rows of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor, count: int, group: Any) -> Tensor:
        normal = (x - mean) * scale
        ctx.save_for_backward(normal, scale)
        ctx.count, ctx.group = count, group
        return normal

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        normal, scale = ctx.saved_tensors
        grad = grads[0]
        sums = torch.stack([grad.double().sum(0), (grad.double() * normal.double()).sum(0)])
        dist.all_reduce(sums, group=ctx.group)
        first, second = (sums / ctx.count).to(grad.dtype)
        return (grad - first - normal * second) * scale, None, None, None, None
