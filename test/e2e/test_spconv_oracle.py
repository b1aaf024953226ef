"""spconv's CPU build, at one thread, as an independent witness of whole networks.

At two threads it computes wrong results, and its last release is of 2024: it is installed into a
folder of its own for this test, and used nowhere else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from condense_ros.sparse import (
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    TransposedConv3d,
    use_backend,
)

PACKAGES = (
    *("spconv==2.3.8", "cumm==0.7.11", "pccm==0.4.16", "ccimport==0.4.4", "pybind11"),
    *("fire", "lark", "portalocker", "termcolor", "requests", "urllib3", "idna", "certifi"),
    "charset_normalizer",
)
WITNESS = """
import sys
import numpy as np
import torch

torch.set_num_threads(1)
import spconv.pytorch as spconv

data = np.load(sys.argv[1])
coords = torch.from_numpy(data["coords"]).contiguous()
shape = (coords[:, 1:].max(0).values + 1).tolist()
layers = [
    spconv.SubMConv3d(8, 16, 3, bias=False, indice_key="fine"),
    spconv.SparseConv3d(16, 16, 2, stride=2, bias=False, indice_key="down"),
    spconv.SubMConv3d(16, 24, 3, bias=False, indice_key="coarse"),
    spconv.SparseInverseConv3d(24, 8, 2, bias=False, indice_key="down"),
]
for i, layer in enumerate(layers):
    # (K, C_in, C_out), x slowest, to (C_out, kx, ky, kz, C_in)
    weight = torch.from_numpy(data[f"weight{i}"])
    size = round(len(weight) ** (1 / 3))
    weight = weight.reshape(size, size, size, *weight.shape[1:]).permute(4, 0, 1, 2, 3)
    assert weight.shape == layer.weight.shape, (weight.shape, layer.weight.shape)
    layer.weight.data = weight.contiguous()
x = spconv.SparseConvTensor(torch.from_numpy(data["features"]), coords, shape, 2)
with torch.no_grad():
    for layer in layers:
        x = layer(x)
np.savez(sys.argv[2], coords=x.indices.numpy(), features=x.features.numpy())
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_networks_equal_spconv_at_one_thread(tmp_path: Path) -> None:
    if sys.version_info[:2] > (3, 12):
        pytest.skip("spconv 2.3.8 has no CPU wheels for this Python")
    target = tmp_path / "spconv"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target]
    done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"spconv cannot be installed here: {done.stderr.strip()[-300:]}")
    rng = np.random.default_rng(0)
    xyz = np.unique(rng.integers(0, 24, (4000, 3)), axis=0)
    coords = np.concatenate([np.pad(xyz, ((0, 0), (1, 0)), constant_values=b) for b in (0, 1)])
    coords = rng.permutation(coords).astype(np.int32)
    torch.manual_seed(0)
    layers = [
        SubmanifoldConv3d(8, 16),
        StridedConv3d(16, 16),
        SubmanifoldConv3d(16, 24),
        TransposedConv3d(24, 8),
    ]
    features = rng.standard_normal((len(coords), 8)).astype(np.float32)
    weights = {f"weight{i}": layer.weight.detach().numpy() for i, layer in enumerate(layers)}
    np.savez(tmp_path / "in.npz", coords=coords, features=features, **weights)
    (tmp_path / "witness.py").write_text(WITNESS)
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, tmp_path / "witness.py", tmp_path / "in.npz", tmp_path / "out.npz"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as out:
        order = np.lexsort(out["coords"].T[::-1])
        wanted, at = out["features"][order], out["coords"][order]
    for name in ("torch", "cpu"):
        with use_backend(name), torch.no_grad():
            x = SparseTensor(torch.from_numpy(features), torch.from_numpy(coords))
            for layer in layers:
                x = layer(x)
        order = np.lexsort(x.coords.numpy().T[::-1])
        assert np.array_equal(x.coords.numpy()[order], at)
        got = x.features.numpy()[order]
        error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
        print(f"{name}: {error:.1e} from spconv on {len(at)} voxels")
        assert error < 1e-6
