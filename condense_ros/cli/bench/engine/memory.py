"""Peak memory of one frame, measured in a process of its own: what ran before would blur it."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condense_ros.cli.bench.engine import networks
from condense_ros.errors import EnvironmentProblem
from condense_ros.sparse import SparseTensor, use_backend

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Job:
    """What is run. See `measure.EngineBench`."""

    network: str
    voxel_m: float
    backend: str
    dtype: str
    device: str
    threads: int


def peak_mb(job: Job, coords: Tensor, features: Tensor) -> float | None:
    """Megabytes that one frame (maps and forward pass) takes on top of what was there before it.

    A new process builds the network, computes the frame once (which loads libraries and packs
    weights), hands unused memory back and computes it again; that one counts.
    On a CPU the kernel then counts resident memory, the result of the frame included; on a GPU
    torch counts what it allocates. None where the kernel does not count (other than Linux).

    Args:
        coords, features: (N, 4) int32 and (N, C) float32 of the voxels.

    Raises:
        EnvironmentProblem: the process failed.
    """
    with tempfile.TemporaryDirectory(prefix="bench_engine_") as folder:
        path = Path(folder) / "frame.npz"
        np.savez(
            path,
            coords=coords.cpu().numpy(),
            features=features.float().cpu().numpy(),
            job=json.dumps(asdict(job)),
        )
        command = [sys.executable, "-m", __name__, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise EnvironmentProblem(
            f"the process that measures memory ended with status {done.returncode}: "
            + "\n".join(done.stderr.splitlines()[-4:]),
            "free memory, or leave out this backend",
        )
    found: float | None = json.loads(done.stdout.splitlines()[-1])
    return found


def _frame(job: Job, coords: Tensor, features: Tensor) -> float | None:
    device, dtype = torch.device(job.device), getattr(torch, job.dtype)
    torch.set_num_threads(job.threads)
    network = networks.build(job.network, job.voxel_m).eval().to(device)
    coords, features = coords.to(device), features.to(device, dtype)
    with torch.inference_mode(), use_backend(job.backend):
        network(SparseTensor(features, coords))
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            network(SparseTensor(features, coords))
            return (torch.cuda.max_memory_allocated(device) - before) / 1e6
        if not _CLEAR.exists():
            return None
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        _CLEAR.write_text("5")  # proc(5): the peak starts anew
        before = _kib("VmRSS")
        network(SparseTensor(features, coords))
        return (_kib("VmHWM") - before) * 1024 / 1e6


def _kib(name: str) -> int:
    return int(_STATUS.read_text().split(f"{name}:")[1].split()[0])


if __name__ == "__main__":
    with np.load(sys.argv[1]) as frame:
        wanted = Job(**json.loads(str(frame["job"])))
        arrays = [torch.from_numpy(frame[name]) for name in ("coords", "features")]
    print(json.dumps(_frame(wanted, *arrays)))
