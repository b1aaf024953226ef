"""Computes a U-Net with another library, in whatever interpreter that library is installed.

Needs Python 3.8, NumPy, torch and the library; nothing of this software. Started by `peers.py`:

    python peer_worker.py           which libraries are here, as one line of JSON
    python peer_worker.py FOLDER    builds the network of FOLDER/job.json and job.npz, computes it
                                    once into FOLDER/output.npz, answers "ready", and then every
                                    line "run" with the milliseconds of one more forward pass

Every pass makes its maps anew: no library keeps anything of the frame before.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, Dict  # noqa: UP035

import numpy as np
import torch
from torch import Tensor, nn

# the neighbours of this file have names that a library's own modules may have
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

MODULES = {
    "spconv": "spconv.pytorch",
    "torchsparse": "torchsparse.nn",
    "minkowski": "MinkowskiEngine",
}
CONVOLUTIONS = ("submanifold", "strided", "transposed")
Step = Dict[str, Any]  # noqa: UP006


class Library:
    """What the steps of a network need of a library.

    Attributes:
        adds_bias: its convolutions add their bias themselves.
        layers: its convolution of each step, by the name of the weights.
    """

    def __init__(self, job: dict[str, Any], weights: dict[str, Any], device: Any, dtype: Any):
        self.adds_bias = True
        self.prepare(weights["coords"], device)
        self.layers: dict[str, nn.Module] = {}
        for step in job["steps"]:
            if step["kind"] in CONVOLUTIONS:
                name = step["weight"]
                weight = torch.from_numpy(weights[name])
                layer = self.convolution(step, weight.shape[1], weight.shape[2])
                with torch.no_grad():
                    self.fill(layer, weight, step)
                    if self.adds_bias:
                        bias: Any = layer.bias
                        bias.copy_(torch.from_numpy(weights[name + "_bias"]).reshape(bias.shape))
                self.layers[name] = layer.to(device, dtype).eval()

    def prepare(self, coords: Any, device: Any) -> None:
        """Takes the (N, 4) int32 voxels (batch, x, y, z)."""
        raise NotImplementedError

    def convolution(self, step: Step, c_in: int, c_out: int) -> nn.Module:
        """A layer with weights of its own."""
        raise NotImplementedError

    def fill(self, layer: Any, weight: Tensor, step: Step) -> None:
        """Copies (K, C_in, C_out) weights, offsets x slowest, into a layer."""
        raise NotImplementedError

    def start(self, features: Tensor) -> Any:
        """The library's tensor of the voxels, without maps."""
        raise NotImplementedError

    def features(self, x: Any) -> Tensor:
        raise NotImplementedError

    def replace(self, x: Any, features: Tensor) -> Any:
        """Other features on the voxels of a tensor."""
        raise NotImplementedError

    def order(self, x: Any) -> Any:
        """(N, 4) voxels of a tensor's rows; None where they are in the order of the input."""
        return None


class Spconv(Library):
    """spconv 2: coordinates from 0 on, weights (C_out, x, y, z, C_in), maps by name."""

    def prepare(self, coords: Any, device: Any) -> None:
        self.lib = importlib.import_module("spconv.pytorch")
        self.adds_bias = device.type == "cuda"  # refused on the CPU
        moved = from_zero(coords)
        self.shape = [int(n) for n in (moved[:, 1:].max(axis=0) // 16 + 1) * 16]
        # rows that do not lie side by side are misread without a word
        self.indices = torch.from_numpy(np.ascontiguousarray(moved)).to(device)

    def convolution(self, step: Step, c_in: int, c_out: int) -> nn.Module:
        lib, level, size = self.lib, step["level"], step["size"]
        channels: dict[str, Any] = {"in_channels": c_in, "out_channels": c_out}
        channels["bias"] = self.adds_bias
        layer: nn.Module
        if step["kind"] == "submanifold":
            layer = lib.SubMConv3d(kernel_size=size, indice_key=f"same{level}_{size}", **channels)
        elif step["kind"] == "strided":
            layer = lib.SparseConv3d(
                kernel_size=size, stride=2, indice_key=f"down{level}", **channels
            )
        else:
            layer = lib.SparseInverseConv3d(
                kernel_size=size, indice_key=f"down{level - 1}", **channels
            )
        return layer

    def fill(self, layer: Any, weight: Tensor, step: Step) -> None:
        size, (_, c_in, c_out) = step["size"], weight.shape
        layer.weight.copy_(weight.view(size, size, size, c_in, c_out).permute(4, 0, 1, 2, 3))

    def start(self, features: Tensor) -> Any:
        return self.lib.SparseConvTensor(features, self.indices, self.shape, 1)

    def features(self, x: Any) -> Tensor:
        found: Tensor = x.features
        return found

    def replace(self, x: Any, features: Tensor) -> Any:
        return x.replace_feature(features)


class Torchsparse(Library):
    """torchsparse 2.1: weights (K, C_in, C_out), x fastest in odd kernels and slowest in even."""

    def prepare(self, coords: Any, device: Any) -> None:
        self.lib = importlib.import_module("torchsparse")
        self.coords = torch.from_numpy(np.ascontiguousarray(from_zero(coords))).to(device)

    def convolution(self, step: Step, c_in: int, c_out: int) -> nn.Module:
        stride = 1 if step["kind"] == "submanifold" else 2
        up = step["kind"] == "transposed"
        conv = importlib.import_module("torchsparse.nn").Conv3d
        layer: nn.Module = conv(c_in, c_out, step["size"], stride=stride, bias=True, transposed=up)
        return layer

    def fill(self, layer: Any, weight: Tensor, step: Step) -> None:
        if step["size"] % 2:
            weight = x_fastest(weight, step["size"])
        layer.kernel.copy_(weight.reshape(layer.kernel.shape))

    def start(self, features: Tensor) -> Any:
        return self.lib.SparseTensor(features, self.coords)

    def features(self, x: Any) -> Tensor:
        found: Tensor = x.feats
        return found

    def replace(self, x: Any, features: Tensor) -> Any:
        other = self.lib.SparseTensor(features, x.coords, x.stride)
        other._caches = x._caches
        return other


class Minkowski(Library):
    """MinkowskiEngine 0.5: weights (K, C_in, C_out), x fastest; rows in an order of its own."""

    def prepare(self, coords: Any, device: Any) -> None:
        self.lib = importlib.import_module("MinkowskiEngine")
        self.coords = torch.from_numpy(np.ascontiguousarray(coords)).to(device)

    def convolution(self, step: Step, c_in: int, c_out: int) -> nn.Module:
        up = step["kind"] == "transposed"
        conv = self.lib.MinkowskiConvolutionTranspose if up else self.lib.MinkowskiConvolution
        stride = 1 if step["kind"] == "submanifold" else 2
        layer: nn.Module = conv(c_in, c_out, step["size"], stride=stride, bias=True, dimension=3)
        return layer

    def fill(self, layer: Any, weight: Tensor, step: Step) -> None:
        layer.kernel.copy_(x_fastest(weight, step["size"]).reshape(layer.kernel.shape))

    def start(self, features: Tensor) -> Any:
        return self.lib.SparseTensor(features, coordinates=self.coords, device=features.device)

    def features(self, x: Any) -> Tensor:
        found: Tensor = x.F
        return found

    def replace(self, x: Any, features: Tensor) -> Any:
        return self.lib.SparseTensor(
            features,
            coordinate_map_key=x.coordinate_map_key,
            coordinate_manager=x.coordinate_manager,
        )

    def order(self, x: Any) -> Any:
        return x.C


LIBRARIES = {"spconv": Spconv, "torchsparse": Torchsparse, "minkowski": Minkowski}


def from_zero(coords: Any) -> Any:
    """Voxels moved so that none is negative, by multiples of 16: all keep their parents."""
    moved = coords.copy()
    moved[:, 1:] -= coords[:, 1:].min(axis=0) // 16 * 16
    return moved


def x_fastest(weight: Tensor, size: int) -> Tensor:
    """(K, C_in, C_out) with offsets x slowest, to x fastest."""
    _, c_in, c_out = weight.shape
    turned = weight.view(size, size, size, c_in, c_out).permute(2, 1, 0, 3, 4)
    return turned.reshape(size**3, c_in, c_out)


class Network:
    """The steps of a job by one library."""

    def __init__(self, folder: str) -> None:
        with open(os.path.join(folder, "job.json")) as file:
            self.job: dict[str, Any] = json.load(file)
        with np.load(os.path.join(folder, "job.npz")) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
        self.device = torch.device(self.job["device"])
        dtype = getattr(torch, self.job["dtype"])
        torch.set_num_threads(self.job["threads"])
        self.x = torch.from_numpy(weights["features"]).to(self.device, dtype)
        self.lib: Library = LIBRARIES[self.job["library"]](self.job, weights, self.device, dtype)
        self.linear: dict[str, Tensor] = {}
        self.bias: dict[str, Tensor] = {}
        for step in self.job["steps"]:
            if step["kind"] == "join":
                continue
            name, linear = step["weight"], step["kind"] == "linear"
            if linear:
                self.linear[name] = torch.from_numpy(weights[name][0]).to(self.device, dtype)
            if linear or not self.lib.adds_bias:
                bias = torch.from_numpy(weights[name + "_bias"])
                self.bias[name] = bias.to(self.device, dtype)

    def __call__(self) -> Any:
        lib = self.lib
        known = {0: lib.start(self.x)}
        for step in self.job["steps"]:
            x = known[step["source"]]
            if step["kind"] == "join":
                parts = lib.features(x), lib.features(known[step["add"]])
                known[step["target"]] = lib.replace(x, torch.cat(parts, 1))
                continue
            name = step["weight"]
            if step["kind"] == "linear":
                values = lib.features(x) @ self.linear[name]
            else:
                x = lib.layers[name](x)
                values = lib.features(x)
            # in place: nobody else holds a result that was just made
            if name in self.bias:
                values += self.bias[name]
            if step["add"] is not None:
                values += lib.features(known[step["add"]])
            known[step["target"]] = lib.replace(x, values.relu_() if step["relu"] else values)
        return known[self.job["steps"][-1]["target"]]

    def run_ms(self) -> float:
        """Milliseconds of one forward pass."""
        self.wait()
        start = time.perf_counter()
        self()
        self.wait()
        return (time.perf_counter() - start) * 1e3

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def probe() -> dict[str, Any]:
    """Version of each library that can be imported here, and why others cannot."""
    found = {}
    for name, module in MODULES.items():
        try:
            importlib.import_module(module)
            version = getattr(sys.modules[module.split(".")[0]], "__version__", "")
            found[name] = {"version": str(version), "problem": ""}
        except Exception as error:  # some fail with what is no ImportError, for want of a GPU
            problem = f"{type(error).__name__}: {error}"
            found[name] = {"version": "", "problem": problem}
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.cuda.is_available(),
        "libraries": found,
    }


def main(arguments: list[str]) -> None:
    """Tells what is here, or computes the network of a folder as often as it is asked."""
    # libraries print what they like to 1: answers go where only they go
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    if not arguments:
        answer(probe())
        return
    folder = arguments[0]
    with torch.no_grad():
        network = Network(folder)
        out = network()
        order = network.lib.order(out)
        coords = np.zeros((0, 4), np.int32) if order is None else order.cpu().numpy()
        features = network.lib.features(out).float().cpu().numpy()
        np.savez(os.path.join(folder, "output.npz"), features=features, coords=coords)
        answer("ready")
        for line in sys.stdin:
            if line.strip() != "run":
                break
            answer(network.run_ms())


if __name__ == "__main__":
    main(sys.argv[1:])
