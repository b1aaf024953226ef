"""Pruning, union and shared voxels against Python's own sets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros.errors import SparseError
from condense_ros.sparse import SparseTensor, SubmanifoldConv3d, prune, shared_rows, union

Row = tuple[int, int, int, int]
cell = st.tuples(st.integers(0, 2), *[st.integers(-3, 3)] * 3)
cells = st.lists(cell, unique=True, max_size=25)


def tensor(rows: list[Row], seed: int = 0, stride: int | tuple[int, ...] = 1) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(rows), 2, dtype=torch.float64, generator=generator)
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    return SparseTensor(features.requires_grad_(), coords, stride, batch_size=3)


def as_dict(x: SparseTensor) -> dict[Row, list[float]]:
    return {tuple(c): f for c, f in zip(x.coords.tolist(), x.features.tolist(), strict=True)}  # type: ignore[misc]


@given(cells, st.data())
@settings(max_examples=40, deadline=None)
def test_prune_keeps_order_and_features(rows: list[Row], data: st.DataObject) -> None:
    x = tensor(rows, stride=(1, 2, 4))
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    out = prune(x, torch.tensor(keep, dtype=torch.bool))
    assert out.coords.tolist() == [list(r) for r, k in zip(rows, keep, strict=True) if k]
    assert (out.stride, out.batch_size) == (x.stride, 3)
    assert out.maps is not x.maps
    out.features.sum().backward()
    assert x.features.grad is not None
    assert x.features.grad[:, 0].tolist() == [float(k) for k in keep]


@given(cells, cells, st.sampled_from(["sum", "mean", "first"]))
@settings(max_examples=60, deadline=None)
def test_union_equals_sets(a: list[Row], b: list[Row], reduce: str) -> None:
    x, y = tensor(a, 1), tensor(b, 2)
    out = union(x, y, reduce)
    assert [tuple(r) for r in out.coords.tolist()] == sorted(set(a) | set(b))
    first, second = as_dict(x), as_dict(y)
    for place, value in as_dict(out).items():
        parts = [d[place] for d in (first, second) if place in d]
        if reduce == "first":
            want = torch.tensor(parts[0])
        else:
            want = torch.tensor(parts).sum(0) / (len(parts) if reduce == "mean" else 1)
        torch.testing.assert_close(torch.tensor(value), want)
    out.features.sum().backward()
    shared = set(a) & set(b)
    for rows, x_, other in ((a, x, 0.0), (b, y, 1.0)):
        share = {"sum": 1.0, "mean": 0.5, "first": 1.0 - other}[reduce]
        assert x_.features.grad is not None
        got = x_.features.grad[:, 0].tolist()
        assert got == [share if r in shared else 1.0 for r in rows]


@given(cells, cells)
@settings(max_examples=40, deadline=None)
def test_shared_rows_equal_an_intersection(a: list[Row], b: list[Row]) -> None:
    x, y = tensor(a), tensor(b)
    rows_a, rows_b = shared_rows(x, y)
    assert [a[i] for i in rows_a.tolist()] == sorted(set(a) & set(b))
    assert [b[i] for i in rows_b.tolist()] == sorted(set(a) & set(b))


def test_results_are_tensors_to_work_with() -> None:
    a, b = tensor([(0, 0, 0, 0), (1, 1, 1, 1)]), tensor([(0, 0, 0, 1), (2, 0, 0, 0)])
    joint = union(a, b)
    out = SubmanifoldConv3d(2, 3).double()(joint)
    assert len(out) == 4
    assert union(a, SparseTensor(b.features.float(), b.coords)).features.dtype == torch.float64


def test_typed_errors() -> None:
    a = tensor([(0, 0, 0, 0), (1, 1, 1, 1)])
    for keep in (torch.ones(3, dtype=torch.bool), torch.ones(2), torch.ones(2, 1).bool()):
        with pytest.raises(SparseError, match="keep is"):
            prune(a, keep)
    with pytest.raises(SparseError, match="strides"):
        union(a, tensor([(0, 0, 0, 0)], stride=2))
    with pytest.raises(SparseError, match="strides"):
        shared_rows(a, tensor([(0, 0, 0, 0)], stride=2))
    with pytest.raises(SparseError, match="reduce is 'max'"):
        union(a, a, "max")
    with pytest.raises(SparseError, match="2 and 1 channels"):
        union(a, a.replace(a.features[:, :1]))
