"""One run in several processes (torchrun), and what they tell each other.

In one process every function here is the identity, so there is one path for both. All processes
must call them in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from condense_ros.errors import TrainingError

T = TypeVar("T")

#: what the errors of gloo and NCCL say when another process is gone or silent; most are plain
#: RuntimeErrors
_LOST = ("gloo", "pair closure", "NCCL", "Connection closed by peer", "Connection reset")


def world_size() -> int:
    """Processes of this run."""
    together = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if together else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def process_group(timeout_s: float) -> Iterator[None]:
    """Joins the other processes that torchrun started (WORLD_SIZE > 1), for as long as the block
    runs. Inside another such block, or a group that the caller made, it does nothing.

    Tensors on a GPU travel by NCCL, all others by gloo.

    Args:
        timeout_s: how long one process waits for another before it gives up.

    Raises:
        TrainingError: the others cannot be reached; inside the block: one of them is lost.
    """
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size() > 1 or wanted <= 1:
        with _losses_named():
            yield
        return
    if not dist.is_available():
        raise TrainingError(
            f"torch {torch.__version__} was built without torch.distributed",
            "start one process, without torchrun",
        )
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"this is one of {wanted} processes (WORLD_SIZE), but they do not meet: {error}",
            "start them with torchrun, or unset WORLD_SIZE",
        ) from error
    try:
        with _losses_named():
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _losses_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in _LOST):
            raise
        raise TrainingError(
            f"another of the {world_size()} processes ended, or did not answer in time",
            "look for its own message; the last saved state is intact, and the same command goes "
            "on from there",
        ) from error


def own_device(device: str) -> str:
    """The device of this process: "cuda" is a GPU of its own for each process of a machine.

    Raises:
        TrainingError: more processes than GPUs.
    """
    if device != "cuda" or world_size() == 1:
        return device
    number, available = int(os.environ.get("LOCAL_RANK", rank())), torch.cuda.device_count()
    if number >= available:
        raise TrainingError(
            f"process {number} of this machine has no GPU: there are {available}",
            f"start torchrun with --nproc-per-node {available}, or train on --device cpu",
        )
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if world_size() > 1:
        dist.barrier()


def all_of(thing: T) -> list[T]:
    """What every process gave, by rank. Travels as a pickle between processes of one run."""
    if world_size() == 1:
        return [thing]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, thing)
    return found


def from_first(thing: T) -> T:
    """What rank 0 gave."""
    box = [thing]
    if world_size() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def mean_of(value: float) -> float:
    """Mean over the processes; not finite for all if it is not for one."""
    if world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total) / world_size()


def any_of(value: bool) -> bool:
    """Whether it is true in any of the processes."""
    return mean_of(float(value)) > 0


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replaces gradients by their means over the processes, in one message per data type.

    Where a parameter got a gradient in some processes only, it counts as zero in the others; where
    in none, it stays without, as in one process.
    """
    if world_size() == 1 or not parameters:
        return
    used = torch.tensor([float(p.grad is not None) for p in parameters])
    dist.all_reduce(used)
    for dtype in sorted({p.dtype for p in parameters}, key=str):
        chosen = [p for p, n in zip(parameters, used, strict=True) if n and p.dtype == dtype]
        if not chosen:
            continue
        for p in chosen:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.reshape(-1) for p in chosen if p.grad is not None])
        dist.all_reduce(flat)
        flat /= world_size()
        for p, mean in zip(chosen, flat.split([p.numel() for p in chosen]), strict=True):
            assert p.grad is not None
            p.grad.copy_(mean.view_as(p))


class _GatherRows(torch.autograd.Function):
    """(n, C) rows of this process -> rows of all; a gradient flows back to where its row is from.

    The backward pass adds up what all processes make of a row, so it gives gradients of the sum of
    their losses.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        # gloo gathers equal shapes only
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.first, ctx.count = sum(counts[: rank()]), len(rows)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.count], None


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Rows of all processes in order of rank, and where those of this process begin.

    Args:
        rows: (n, ...), n may differ between processes and be 0. Gradients flow.
    """
    if world_size() == 1:
        return rows, 0
    counts = all_of(len(rows))
    gathered: Tensor = _GatherRows.apply(rows, counts)  # type: ignore[no-untyped-call]
    return gathered, sum(counts[: rank()])
