"""Compiles every Triton kernel that a network asks for, for a GPU that is not there.

    python test/compile_kernels.py 87 float16

A driver that names the device and launches nothing takes the place of CUDA's: choice of tiles,
specialisation and compilation down to machine code are the real ones, results are not computed.
Prints JSON: launches by kernel, and what each compiled variant needs of the device.
"""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from condense_ros.models import BackboneConfig, InputSpec, SparseUNet
from condense_ros.sparse import MapCache, SparseTensor, sparse_convolution, use_backend
from condense_ros.sparse.backends import triton_backend, triton_launch
from condense_ros.sparse.backends.triton_tiles import Tiles
from condense_ros.sparse.backends.triton_tuning import surface


class _Nothing:
    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: 0


class _Driver:
    """A device by its capability alone."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.utils = _Nothing()

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """Counts launches and keeps compiled variants."""

    def __init__(self, capability: int) -> None:
        self.launches: collections.Counter[str] = collections.Counter()
        self.variants: dict[str, Any] = {}
        triton.runtime.driver.set_active(_Driver(capability))
        original = JITFunction.run

        def run(function: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
            kernel = original(function, *args, grid=grid, warmup=True, **options)
            self.launches[function.__name__] += 1
            self.variants[kernel.hash] = kernel
            return kernel

        JITFunction.run = run
        triton_backend.device_problem = lambda device: ""
        triton_launch.processors = lambda device: 16

    def resources(self) -> list[dict[str, Any]]:
        """What each variant needs."""
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        found = []
        for kernel in self.variants.values():
            with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
                file.write(kernel.asm["cubin"])
                file.flush()
                command = [str(tool), "--dump-resource-usage", file.name]
                text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            used = {
                name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)
            }
            found.append(
                {
                    "kernel": kernel.metadata.name,
                    "shared": kernel.metadata.shared,
                    "registers": used["REG"],
                    "spilled": used["STACK"] + used["LOCAL"],
                    "tensor_cores": bool(re.search(r"\bmma\.sync|wgmma", kernel.asm["ptx"])),
                }
            )
        return found


def network(dtype: torch.dtype) -> None:
    """Inference and a training step of the largest preset's layers."""
    config = BackboneConfig(InputSpec())
    net = SparseUNet(4, config.widths, (1,) * 8, stem_kernel=5)
    x = SparseTensor(torch.randn(900, 4), surface(900))
    half = dtype != torch.float32
    with use_backend("triton"), torch.autocast("cpu", dtype=dtype, enabled=half):
        net(x).features.float().sum().backward()
        with torch.no_grad():
            net.eval()(x)


def sizes(dtype: torch.dtype) -> None:
    """One layer over clouds of all kinds of sizes."""
    for rows in (1, 15, 16, 17, 100, 128, 1000):
        x = torch.randn(rows, 16, dtype=dtype, requires_grad=True)
        weight = torch.randn(27, 16, 16, requires_grad=True)
        kernel_map = MapCache(surface(rows)).submanifold(1, 3)
        with use_backend("triton"):
            sparse_convolution(x, weight, kernel_map).sum().backward()


def main() -> None:
    capability, dtype = int(sys.argv[1]), getattr(torch, sys.argv[2])
    compiled = Compiled(capability)
    default = triton_launch._default
    triton_launch._default = lambda shape, device: Tiles(32, 16, 16, 2)
    sizes(dtype)
    of_sizes = collections.Counter(k.metadata.name for k in compiled.variants.values())
    triton_launch._default = default
    compiled.launches.clear()
    network(dtype)
    print(
        json.dumps(
            {
                "variants_over_sizes": of_sizes,
                "launches": compiled.launches,
                "kernels": compiled.resources(),
            }
        )
    )


if __name__ == "__main__":
    main()
