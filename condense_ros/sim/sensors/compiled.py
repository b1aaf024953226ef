"""`compiled`: functions that numba turns into machine code once and keeps on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compiles a function on first use; later processes load what was compiled.

    No fast-math: the same input gives the same bytes in every process. Functions that call each
    other must share a file, because numba recompiles only when a function's own file changes.
    """
    try:
        return cast(F, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither the package nor the user has a folder to keep the code in
        return cast(F, njit(nogil=True)(function))
