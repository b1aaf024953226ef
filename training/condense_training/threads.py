"""How many CPU threads torch's operators use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_threads(count: int = 0) -> Iterator[None]:
    """Runs a block with `count` threads per operator, and restores the number afterwards.

    0 leaves OMP_NUM_THREADS its say where it is set, and otherwise takes half of the cores: the
    sparse layers are many small operators whose threads wait for each other at every end, and on
    two cores two threads were several times slower than one as soon as anything else ran.
    """
    if count == 0:
        named = "OMP_NUM_THREADS" in os.environ
        count = torch.get_num_threads() if named else max(1, (os.cpu_count() or 1) // 2)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
