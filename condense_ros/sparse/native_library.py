"""The compiled library of the sparse engine: found, loaded, and told about when it is not there.

It is plain C behind ctypes and links neither against Python nor torch, so one build fits every
version of both. Its threads are those of torch's own OpenMP runtime: two runtimes in one process
would spin against each other for the same cores.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import re
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense_ros.errors import EnvironmentProblem

_ABI = 3
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_loaded: NativeLibrary | None = None
_problem = ""

_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "condense_abi": (_I, []),
    "condense_isa": (ctypes.c_char_p, []),
    "condense_choose_isa": (_I, [ctypes.c_char_p]),
    "condense_packed_size": (_L, [_I, _I, _L, _L]),
    "condense_padded_channels": (_L, [_I, _L]),
    "condense_pack": (None, [_I, _P, _I, _L, _L, _I, _P, _I]),
    "condense_convolve": (
        None,
        [_I, _P, _L, _L, _P, _P, _P, _P, _I, _I, _L, _L, _P, _P, _P, _L, _I, _P, _L, _I],
    ),
    "condense_weight_gradient": (
        None,
        [_I, _P, _L, _L, _P, _L, _L, _P, _P, _P, _I, _I, _L, _P, _I],
    ),
    "condense_argsort": (None, [_P, _L, _P]),
    "condense_unique": (_L, [_P, _L, _P, _P]),
    "condense_coarsen": (_L, [_P, _L, _P, _P, _P]),
    "condense_tiled": (None, [_P, _P, _L, _P, _P, _P, _P]),
    "condense_walk": (None, [_P, _L, _P, _L, _I, _P, _P, _P, _I, _I, _P, _P, _P, _I]),
    "condense_compact": (None, [_P, _P, _P, _L, _I, _P, _P, _P, _P, _I]),
    "condense_walk_chunk": (_L, []),
    "condense_voxel_keys": (_L, [_I, _P, _L, _P, _L, _P]),
    "condense_mean": (None, [_P, _P, _L, _L, _L, _P]),
}


class NativeLibrary:
    """Functions of the compiled library, with their types."""

    def __init__(self, path: Path) -> None:
        _share_openmp()
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("condense_"), function)
        if self.abi() != _ABI:
            raise OSError(f"{path} is of another version of this software")
        self.path = path

    def __getattr__(self, name: str) -> Any:  # tells the type checker of the functions set above
        raise AttributeError(name)

    @property
    def instruction_set(self) -> str:
        """Name of the kernels in use: base, avx2, avx512, avx512bf16 or amx."""
        return str(self.isa().decode())

    def choose_instruction_set(self, name: str = "") -> None:
        """Uses the kernels of one instruction set; the best of this machine when empty.

        Weights that were packed for other kernels are packed again when they are used next.

        Raises:
            EnvironmentProblem: this machine or this build has none of that name.
        """
        if not self.choose_isa(name.encode()):
            raise EnvironmentProblem(
                f"no kernels for {name!r} on this machine", "leave the choice to the software"
            )


def pointer(tensor: Tensor | None) -> int | None:
    """Address of a tensor's data, None for none."""
    return None if tensor is None else tensor.data_ptr()


def threads() -> int:
    """Threads of one native operator: torch's own number."""
    return torch.get_num_threads()


def library() -> NativeLibrary | None:
    """The library, or None where it was not built or does not load (see `problem`)."""
    global _loaded, _problem
    if _loaded is None and not _problem:
        with _lock:
            if _loaded is None and not _problem:
                try:
                    _loaded = NativeLibrary(_path())
                except (OSError, AttributeError) as error:
                    _problem = str(error)
                    _log.warning(
                        "sparse convolutions run in torch alone, several times slower: %s. "
                        "Install a C++ compiler and this package again",
                        _problem,
                    )
    return _loaded


def problem() -> str:
    """Why there is no library; empty where there is one."""
    library()
    return _problem


def _path() -> Path:
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_native{suffix}"
        if path.exists():
            return path
    raise OSError(f"the compiled part of this package is not in {folder}")


def _share_openmp() -> None:
    """Makes the OpenMP runtime that torch has loaded visible to the library."""
    torch.get_num_threads()
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        maps = ""
    found = re.findall(r"(/\S*/lib(?:gomp|iomp5|omp)\b[^\s/]*\.so[^\s/]*)", maps)
    name = found[0] if found else ctypes.util.find_library("gomp")
    if name is None:
        raise OSError("no OpenMP runtime (libgomp) is loaded or installed")
    ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
