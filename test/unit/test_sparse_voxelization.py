"""Voxels of other kinds than equal cubes: cylindrical, per-axis sizes, limits, slices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condense_ros.errors import SparseError
from condense_ros.sparse import Grid, Overflow, Voxels, collate, voxelize
from condense_ros.sparse.voxelization import SLICE_POINTS

CYLINDER = (0.1, 1.0, 0.1)


def test_cylindrical_cells_by_hand() -> None:
    xyz = np.array(
        [
            [1.0, 0.0, 0.05],  # phi 0
            [0.0, 2.05, -0.05],  # phi 90
            [-3.0, 0.0, 0.0],  # phi +180, wrapped to -180
            [-3.0, -0.0, 0.0],  # phi -180
            [-3.0, 1e-3, 0.0],  # just below +180
            [1.0, -1e-6, 0.0],  # just below 0
            [0.0, 0.0, 1.0],  # the axis itself
        ]
    )
    voxels = voxelize(xyz, np.ones((7, 1)), CYLINDER, coordinates="cylindrical")
    cells = voxels.coords[voxels.inverse, 1:].tolist()
    assert cells == [
        [10, 0, 0],
        [20, 90, -1],
        [30, -180, 0],
        [30, -180, 0],
        [30, 179, 0],
        [10, -1, 0],
        [0, 0, 10],
    ]
    assert voxels.grid == Grid(CYLINDER, "cylindrical")
    assert voxels.voxel_size_m == 0.1


@given(st.integers(-400, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_rotation_by_whole_degrees_shifts_cylindrical_ids_in_phi_only(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.stack(
        [rng.integers(1, 500, 50), rng.integers(-180, 180, 50), rng.integers(-30, 30, 50)], 1
    )
    # away from the borders of cells, which rounding may cross
    rho, phi, z = ((cells + rng.uniform(0.01, 0.99, (50, 3))) * CYLINDER).T

    def ids(angle_deg: float) -> npt.NDArray[np.int64]:
        turned = np.deg2rad(phi + angle_deg)
        xyz = np.stack([rho * np.cos(turned), rho * np.sin(turned), z], 1)
        voxels = voxelize(xyz, np.ones((50, 1)), CYLINDER, coordinates="cylindrical")
        return voxels.coords[voxels.inverse, 1:].long().numpy()

    before, after = ids(0.0), ids(float(k))
    np.testing.assert_array_equal(before, cells)
    np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    np.testing.assert_array_equal((before[:, 1] + k - after[:, 1]) % 360, 0)
    assert after[:, 1].min() >= -180
    assert after[:, 1].max() < 180


@pytest.mark.parametrize("coordinates", ["cartesian", "cylindrical"])
def test_centres_lie_in_their_own_voxels(coordinates: str, rng: np.random.Generator) -> None:
    sizes = (0.3, 2.0, 0.2)
    xyz = rng.normal(size=(500, 3)) * 5
    voxels = voxelize(xyz, np.ones((500, 1)), sizes, coordinates=coordinates)
    again = voxelize(voxels.centres(), torch.ones(len(voxels), 1), sizes, coordinates=coordinates)
    assert torch.equal(again.coords[again.inverse], voxels.coords)


def test_sizes_per_axis(rng: np.random.Generator) -> None:
    sizes = np.array([0.1, 0.25, 1.5])
    xyz = rng.normal(size=(800, 3)) * 2
    voxels = voxelize(xyz, np.ones((800, 1)), sizes.tolist())
    assert torch.equal(
        voxels.coords[voxels.inverse, 1:].long(), torch.from_numpy(np.floor(xyz / sizes)).long()
    )
    low = voxels.coords[:, 1:].double() * torch.from_numpy(sizes)
    torch.testing.assert_close(
        voxels.centres().double(), low + torch.from_numpy(sizes) / 2, rtol=1e-6, atol=1e-6
    )


def generator(
    xyz: npt.NDArray[np.float64],
    features: npt.NDArray[np.float64],
    max_points: int,
    max_voxels: int,
) -> tuple[dict[tuple[int, ...], list[int]], list[tuple[int, ...] | None], Overflow]:
    """VoxelNet's generator, point by point: points of each voxel, voxel of each point, overflow."""
    members: dict[tuple[int, ...], list[int]] = {}
    refused: set[tuple[int, ...]] = set()
    homes: list[tuple[int, ...] | None] = []
    crowded = lost = 0
    for i, point in enumerate(xyz):
        cell = tuple(int(v) for v in np.floor(point))
        if cell not in members:
            if max_voxels and len(members) >= max_voxels:
                refused.add(cell)
                lost += 1
                homes.append(None)
                continue
            members[cell] = []
        homes.append(cell)
        if max_points and len(members[cell]) >= max_points:
            crowded += 1
        else:
            members[cell].append(i)
    return members, homes, Overflow(crowded, len(refused), lost)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 200),
    st.integers(0, 4),
    st.integers(0, 12),
    st.integers(1, 210),
)
@settings(max_examples=60, deadline=None)
def test_limits_keep_what_a_loop_over_the_points_keeps(
    seed: int, n: int, max_points: int, max_voxels: int, slice_points: int
) -> None:
    rng = np.random.default_rng(seed)
    xyz, features = rng.uniform(-1.5, 1.5, (n, 3)), rng.normal(size=(n, 2))
    voxels = voxelize(
        xyz,
        features,
        1.0,
        max_points=max_points,
        max_voxels=max_voxels,
        slice_points=slice_points,
    )
    members, homes, overflow = generator(xyz, features, max_points, max_voxels)
    order = sorted(members)
    assert voxels.overflow == overflow
    assert [tuple(row[1:]) for row in voxels.coords.tolist()] == order
    rows = {cell: row for row, cell in enumerate(order)}
    assert voxels.inverse.tolist() == [-1 if h is None else rows[h] for h in homes]
    for row, cell in enumerate(order):
        chosen = members[cell]
        np.testing.assert_allclose(voxels.features[row], features[chosen].mean(0), 1e-5, 1e-6)
        np.testing.assert_allclose(voxels.positions[row], xyz[chosen].mean(0), 1e-5, 1e-6)
    first = voxelize(xyz, features, 1.0, "first", max_voxels=max_voxels, slice_points=slice_points)
    for row, cell in enumerate(order):
        i = members[cell][0]
        np.testing.assert_array_equal(first.features[row], features[i].astype(np.float32))
        np.testing.assert_array_equal(first.positions[row], xyz[i].astype(np.float32))


def same(a: Voxels, b: Voxels) -> None:
    assert torch.equal(a.coords, b.coords)
    assert torch.equal(a.inverse, b.inverse)
    torch.testing.assert_close(a.features, b.features, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(a.positions, b.positions, rtol=1e-6, atol=1e-7)


def test_slices_and_arrays_on_disk_change_nothing(rng: np.random.Generator, tmp_path: Path) -> None:
    xyz = rng.normal(size=(5000, 3)).astype(np.float32) * 3
    features = rng.normal(size=(5000, 3)).astype(np.float32)
    np.save(tmp_path / "xyz.npy", xyz)
    on_disk = np.load(tmp_path / "xyz.npy", mmap_mode="r")
    for options in ({}, {"reduce": "first"}, {"coordinates": "cylindrical"}, {"max_voxels": 700}):
        whole = voxelize(xyz, features, 0.4, **options)  # type: ignore[arg-type]
        sliced = voxelize(on_disk, features, 0.4, slice_points=999, **options)  # type: ignore[arg-type]
        same(whole, sliced)
        assert len(whole) > 500
        assert whole.overflow == sliced.overflow


def test_limits_of_a_batch_add_up() -> None:
    xyz = np.array([[0.5, 0, 0]] * 5 + [[2.5, 0, 0]] * 2)
    one = voxelize(xyz, np.ones((7, 1)), 1.0, max_points=3, max_voxels=1)
    assert one.overflow == Overflow(points=2, voxels=1, voxel_points=2)
    assert one.inverse.tolist() == [0] * 5 + [-1] * 2
    both = collate([one, one])
    assert both.overflow == Overflow(4, 2, 4)
    assert both.positions.shape == (2, 3)
    assert both.inverse.tolist() == [0] * 5 + [-1] * 2 + [1] * 5 + [-1] * 2


def test_gradients_reach_the_points_of_a_mean() -> None:
    features = torch.tensor([[1.0], [3.0], [5.0], [7.0]], requires_grad=True)
    xyz = torch.tensor([[0.5, 0, 0], [0.6, 0, 0], [0.7, 0, 0], [2.5, 0, 0]])
    voxels = voxelize(xyz, features, 1.0, max_points=2)
    assert voxels.features.flatten().tolist() == [2.0, 7.0]
    voxels.features.sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [0.5, 0.5, 0.0, 1.0]


def test_typed_errors() -> None:
    xyz, f = np.zeros((4, 3)), np.zeros((4, 2))
    for sizes in ((0.1, 0.1), (0.1, 0.0, 0.1), (1, 1, float("nan"))):
        with pytest.raises(SparseError, match="voxel_size_m"):
            voxelize(xyz, f, sizes)
    with pytest.raises(SparseError, match="coordinates are 'polar'"):
        voxelize(xyz, f, 1.0, coordinates="polar")
    for limits in ({"max_points": -1}, {"max_voxels": -1}, {"slice_points": 0}):
        with pytest.raises(SparseError, match="limits"):
            voxelize(xyz, f, 1.0, **limits)  # type: ignore[arg-type]
    with pytest.raises(SparseError, match="points are"):
        voxelize(xyz.astype(int), f, 1.0)
    with pytest.raises(SparseError, match="different voxel size"):
        collate([voxelize(xyz, f, 1.0), voxelize(xyz, f, 1.0, coordinates="cylindrical")])
    far = xyz.copy()
    far[3] = [1e9, 0, 0]
    with pytest.raises(SparseError, match="non-finite or up to"):
        voxelize(far, f, 1.0, slice_points=2)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is read from Linux's /proc"
)
def test_memory_of_a_large_cloud_stays_within_the_stated_bound() -> None:
    root = Path(__file__).parents[2]
    points, features = 2_000_000, 4
    command = [sys.executable, "benchmarks/bench_voxels.py", "--points", str(points)]
    command += ["--one", str(SLICE_POINTS), "--voxel", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    bound = 8 * points + (90 + 4 * features) * row["voxels"] + (160 + 16 * features) * SLICE_POINTS
    assert 8 * points < row["mib"] * 2**20 < bound
