"""Voxelization, batching and the way back to points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from condense_ros.errors import SparseError
from condense_ros.sparse import Voxels, collate, voxelize


def test_mean_first_and_inverse_by_hand() -> None:
    xyz = np.array([[0.9, 0.0, 0.0], [-0.1, 0.0, 0.0], [0.1, 0.5, 0.9], [5.0, 5.0, 5.0]])
    features = np.array([[1.0], [2.0], [4.0], [8.0]])
    mean = voxelize(xyz, features, 1.0)
    assert mean.coords.dtype == torch.int32
    assert mean.coords.tolist() == [[0, -1, 0, 0], [0, 0, 0, 0], [0, 5, 5, 5]]
    assert mean.features.tolist() == [[2.0], [2.5], [8.0]]
    assert mean.inverse.tolist() == [1, 0, 1, 2]
    first = voxelize(xyz, features, 1.0, reduce="first")
    assert first.features.tolist() == [[2.0], [1.0], [8.0]]
    assert mean.centres()[0].tolist() == [-0.5, 0.5, 0.5]


def test_agrees_with_a_dictionary(rng: np.random.Generator) -> None:
    xyz = rng.normal(size=(3000, 3)) * 4
    features = rng.normal(size=(3000, 5))
    voxels = voxelize(xyz, features, 0.3)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, cell in enumerate(np.floor(xyz / 0.3).astype(int)):
        groups.setdefault((0, *cell.tolist()), []).append(i)
    assert sorted(groups) == [tuple(row) for row in voxels.coords.tolist()]
    for row, cell in enumerate(sorted(groups)):
        assert (voxels.inverse[groups[cell]] == row).all()
        np.testing.assert_allclose(
            voxels.features[row].numpy(), features[groups[cell]].mean(0), rtol=1e-5, atol=1e-6
        )
    first = voxelize(xyz, features, 0.3, reduce="first").features
    for row, cell in enumerate(sorted(groups)):
        np.testing.assert_allclose(first[row].numpy(), features[groups[cell][0]], rtol=1e-6)


def test_order_of_points_only_permutes_the_inverse(rng: np.random.Generator) -> None:
    xyz = rng.uniform(-5, 5, (500, 3)).astype(np.float32)
    p = rng.permutation(500)
    a, b = voxelize(xyz, xyz, 1.0), voxelize(torch.from_numpy(xyz[p]), torch.from_numpy(xyz[p]), 1)
    assert torch.equal(a.coords, b.coords)
    assert torch.equal(a.inverse[torch.from_numpy(p)], b.inverse)
    torch.testing.assert_close(a.features, b.features)


def test_collate_keeps_empty_clouds_and_left_out_points() -> None:
    a = voxelize(np.array([[0.5, 0, 0], [3.5, 0, 0]]), np.ones((2, 1)), 1.0)
    none = voxelize(np.zeros((0, 3)), np.zeros((0, 1)), 1.0)
    b = voxelize(np.array([[0.5, 0, 0]]), np.full((1, 1), 2.0), 1.0)
    b = b.scatter_points(np.array([False, True]))
    batch = collate([a, none, b])
    assert batch.coords.tolist() == [[0, 0, 0, 0], [0, 3, 0, 0], [2, 0, 0, 0]]
    assert batch.inverse.tolist() == [0, 1, -1, 2]
    assert batch.point_counts == (2, 0, 2)
    assert batch.batch_size == 3
    assert batch.sparse_tensor().batch_size == 3
    assert batch.to_points(batch.features, fill=-7.0).squeeze(1).tolist() == [1, 1, -7, 2]


def test_to_points_carries_gradients() -> None:
    voxels = voxelize(np.array([[0.1, 0, 0], [0.2, 0, 0], [9, 9, 9]]), np.ones((3, 1)), 1.0)
    voxels = voxels.scatter_points(np.array([True, True, False, True]))
    values = torch.ones(2, 3, requires_grad=True)
    voxels.to_points(values).sum().backward()
    assert values.grad.tolist() == [[2, 2, 2], [1, 1, 1]]
    with pytest.raises(SparseError, match="3 rows for 2 voxels"):
        voxels.to_points(torch.ones(3, 1))


def empty() -> Voxels:
    return voxelize(np.zeros((0, 3)), np.zeros((0, 2)), 1.0)


def test_typed_errors() -> None:
    xyz, f = np.zeros((4, 3)), np.zeros((4, 2))
    for bad_size in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SparseError, match="voxel_size_m"):
            voxelize(xyz, f, bad_size)
    with pytest.raises(SparseError, match="reduce"):
        voxelize(xyz, f, 1.0, reduce="median")
    with pytest.raises(SparseError, match="points are"):
        voxelize(xyz[:, :2], f, 1.0)
    with pytest.raises(SparseError, match="features are"):
        voxelize(xyz, f[:2], 1.0)
    for value in (np.nan, np.inf, 1e9):
        far = xyz.copy()
        far[2, 1] = value
        with pytest.raises(SparseError, match="non-finite or up to"):
            voxelize(far, f, 0.1)
    with pytest.raises(SparseError, match="at least one"):
        collate([])
    with pytest.raises(SparseError, match="different voxel size"):
        collate([empty(), voxelize(xyz, f, 2.0)])


def test_no_points() -> None:
    assert len(empty()) == 0
    assert empty().to_points(torch.zeros(0, 4)).shape == (0, 4)
