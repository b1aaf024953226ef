"""Computes a U-Net with another library, in whatever interpreter that library is installed.

Needs NumPy, torch and the library; nothing of this software. Started by `peers.py`:

    python peer_worker.py                 # which libraries are here, as one line of JSON
    python peer_worker.py FOLDER          # builds the network of FOLDER/job.json and job.npz,
                                          # computes it once into FOLDER/output.npz, says "ready",
                                          # then answers every "run" with milliseconds

A run makes the maps anew: neither library keeps anything of the frame before.
"""

import importlib
import json
import os
import sys
import time

import numpy as np
import torch

LIBRARIES = {
    "spconv": "spconv.pytorch",
    "torchsparse": "torchsparse.nn",
    "minkowski": "MinkowskiEngine",
}


class Spconv:
    """spconv 2: coordinates from 0 on, weights (C_out, x, y, z, C_in), maps by name."""

    def __init__(self, job, coords, weights, device, dtype):
        self.lib = importlib.import_module("spconv.pytorch")
        self.step_of = {}
        # strides of 16 in total: moved by a multiple of that, voxels keep their parents
        low = coords[:, 1:].min(axis=0) // 16 * 16
        moved = coords.copy()
        moved[:, 1:] -= low
        self.shape = [int(n) for n in (moved[:, 1:].max(axis=0) // 16 + 1) * 16]
        self.indices = torch.from_numpy(np.ascontiguousarray(moved)).to(device)
        for step in job["steps"]:
            if step["kind"] in ("submanifold", "strided", "transposed"):
                self.step_of[step["weight"]] = self._module(step, weights).to(device, dtype).eval()

    def _module(self, step, weights):
        weight = torch.from_numpy(weights[step["weight"]])
        size, (_, c_in, c_out) = step["size"], weight.shape
        if step["kind"] == "submanifold":
            name = "same%d_%d" % (step["level"], size)
            module = self.lib.SubMConv3d(c_in, c_out, size, bias=True, indice_key=name)
        elif step["kind"] == "strided":
            name = "down%d" % step["level"]
            module = self.lib.SparseConv3d(c_in, c_out, 2, stride=2, bias=True, indice_key=name)
        else:
            name = "down%d" % (step["level"] - 1)
            module = self.lib.SparseInverseConv3d(c_in, c_out, 2, bias=True, indice_key=name)
        turned = weight.view(size, size, size, c_in, c_out).permute(4, 0, 1, 2, 3).contiguous()
        with torch.no_grad():
            module.weight.copy_(turned)
            module.bias.copy_(torch.from_numpy(weights[step["weight"] + "_bias"]))
        return module

    def start(self, features):
        return self.lib.SparseConvTensor(features, self.indices, self.shape, 1)

    def convolve(self, step, x):
        return self.step_of[step["weight"]](x)

    def features(self, x):
        return x.features

    def replace(self, x, features):
        return x.replace_feature(features)

    def order(self, x):
        return None  # submanifold and inverse convolutions keep the rows


class Torchsparse:
    """torchsparse 2.1: weights (K, C_in, C_out), x fastest in odd kernels and slowest in even."""

    def __init__(self, job, coords, weights, device, dtype):
        self.tensor = importlib.import_module("torchsparse").SparseTensor
        layers = importlib.import_module("torchsparse.nn")
        self.step_of = {}
        low = coords[:, 1:].min(axis=0) // 16 * 16
        moved = coords.copy()
        moved[:, 1:] -= low
        self.coords = torch.from_numpy(np.ascontiguousarray(moved)).to(device)
        for step in job["steps"]:
            if step["kind"] in ("submanifold", "strided", "transposed"):
                weight = torch.from_numpy(weights[step["weight"]])
                size, (_, c_in, c_out) = step["size"], weight.shape
                stride = 1 if step["kind"] == "submanifold" else 2
                module = layers.Conv3d(
                    c_in, c_out, size, stride=stride, bias=True,
                    transposed=step["kind"] == "transposed",
                )  # fmt: skip
                if size % 2 and size > 1:
                    weight = x_fastest(weight, size)
                with torch.no_grad():
                    module.kernel.copy_(weight.reshape(module.kernel.shape))
                    module.bias.copy_(torch.from_numpy(weights[step["weight"] + "_bias"]))
                self.step_of[step["weight"]] = module.to(device, dtype).eval()

    def start(self, features):
        return self.tensor(features, self.coords)

    def convolve(self, step, x):
        return self.step_of[step["weight"]](x)

    def features(self, x):
        return x.feats

    def replace(self, x, features):
        other = self.tensor(features, x.coords, x.stride)
        other._caches = x._caches
        return other

    def order(self, x):
        return None


class Minkowski:
    """MinkowskiEngine 0.5: weights (K, C_in, C_out), x fastest; rows in an order of its own."""

    def __init__(self, job, coords, weights, device, dtype):
        self.lib = importlib.import_module("MinkowskiEngine")
        self.coords = torch.from_numpy(np.ascontiguousarray(coords)).to(device)
        self.step_of = {}
        for step in job["steps"]:
            if step["kind"] in ("submanifold", "strided", "transposed"):
                weight = torch.from_numpy(weights[step["weight"]])
                size, (_, c_in, c_out) = step["size"], weight.shape
                up = step["kind"] == "transposed"
                kind = (
                    self.lib.MinkowskiConvolutionTranspose if up else self.lib.MinkowskiConvolution
                )
                stride = 1 if step["kind"] == "submanifold" else 2
                module = kind(c_in, c_out, size, stride=stride, bias=True, dimension=3)
                if size > 1:
                    weight = x_fastest(weight, size)
                with torch.no_grad():
                    module.kernel.copy_(weight.reshape(module.kernel.shape))
                    module.bias.copy_(torch.from_numpy(weights[step["weight"] + "_bias"])[None])
                self.step_of[step["weight"]] = module.to(device, dtype).eval()

    def start(self, features):
        return self.lib.SparseTensor(features, coordinates=self.coords, device=features.device)

    def convolve(self, step, x):
        return self.step_of[step["weight"]](x)

    def features(self, x):
        return x.F

    def replace(self, x, features):
        return self.lib.SparseTensor(
            features,
            coordinate_map_key=x.coordinate_map_key,
            coordinate_manager=x.coordinate_manager,
        )

    def order(self, x):
        return x.C


ADAPTERS = {"spconv": Spconv, "torchsparse": Torchsparse, "minkowski": Minkowski}


def x_fastest(weight, size):
    """(K, C_in, C_out) with offsets x slowest, to x fastest."""
    _, c_in, c_out = weight.shape
    turned = weight.view(size, size, size, c_in, c_out).permute(2, 1, 0, 3, 4)
    return turned.reshape(size**3, c_in, c_out).contiguous()


class Network:
    """The steps of a job by one library."""

    def __init__(self, folder):
        with open(os.path.join(folder, "job.json")) as file:
            self.job = json.load(file)
        with np.load(os.path.join(folder, "job.npz")) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
        coords, features = weights.pop("coords"), weights.pop("features")
        self.device = torch.device(self.job["device"])
        dtype = getattr(torch, self.job["dtype"])
        torch.set_num_threads(self.job["threads"])
        self.x = torch.from_numpy(features).to(self.device, dtype)
        self.library = ADAPTERS[self.job["library"]](
            self.job, coords, weights, self.device, dtype
        )
        self.dense = {
            name: torch.from_numpy(value).to(self.device, dtype)
            for name, value in weights.items()
            if name.removesuffix("_bias")
            in {step["weight"] for step in self.job["steps"] if step["kind"] == "linear"}
        }

    def __call__(self):
        lib = self.library
        known = {0: lib.start(self.x)}
        for step in self.job["steps"]:
            x = known[step["source"]]
            if step["kind"] == "join":
                parts = lib.features(x), lib.features(known[step["add"]])
                known[step["target"]] = lib.replace(x, torch.cat(parts, 1))
                continue
            if step["kind"] == "linear":
                name = step["weight"]
                values = lib.features(x) @ self.dense[name][0] + self.dense[name + "_bias"]
                known[step["target"]] = lib.replace(x, values)
                continue
            y = lib.convolve(step, x)
            values = lib.features(y)
            if step["add"] is not None:
                values = values + lib.features(known[step["add"]])
            if step["relu"]:
                values = torch.relu(values)
            known[step["target"]] = lib.replace(y, values)
        return known[self.job["steps"][-1]["target"]]

    def run_ms(self):
        self.wait()
        start = time.perf_counter()
        self()
        self.wait()
        return (time.perf_counter() - start) * 1e3

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def probe():
    """Version of each library that can be imported here, and why others cannot."""
    found = {}
    for name, module in LIBRARIES.items():
        try:
            importlib.import_module(module)
            version = getattr(sys.modules[module.split(".")[0]], "__version__", "")
            found[name] = {"version": str(version), "problem": ""}
        except Exception as error:
            # some fail with what is no ImportError, e.g. for want of a GPU
            found[name] = {"version": "", "problem": "%s: %s" % (type(error).__name__, error)}
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.cuda.is_available(),
        "libraries": found,
    }


def main(arguments):
    # libraries print what they like to 1: answers go where only they go
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content):
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    if not arguments:
        answer(probe())
        return
    with torch.no_grad():
        network = Network(arguments[0])
        out = network()
        order = network.library.order(out)
        coords = np.zeros((0, 4), np.int32) if order is None else order.cpu().numpy()
        features = network.library.features(out).float().cpu().numpy()
        np.savez(os.path.join(arguments[0], "output.npz"), features=features, coords=coords)
        answer("ready")
        for line in sys.stdin:
            if line.strip() != "run":
                break
            answer(network.run_ms())


if __name__ == "__main__":
    main(sys.argv[1:])
