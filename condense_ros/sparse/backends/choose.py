"""Which backend computes with given features."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

from condense_ros.errors import EnvironmentProblem
from condense_ros.sparse.backends.base import Backend
from condense_ros.sparse.backends.switch import NAMES, backend_name

_log = logging.getLogger(__name__)
_CLASSES = {
    "torch": ("torch_backend", "TorchBackend"),
    "cpu": ("cpu_backend", "CpuBackend"),
    "triton": ("triton_backend", "TritonBackend"),
    "spconv": ("spconv_backend", "SpconvBackend"),
    "spconv-triton": ("spconv_backend", "SpconvTritonBackend"),
}
#: by device: the fastest first; torch, which always works, follows
_FASTEST = {"cpu": ("cpu",), "cuda": ("triton",)}
_observer: ContextVar[Callable[[Backend], Backend] | None] = ContextVar(
    "condense_sparse_observer", default=None
)


@cache
def backend(name: str) -> Backend:
    """The backend of a name, whether it works here or not."""
    module, kind = _CLASSES[name]
    made: Backend = getattr(importlib.import_module(f"{__package__}.{module}"), kind)()
    return made


@contextmanager
def observed(wrap: Callable[[Backend], Backend]) -> Iterator[None]:
    """Computes a block with `wrap(backend)` in place of each backend in force: to watch its calls.

    Gradients of what was computed inside go through the same object.
    """
    token = _observer.set(wrap)
    try:
        yield
    finally:
        _observer.reset(token)


def backend_for(device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend in force for features of a device and dtype.

    Raises:
        EnvironmentProblem: one was asked for by name and cannot work here.
        ConfigError: the environment names one that does not exist.
    """
    chosen, wrap = _in_force(device, dtype), _observer.get()
    return chosen if wrap is None else wrap(chosen)


def _in_force(device: torch.device, dtype: torch.dtype) -> Backend:
    name = backend_name()
    if name != "auto":
        chosen = backend(name)
        problem = chosen.problem(device, dtype)
        if problem:
            raise EnvironmentProblem(
                f"the sparse backend {name!r} cannot be used: {problem}",
                "use backend auto, which takes the fastest that works",
            )
        return chosen
    for name in _FASTEST.get(device.type, ()):
        problem = backend(name).problem(device, dtype)
        if not problem:
            return backend(name)
        _tell_once(name, problem)
    return backend("torch")


def available(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Every backend by name with why it cannot work with such features; empty where it can."""
    names = [name for name in NAMES if name != "auto"]
    return {name: backend(name).problem(device, dtype) for name in names}


@cache
def _tell_once(name: str, problem: str) -> None:
    _log.warning("sparse backend %s is not used, torch computes instead: %s", name, problem)
