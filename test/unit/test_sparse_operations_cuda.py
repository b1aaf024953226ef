"""The operations beside convolutions on a GPU against the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from condense_ros.models import nearest_neighbours
from condense_ros.sparse import (
    AveragePool3d,
    MaxPool3d,
    SparseTensor,
    SumPool3d,
    Unpool3d,
    global_sum,
    prune,
    sample,
    shared_rows,
    union,
    voxelize,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def tensor(seed: int, device: str) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(2 * 10**3, generator=generator)[:700]
    xyz = torch.stack([cells % 1000 // 100, cells // 10 % 10, cells % 10], 1) - 5
    coords = torch.cat([(cells // 1000)[:, None], xyz], 1).int()
    features = torch.randn(700, 4, dtype=torch.float64, generator=generator)
    return SparseTensor(features.to(device).requires_grad_(), coords.to(device), batch_size=2)


def results(device: str) -> dict[str, Tensor]:
    a, b = tensor(1, device), tensor(2, device)
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(300, 4, dtype=torch.float64, generator=generator) * 12 - 6
    points[:, 0] = torch.randint(0, 2, (300,), generator=generator).double()
    places = points.to(device).requires_grad_()
    out: dict[str, Any] = {
        "trilinear": sample(a, places),
        "normalised": sample(a, places, normalise=True),
        "nearest": sample(a, places, "nearest"),
        "prune": prune(a, a.features[:, 0] > 0).features,
        "sum": global_sum(a),
        "union": union(a, b, "mean").features,
        "first": union(a, b, "first").features,
    }
    for layer in (MaxPool3d(3), AveragePool3d(), SumPool3d(3, 1)):
        out[type(layer).__name__] = layer(a).features
    out["unpool"] = Unpool3d()(AveragePool3d()(a)).features
    loss = sum((value**2).sum() for value in out.values())
    loss.backward()  # type: ignore[union-attr]
    out["da"], out["db"], out["dp"] = a.features.grad, b.features.grad, places.grad
    out["shared"] = torch.stack(shared_rows(a, b))
    xyz = points[:, 1:].to(device)
    for options in ({}, {"coordinates": "cylindrical"}, {"max_points": 2, "max_voxels": 90}):
        voxels = voxelize(xyz, points.to(device), 0.9, slice_points=100, **options)  # type: ignore[arg-type]
        name = str(options)
        out[name], out[name + "i"] = voxels.features, voxels.inverse
    batch = points[:, 0].to(device)
    order = torch.argsort(batch, stable=True)
    out["neighbours"] = nearest_neighbours(xyz[order], batch[order].long(), 7)
    return {name: value.detach().cpu() for name, value in out.items()}


def test_gpu_equals_cpu() -> None:
    cpu, gpu = results("cpu"), results("cuda")
    for name, value in cpu.items():
        torch.testing.assert_close(gpu[name], value, rtol=1e-6, atol=1e-9, msg=name)
