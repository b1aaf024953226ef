"""Python, torch, compiler, processor and disk."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from condense_ros.cli.checks.finding import Finding

SUPPORTED_PYTHON = ((3, 10), (3, 13))
GIB = 1024**3


def python() -> Finding:
    """Whether this Python is one the project supports."""
    version = ".".join(map(str, sys.version_info[:3]))
    lowest, highest = SUPPORTED_PYTHON
    if lowest <= sys.version_info[:2] <= highest:
        return Finding("Python", "ok", f"{version} ({sys.executable})")
    wanted = " to ".join(".".join(map(str, v)) for v in SUPPORTED_PYTHON)
    return Finding("Python", "error", version, f"use Python {wanted}: `make env PYTHON=python3.12`")


def torch() -> Finding:
    """torch, and whether it can use the GPU that is there."""
    try:
        import torch
    except ImportError as error:
        return Finding("torch", "error", f"does not import: {error}", "run `make env`")
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return Finding("torch", "ok", f"{torch.__version__}, GPU: {', '.join(sorted(names))}")
    if Path("/dev/nvidia0").exists():
        return Finding(
            "torch",
            "warning",
            f"{torch.__version__} cannot use the NVIDIA GPU of this machine",
            "install a CUDA build (`pip install torch --index-url "
            "https://download.pytorch.org/whl/cu126`) and check `nvidia-smi`",
        )
    return Finding("torch", "ok", f"{torch.__version__}, on the CPU (no GPU here)")


def sparse() -> Finding:
    """Whether sparse convolutions have their compiled kernels, and which."""
    from condense_ros.sparse import native_library

    native = native_library.library()
    if native is None:
        return Finding(
            "sparse convolutions",
            "warning",
            f"torch alone, several times slower: {native_library.problem()}",
            "install a C++ compiler and this package again (`make env`, or colcon build)",
        )
    import torch

    from condense_ros.sparse.backends.triton_backend import device_problem

    if torch.cuda.is_available():
        problem = device_problem(torch.device("cuda", torch.cuda.current_device()))
        if problem:
            return Finding(
                "sparse convolutions",
                "warning",
                f"on the GPU torch alone, several times slower: {problem}",
                "use a CUDA build of torch, which brings Triton, and install a C compiler",
            )
    return Finding("sparse convolutions", "ok", f"compiled kernels: {native.instruction_set}")


def compiler() -> list[Finding]:
    """What building the message package needs."""
    found = []
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path:
        found.append(Finding("C++ compiler", "ok", path))
    else:
        found.append(
            Finding(
                "C++ compiler",
                "warning",
                f"{name} not found: message packages cannot be built",
                "sudo apt-get install g++",
            )
        )
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        version = ".".join(map(str, sys.version_info[:2]))
        found.append(
            Finding(
                "Python headers",
                "warning",
                "Python.h not found: message packages cannot be built",
                f"sudo apt-get install python{version}-dev",
            )
        )
    return found


def available_cores() -> float:
    """Cores this process may use, with the limits of its container."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        pass  # no cgroup v2 here: the affinity is all there is to know
    return cores


def processor() -> Finding:
    """Cores against the threads that numerical libraries would start."""
    cores = available_cores()
    text = f"{cores:g} cores"
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > cores:
        return Finding(
            "processor",
            "warning",
            f"{text}, but OMP_NUM_THREADS={wanted}: threads fight for cores",
            f"export OMP_NUM_THREADS={max(1, int(cores))}",
        )
    if cores < 2:
        return Finding(
            "processor",
            "warning",
            f"{text}: nodes and learning share it",
            "give the container at least 2 cores",
        )
    return Finding("processor", "ok", text + (f", OMP_NUM_THREADS={wanted}" if wanted else ""))


def disk(folder: Path) -> Finding:
    """Room for bags; raw camera and lidar at 10 Hz fill about 1 GiB in a minute."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding(
            "disk", "error", f"{place} is not writable", "choose a folder that you may write to"
        )
    free = shutil.disk_usage(place).free / GIB
    found = f"{free:.1f} GiB free for {place}"
    if free < 1:
        return Finding("disk", "error", found, "free some space, or record to another disk")
    if free < 10:
        return Finding("disk", "warning", found, "free some space: a minute of raw data is ~1 GiB")
    return Finding("disk", "ok", found)
