"""Sparse tensors, packing and pooling: contracts and typed errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condense_ros.errors import SparseError
from condense_ros.sparse import (
    BatchNorm,
    GeMPooling,
    SparseTensor,
    cat,
    global_average,
    global_max,
    keys,
)

LIMIT = keys.COORDINATE_LIMIT
coordinate = st.integers(-LIMIT, LIMIT)
row = st.tuples(st.integers(0, keys.BATCH_LIMIT - 1), coordinate, coordinate, coordinate)


@given(st.lists(row, min_size=1, max_size=20))
def test_packing_keeps_order_and_round_trips(rows: list[tuple[int, int, int, int]]) -> None:
    coords = torch.tensor(rows, dtype=torch.int32)
    keys.check_range(coords)
    packed = keys.pack(coords)
    assert torch.equal(keys.unpack(packed), coords)
    ordered = [rows[i] for i in keys.argsort(packed).tolist()]
    assert ordered == sorted(rows)


@given(row, st.tuples(*[st.integers(-keys.MARGIN, keys.MARGIN)] * 3))
def test_neighbour_keys_never_borrow(
    voxel: tuple[int, int, int, int], offset: tuple[int, int, int]
) -> None:
    packed = keys.pack(torch.tensor([voxel], dtype=torch.int32)) + keys.offset_key(*offset)
    moved = [voxel[0], *(v + o for v, o in zip(voxel[1:], offset, strict=True))]
    assert keys.unpack(packed).tolist() == [moved]


def tensor(coords: list[list[int]], **options: object) -> SparseTensor:
    c = torch.tensor(coords, dtype=torch.int32)
    return SparseTensor(torch.ones(len(c), 2), c, **options)  # type: ignore[arg-type]


def test_refuses_bad_coordinates() -> None:
    with pytest.raises(SparseError, match=r"duplicate.*\[0, 1, 2, 3\]"):
        tensor([[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 3]])
    with pytest.raises(SparseError, match="beyond"):
        tensor([[0, LIMIT + 1, 0, 0]])
    with pytest.raises(SparseError, match="beyond"):
        tensor([[0, 0, 0, -LIMIT - 1]])
    with pytest.raises(SparseError, match="batch indices"):
        tensor([[-1, 0, 0, 0]])
    with pytest.raises(SparseError, match="batch_size"):
        tensor([[3, 0, 0, 0]], batch_size=3)
    with pytest.raises(SparseError, match="int32"):
        SparseTensor(torch.ones(1, 2), torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(SparseError, match="int32"):
        SparseTensor(torch.ones(1, 2), torch.zeros(1, 3, dtype=torch.int32))


def test_refuses_bad_features() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
    with pytest.raises(SparseError, match="floating-point"):
        SparseTensor(torch.ones(2, 2, dtype=torch.int64), coords)
    with pytest.raises(SparseError, match="3 feature rows"):
        SparseTensor(torch.ones(3, 2), coords)
    with pytest.raises(SparseError, match="features on meta"):
        SparseTensor(torch.ones(2, 2, device="meta"), coords)
    bad = torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])
    with pytest.raises(SparseError, match="first row 1"):
        SparseTensor(bad, coords, check_finite=True)
    SparseTensor(bad, coords)


def test_refuses_maps_of_other_voxels() -> None:
    a = tensor([[0, 0, 0, 0], [0, 0, 0, 1]])
    b = tensor([[0, 0, 0, 0], [0, 0, 0, 2]])
    with pytest.raises(SparseError, match="do not belong"):
        SparseTensor(b.features, b.coords, maps=a.maps)
    with pytest.raises(SparseError, match="different voxels"):
        cat(a, b)
    assert cat(a, a).channels == 4
    assert SparseTensor(a.features, a.coords.clone(), maps=a.maps).maps is a.maps


def test_global_pooling_with_an_empty_element() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [2, 0, 0, 0], [0, 5, 0, 0]], dtype=torch.int32)
    features = torch.tensor([[1.0, -4.0], [2.0, 3.0], [3.0, -2.0]], requires_grad=True)
    x = SparseTensor(features, coords, batch_size=4)
    assert global_average(x).tolist() == [[2, -3], [0, 0], [2, 3], [0, 0]]
    assert global_max(x).tolist() == [[3, -2], [0, 0], [2, 3], [0, 0]]
    gem = GeMPooling(p=3.0)
    pooled = gem(x)
    # ((1 + 27) / 2) ** (1 / 3)
    assert pooled[0, 0].item() == pytest.approx(14 ** (1 / 3), rel=1e-6)
    assert pooled[2].tolist() == pytest.approx([2.0, 3.0])
    assert pooled[1].tolist() == [0, 0]
    pooled.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(gem.p.grad)


def test_batch_norm_of_one_voxel_uses_running_statistics() -> None:
    norm = BatchNorm(2).train()
    norm.running_mean.fill_(1.0)
    x = SparseTensor(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 4, dtype=torch.int32))
    out = norm(x).features
    assert out[0].tolist() == pytest.approx([0.0, 2.0], abs=1e-4)
    assert norm.running_mean.tolist() == [1.0, 1.0]
