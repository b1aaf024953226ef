"""Statistics of all processes against one process on the joint batch, under gloo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from condense_ros.sparse import (
    BatchNorm,
    ReLU,
    RowBatchNorm,
    SparseTensor,
    SubmanifoldConv3d,
    SyncBatchNorm,
    convert_sync_batchnorm,
)

#: rows of each process in turn
STEPS = ((30, 12), (7, 0), (0, 1), (1, 0), (0, 0), (1, 1), (25, 40))
CHANNELS = 5


def rows_of(step: int, rank: int) -> tuple[Tensor, Tensor]:
    """Features far from zero, and weights of a loss."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    n = STEPS[step][rank]
    features = torch.randn(n, CHANNELS, dtype=torch.float64, generator=generator) * 3 + 1000
    return features, torch.randn(n, CHANNELS, dtype=torch.float64, generator=generator)


def tensor(features: Tensor) -> SparseTensor:
    coords = torch.zeros(len(features), 4, dtype=torch.int32)
    coords[:, 1] = torch.arange(len(features))
    return SparseTensor(features, coords, batch_size=1)


def norm_under_test(momentum: float | None) -> BatchNorm:
    norm = BatchNorm(CHANNELS, momentum=momentum).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        norm.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    return norm


def train(norm: Any, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Outputs, gradients and statistics of a few steps."""
    out: dict[str, Any] = {"y": [], "dx": []}
    for features, weights in batches:
        x = features.clone().requires_grad_()
        y = norm(tensor(x)).features
        (y * weights).sum().backward()
        out["y"].append(y.detach())
        out["dx"].append(x.grad)
    out["dw"], out["db"] = norm.weight.grad, norm.bias.grad
    out["state"] = {name: value.clone() for name, value in norm.state_dict().items()}
    return out


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    for momentum in (0.1, None):
        norm = convert_sync_batchnorm(norm_under_test(momentum))
        assert isinstance(norm, SyncBatchNorm)
        results[str(momentum)] = train(norm, [rows_of(s, rank) for s in range(len(STEPS))])
        norm.eval()
        results[f"eval {momentum}"] = norm(tensor(rows_of(0, rank)[0])).features
    rows = convert_sync_batchnorm(RowBatchNorm(CHANNELS).double())
    results["rows"] = rows(rows_of(0, rank)[0])
    half = convert_sync_batchnorm(BatchNorm(CHANNELS))
    results["half"] = half(tensor((rows_of(0, rank)[0] - 1000).bfloat16())).features
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(process, args=(str(folder),), nprocs=2)  # type: ignore[attr-defined]
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def joint() -> list[tuple[Tensor, Tensor]]:
    pairs = [(rows_of(s, 0), rows_of(s, 1)) for s in range(len(STEPS))]
    return [(torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in pairs]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_two_processes_equal_one_on_the_joint_batch(
    two: list[dict[str, Any]], momentum: float | None
) -> None:
    norm = norm_under_test(momentum)
    want = train(norm, joint())
    got = [results[str(momentum)] for results in two]
    for step in range(len(STEPS)):
        for name in ("y", "dx"):
            parts = torch.cat([g[name][step] for g in got])
            torch.testing.assert_close(parts, want[name][step], rtol=1e-6, atol=1e-9)
    # every process has the gradients of its own rows
    for name in ("dw", "db"):
        torch.testing.assert_close(got[0][name] + got[1][name], want[name], rtol=1e-6, atol=1e-9)
    for g in got:
        assert g["state"].keys() == want["state"].keys()
        for name, value in want["state"].items():
            torch.testing.assert_close(g["state"][name], value, rtol=1e-9, atol=1e-9)
    # steps of one voxel and of none leave the statistics alone
    assert want["state"]["num_batches_tracked"] == 4
    norm.eval()
    for rank, results in enumerate(two):
        torch.testing.assert_close(
            results[f"eval {momentum}"], norm(tensor(rows_of(0, rank)[0])).features
        )


def test_rows_and_half_precision(two: list[dict[str, Any]]) -> None:
    rows = joint()[0][0]
    want = RowBatchNorm(CHANNELS).double()(rows)
    torch.testing.assert_close(torch.cat([r["rows"] for r in two]), want, rtol=1e-6, atol=1e-9)
    half = torch.cat([r["half"] for r in two])
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), want, rtol=0.02, atol=0.02)


def test_in_one_process_it_is_a_batch_norm() -> None:
    a = train(norm_under_test(0.1), joint())
    b = train(convert_sync_batchnorm(norm_under_test(0.1)), joint())
    for name in ("y", "dx"):
        assert all(torch.equal(p, q) for p, q in zip(a[name], b[name], strict=True))
    rows = torch.randn(20, 3)
    assert torch.equal(SyncBatchNorm(3)(rows), RowBatchNorm(3)(rows))
    one = RowBatchNorm(2)
    one(torch.ones(1, 2))
    assert one.running_mean is not None
    assert one.running_mean.tolist() == [0, 0]


def test_conversion_takes_parameters_over() -> None:
    shared = BatchNorm(4, eps=1e-3, momentum=0.01)
    inside = nn.Sequential(shared, RowBatchNorm(4))
    net = nn.Sequential(SubmanifoldConv3d(4, 4), shared, ReLU(), inside, nn.Linear(4, 4))
    net.eval()
    before, names = {id(p) for p in net.parameters()}, list(net.state_dict())
    assert convert_sync_batchnorm(net) is net
    inner = net[3]
    assert isinstance(inner, nn.Sequential)
    assert net[1] is inner[0]
    assert isinstance(inner[1], SyncBatchNorm)
    new = net[1]
    assert isinstance(new, SyncBatchNorm)
    assert (new.eps, new.momentum, new.training) == (1e-3, 0.01, False)
    assert {id(p) for p in net.parameters()} == before
    assert list(net.state_dict()) == names
    assert convert_sync_batchnorm(net)[1] is new
