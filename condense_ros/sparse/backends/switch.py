"""One switch for what computes sparse convolutions.

`auto` takes the fastest that runs: on a CPU the compiled library, on a GPU Triton; where that is
missing, torch alone, with a warning in the log. All backends use the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from torch import Tensor

from condense_ros.errors import ConfigError
from condense_ros.sparse.native_library import NativeLibrary, library

Triple = tuple[int, int, int]

#: every backend by name, and where it runs
NAMES = ("auto", "torch", "cpu", "triton", "spconv", "spconv-triton")
#: environment variable that sets the backend of a process
VARIABLE = "CONDENSE_SPARSE_BACKEND"


class TableMaker(Protocol):
    """What `triton_maps` offers."""

    def lookup_table(
        self, keys: Tensor, queries: Tensor, first: Triple, kernel: Triple, dilation: Triple
    ) -> Tensor:
        """(K, M) int32 place of query + first + k * dilation among the keys, or -1."""
        ...

    def tiled_table(self, keys: Tensor, parents: Tensor, factor: Triple, n_coarse: int) -> Tensor:
        """(K, n_coarse) int32: the voxel at each place of each parent, or -1."""
        ...


_everywhere: str | None = None
_here: ContextVar[str | None] = ContextVar("condense_sparse_backend", default=None)


def _checked(name: str) -> str:
    if name not in NAMES:
        raise ConfigError(f"no sparse backend {name!r}", f"use one of: {', '.join(NAMES)}")
    return name


def set_backend(name: str) -> None:
    """Chooses the backend of this process.

    Raises:
        ConfigError: no such backend.
    """
    global _everywhere
    _everywhere = _checked(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs a block with a backend.

    Raises:
        ConfigError: no such backend.
    """
    token = _here.set(_checked(name))
    try:
        yield
    finally:
        _here.reset(token)


def backend_name() -> str:
    """The name in force: of the block, the process, the environment, or "auto".

    Raises:
        ConfigError: the environment names none that exists.
    """
    return _here.get() or _everywhere or _checked(os.environ.get(VARIABLE) or "auto")


def native_for(tensor: Tensor) -> NativeLibrary | None:
    """The compiled library where it should work on this tensor."""
    if tensor.device.type != "cpu" or backend_name() not in ("auto", "cpu"):
        return None
    return library()


def triton_for(tensor: Tensor) -> TableMaker | None:
    """The Triton kernels for tables where they should work on this tensor.

    Not on the CPU, also not in Triton's interpreter: there the compiled library makes pairs.
    """
    if tensor.device.type != "cuda" or backend_name() not in ("auto", "triton"):
        return None
    from condense_ros.sparse.backends.triton_backend import device_problem

    if device_problem(tensor.device):
        return None
    from condense_ros.sparse import triton_maps

    return triton_maps
