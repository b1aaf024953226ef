"""Writes test/golden/unet_frame.npz: a made-up sweep and what a network says of it, in float64.

    PYTHONPATH=test:test/unit python tools/make_golden_frame.py

The file holds the truth that `test_golden_logits_of_one_frame` compares with. Make it anew only
when the network itself is meant to change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from test_sparse_backends import golden_network

from condense_ros.sparse import SparseTensor, use_backend


def sweep() -> np.ndarray:
    """A room of 8 x 6 x 3 m with a box in it, seen by 16 beams."""
    azimuth, elevation = np.meshgrid(
        np.linspace(-np.pi, np.pi, 240, endpoint=False), np.radians(np.linspace(-30, 30, 16))
    )
    rays = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ],
        -1,
    ).reshape(-1, 3)
    walls = np.array([4.0, 3.0, 1.5])
    distance = (walls / np.maximum(np.abs(rays), 1e-9)).min(axis=1)
    box = (np.abs(np.arctan2(rays[:, 1], rays[:, 0]) - 1.0) < 0.3) & (rays[:, 2] < 0.1)
    distance = np.where(box, np.minimum(distance, 2.0), distance)
    return (rays * distance[:, None]).astype(np.float32)


def main() -> None:
    xyz = sweep()
    net, voxels = golden_network(xyz)
    net = net.double()
    with use_backend("torch"), torch.no_grad():
        x = SparseTensor(voxels.features.double(), voxels.coords)
        features = net.net(x).features
    out = Path("test/golden/unet_frame.npz")
    np.savez_compressed(out, xyz=xyz, features=features[::25].numpy())
    print(f"{out}: {len(xyz)} points, {len(features)} voxels, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
