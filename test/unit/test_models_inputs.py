"""`InputSpec`: features by hand, points left out, refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from condense_ros import config
from condense_ros.errors import ConfigError, FrameError
from condense_ros.frame import PointCloud
from condense_ros.models import InputSpec
from condense_ros.models.inputs import FEATURES


def test_features_by_hand() -> None:
    spec = InputSpec(voxel_size_m=1.0, max_range_m=10.0, features=FEATURES, intensity_scale=255.0)
    cloud = PointCloud(
        np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 6.0]]), intensity=np.array([51.0, 1000.0])
    )
    colours = np.array([[255, 0, 51], [0, 0, 0]], np.uint8)
    rows = spec.point_features(cloud, colours)
    np.testing.assert_allclose(rows[0], [1, 0, 0.2, 0.5, 0.5, -0.5, -0.3], atol=1e-6)
    np.testing.assert_allclose(rows[1], [1, 2, 1.0, 0.6, -0.5, -0.5, -0.5], atol=1e-6)


def test_points_left_out() -> None:
    xyz = np.array(
        [
            [5, 0, 0],
            [np.nan, 0, 0],
            [100, 0, 0],
            [0, 5, 0],
            [0.1, 0, 0],
            [np.inf, 1, 1],
            [1e30, 0, 0],
        ]
    )
    spec = InputSpec(voxel_size_m=0.5, max_range_m=20.0)
    voxels = spec.voxelize(PointCloud(xyz))
    assert voxels.inverse.tolist() == [1, -1, -1, 0, -1, -1, -1]
    assert voxels.coords.tolist() == [[0, 0, 10, 0], [0, 10, 0, 0]]
    assert voxels.point_counts == (7,)
    assert torch.isfinite(voxels.features).all()
    nothing = spec.voxelize(PointCloud(np.full((3, 3), np.nan)))
    assert len(nothing) == 0
    assert nothing.inverse.tolist() == [-1, -1, -1]


def test_missing_inputs_are_refused_not_guessed() -> None:
    cloud = PointCloud(np.ones((4, 3)) * 3)
    with pytest.raises(FrameError, match="intensity"):
        InputSpec(features=("one", "intensity")).voxelize(cloud)
    with pytest.raises(FrameError, match="colours"):
        InputSpec(features=("r",)).voxelize(cloud)
    gappy = PointCloud(np.ones((2, 3)) * 3, intensity=np.array([np.nan, 0.5]))
    assert InputSpec(features=("intensity",)).point_features(gappy).tolist() == [[0.0], [0.5]]


@pytest.mark.parametrize(
    "values",
    [
        {"features": ("one", "one")},
        {"features": ()},
        {"features": ("normals",)},
        {"voxel_size_m": 0.0},
        {"voxel_size_m": float("nan")},
        {"max_range_m": 0.3},
        {"voxel_size_m": 0.001, "max_range_m": 900.0},
        {"intensity_scale": 0.0},
        {"voxels": 3},
    ],
)
def test_bad_specs(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        config.build(InputSpec, values)


def test_round_trip_through_plain_values() -> None:
    spec = InputSpec(0.15, 45.0, 1.0, ("one", "range", "intensity"), 255.0)
    assert config.build(InputSpec, spec.to_dict()) == spec


def test_importing_the_rooms_does_not_import_torch() -> None:
    code = "import sys, condense_ros.sparse, condense_ros.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_kitti_scan(data_dir: Path) -> None:
    scans = sorted((data_dir / "kitti_jam_camlidar" / "velodyne").rglob("*.bin"))
    if not scans:
        pytest.skip("no KITTI scan in the data folder")
    raw = np.fromfile(scans[0], np.float32).reshape(-1, 4)
    spec = InputSpec(0.1, 50.0, features=("one", "height", "intensity"))
    voxels = spec.voxelize(PointCloud(raw[:, :3], intensity=raw[:, 3]))
    kept = voxels.inverse >= 0
    distance = np.linalg.norm(raw[:, :3], axis=1)
    np.testing.assert_array_equal(kept.numpy(), (distance <= 50.0) & (distance >= 0.5))
    offset = torch.from_numpy(raw[:, :3])[kept] - voxels.centres()[voxels.inverse[kept]]
    assert offset.abs().max() <= 0.05 + 1e-4
    assert 0 <= voxels.features[:, 2].min() <= voxels.features[:, 2].max() <= 1
